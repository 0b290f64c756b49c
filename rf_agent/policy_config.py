"""What the configurations of all policies have in common: dataclasses, stored as JSON in a checkpoint."""

from __future__ import annotations

import dataclasses
import importlib
import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from rf_agent.config_values import build, check_counts
from rf_agent.errors import ConfigError
from rf_agent.files import write_json
from rf_agent.robot_config import ActionConfig, StateConfig

if TYPE_CHECKING:
    from typing_extensions import Self


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
    """Configuration of the tower, with its `model_type`: `clip_vit`, `patch_embedding`, or any of `transformers`."""
    position_embedding: bool = True
    """Give every token a learned place (view, row, column); for convolutional towers, which have none."""
    norm: bool = True
    """Normalise (LayerNorm) the cells of convolutional towers; R3M's are pooled as they are."""


@dataclass
class TextConfig:
    """The language model that reads the instruction."""

    model: dict[str, Any] = field(default_factory=dict)
    """Configuration of a language model, with its `model_type`: one of `transformers`, or `mosaic_gpt`."""
    max_tokens: int = 64
    """Longest prompt in tokens; longer ones are cut (the reference: 32)."""


@dataclass
class HeadConfig:
    """The policy head: history of pooled features to chunks of actions."""

    type: str = "lstm"
    """Kind of head (paper, Fig. 3a): `lstm`, `gpt`, `fc` (no history) or `fc_hist` (history through the resampler); or
    that of a baseline: `rt1` (discretised actions)."""
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
    state_dropout: float = 0.0
    """Share of the training sequences without their robot state. Above 0 the policy also acts, and trains, without."""
    frame_position: bool = False
    """`fc_hist` alone: mark vision tokens with the place of their frame in the window (learned)."""
    bins: int = 256
    """`rt1` alone: equal parts of [-1, 1], one of which is predicted for each entry of an action."""

    @property
    def state_optional(self) -> bool:
        """Whether it reads the robot's state where it is given, and does without where it is not."""
        return self.proprioception and self.state_dropout > 0

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
        check_counts(self, ("hidden", "layers", "heads", "mlp"), "head")
        if self.bins < 2:
            raise ConfigError(f"head.bins is {self.bins}, but an action is told from others by at least 2 bins.")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"head.dropout is {self.dropout}, but it must lie in [0, 1).")
        if not 0 <= self.state_dropout < 1:
            raise ConfigError(f"head.state_dropout is {self.state_dropout}, but it must lie in [0, 1).")
        if self.repeat < 1:
            raise ConfigError(f"head.repeat is {self.repeat}, but an action is carried out at least once.")
        if self.ensemble is not None and not math.isfinite(self.ensemble):
            raise ConfigError(f"head.ensemble is {self.ensemble}, but it must be a finite number such as 0.01.")
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


CONFIGS: dict[str, type[PolicyConfig]] = {}
"""Configurations by the `type` that a checkpoint names."""

Config = TypeVar("Config", bound="type[PolicyConfig]")


def register_config(kind: str) -> Callable[[Config], Config]:
    """Class decorator: a checkpoint may be of type `kind`."""

    def add(config: Config) -> Config:
        CONFIGS[kind] = config
        config.type = kind
        return config

    return add


def config_class(kind: Any) -> type[PolicyConfig]:
    """The configuration of policies of a type. Raises ConfigError that names the known ones."""
    for module in ("rf_agent.config", "rf_agent.baselines.config"):
        importlib.import_module(module)  # those who register themselves
    if not isinstance(kind, str) or kind not in CONFIGS:
        raise ConfigError(f"the policy is of type {kind!r}, but known types are {', '.join(CONFIGS)}.")
    return CONFIGS[kind]


@dataclass
class PolicyConfig:
    """A whole policy, of any type."""

    type: ClassVar[str] = ""
    """Which kind of policy it is: the key `type` in JSON."""

    image: ImageConfig = field(default_factory=ImageConfig)
    vision: VisionConfig = field(default_factory=VisionConfig)
    language: TextConfig = field(default_factory=TextConfig)
    head: HeadConfig = field(default_factory=HeadConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    action: ActionConfig = field(default_factory=ActionConfig)
    state: StateConfig = field(default_factory=StateConfig)
    views: tuple[str, ...] = ()
    """Camera images of the observation, in the order in which the policy sees them."""
    fps: float | None = None
    """Control steps a second in the demonstrations; None where they do not say."""
    tasks: tuple[str, ...] = ()
    """Names of the tasks in the demonstrations that the policy was trained on; the commands use them by default."""
    trained: bool = False
    """Whether the policy has learned to act, so that its robot cannot change any more."""

    def __post_init__(self) -> None:
        self.head.check()
        self.action.check()
        self.state.check()
        if self.image.size < 1:
            raise ConfigError(f"image.size is {self.image.size}, but an image has at least 1 pixel.")
        if not all(0 < std < math.inf for std in self.image.std):
            raise ConfigError(f"image.std is {self.image.std}: give numbers above zero.")
        if self.image.resample not in ("bilinear", "bicubic"):
            raise ConfigError(f"image.resample is {self.image.resample!r}; choose 'bilinear' or 'bicubic'.")
        if self.language.max_tokens < 1:
            raise ConfigError(f"language.max_tokens is {self.language.max_tokens}, but a prompt has at least 1 token.")
        if not all(map(math.isfinite, self.image.mean)):
            raise ConfigError(f"image.mean is {self.image.mean}: give finite numbers.")
        if not 0 < self.loss.huber_delta < math.inf:
            raise ConfigError(f"loss.huber_delta is {self.loss.huber_delta}; give an error above zero.")
        if not 0 <= self.loss.gripper_weight < math.inf:
            raise ConfigError(f"loss.gripper_weight is {self.loss.gripper_weight}; give 0 or more.")
        if self.fps is not None and not 0 < self.fps < math.inf:
            raise ConfigError(f"fps is {self.fps}; give the control steps a second, or null.")

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

    def beginning_from(self, start: PolicyConfig) -> Self:
        """With the parts of another policy's configuration that it can take its pre-trained weights from."""
        raise ConfigError(f"a policy of type {self.type!r} cannot begin from one of type {start.type!r}.")

    def changed(self, changes: Iterable[str]) -> Self:
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
        return {"type": self.type, **dataclasses.asdict(self)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Inverse of `to_dict`; of `PolicyConfig` it makes a configuration of the type that the values name.

        Raises:
            ConfigError: names an unknown key, a value of the wrong type, or another type of policy than this.
        """
        kind = values.get("type", "roboflamingo") if isinstance(values, dict) else "roboflamingo"
        chosen = config_class(kind)  # older checkpoints name none
        if not issubclass(chosen, cls):
            raise ConfigError(
                f"it is the configuration of a policy of type {kind!r}, not of {cls.type!r}: load it with "
                "rf_agent.load_policy."
            )
        return build(
            chosen,
            {key: value for key, value in values.items() if key != "type"} if isinstance(values, dict) else values,
            "",
        )

    def save(self, path: str | Path) -> None:
        """Write the configuration as JSON."""
        write_json(Path(path), self.to_dict())

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote. Raises ConfigError that names the file when it is not a configuration."""
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path} is not valid JSON ({error}); save the checkpoint again.") from error
        try:
            return cls.from_dict(values)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error
