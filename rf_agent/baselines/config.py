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
