"""Everything needed to rebuild a policy, as dataclasses: one per part, stored as JSON in its checkpoint."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rf_agent.errors import ConfigError
from rf_agent.robot_config import ActionConfig, StateConfig

INSTRUCTION_BYTES = 256
"""Most bytes of an instruction in UTF-8, as in the environments."""


@dataclass
class ImageConfig:
    """How camera images become pixels."""

    size: int = 112
    """Side in pixels to which every camera image is resized."""
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    """Mean of each colour channel (of values in [0, 1]) that is subtracted."""
    std: tuple[float, float, float] = (0.25, 0.25, 0.25)
    """Standard deviation of each colour channel by which pixels are divided."""
    resample: str = "bilinear"
    """How images are resized, always antialiased: `bilinear`, or `bicubic` as Pillow and CLIP do."""


@dataclass
class VisionConfig:
    """The vision tower: any vision model that yields a grid of features or patch tokens."""

    model: dict[str, Any] = field(default_factory=dict)
    """Configuration of the tower, with its `model_type`: `clip_vit`, or any of `transformers`."""
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
    """Configuration of a causal language model, with its `model_type`: `mosaic_gpt`, or any of `transformers`."""
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
    max_tokens: int = 64
    """Longest prompt in tokens; longer ones are cut (the reference: 32)."""


@dataclass
class HeadConfig:
    """The policy head: history of pooled features to chunks of actions."""

    type: str = "lstm"
    """Kind of head (paper, Fig. 3a): `lstm`, `gpt`, `fc` (no history) or `fc_hist` (history through the resampler)."""
    hidden: int = 1024
    """Hidden width; the paper's GPT has 768."""
    layers: int = 4
    """Layers of the LSTM or the GPT (the paper's GPT has 8)."""
    heads: int = 8
    """Attention heads of the GPT."""
    window: int = 12
    """Most observation steps that an action depends on; `fc` always sees one."""
    chunk_size: int = 1
    """Actions predicted at every observation step (K)."""
    n_action_steps: int = 1
    """Actions of a chunk that are carried out before the policy observes again (E <= K)."""
    repeat: int = 1
    """Times that each action is carried out when acting: open-loop control without retraining (paper, Fig. 3c)."""
    ensemble: float | None = None
    """Observe at every step and average what past steps predicted for it, weighted by exp(-ensemble * i) from the
    oldest (i = 0) on, as ACT does (arXiv:2304.13705); None does not average."""
    dropout: float = 0.1
    """Dropout between recurrent layers and in the GPT."""
    mlp: tuple[int, ...] = (1024, 512, 256)
    """Hidden widths of the pose and gripper MLPs."""
    pooling: str = "max"
    """How the hidden states of the text tokens become one feature: `max` or `mean`."""
    pool_padding: bool = False
    """Pool over padding too in training, as the reference implementation does: the feature then depends on the
    longest text of the batch. Acting never sees padding."""
    proprioception: bool = False
    """Add an embedding of the robot's state (`state`) to the feature."""
    frame_position: bool = False
    """`fc_hist` alone: mark vision tokens with the place of their frame in the window (learned)."""

    @property
    def replan_every(self) -> int:
        """Environment steps from one observation to the next when acting."""
        return self.n_action_steps * self.repeat

    def check(self) -> None:
        """Raise ConfigError for values that do not fit together."""
        if not 1 <= self.n_action_steps <= self.chunk_size:
            raise ConfigError(
                f"head.n_action_steps is {self.n_action_steps}, but it must lie between 1 and "
                f"head.chunk_size ({self.chunk_size}): only predicted actions can be carried out."
            )
        if self.window < 1:
            raise ConfigError(f"head.window is {self.window}, but a policy sees at least 1 observation.")
        for name in ("hidden", "layers", "heads"):
            if getattr(self, name) < 1:
                raise ConfigError(f"head.{name} is {getattr(self, name)}, but it must be at least 1.")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"head.dropout is {self.dropout}, but it must lie in [0, 1).")
        if self.repeat < 1:
            raise ConfigError(f"head.repeat is {self.repeat}, but an action is carried out at least once.")
        if self.ensemble is not None and self.replan_every > 1:
            raise ConfigError(
                f"head.ensemble is {self.ensemble}, but the policy observes only every {self.replan_every} steps: "
                "averaging needs an observation at each. Set head.n_action_steps and "
                "head.repeat to 1, or head.ensemble to null."
            )
        if self.pooling not in ("max", "mean"):
            raise ConfigError(f"head.pooling is {self.pooling!r}; choose 'max' or 'mean'.")


