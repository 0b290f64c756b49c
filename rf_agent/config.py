"""RoboFlamingo's configuration: everything needed to rebuild a policy, one dataclass per part."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from rf_agent.config_values import check_counts
from rf_agent.errors import ConfigError
from rf_agent.policy_config import (
    HeadConfig,
    ImageConfig,
    LossConfig,
    PolicyConfig,
    TextConfig,
    VisionConfig,
    register_config,
)
from rf_agent.robot_config import ActionConfig, StateConfig

__all__ = [
    "INSTRUCTION_BYTES",
    "ActionConfig",
    "ConfigError",
    "HeadConfig",
    "ImageConfig",
    "LanguageConfig",
    "LossConfig",
    "PolicyConfig",
    "ResamplerConfig",
    "RoboFlamingoConfig",
    "StateConfig",
    "TextConfig",
    "VisionConfig",
]

INSTRUCTION_BYTES = 256
"""Most bytes of an instruction in UTF-8, as in the environments."""


@dataclass
class ResamplerConfig:
    """The perceiver resampler, which turns the tokens of a view into a few latents."""

    layers: int = 6
    """Number of attention + feed-forward layers."""
    latents: int = 64
    """Number of latents, thus of media tokens per view."""
    heads: int = 8
    """Attention heads."""
    head_dim: int = 64
    """Width of an attention head."""
    ff_mult: int = 4
    """Width of the feed-forward layer over the width of the tokens."""

    def check(self) -> None:
        """Raise ConfigError for sizes that cannot be, of which some would make a blind policy."""
        check_counts(self, ("layers", "latents", "heads", "head_dim", "ff_mult"), "resampler")


@dataclass
class LanguageConfig(TextConfig):
    """The causal language model and the gated cross-attention laid over it."""

    cross_attention_every: int = 1
    """A gated cross-attention layer stands before every n-th decoder layer."""
    heads: int = 8
    """Heads of the cross-attention."""
    head_dim: int = 64
    """Width of a head of the cross-attention."""
    ff_mult: int = 4
    """Width of the gated feed-forward layer over the width of the language model."""
    initial_gate: float = 0.0
    """Value of the tanh gates at first: 0 leaves a pre-trained language model as it was (Flamingo)."""
    lm_feature: str = "final_norm"
    """Hidden states that the head reads: `final_norm`, or `last_block_input`, where the last decoder layer begins.

    The reference implementation reads the latter from MPT-1B (and the former from all others), so that the last
    layer and its cross-attention never take part.
    """


@register_config("roboflamingo")
@dataclass
class RoboFlamingoConfig(PolicyConfig):
    """A whole RoboFlamingo policy."""

    resampler: ResamplerConfig = field(default_factory=ResamplerConfig)
    language: LanguageConfig = field(default_factory=LanguageConfig)
    fusion: str = "post"
    """How the views come together: `post` resamples each alone, `pre` all at once, `separate` each with a resampler of
    its own; `two_way` reads the text once for every view and joins the features."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.resampler.check()
        check_counts(self.language, ("cross_attention_every", "heads", "head_dim", "ff_mult"), "language")
        if not math.isfinite(self.language.initial_gate):
            raise ConfigError(f"language.initial_gate is {self.language.initial_gate}; give a finite number.")
        if self.language.lm_feature not in ("final_norm", "last_block_input"):
            raise ConfigError(
                f"language.lm_feature is {self.language.lm_feature!r}; choose 'final_norm' or 'last_block_input'."
            )
