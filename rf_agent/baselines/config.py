"""Configurations of the policies that RoboFlamingo is compared with."""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass, field
from typing import Any

from rf_agent.errors import ConfigError
from rf_agent.nn.plan_config import HULCHeadConfig, MCILHeadConfig
from rf_agent.policy_config import PolicyConfig, register_config


def _reads_both_ways(model: dict[str, Any]) -> bool:
    from rf_agent.nn.model_config import reads_both_ways

    return reads_both_ways(model.get("model_type"))


@dataclass
class BaselineConfig(PolicyConfig):
    """A policy that reads a sentence embedding; `language.model` is what embeds the instruction."""

    sentence: str = "hidden"
    """What embeds a word: its last hidden state (`hidden`), as in HULC, R3M and Voltron, whose language models read in
    both directions, or the word's own embedding, normalised (`words`). The states of a causal model say what comes
    next, not what was said: frozen, they hardly tell one colour from another."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sentence not in ("hidden", "words"):
            raise ConfigError(f"sentence is {self.sentence!r}; choose 'hidden' or 'words'.")

    def beginning_from(self, start: PolicyConfig) -> BaselineConfig:
        """With the image size, the vision tower and the language model of another policy, embedded as suits it."""
        return dataclasses.replace(
            self,
            sentence="hidden" if _reads_both_ways(start.language.model) else "words",
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
        if self.encoder.pooling == "flat" and self.head.proprioception:
            raise ConfigError(
                "encoder.pooling is 'flat' and head.proprioception is true, but the state is joined to all numbers of "
                "a feature, which flat has too many of; choose 'mean', or leave the state out."
            )


@dataclass
class RT1EncoderConfig:
    """How RT-1 makes a few tokens of a view, conditioned on the instruction."""

    width: int = 512
    """Channels of the feature map and width of a token."""
    tokens: int = 8
    """Tokens that TokenLearner leaves of a view."""
    bottleneck: int = 64
    """Hidden width of TokenLearner's MLP."""
    blocks: int = 0
    """MBConv blocks between the vision tower and TokenLearner, each followed by FiLM; 0 where the tower is an
    EfficientNet and has them itself."""
    expansion: int = 6
    """How many times as wide a block is inside."""

    def check(self) -> None:
        """Raise ConfigError for values that no network can be built with."""
        for name, least in (("width", 1), ("tokens", 1), ("bottleneck", 1), ("blocks", 0), ("expansion", 1)):
            if getattr(self, name) < least:
                raise ConfigError(f"encoder.{name} is {getattr(self, name)}, but it must be at least {least}.")


@register_config("rt1")
@dataclass
class RT1Config(BaselineConfig):
    """RT-1 (arXiv:2212.06817); with its head `rt1` nothing of `loss` is read, as all entries are classified alike."""

    encoder: RT1EncoderConfig = field(default_factory=RT1EncoderConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.encoder.check()


@dataclass
class PerceptualEncoderConfig:
    """How the vision tokens of a frame become the small embedding that MCIL and HULC plan with."""

    keypoints: str = "all"
    """Views of which the places of learned features are read (spatial softmax): `all`, as MCIL does, or `first`, as
    HULC does, which reads all tokens of the others (the gripper's camera)."""
    channels: int = 64
    """Features whose places are read."""
    flat_channels: int = 16
    """Numbers that each token of another view is made into."""
    hidden: tuple[int, ...] = (512,)
    """Hidden widths of the MLP of each view."""
    width: int = 64
    """Width of the embedding of each view."""

    def check(self) -> None:
        """Raise ConfigError for values that do not fit."""
        if self.keypoints not in ("all", "first"):
            raise ConfigError(f"encoder.keypoints is {self.keypoints!r}; choose 'all' or 'first'.")
        for name in ("channels", "flat_channels", "width"):
            if getattr(self, name) < 1:
                raise ConfigError(f"encoder.{name} is {getattr(self, name)}, but it must be at least 1.")


@dataclass
class PlanConfig(BaselineConfig):
    """What MCIL and HULC have in common: a latent plan, for which they have heads of their own."""

    encoder: PerceptualEncoderConfig = field(default_factory=PerceptualEncoderConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.encoder.check()
        if self.head.type != self.type:
            raise ConfigError(
                f"head.type is {self.head.type!r}, but a policy of type {self.type!r} acts by its latent plan: leave "
                f"it {self.type!r}, or choose another preset."
            )


@register_config("mcil")
@dataclass
class MCILConfig(PlanConfig):
    """MCIL (arXiv:2005.07648): multi-context imitation with a Gaussian latent plan."""

    head: MCILHeadConfig = field(default_factory=MCILHeadConfig)


@register_config("hulc")
@dataclass
class HULCConfig(PlanConfig):
    """HULC (arXiv:2204.06252): hierarchical imitation with a discrete latent plan."""

    head: HULCHeadConfig = field(default_factory=HULCHeadConfig)


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
