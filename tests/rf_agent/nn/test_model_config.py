"""Keys of a `transformers` model that it does not have are refused."""

import pytest

from rf_agent.config import ConfigError
from rf_agent.nn.model_config import model_config
from rf_agent.presets import PRESETS, preset


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        ("llama", {"hiden_size": 64}, "language.model has the key 'hiden_size', .*'llama'.*did you mean 'hidden_size'"),
        ("gpt_neox", {"layers": 3}, "the key 'layers'"),
        ("llama", {"qqqq": 3}, "the key 'qqqq'.*remove it"),
        ("no_such_model", {}, "language.model.model_type is 'no_such_model'"),
    ],
)
def test_misspelt_keys_are_refused(kind, values, message):
    with pytest.raises(ConfigError, match=message):
        model_config(kind, values, "language.model")


def test_nested_configurations_are_checked_too():
    assert model_config("clip", {"vision_config": {"hidden_size": 36}}, "x").vision_config.hidden_size == 36
    with pytest.raises(ConfigError, match="x.vision_config has the key 'hidden_sise'"):
        model_config("clip", {"vision_config": {"hidden_sise": 32}}, "x")


def test_what_a_model_has_is_accepted_older_names_and_aliases_too():
    assert model_config("llama", {"hidden_size": 64, "rope_theta": 500.0}, "x").hidden_size == 64
    assert model_config("gpt2", {"hidden_size": 24}, "x").n_embd == 24  # an alias
    assert model_config("gpt_neox", {"rotary_pct": 0.5, "use_cache": False}, "x").use_cache is False
    assert model_config("resnet", {}, "x", image_size=32).model_type == "resnet"


@pytest.mark.parametrize("name", PRESETS)
def test_presets_have_no_unknown_keys(name):
    for where, values in (("language.model", preset(name).language.model), ("vision.model", preset(name).vision.model)):
        values = dict(values)
        if (kind := values.pop("model_type")) not in ("mosaic_gpt", "clip_vit"):
            model_config(kind, values, where)