@dataclass
class LossConfig:
    """The imitation loss: regression of the motion + weighted classification of the gripper (paper, Eq. 6)."""

    pose: str = "huber"
    """`huber` (the reference implementation), `mse` (the paper), or a loss of yours (`rf_agent.nn.losses`)."""
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
    action: ActionConfig = field(default_factory=ActionConfig)
    state: StateConfig = field(default_factory=StateConfig)
    views: tuple[str, ...] = ()
    """Camera images of the observation, in the order in which the policy sees them."""
    fps: float | None = None
    """Control steps a second in the demonstrations; None where they do not say."""
    fusion: str = "post"
    """How the views come together: `post` resamples each alone, `pre` all at once, `separate` each with a resampler of
    its own; `two_way` reads the text once for every view and joins the features."""
    tasks: tuple[str, ...] = ()
    """Names of the tasks in the demonstrations that the policy was trained on; the commands use them by default."""
    trained: bool = False
    """Whether the policy has learned to act, so that its robot cannot change any more."""

    def __post_init__(self) -> None:
        self.head.check()
        self.action.check()
        self.state.check()
        if self.image.resample not in ("bilinear", "bicubic"):
            raise ConfigError(f"image.resample is {self.image.resample!r}; choose 'bilinear' or 'bicubic'.")
        if self.language.lm_feature not in ("final_norm", "last_block_input"):
            raise ConfigError(
                f"language.lm_feature is {self.language.lm_feature!r}; choose 'final_norm' or 'last_block_input'."
            )
        if self.language.max_tokens < 1:
            raise ConfigError(f"language.max_tokens is {self.language.max_tokens}, but a prompt has at least 1 token.")
        if self.loss.huber_delta <= 0:
            raise ConfigError(f"loss.huber_delta is {self.loss.huber_delta}; give an error above zero.")

    def check_complete(self) -> None:
        """Raise ConfigError where something is missing that a network cannot be built without."""
        if not self.views:
            raise ConfigError("views is empty; name the cameras of the robot, as its demonstrations do.")
        if not self.action.regressed:
            raise ConfigError(
                f"action.dim is {self.action.dim}, but an action has at least one entry that is no gripper. Training "
                "takes it from the demonstrations; a checkpoint without it was written by an older version."
            )
        if self.head.proprioception and not (self.state.entries or self.state.binary is not None):
            raise ConfigError(
                "head.proprioception is set, but state.entries is empty: the demonstrations have no state, or it was "
                "not described."
            )

    def changed(self, changes: Iterable[str]) -> RoboFlamingoConfig:
        """A copy with other values.

        Args:
            changes: `KEY=VALUE`, the key dotted and the value in JSON (a word needs no quotes): `head.type=gpt`,
                `head.mlp=[256,128]`, `fusion=pre`.

        Raises:
            ConfigError: no such key, or a value that does not fit it.
        """
        values = self.to_dict()
        for change in changes:
            key, equals, text = change.partition("=")
            *path, last = key.split(".")
            if not equals:
                raise ConfigError(f"{change!r} was given as a change; write KEY=VALUE, such as head.type=gpt.")
            part: Any = values
            for name in path:
                part = part.get(name) if isinstance(part, dict) else None
            if not isinstance(part, dict):
                raise ConfigError(f"there is no configuration key {key!r}; keys are such as head.type and fusion.")
            try:
                part[last] = json.loads(text)
            except json.JSONDecodeError:
                part[last] = text
        return self.from_dict(values)

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
