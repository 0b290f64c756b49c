import json

import pytest

from rf_agent.config import ConfigError, HeadConfig, RoboFlamingoConfig
from rf_agent.presets import PRESETS, preset


@pytest.mark.parametrize("name", PRESETS)
def test_json_round_trip(name, tmp_path):
    config = preset(name)
    config.save(tmp_path / "config.json")
    assert RoboFlamingoConfig.load(tmp_path / "config.json") == config


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"heads": {}}, "'heads'"),
        ({"head": {"widnow": 3}}, "'head.widnow'"),
        ({"head": {"window": "3"}}, "head.window"),
        ({"image": {"mean": [0.5]}}, "image.mean"),
        ({"head": {"chunk_size": 2, "n_action_steps": 3}}, "head.n_action_steps"),
        ({"image": {"resample": "cubic"}}, "image.resample"),
        ({"type": []}, r"type \[\]"),
        ({"image": {"size": 0}}, "image.size"),
        ({"image": {"std": [0.5, 0.0, 0.5]}}, "image.std"),
        ({"head": {"ensemble": float("nan")}}, "head.ensemble"),
        ({"action": {"dim": 1, "normalization": "min_max", "low": [1.0], "high": [1.0]}}, r"action.low\[0\]"),
        ({"action": {"dim": 1, "normalization": "min_max", "low": [float("nan")], "high": [1.0]}}, r"action.low\[0\]"),
        ({"language": {"lm_feature": "last"}}, "language.lm_feature"),
        ({"language": {"max_tokens": 0}}, "language.max_tokens"),
        ({"vision": 3}, "vision"),
        ({"resampler": {"latents": 0}}, "resampler.latents is 0, but it must be at least 1"),
        ({"resampler": {"layers": 0}}, "resampler.layers"),
        ({"resampler": {"head_dim": 0}}, "resampler.head_dim"),
        ({"language": {"head_dim": 0}}, "language.head_dim"),
        ({"language": {"cross_attention_every": 0}}, "language.cross_attention_every"),
        ({"language": {"initial_gate": float("nan")}}, "language.initial_gate"),
        ({"head": {"mlp": [16, 0]}}, "head.mlp"),
        ({"loss": {"gripper_weight": -1.0}}, "loss.gripper_weight"),
        ({"loss": {"gripper_weight": float("nan")}}, "loss.gripper_weight"),
        ({"loss": {"huber_delta": float("nan")}}, "loss.huber_delta"),
        ({"image": {"mean": [0.5, float("nan"), 0.5]}}, "image.mean"),
        ({"fps": -3.0}, "fps is -3"),
        ({"state": {"dim": -1}}, "state.dim is -1"),
        ({"state": {"dim": 4, "entries": [3, 3]}}, r"state.entries is \[3, 3\]: name every entry once"),
        ({"state": {"dim": 4, "entries": [3], "angles": [3, 3]}}, "state.angles"),
    ],
)
def test_wrong_values_are_named(change, named):
    with pytest.raises(ConfigError, match=named):
        RoboFlamingoConfig.from_dict(change)


def test_wrong_files_are_named(tmp_path):
    path = tmp_path / "config.json"
    path.write_text("{")
    with pytest.raises(ConfigError, match="config.json is not valid JSON"):
        RoboFlamingoConfig.load(path)
    path.write_text(json.dumps({"nonsense": 1}))
    with pytest.raises(ConfigError, match="config.json.*nonsense"):
        RoboFlamingoConfig.load(path)


def test_window_must_hold_an_observation_step():
    with pytest.raises(ConfigError, match="head.window"):
        RoboFlamingoConfig(head=HeadConfig(window=0))


def test_presets_are_fresh_and_known():
    preset("roboflamingo-tiny").head.hidden = 1
    assert preset("roboflamingo-tiny").head.hidden != 1
    with pytest.raises(ConfigError, match="no preset 'small'.*roboflamingo-tiny"):
        preset("small")


@pytest.mark.parametrize(("key", "value"), [("hidden", -4), ("layers", 0), ("heads", 0), ("dropout", 7.0)])
def test_values_of_a_head_that_cannot_be(key, value):
    with pytest.raises(ConfigError, match=f"head.{key} is {value}"):
        HeadConfig(**{key: value}).check()
