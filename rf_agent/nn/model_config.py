"""Configurations of `transformers` models, as dictionaries from ours."""

from __future__ import annotations

import difflib
import inspect
import re
import sys
from typing import Any

from transformers import AutoConfig, PretrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from rf_agent.config import ConfigError


def model_config(kind: str, values: dict[str, Any], where: str, **defaults: Any) -> PretrainedConfig:
    """The configuration of a `transformers` model.

    Args:
        kind: its `model_type`.
        values: its other keys.
        where: our key that holds them, for messages: `language.model`.
        defaults: used where `values` lack them; models that do not have them ignore them.

    Raises:
        ConfigError: there is no such type, or it has no such key. `transformers` itself keeps unknown keys silently.
    """
    try:
        default = AutoConfig.for_model(kind)
    except ValueError as error:
        raise ConfigError(f"{where}.model_type is {kind!r}, which transformers does not know.") from error
    _check_keys(default, values, where)
    return AutoConfig.for_model(kind, **{**defaults, **values})


def reads_both_ways(kind: str | None) -> bool:
    """Whether a language model of `transformers` reads a text in both directions, as BERT and its kin do."""
    return kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES or kind == "xlnet"


def unknown_keys(kind: str, values: dict[str, Any]) -> list[str]:
    """Those of the outermost keys that a model of `transformers` does not have; none where it knows no such type."""
    try:
        default = AutoConfig.for_model(kind)
    except ValueError:
        return []
    known = _known_keys(default)
    return [key for key in values if not _is_known(default, known, key)]


def _known_keys(default: PretrainedConfig) -> set[str]:
    known = set(default.to_dict()) | set(vars(default)) | set(default.attribute_map)
    return known | set(inspect.signature(type(default).__init__).parameters) - {"self", "kwargs"}


def _is_known(default: PretrainedConfig, known: set[str], key: str) -> bool:
    return key in known or hasattr(type(default), key) or _is_older_name(default, key)


def _check_keys(default: PretrainedConfig, values: dict[str, Any], where: str) -> None:
    known = _known_keys(default)
    for key, value in values.items():
        if not _is_known(default, known, key):
            close = difflib.get_close_matches(key, known, n=2)
            hint = f"did you mean {' or '.join(map(repr, close))}?" if close else "remove it."
            raise ConfigError(f"{where} has the key {key!r}, which a {default.model_type!r} does not have; {hint}")
        inner = getattr(default, key, None)
        if isinstance(value, dict) and isinstance(inner, PretrainedConfig):
            _check_keys(inner, value, f"{where}.{key}")


def _is_older_name(default: PretrainedConfig, key: str) -> bool:
    """Whether the class takes the key as an older name, such as `rotary_pct`, as its source then shows."""
    modules = {base.__module__ for base in type(default).__mro__ if base.__module__.startswith("transformers.")}
    taken = re.compile(rf'(?:pop|get)\(\s*"{re.escape(key)}"|kwargs\["{re.escape(key)}"\]|"{re.escape(key)}" in kwargs')
    return any(taken.search(inspect.getsource(sys.modules[module])) for module in modules)
