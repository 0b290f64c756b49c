"""Training in bfloat16 on a CPU: nearly the same result as in float32, in the formats that are fastest."""

import pytest
import torch
import torch.nn.functional as F
from demo_files import make_store

from rf_agent.policy import RoboFlamingoPolicy
from rf_agent.training.callbacks import Callback
from rf_agent.training.cpu_bfloat16 import Float32Kernels, has_bfloat16
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


def test_attention_and_group_norm_stay_in_float32():
    values = torch.randn(1, 2, 4, 8)
    with torch.autocast("cpu", torch.bfloat16), Float32Kernels():
        product = F.linear(values, torch.randn(8, 8))
        assert product.dtype == torch.bfloat16
        attended = F.scaled_dot_product_attention(product, key=product, value=product)
        normed = F.group_norm(product, 2, torch.ones(2), torch.zeros(2))
    assert attended.dtype == normed.dtype == torch.float32
    wide = product.float()
    torch.testing.assert_close(attended, F.scaled_dot_product_attention(wide, wide, wide))
    with Float32Kernels():  # what its caller has chosen without autocast stays
        assert F.scaled_dot_product_attention(product, product, product).dtype == torch.bfloat16
