"""Configurations of the policies that RoboFlamingo is compared with."""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass, field

from rf_agent.errors import ConfigError
from rf_agent.policy_config import PolicyConfig, register_config


@dataclass
class BaselineConfig(PolicyConfig):
    """A policy that reads a frozen sentence embedding; `language.model` is what embeds the instruction."""

    def beginning_from(self, start: PolicyConfig) -> BaselineConfig:
        """With the image size, the vision tower and the language model of another policy."""
        return dataclasses.replace(
            self,
            image=copy.deepcopy(start.image),
            vision=copy.deepcopy(start.vision),
            language=dataclasses.replace(
                self.language, model=dict(start.language.model), max_tokens=start.language.max_tokens
            ),
        )


@dataclass
class RepresentationEncoderConfig:
    """How the tokens of a visual representation become the feature of an observation step."""

    pooling: str = "mean"
    """`mean` of a view's tokens, which loses places, as R3M's average pooling does; `flat` keeps them all."""

    def check(self) -> None:
        """Raise ConfigError for a pooling that there is not."""
        if self.pooling not in ("mean", "flat"):
            raise ConfigError(f"encoder.pooling is {self.pooling!r}; choose 'mean' or 'flat'.")


@register_config("r3m")
@dataclass
class R3MConfig(BaselineConfig):
    """R3M (arXiv:2203.12601) as the representation under our policy head, as in the paper's Table 7."""

    encoder: RepresentationEncoderConfig = field(default_factory=RepresentationEncoderConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.encoder.check()


@dataclass
class VoltronEncoderConfig:
    """The language-conditioned transformer of V-Cond; ViT-Small by default."""

    width: int = 384
    layers: int = 12
    heads: int = 6
    """Attention heads of the transformer; the pooling has twice as many."""
    mlp_width: int = 1536
    """Hidden width of the gated MLPs."""
    pad_text: bool = False
    """Pad every text to `language.max_tokens` and let all tokens read the padding, as the published weights learned
    to. Without, padding is not seen."""

    def check(self) -> None:
        """Raise ConfigError for sizes that do not fit together."""
        for name in ("width", "layers", "heads", "mlp_width"):
            if getattr(self, name) < 1:
                raise ConfigError(f"encoder.{name} is {getattr(self, name)}, but it must be at least 1.")
        if self.width % (2 * self.heads):
            raise ConfigError(
                f"encoder.width is {self.width}, but {2 * self.heads} heads (twice encoder.heads, in the pooling) must "
                "divide it."
            )


@register_config("voltron")
@dataclass
class VoltronConfig(BaselineConfig):
    """Voltron's V-Cond (arXiv:2302.12766) as the representation under our policy head, as in the paper's Table 7."""

    encoder: VoltronEncoderConfig = field(default_factory=VoltronEncoderConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.encoder.check()
