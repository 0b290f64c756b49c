import json
import os

import numpy as np
import pytest
import torch
from policy_cases import make_observation, make_policy
from safetensors.torch import load_file, save_file

from rf_agent import checkpoint
from rf_agent.checkpoint import CheckpointError
from rf_agent.config import ConfigError
from rf_agent.policy import RoboFlamingoPolicy


@pytest.fixture
def saved(tmp_path):
    return make_policy().save_pretrained(tmp_path / "policy", card="# Card\n")


def test_saved_policy_loads_to_the_same_actions(saved):
    policy, loaded = make_policy(), RoboFlamingoPolicy.from_pretrained(saved, device="cpu")
    for t in range(6):
        observation = make_observation(t)
        assert np.array_equal(policy.act(observation), loaded.act(observation))
    assert not loaded.training
    assert (saved / "README.md").read_text() == "# Card\n"
    assert {p.name for p in saved.iterdir()} >= {"config.json", "model.safetensors", "tokenizer.json"}


def test_a_card_stays_unless_another_is_given(saved):
    policy = RoboFlamingoPolicy.from_pretrained(saved)
    assert policy.save_pretrained(saved).joinpath("README.md").read_text() == "# Card\n"
    assert policy.save_pretrained(saved, card="# New\n").joinpath("README.md").read_text() == "# New\n"


def test_weights_that_are_no_fractions_are_refused(saved):
    weights = load_file(saved / "model.safetensors")
    name = next(iter(weights))
    save_file(weights | {name: weights[name].to(torch.int32)}, saved / "model.safetensors")
    with pytest.raises(CheckpointError, match=f"of no floating point: {name} int32"):
        RoboFlamingoPolicy.from_pretrained(saved)


def test_actions_that_are_no_numbers_never_leave_the_policy(saved):
    weights = load_file(saved / "model.safetensors")
    broken = {name: torch.full_like(tensor, torch.nan) for name, tensor in weights.items() if name.startswith("head.")}
    save_file(weights | broken, saved / "model.safetensors")
    policy = RoboFlamingoPolicy.from_pretrained(saved)
    with pytest.raises(ValueError, match="actions that are not finite: its weights are damaged"):
        policy.act(make_observation(0))


def test_parts_that_do_not_fit_together_are_named_with_their_file(saved):
    config = json.loads((saved / "config.json").read_text())
    config["vision"]["model"]["depths"] = [1]
    (saved / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="config.json: vision.model"):
        RoboFlamingoPolicy.from_pretrained(saved)


def test_values_that_a_number_format_cannot_hold_are_named(tmp_path):
    policy = make_policy()
    with torch.no_grad():
        policy.vlm.perceiver.latents[0, 0] = 1e6
    with pytest.raises(CheckpointError, match="vlm.perceiver.latents has values that float16 cannot hold; give bfloat"):
        policy.save_pretrained(tmp_path / "half", dtype=torch.float16)
    assert not (tmp_path / "half").exists()
    policy.save_pretrained(tmp_path / "half", dtype=torch.bfloat16)


def test_half_precision_halves_the_file(saved, tmp_path):
    policy = make_policy()
    half = policy.save_pretrained(tmp_path / "half", dtype=torch.float16)
    size = (half / "model.safetensors").stat().st_size
    assert size < 0.8 * (saved / "model.safetensors").stat().st_size
    loaded = RoboFlamingoPolicy.from_pretrained(half)
    observation = make_observation(0)
    assert next(loaded.parameters()).dtype == torch.float32
    np.testing.assert_allclose(loaded.act(observation), policy.act(observation), atol=5e-3)


def test_saving_again_replaces_the_checkpoint_and_leaves_nothing_else(saved):
    make_policy(seed=1).save_pretrained(saved)
    assert [p.name for p in saved.parent.iterdir()] == ["policy"]
    weights = load_file(saved / "model.safetensors")
    assert torch.equal(weights["vlm.perceiver.latents"], make_policy(seed=1).vlm.perceiver.latents)


