"""Configurations beside their families, without any weights."""

from __future__ import annotations

import json

import pytest

from rf_agent.config import RoboFlamingoConfig
from rf_agent.diagnosis.checkpoint_checks import check_config, concerns_language, shortened_error
from rf_agent.presets import preset


@pytest.mark.parametrize("name", ["tiny", "M-3B", "G-4B", "L-9B", "M-9B"])
def test_a_preset_agrees_with_its_family(name, tmp_path):
    found = check_config(preset(name), tmp_path)
    assert found.mismatches == [] and found.language_mismatch == {}
    assert preset(found.family) == preset(name)


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ("image.mean=[0.5,0.5,0.5]", "image_normalisation"),
        ("image.size=196", "image_size"),
        ("image.resample=bilinear", "image_size"),
        ("language.lm_feature=final_norm", "lm_feature"),
        ("head.window=4", "window"),
        ("views=[rgb_gripper,rgb_static]", "cameras_swapped"),
    ],
)
def test_what_a_family_has_otherwise_is_named(change, kind, tmp_path):
    if kind == "cameras_swapped":
        change = 'views=["rgb_gripper","rgb_static"]'
    found = check_config(preset("M-3B").changed([change]), tmp_path)
    assert [mismatch.kind for mismatch in found.mismatches] == [kind]


def test_what_the_run_beside_it_was_told_to_change_is_no_mistake(tmp_path):
    told = ["image.size=96", "language.lm_feature=final_norm", "head.window=12", "image.size=98"]
    (tmp_path / "run.json").write_text(json.dumps([{"settings": {"preset": "M-3B", "override": told}}]))
    (tmp_path / "policy").mkdir()
    config = preset("M-3B").changed(told)
    assert check_config(config, tmp_path / "policy").mismatches == []
    other = check_config(config.changed(["image.size=196"]), tmp_path / "policy").mismatches
    assert [(mismatch.key, mismatch.own) for mismatch in other] == [("image.size", 196)]


def test_other_cameras_are_those_of_another_robot(tmp_path):
    assert check_config(preset("tiny").changed(['views=["top","wrist"]']), tmp_path).mismatches == []


def test_a_language_model_of_no_family_is_named_beside_a_known_vision_tower(tmp_path):
    config = preset("M-3B").changed(["language.model.n_layers=32"])
    found = check_config(config, tmp_path)
    assert found.family == "" and found.nearest == "M-3B" and found.language_mismatch == {"n_layers": (32, 24)}


def test_what_has_no_family_is_left_alone(tmp_path):
    config = preset("tiny")
    config.vision.model["hidden_sizes"] = [1, 2, 3]
    found = check_config(config, tmp_path)
    assert (found.family, found.nearest, found.language_mismatch) == ("", "", {})


@pytest.mark.parametrize(
    ("settings", "window"),
    [
        ({"preset": "tiny", "override": []}, 8),
        ({"preset": "tiny", "override": ["head.window=4", "head.window=6"]}, 6),
        ({"preset": "tiny", "override": [], "init": "elsewhere"}, None),
    ],
)
def test_the_run_beside_a_checkpoint_says_its_window(settings, window, tmp_path):
    (tmp_path / "run.json").write_text(json.dumps([{"settings": settings}]))
    (tmp_path / "policy").mkdir()
    assert check_config(RoboFlamingoConfig(), tmp_path / "policy").trained_window == window


def test_errors_of_loading_are_shortened_and_read():
    names = ", ".join(f"vlm.lang_encoder.layer{index}.weight (2,) instead of (3,)" for index in range(9))
    message = f"p/model.safetensors does not fit; tensors of another shape: {names}. Save it again."
    assert concerns_language(message)
    short = shortened_error(message)
    assert "layer2.weight (2,) instead of (3,) and others (9 in all)" in short and "layer3" not in short
    assert not concerns_language("missing: vlm.vision_encoder.a, head.b")
    assert shortened_error("the tokenizer has 9 tokens.") == "the tokenizer has 9 tokens"
