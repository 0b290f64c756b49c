"""`--policy.type=roboflamingo`: LeRobot's side of a policy's configuration.

The agent's own configuration is carried whole, as `agent`, so that a checkpoint converts both ways without loss.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from lerobot.configs import FeatureType, NormalizationMode, PolicyFeature, PreTrainedConfig
from lerobot.optim import AdamWConfig, CosineDecayWithWarmupSchedulerConfig
from lerobot.utils.constants import ACTION, OBS_IMAGES, OBS_STATE, OBS_STR

from rf_agent.config import RoboFlamingoConfig as AgentConfig
from rf_agent.errors import ConfigError, UserError
from rf_agent.presets import preset

VLM_LR_SCALE = 0.3
"""The factor of a vision-language model that is worth sparing."""
DEFAULT_PRESET, AUTO = "roboflamingo-tiny", "auto"
STATE = "state."
"""Beginning of the keys of the robot's state, which a data set describes first."""
STEPS_ARE_THE_AGENTS = ("chunk_size", "n_action_steps")
"""Fields that LeRobot knows by the same name as the agent's head."""


@PreTrainedConfig.register_subclass("roboflamingo")
@dataclass
class RoboFlamingoConfig(PreTrainedConfig):
    """A RoboFlamingo policy (arXiv:2311.01378) in LeRobot: the agent's configuration, and how it is trained.

    A new policy takes its architecture from `preset` and its robot (cameras, state, actions) from the data set. A
    policy from a checkpoint has both in `agent`.

    Raises:
        UserError: values that do not fit together; the message names the key.
    """

    preset: str | None = None
    """Architecture of a new policy: one of `rf_agent.presets.PRESETS`, by default roboflamingo-tiny."""
    override: list[str] = field(default_factory=list)
    """Changes to the agent's configuration, as KEY=VALUE: ["head.type=gpt", "head.window=4"]. Empty once they are made;
    those of a new policy's robot wait for the data set."""
    chunk_size: int | None = None
    """Actions predicted at an observation step; by default what preset or checkpoint say."""
    n_action_steps: int | None = None
    """Actions carried out before the policy observes again; by default what preset or checkpoint say."""
    cameras: list[str] = field(default_factory=list)
    """Cameras that a new policy sees, in this order; by default the preset's where the data set has them, else all."""
    gripper: int | None = None
    """Entry of the action that opens or closes a gripper; LeRobot's data sets do not say it, those that `rf-agent
    convert to-lerobot` wrote do. Without it all entries are regressed."""
    action_normalization: str = AUTO
    """How a new policy's actions become numbers in [-1, 1]: none, min_max or quantiles of the data set; auto is none
    where the environment bounds its actions to [-1, 1], else min_max."""
    agent: dict[str, Any] = field(default_factory=dict)
    """The agent's whole configuration (`rf_agent.config.RoboFlamingoConfig.to_dict`); filled in."""

    sequence_length: int | None = None
    """Observation steps of a training example (T); by default the window of the head."""
    init_head: bool = True
    """Take the head from the checkpoint that training starts from; false draws it anew, for another robot's actions."""
    trainable: str = "default"
    """What learns: default (resampler, cross-attention, embeddings, head), freeze-emb, head, last-N or full; a new
    policy learns in full."""
    train_vision: bool = False
    """The vision tower learns too (the paper freezes it)."""
    train_language: bool = False
    """The language model's own layers learn too (the paper freezes them)."""
    vlm_lr_scale: float = VLM_LR_SCALE
    """Learning rate of the vision-language model as a factor of the head's; 1 of a new policy and its checkpoints."""
    optimizer_lr: float = 1e-3
    """Highest learning rate."""
    optimizer_weight_decay: float = 0.05
    """AdamW's decay, on matrices only."""
    optimizer_grad_clip_norm: float = 1.0
    """Largest norm of the gradient."""
    scheduler_warmup_steps: int = 3_000
    """Steps in which the learning rate rises; LeRobot shortens them with the decay in runs shorter than that."""
    scheduler_decay_steps: int = 100_000
    """Steps after which the cosine has come down."""
    scheduler_decay_lr: float = 1e-5
    """Learning rate at its end."""
    normalization_mapping: dict[str, NormalizationMode] = field(
        default_factory=lambda: dict.fromkeys(("VISUAL", "STATE", "ACTION"), NormalizationMode.IDENTITY)
    )
    """LeRobot's processors leave numbers as they are: the agent normalises by what its own configuration holds."""

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            self._fill_in()
        except ConfigError as error:
            raise UserError(str(error)) from error  # of a ValueError draccus, which reads options, hides the text

    def _fill_in(self) -> None:
        """Make the agent's configuration of preset, checkpoint and options."""
        stored = AgentConfig.from_dict(self.agent) if self.agent else None
        agent = stored or preset(self.preset or DEFAULT_PRESET)
        given = {name: getattr(self, name) for name in STEPS_ARE_THE_AGENTS}
        changes = [
            f"head.{name}={value}" for name, value in given.items() if value not in (None, getattr(agent.head, name))
        ]
        learned = stored is not None and stored.trained and self.init_head
        now = [change for change in self.override if learned or not change.startswith(STATE)]
        agent = agent.changed([*changes, *now])
        self._check_effect(agent, stored)
        self.take(agent)
        self.preset = None  # it is part of `agent` now, as are the changes of a robot that is known
        if learned:
            self.override = []
        head = self.agent_config.head
        needed = 1 if head.type == "fc" else head.window
        if self.sequence_length is not None and self.sequence_length < needed:
            raise ConfigError(
                f"policy.sequence_length is {self.sequence_length}, shorter than the head's window: give {needed} or "
                "more."
            )
        if self.trainable == "lora":
            raise ConfigError(
                "policy.trainable is 'lora', whose adapters LeRobot's checkpoints cannot resume: train with "
                "`rf-agent train --trainable lora` and convert the result, or choose another set."
            )

    def _check_effect(self, agent: AgentConfig, stored: AgentConfig | None) -> None:
        """Refuse options that would change nothing, or something else.

        Args:
            agent: with all changes.
            stored: what the checkpoint says, if there is one.
        """
        if self.n_obs_steps != 1:
            raise ConfigError(
                f"policy.n_obs_steps is {self.n_obs_steps}, but the policy keeps its history itself, of head.window "
                "steps: change that with --policy.override='[\"head.window=...\"]'."
            )
        for kind, mode in self.normalization_mapping.items():
            if mode is not NormalizationMode.IDENTITY:
                raise ConfigError(
                    f"policy.normalization_mapping has {mode.value} for {kind}, but the policy normalises by itself: "
                    "leave it out, and choose with --policy.action_normalization, or state.normalization in "
                    "--policy.override."
                )
        if stored is None:
            return
        # earlier versions stored the default's name, whatever the network was
        if self.preset not in (None, DEFAULT_PRESET) and _network(preset(self.preset)) != _network(stored):
            raise ConfigError(
                f"policy.preset is {self.preset!r}, but the checkpoint has another network: leave it out, or leave out "
                "--policy.path for a new policy."
            )
        for name in ("size", "resample"):
            value, was = getattr(agent.image, name), getattr(stored.image, name)
            if value != was:
                raise ConfigError(
                    f"image.{name} is {value!r} in policy.override, but the processors of the checkpoint were saved "
                    f"for {was!r}: train with `rf-agent train --init ... --override image.{name}={value}` and convert "
                    "the result."
                )
        if stored.trained and self.init_head:
            self._check_robot(stored)

    def _check_robot(self, stored: AgentConfig) -> None:
        """Refuse another robot than that of a policy which has learned to act."""
        learned = {
            "cameras": list(stored.views),
            "gripper": stored.action.gripper,
            "action_normalization": stored.action.normalization,
        }
        for name, value in learned.items():
            if (given := getattr(self, name)) not in (value, [], None, AUTO):
                raise ConfigError(
                    f"policy.{name} is {given!r}, but the policy has learned with {value!r}: leave it out, or give "
                    "--policy.init_head=false to draw a new head."
                )

    def forget_options(self) -> None:
        """Take back the options of a head's first training: the agent's configuration holds them from then on, and
        another robot that the saved policy learns next must not find them."""
        self.init_head = True  # the head that is saved is the one to go on with
        if self.agent_config.trained:
            self.cameras, self.gripper, self.action_normalization = [], None, AUTO

    @property
    def agent_config(self) -> AgentConfig:
        """The agent's configuration."""
        return AgentConfig.from_dict(self.agent)

    def take(self, agent: AgentConfig) -> None:
        """Carry this configuration of the agent from now on."""
        self.agent = json.loads(json.dumps(agent.to_dict()))  # tuples as lists, as they are when read from a file
        for name in STEPS_ARE_THE_AGENTS:
            setattr(self, name, getattr(agent.head, name))

    @classmethod
    def of_agent(cls, agent: AgentConfig) -> RoboFlamingoConfig:
        """The configuration of an agent that exists, with the features that it reads and writes."""
        config = cls(agent=agent.to_dict())
        config.input_features, config.output_features = agent_features(agent)
        return config

    # --- what LeRobot asks of every policy ---

    @property
    def observation_delta_indices(self) -> list[int]:
        """Frames of a training example: T observation steps from the sampled frame on, as acting makes them."""
        head = self.agent_config.head
        length = self.sequence_length or head.window
        return [step * head.n_action_steps for step in range(length)]

    @property
    def action_delta_indices(self) -> list[int]:
        """Actions of a training example: all that the chunks of its observation steps hold."""
        return list(range(self.observation_delta_indices[-1] + self.agent_config.head.chunk_size))

    @property
    def reward_delta_indices(self) -> None:
        """Imitation needs no rewards."""
        return None

    def get_optimizer_preset(self) -> AdamWConfig:
        """AdamW; the parameter groups come from the policy."""
        return AdamWConfig(
            lr=self.optimizer_lr,
            weight_decay=self.optimizer_weight_decay,
            grad_clip_norm=self.optimizer_grad_clip_norm,
        )

    def get_scheduler_preset(self) -> CosineDecayWithWarmupSchedulerConfig:
        """Linear warm-up, then half a cosine down."""
        return CosineDecayWithWarmupSchedulerConfig(
            num_warmup_steps=self.scheduler_warmup_steps,
            num_decay_steps=self.scheduler_decay_steps,
            peak_lr=self.optimizer_lr,
            decay_lr=self.scheduler_decay_lr,
        )

    def validate_features(self) -> None:
        """Raise ConfigError where the features of a data set or environment are not those of the agent."""
        agent, images = self.agent_config, self.image_features
        for view in agent.views:
            if camera_feature(view, images) is None:
                raise ConfigError(
                    f"the policy sees the camera {view!r}, but the images are {', '.join(images) or 'none'}: name them "
                    f'alike with --rename_map=\'{{"observation.images.X": "{OBS_IMAGES}.{view}"}}\'.'
                )
        action, dim = self.action_feature, agent.action.dim
        if action is not None and tuple(action.shape) != (dim,):
            raise ConfigError(
                f"the policy acts with ({dim},), but the actions of the environment or data set have shape "
                f"{tuple(action.shape)}: use a policy of this robot."
            )
        state, reads = self.robot_state_feature, agent.state.dim
        other = not agent.head.state_optional if state is None else tuple(state.shape) != (reads,)
        if agent.head.proprioception and other:
            has = "is not there" if state is None else f"has shape {tuple(state.shape)}"
            raise ConfigError(f"the policy reads {OBS_STATE} of shape ({reads},) (head.proprioception), but it {has}.")


def _network(agent: AgentConfig) -> tuple[Any, ...]:
    """The parts that a preset chooses and no robot changes."""
    return agent.vision, agent.resampler, agent.language


def agent_features(
    agent: AgentConfig, known: Collection[str] = ()
) -> tuple[dict[str, PolicyFeature], dict[str, PolicyFeature]]:
    """What an agent reads and writes, as LeRobot's features.

    Args:
        known: names of a data set's features, under which its cameras are read.
    """
    size = agent.image.size
    inputs = {
        camera_feature(view, known) or f"{OBS_IMAGES}.{view}": PolicyFeature(FeatureType.VISUAL, (3, size, size))
        for view in agent.views
    }
    if agent.head.proprioception:
        inputs[OBS_STATE] = PolicyFeature(FeatureType.STATE, (agent.state.dim,))
    return inputs, {ACTION: PolicyFeature(FeatureType.ACTION, (agent.action.dim,))}


def camera_feature(view: str, names: Collection[str]) -> str | None:
    """The one of `names` that holds a camera: `observation.images.front`, or `observation.image` for "image"."""
    return next((key for key in (f"{OBS_IMAGES}.{view}", f"{OBS_STR}.{view}") if key in names), None)