def test_failed_save_keeps_the_old_checkpoint_and_leaves_nothing_else(saved, monkeypatch):
    before = (saved / "model.safetensors").read_bytes()

    def fail(*args):
        raise OSError("disk full")

    monkeypatch.setattr(checkpoint, "save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        make_policy(seed=1).save_pretrained(saved)
    assert (saved / "model.safetensors").read_bytes() == before
    assert os.listdir(saved.parent) == ["policy"]


def test_other_directories_are_not_overwritten(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(CheckpointError, match="is no checkpoint"):
        make_policy().save_pretrained(tmp_path)
    assert os.listdir(tmp_path) == ["thesis.txt"]


def test_a_model_of_another_library_is_not_overwritten(saved):
    (saved / "config.json").write_text('{"model_type": "llama", "hidden_size": 64}')
    before = {path.name: path.read_bytes() for path in saved.iterdir()}
    with pytest.raises(CheckpointError, match="is no checkpoint of ours"):
        make_policy().save_pretrained(saved)
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before


def test_what_else_lies_in_a_checkpoint_stays_when_it_is_saved_again(saved):
    (saved / "notes.txt").write_text("seed 3 was better")
    (saved / ".git").mkdir()
    (saved / ".git" / "HEAD").write_text("ref: refs/heads/main")
    make_policy(seed=1).save_pretrained(saved)
    assert (saved / "notes.txt").read_text() == "seed 3 was better" and (saved / ".git" / "HEAD").exists()
    assert [path.name for path in saved.parent.iterdir()] == ["policy"]


def test_saving_to_a_link_replaces_what_it_leads_to(saved):
    link = saved.parent / "latest"
    link.symlink_to(saved.name)
    make_policy(seed=1).save_pretrained(link)
    assert link.is_symlink() and sorted(path.name for path in saved.parent.iterdir()) == ["latest", "policy"]
    weights = load_file(saved / "model.safetensors")
    assert torch.equal(weights["vlm.perceiver.latents"], make_policy(seed=1).vlm.perceiver.latents)


def test_every_wrong_tensor_is_named(saved):
    path = saved / "model.safetensors"
    weights = load_file(path)
    del weights["head.actions.mlp.0.bias"]
    weights["head.surplus"] = torch.zeros(1)
    weights["vlm.perceiver.latents"] = torch.zeros(3, 16)
    save_file(weights, path)
    with pytest.raises(CheckpointError) as error:
        RoboFlamingoPolicy.from_pretrained(saved)
    for part in (
        "missing: head.actions.mlp.0.bias",
        "unexpected: head.surplus",
        "vlm.perceiver.latents (3, 16) instead of (4, 32)",
    ):
        assert part in str(error.value)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"])
def test_missing_files_are_named(saved, name):
    (saved / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        RoboFlamingoPolicy.from_pretrained(saved)


def test_truncated_weights_are_refused(saved):
    path = saved / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="model.safetensors is damaged"):
        RoboFlamingoPolicy.from_pretrained(saved)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("content", ["{}", "{"])
def test_a_damaged_tokenizer_is_named(saved, name, content):
    (saved / name).write_text(content)
    with pytest.raises(CheckpointError, match=name):
        RoboFlamingoPolicy.from_pretrained(saved)


def test_unknown_configuration_keys_are_refused(saved):
    values = json.loads((saved / "config.json").read_text())
    values["head"]["colour"] = "blue"
    (saved / "config.json").write_text(json.dumps(values))
    with pytest.raises(ConfigError, match="head.colour"):
        RoboFlamingoPolicy.from_pretrained(saved)


def test_unknown_names_are_refused():
    with pytest.raises(CheckpointError, match="no policy 'roboflamingo-huge'"):
        RoboFlamingoPolicy.from_pretrained("roboflamingo-huge")
    with pytest.raises(CheckpointError, match="no trained 'roboflamingo-test'"):
        RoboFlamingoPolicy.from_pretrained("roboflamingo-test")
