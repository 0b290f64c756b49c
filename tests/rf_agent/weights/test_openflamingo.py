import pytest
import torch
from make_case import make_case

from rf_agent.config import HeadConfig
from rf_agent.weights import ConversionError, from_openflamingo, from_roboflamingo

HEAD = HeadConfig(type="gpt", hidden=16, layers=1, heads=2, window=3, chunk_size=2, n_action_steps=2, mlp=(8,))


@pytest.fixture
def folder(tmp_path):
    make_case(tmp_path / "case", "neox")
    return tmp_path / "case"


def convert(folder, checkpoint="openflamingo.pt", **options):
    file = None if checkpoint is None else folder / checkpoint
    options = {"head": HEAD, "vision_head_width": 8, **options}
    return from_openflamingo(file, folder / "lm", folder / "vision.pt", **options)


def test_only_the_head_is_to_be_trained(folder):
    policy, report = convert(folder)
    assert report.missing and all(name.startswith("head.") for name in report.missing)
    assert policy.config.head == HEAD and not policy.training
    assert policy.config.language.cross_attention_every == 2 and policy.config.language.max_tokens == 32
    assert report.lines()[-1].startswith("in no file, thus random and to be trained: head.")
    tensors = torch.load(folder / "openflamingo.pt")
    assert torch.equal(policy.vlm.lang_encoder.get_output_embeddings().weight, tensors["lang_encoder.embed_out.weight"])
    gate = tensors["lang_encoder.gpt_neox.layers.3.gated_cross_attn_layer.attn_gate"]
    assert torch.equal(policy.vlm.gated_cross_attn_layers["3"].attn_gate, gate)


def test_same_seed_gives_the_same_head_and_leaves_torchs_alone(folder):
    torch.manual_seed(5)
    one = convert(folder, seed=1)[0].head.state_dict()
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(1))
    again, other = (convert(folder, seed=seed)[0].head.state_dict() for seed in (1, 2))
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


def test_without_a_checkpoint_flamingo_is_random_and_does_nothing_yet(folder):
    policy, report = convert(folder, None, cross_attention_every=4)
    assert set(policy.vlm.gated_cross_attn_layers) == {"3"}
    assert not policy.vlm.gated_cross_attn_layers["3"].attn_gate.any()
    starts = ("head.", "vlm.perceiver.", "vlm.gated_cross_attn_layers.")
    assert all(any(name.startswith(start) for name in report.missing) for start in starts)
    assert all(name.startswith(starts) for name in report.missing)


def test_separate_resamplers_begin_as_copies(folder):
    policy, report = convert(folder, fusion="separate")
    first, second = policy.vlm.perceiver.state_dict(), policy.vlm.other_perceivers[0].state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert all(name.startswith("head.") for name in report.missing)


def change(path, **changes):
    tensors = torch.load(path)
    inner = tensors.get("model_state_dict", tensors)
    for name, tensor in changes.items():
        found = [key for key in inner if key.endswith(name.replace("__", "."))]
        assert found
        for key in found:
            if tensor is None:
                del inner[key]
            else:
                inner[key] = tensor
    torch.save(tensors, path)


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"perceiver__latents": torch.ones(3, 40)}, ["perceiver.latents", "(3, 40)", "(3, 24)", "vision.pt"]),
        (
            {"layers__1__gated_cross_attn_layer__attn__to_q__weight": torch.ones(64, 48)},
            ["to_q", "(64, 48)", "(64, 32)"],
        ),
        ({"layers__3__gated_cross_attn_layer__ff__1__weight": torch.ones(64, 48)}, ["ff.1", "(64, 48)", "(64, 32)"]),
        ({"embed_in__weight": torch.ones(300, 32)}, ["embed_in.weight", "(300, 32)", "(261, 32)"]),
        ({"perceiver__latents": None}, ["no perceiver.latents"]),
        (
            {"perceiver__layers__1__0__to_kv__weight": None},
            ["vlm.perceiver.layers.1.0.to_kv.weight", "none of the files"],
        ),
    ],
)
def test_tensors_that_do_not_fit_are_named(folder, changes, parts):
    change(folder / "openflamingo.pt", **changes)
    with pytest.raises(ConversionError) as error:
        convert(folder)
    assert all(part in str(error.value) for part in parts), error.value


@pytest.mark.parametrize("kind", [torch.int8, torch.float8_e4m3fn])
def test_quantised_weights_are_refused(folder, kind):
    change(folder / "openflamingo.pt", perceiver__latents=torch.ones(3, 24).to(kind))
    with pytest.raises(ConversionError, match=r"perceiver.latents of .* is (int8|float8_e4m3fn), but fractions of 16"):
        convert(folder)


def test_checkpoint_of_another_language_model_is_refused(folder, tmp_path):
    make_case(tmp_path / "other", "mpt")
    with pytest.raises(ConversionError, match="lang_encoder.transformer.wte.weight.*trained on another one"):
        from_openflamingo(
            tmp_path / "other" / "openflamingo.pt", folder / "lm", folder / "vision.pt", vision_head_width=8
        )


def test_wrong_kinds_of_files_are_refused(folder):
    with pytest.raises(ConversionError, match="a RoboFlamingo checkpoint.*an OpenFlamingo checkpoint is expected"):
        convert(folder, "roboflamingo.pt")
    with pytest.raises(ConversionError, match="a CLIP model.*an OpenFlamingo checkpoint is expected"):
        convert(folder, "vision.pt")
    with pytest.raises(ConversionError, match="an OpenFlamingo checkpoint.*a RoboFlamingo checkpoint is expected"):
        from_roboflamingo(folder / "openflamingo.pt", folder / "lm", folder / "vision.pt", vision_head_width=8)
    with pytest.raises(ConversionError, match="a language model.*a CLIP model is expected"):
        from_roboflamingo(folder / "roboflamingo.pt", folder / "lm", folder / "lm" / "model.safetensors")
    with pytest.raises(ConversionError, match="is a file"):
        from_roboflamingo(folder / "roboflamingo.pt", folder / "vision.pt", folder / "vision.pt", vision_head_width=8)
