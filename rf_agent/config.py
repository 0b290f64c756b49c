"""Everything needed to rebuild a policy, as dataclasses: one per part, stored as JSON in its checkpoint."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rf_agent.errors import UserError


class ConfigError(UserError, ValueError):
    """A configuration that cannot be used; the message names the key and what it should be."""


@dataclass
class ImageConfig:
    """How camera images become pixels."""

    size: int = 112
    """Side in pixels to which every camera image is resized."""
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    """Mean of each colour channel (of values in [0, 1]) that is subtracted."""
    std: tuple[float, float, float] = (0.25, 0.25, 0.25)
    """Standard deviation of each colour channel by which pixels are divided."""


@dataclass
class VisionConfig:
    """The vision tower: any `transformers` vision model that yields a grid of features or patch tokens."""

    model: dict[str, Any] = field(default_factory=dict)
    """`transformers` configuration of the tower, with its `model_type`."""
    position_embedding: bool = True
    """Give every token a learned place (view, row, column); for convolutional towers, which have none."""


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


@dataclass
class LanguageConfig:
    """The causal language model and the gated cross-attention laid over it."""

    model: dict[str, Any] = field(default_factory=dict)
    """`transformers` configuration of a causal language model, with its `model_type`."""
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


@dataclass
class HeadConfig:
    """The policy head: history of pooled features to chunks of actions."""

    type: str = "lstm"
    """Kind of head; `rf_agent.nn.heads.HEADS` lists them."""
    hidden: int = 1024
    """Hidden width."""
    layers: int = 4
    """Recurrent layers."""
    window: int = 12
    """Most looks (observations that were encoded) that an action depends on."""
    chunk: int = 1
    """Actions predicted at every look (K)."""
    execute: int = 1
    """Actions of a chunk that are carried out before the policy looks again (E <= K)."""
    dropout: float = 0.1
    """Dropout between recurrent layers."""
    mlp: tuple[int, ...] = (1024, 512, 256)
    """Hidden widths of the pose and gripper MLPs."""


@dataclass
class LossConfig:
    """The imitation loss: pose regression + weighted classification of the gripper (paper, Eq. 6)."""

    pose: str = "huber"
    """`huber` (the reference implementation) or `mse` (the paper)."""
    huber_delta: float = 1.0
    """Error, in action units, from which the Huber loss grows linearly; the reference's is 1, so half of `mse`."""
    gripper_weight: float = 0.01
    """Weight of the gripper's binary cross-entropy (the paper's lambda)."""


@dataclass
class RoboFlamingoConfig:
    """A whole policy."""

    image: ImageConfig = field(default_factory=ImageConfig)
    vision: VisionConfig = field(default_factory=VisionConfig)
    resampler: ResamplerConfig = field(default_factory=ResamplerConfig)
    language: LanguageConfig = field(default_factory=LanguageConfig)
    head: HeadConfig = field(default_factory=HeadConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    views: tuple[str, ...] = ("rgb_static", "rgb_gripper")
    """Camera images of the observation, in the order in which the policy sees them."""
    tasks: tuple[str, ...] = ()
    """Names of the tasks in the demonstrations that the policy was trained on; the commands use them by default."""

    def __post_init__(self) -> None:
        head = self.head
        if not 1 <= head.execute <= head.chunk:
            raise ConfigError(
                f"head.execute is {head.execute}, but it must lie between 1 and head.chunk ({head.chunk}): "
                "only predicted actions can be carried out."
            )
        if head.window < 1:
            raise ConfigError(f"head.window is {head.window}, but a policy sees at least 1 look.")
        if self.loss.pose not in ("huber", "mse"):
            raise ConfigError(f"loss.pose is {self.loss.pose!r}; choose 'huber' or 'mse'.")
        if self.loss.huber_delta <= 0:
            raise ConfigError(f"loss.huber_delta is {self.loss.huber_delta}; give an error above zero.")

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionaries, lists and numbers, ready for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> RoboFlamingoConfig:
        """Inverse of `to_dict`. Raises ConfigError that names an unknown key or a value of the wrong type."""
        return _build(cls, values, "")

    def save(self, path: str | Path) -> None:
        """Write the configuration as JSON."""
        Path(path).write_text(json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> RoboFlamingoConfig:
        """Read what `save` wrote. Raises ConfigError that names the file when it is not a configuration."""
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path} is not valid JSON ({error}); save the checkpoint again.") from error
        try:
            return cls.from_dict(values)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error


def _build(cls: type, values: Any, where: str) -> Any:
    """An instance of dataclass `cls` from `values`; `where` is the dotted path used in errors."""
    if not isinstance(values, dict):
        raise ConfigError(f"{where or 'the configuration'} is {values!r}, but it must be a dictionary.")
    hints = typing.get_type_hints(cls)
    known = [f.name for f in dataclasses.fields(cls)]
    for key in values:
        if key not in known:
            raise ConfigError(
                f"unknown configuration key {_join(where, key)!r}; known here are {', '.join(known)}. "
                "Remove it, or use the version of rf_agent that wrote it."
            )
    return cls(**{key: _convert(hints[key], value, _join(where, key)) for key, value in values.items()})


def _convert(hint: Any, value: Any, where: str) -> Any:
    """`value` as the type `hint`, which is one of those used above."""
    if dataclasses.is_dataclass(hint):
        return _build(typing.cast(type, hint), value, where)
    origin = typing.get_origin(hint)
    if origin in (types.UnionType, typing.Union):
        options = typing.get_args(hint)
        if value is None and type(None) in options:
            return None
        return _convert(next(o for o in options if o is not type(None)), value, where)
    if origin is tuple:
        inner = typing.get_args(hint)
        ragged = isinstance(value, list | tuple) and inner[-1] is not Ellipsis and len(value) != len(inner)
        if not isinstance(value, list | tuple) or ragged:
            size = "" if inner[-1] is Ellipsis else f" of {len(inner)}"
            raise ConfigError(f"{where} is {value!r}, but it must be a list{size}.")
        return tuple(_convert(inner[0], item, where) for item in value)
    if origin is dict:
        hint = dict
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise ConfigError(f"{where} is {value!r}, but it must be of type {hint.__name__}.")
    return value


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else str(key)
