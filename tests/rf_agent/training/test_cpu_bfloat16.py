"""Training in bfloat16 on a CPU: nearly the same result as in float32, in the formats that are fastest."""

import pytest
import torch
import torch.nn.functional as F
from demo_files import make_store

from rf_agent.policy import RoboFlamingoPolicy
from rf_agent.training.callbacks import Callback
from rf_agent.training.cpu_bfloat16 import BFloat16Kernels, has_bfloat16
from rf_agent.training.trainer import TrainConfig, train


class Losses(Callback):
    def __init__(self):
        self.losses = []

    def on_step(self, step, metrics):
        self.losses.append(float(metrics["loss"]))


# oneDNN has no LSTM in bfloat16 on CPUs without instructions for it
@pytest.mark.parametrize("head", ["fc", "gpt", *(["lstm"] if has_bfloat16() else [])])
@pytest.mark.parametrize("learns", ["default", "full"])
def test_training_comes_out_nearly_the_same(tmp_path, monkeypatch, head, learns):
    monkeypatch.setattr("rf_agent.training.engine.has_bfloat16", lambda: True)
    demos = make_store(tmp_path / "demos.hdf5")
    losses, validated = {}, {}
    for precision in ("no", "bf16"):
        recorder, output = Losses(), tmp_path / precision
        report = train(
            TrainConfig(
                demos=(demos,),
                output=output,
                preset="roboflamingo-test",
                override=(f"head.type={head}",),
                trainable=learns,
                steps=8,
                batch_size=3,
                sequence_length=6,
                validation_fraction=0.3,
                device="cpu",
                threads=1,
                mixed_precision=precision,
            ),
            callbacks=[recorder],
        )
        losses[precision], validated[precision] = recorder.losses, report.scalars["loss"]
        weights = RoboFlamingoPolicy.from_pretrained(output / "policy", "cpu").state_dict().values()
        assert {value.dtype for value in weights if value.is_floating_point()} == {torch.float32}
    assert losses["bf16"] != losses["no"]
    assert losses["bf16"] == pytest.approx(losses["no"], rel=0.02)
    assert validated["bf16"] == pytest.approx(validated["no"], rel=0.02)


def test_attention_to_many_keys_and_group_norm_stay_in_float32():
    values = torch.randn(1, 2, 200, 8)
    with torch.autocast("cpu", torch.bfloat16), BFloat16Kernels():
        product = F.linear(values, torch.randn(8, 8))
        assert product.dtype == torch.bfloat16
        attended = F.scaled_dot_product_attention(product, key=product, value=product)
        normed = F.group_norm(product, 2, torch.ones(2), torch.zeros(2))
    assert attended.dtype == normed.dtype == torch.float32
    wide = product.float()
    torch.testing.assert_close(attended, F.scaled_dot_product_attention(wide, wide, wide))
    with BFloat16Kernels():  # what its caller has chosen without autocast stays
        assert F.scaled_dot_product_attention(product, product, product).dtype == torch.bfloat16


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"attn_mask": torch.ones(5, 9).tril(2).bool()},
        {"attn_mask": torch.linspace(-3, 3, 45).view(5, 9)},
        {"is_causal": True},
        {"scale": 0.5},
        {"dropout_p": 0.0, "enable_gqa": False},
    ],
    ids=lambda options: ", ".join(options) or "plain",
)
def test_attention_to_few_keys_is_the_same_by_products(options):
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 3, length, 8, dtype=torch.bfloat16, requires_grad=True) for length in (5, 9, 9))
    weights, gradients = torch.randn(2, 3, 5, 8), []
    with torch.autocast("cpu", torch.bfloat16), BFloat16Kernels():
        attended = F.scaled_dot_product_attention(q, k, v, **options)
        assert attended.dtype == torch.bfloat16  # by products, as the kernel would be in float32
    wide = [x.detach().float().requires_grad_() for x in (q, k, v)]
    expected = F.scaled_dot_product_attention(*wide, **options)
    torch.testing.assert_close(attended.float(), expected, atol=0.02, rtol=0.02)
    for result, inputs in ((attended.float(), (q, k, v)), (expected, wide)):
        gradients.append([g.float() for g in torch.autograd.grad((result * weights).sum(), inputs)])
    for own, exact in zip(*gradients, strict=True):
        torch.testing.assert_close(own, exact, atol=0.05, rtol=0.05)


def test_attention_drops_out():
    q = torch.ones(1, 1, 64, 8, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16), BFloat16Kernels():
        dropped = F.scaled_dot_product_attention(q, q, q, dropout_p=0.5)
    assert 0.9 < dropped.float().mean() < 1.1 and dropped.float().std() > 0.02


def test_options_without_a_formula_here_are_left_to_torch():
    q, k = torch.randn(1, 4, 6, 8, dtype=torch.bfloat16), torch.randn(1, 2, 6, 8, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16), BFloat16Kernels():
        grouped = F.scaled_dot_product_attention(q, k, k, enable_gqa=True)
    torch.testing.assert_close(
        grouped, F.scaled_dot_product_attention(q.float(), k.float(), k.float(), enable_gqa=True)
    )
