"""Causal language models: any of `transformers`, and those that it lacks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn
from transformers import AutoModelForCausalLM

from rf_agent.config import ConfigError, LanguageConfig
from rf_agent.nn.cross_attention import Conditioning
from rf_agent.nn.model_config import model_config, reads_both_ways
from rf_agent.nn.mosaic_gpt import MosaicGPT

OWN_MODELS: dict[str, Callable[..., nn.Module]] = {"mosaic_gpt": MosaicGPT}
"""Models by `model_type` that `transformers` does not have: their fields to the model."""


def build_language_model(config: LanguageConfig) -> Any:
    """The causal language model of `config`, with random weights.

    Raises:
        ConfigError: no model of that type, or it cannot be built from these values.
    """
    values = dict(config.model)
    kind = values.pop("model_type", None)
    if kind is None:
        raise ConfigError("language.model has no 'model_type'; name a causal language model of transformers: 'llama'.")
    try:
        if kind in OWN_MODELS:
            return OWN_MODELS[kind](**values)
        model = AutoModelForCausalLM.from_config(model_config(kind, values, "language.model"))
    except ConfigError:
        raise
    except Exception as error:  # transformers checks values in many places, each with errors of its own
        raise ConfigError(f"language.model cannot be built: {error}") from error
    if reads_both_ways(kind) and not getattr(model.config, "is_decoder", False):
        raise ConfigError(
            f"language.model.model_type is {kind!r}, which reads a text in both directions, so that it would read the "
            "padding of others: choose a causal model such as 'llama'."
        )
    return model


def decoder_layers(language_model: Any) -> nn.ModuleList:
    """The decoder layers of any language model: the list as long as its configuration says."""
    count = language_model.config.num_hidden_layers
    for module in language_model.base_model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return module
    raise ConfigError(f"{type(language_model).__name__} has no list of {count} decoder layers; use another model_type.")


class EarlyExit(Exception):  # noqa: N818 - it is no error
    """Carries the hidden states (N, L, d) with which a decoder layer would have gone on, as its only argument."""


class EarlyExitHook:
    """Forward pre-hook of a decoder layer: with `conditioning.early_exit` the pass ends here.

    Works in every language model, and does not depend on how it records its hidden states: some versions of
    `transformers` record them before other hooks of a layer and some after.
    """

    def __init__(self, conditioning: Conditioning) -> None:
        self.conditioning = conditioning

    def __call__(self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self.conditioning.early_exit:
            raise EarlyExit(args[0] if args else kwargs["hidden_states"])


def longest_text(language_model: Any) -> int | None:
    """How many tokens a language model reads at most, by its configuration; None where that does not say."""
    config = language_model.config
    for name in ("max_position_embeddings", "n_positions", "max_seq_len"):
        if (length := getattr(config, name, None)) is not None and length > 0:  # XLNet says -1
            return int(length)
    return None
