import re

import pytest
import torch
from make_case import make_case

from rf_agent.weights import ConversionError, from_roboflamingo


@pytest.fixture
def folder(tmp_path):
    make_case(tmp_path / "case", "neox")
    return tmp_path / "case"


def convert(folder, base="openflamingo.pt", **options):
    return from_roboflamingo(
        folder / "roboflamingo.pt",
        folder / "lm",
        folder / "vision.pt",
        folder / base if base else None,
        **{"window": 4, "vision_head_width": 8, **options},
    )


def change(folder, change):
    """Rewrite the checkpoint's tensors: a function of the name that returns a new name, None, or a tensor."""
    path = folder / "roboflamingo.pt"
    tensors = torch.load(path)["model_state_dict"]
    out = {}
    for name, tensor in tensors.items():
        new = change(name)
        if isinstance(new, str):
            out[new] = tensor
        elif new is not None:
            out[name] = new
    torch.save({"model_state_dict": out}, path)


def test_report_accounts_for_every_tensor(folder):
    policy, report = convert(folder)
    files = {
        str(folder / "roboflamingo.pt"): set(torch.load(folder / "roboflamingo.pt")["model_state_dict"]),
        str(folder / "openflamingo.pt"): set(torch.load(folder / "openflamingo.pt")),
        str(folder / "vision.pt"): set(torch.load(folder / "vision.pt")),
    }
    for path, names in files.items():
        used = {original for file, original in report.used.values() if file == path}
        ignored = {original for file, original in report.ignored if file == path}
        assert used | ignored == {name.removeprefix("module.") for name in names} and not used & ignored
    assert set(report.used) == set(policy.state_dict())
    lines = report.lines()
    assert any(re.search(r"roboflamingo.pt: 22 tensors ignored: duplicates", line) for line in lines)
    assert any(re.search(r"openflamingo.pt: 3 tensors ignored: a buffer of older versions", line) for line in lines)
    assert any("final_norm" in line for line in lines)


def test_without_the_base_the_output_layer_is_the_language_models(folder):
    with_base, without = convert(folder)[0], convert(folder, None)[0]
    for (name, one), other in zip(with_base.state_dict().items(), without.state_dict().values(), strict=True):
        assert torch.equal(one, other), name


@pytest.mark.parametrize("frozen", ["perceiver.", "gated_cross_attn", "embed_in"])
def test_what_was_frozen_comes_from_the_base(folder, frozen):
    change(folder, lambda name: None if frozen in name else name)
    policy, _ = convert(folder)
    base, cross = torch.load(folder / "openflamingo.pt"), "gpt_neox.layers.1.gated_cross_attn_layer.attn.to_q.weight"
    assert torch.equal(policy.vlm.perceiver.latents, base["perceiver.latents"]) == (frozen == "perceiver.")
    queries = policy.vlm.gated_cross_attn_layers["1"].attn.to_q.weight
    assert torch.equal(queries, base[f"lang_encoder.{cross}"]) == (frozen == "gated_cross_attn")
    table = policy.vlm.lang_encoder.get_input_embeddings().weight
    assert torch.equal(table, base["lang_encoder.gpt_neox.embed_in.weight"]) == (frozen == "embed_in")
    with pytest.raises(ConversionError, match="give the OpenFlamingo checkpoint"):
        convert(folder, None)


def test_copies_that_differ_are_refused(folder):
    change(folder, lambda name: torch.full((1,), 9.0) if "gated_cross_attn_layers.1.ff_gate" in name else name)
    with pytest.raises(ConversionError, match="layers.1.gated_cross_attn_layer.ff_gate and .*differ"):
        convert(folder)


def test_what_the_tensors_show_needs_no_option(folder, tmp_path):
    policy, _ = convert(folder)
    assert (policy.config.head.type, policy.config.head.hidden, policy.config.head.layers) == ("lstm", 12, 2)
    assert policy.config.head.mlp == (16, 8) and policy.config.fusion == "post"
    make_case(tmp_path / "gpt", "neox", "gpt", "two_way")
    policy, _ = convert(tmp_path / "gpt", window=99)
    assert (policy.config.head.type, policy.config.head.window, policy.config.fusion) == ("gpt", 4, "two_way")
    make_case(tmp_path / "fc", "neox", "fc")
    assert convert(tmp_path / "fc")[0].config.head.type == "fc_hist"
    assert convert(tmp_path / "fc", head="fc")[0].config.head.type == "fc"


@pytest.mark.parametrize(
    ("options", "said"),
    [({"head": "gpt"}, "type lstm, but 'gpt'"), ({"fusion": "separate"}, "place|none of the files")],
)
def test_options_against_the_tensors_are_refused(folder, options, said):
    with pytest.raises(ConversionError, match=said):
        convert(folder, **options)


@pytest.mark.parametrize(
    ("name", "tensor", "parts"),
    [
        ("lm_head.rnn.weight_ih_l0", torch.ones(48, 20), ["lm_head.rnn.weight_ih_l0", "(48, 20)", "(48, 32)"]),
        ("lm_head.actions.mlp.4.weight", torch.ones(7, 8), ["lm_head.actions.mlp.4.weight", "(7, 8)", "(6, 8)"]),
        ("old_decoder_blocks.0.mlp.dense_h_to_4h.bias", torch.ones(7), ["dense_h_to_4h.bias", "(7,)", "(48,)"]),
    ],
)
def test_mis_shaped_tensors_are_named(folder, name, tensor, parts):
    change(folder, lambda other: tensor if other.endswith(name) else other)
    with pytest.raises(ConversionError) as error:
        convert(folder)
    assert all(part in str(error.value) for part in parts), error.value


def test_tensors_that_are_not_finite_are_named(folder):
    broken = torch.load(folder / "roboflamingo.pt")["model_state_dict"]
    name = next(name for name in broken if name.endswith("lm_head.rnn.weight_ih_l0"))
    change(folder, lambda other: torch.full_like(broken[name], torch.nan) if other == name else other)
    with pytest.raises(ConversionError, match=r"lm_head\.rnn\.weight_ih_l0 of .* has values that are not finite"):
        convert(folder)


def test_heads_of_another_kind_are_refused(folder):
    change(folder, lambda name: name.replace("perceiver.norm.bias", "lm_head.fc_state.mlp.0.bias"))
    with pytest.raises(ConversionError, match="no place for lm_head.fc_state.mlp.0.bias"):
        convert(folder)
    change(folder, lambda name: name.replace("lm_head.rnn.", "lm_head.unet."))
    with pytest.raises(ConversionError, match="neither LSTM, GPT nor MLP"):
        convert(folder)


def test_vision_tower_that_was_trained_too_is_used(folder):
    path = folder / "roboflamingo.pt"
    tensors = torch.load(path)["model_state_dict"]
    vision = {f"module.vision_encoder.{name}": tensor + 1 for name, tensor in torch.load(folder / "vision.pt").items()}
    torch.save({"model_state_dict": tensors | vision}, path)
    policy, _ = convert(folder)
    wanted = vision["module.vision_encoder.visual.class_embedding"]
    assert torch.equal(policy.vlm.vision_encoder.model.class_embedding, wanted)
