"""The policy that LeRobot's commands run: our agent behind LeRobot's methods."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from lerobot.configs import PreTrainedConfig
from lerobot.policies import PreTrainedPolicy
from torch import Tensor

from lerobot_policy_roboflamingo.batches import observation, sequences
from lerobot_policy_roboflamingo.checkpoints import PREFIX, local_folder, read_agent, write_weights
from lerobot_policy_roboflamingo.configuration_roboflamingo import (
    VLM_LR_SCALE,
    RoboFlamingoConfig,
    agent_features,
)
from lerobot_policy_roboflamingo.datasets import lerobots_options, robot_of
from rf_agent import checkpoint
from rf_agent.demos.windows import forget_states
from rf_agent.policy import RoboFlamingoPolicy as Agent
from rf_agent.preprocess import normalise
from rf_agent.training.building import build_policy, same_head
from rf_agent.training.imitation import chunk_loss
from rf_agent.training.optim import parameter_groups

logger = logging.getLogger(__name__)


class RoboFlamingoPolicy(PreTrainedPolicy):
    """RoboFlamingo (arXiv:2311.01378) in LeRobot.

    `agent` is the network, and all that leads from images and words to actions and losses is its code. It keeps a
    history for each environment of a batch, which restarts on `reset` and when that environment's task text changes.

    Args:
        config: the policy's configuration; what the data set and the agent say is filled in.
        dataset_meta: LeRobot's metadata of the data set that it is trained on, which names the robot.
        start: the agent to begin with (`rf_agent.training.building.build_policy`), which without a data set acts as it
            is; None draws a new one.
        others: what LeRobot hands to every policy and this one does not need.

    Raises:
        UserError: data set, environment and policy do not fit together.
    """

    config_class = RoboFlamingoConfig
    name = "roboflamingo"

    def __init__(
        self, config: RoboFlamingoConfig, *, dataset_meta: Any = None, start: Agent | None = None, **others: Any
    ) -> None:
        super().__init__(config)
        agent = config.agent_config
        instructions: tuple[str, ...] = ()
        self._ends: Tensor | None = None
        if dataset_meta is not None:
            trained = start is not None and start.config.trained and config.init_head
            robot = robot_of(dataset_meta, config, trained)
            agent, instructions, self._ends = robot.config, robot.instructions, robot.ends
            config.input_features, config.output_features = agent_features(agent, dataset_meta.features)
        else:
            agent = agent.changed(config.override)
        config.override = []
        config.take(agent)
        config.validate_features()
        learns = {"train_vision": config.train_vision, "train_language": config.train_language}
        if start is not None and dataset_meta is None:
            self.agent = start  # it acts as it is
            start.set_trainable(config.trainable, **learns)
        else:
            with lerobots_options():
                self.agent = build_policy(
                    agent,
                    start,
                    instructions,
                    source=str(config.pretrained_path or "the checkpoint"),
                    init_head=config.init_head,
                    trainable=config.trainable,
                    **learns,
                )
            learned = start is not None and start.config.trained and config.init_head
            if learned and not same_head(self.agent.head, start.head):
                logger.warning("the head is drawn anew: that of the checkpoint has another shape")
        if start is None:
            if config.vlm_lr_scale not in (VLM_LR_SCALE, 1.0):
                logger.warning("policy.vlm_lr_scale has no effect on a new policy, all of which learns alike")
            # nothing is worth keeping, or sparing; a run that is resumed must find the same
            config.trainable, config.vlm_lr_scale = "full", 1.0
        self._vision_learns = any(parameter.requires_grad for parameter in self.agent.vlm.vision_encoder.parameters())

    # --- acting ---

    def reset(self) -> None:
        """Forget the history of all environments."""
        self.agent.reset()

    def select_action(self, batch: dict[str, Any], **options: Any) -> Tensor:
        """The next action of every environment: float32 (n, D) in its own units.

        Args:
            batch: the cameras (n, 3, H, W), `task` and what else the policy reads, see `batches.observation`.
            options: of policies that draw noise; this one is deterministic.

        Raises:
            ValueError: the observation does not fit the policy, or the number of environments changed without a reset.
        """
        actions = self.agent.act(observation(batch, self.agent.config))
        return torch.from_numpy(actions).to(self.agent.device)

    def predict_action_chunk(self, batch: dict[str, Any], **options: Any) -> Tensor:
        """Observe now, and return the whole chunks: float32 (n, K, D); the arguments are those of `select_action`."""
        chunks = self.agent.predict_action_chunk(observation(batch, self.agent.config))
        return torch.from_numpy(chunks).to(self.agent.device)

    # --- learning ---

    def forward(self, batch: dict[str, Any]) -> tuple[Tensor, dict[str, float]]:
        """Imitation loss of a batch of sequences, that of `rf-agent train`, and metrics; see `batches.sequences`."""
        chunks, images = sequences(batch, self.agent.config, self._ends)
        if self.training and torch.is_grad_enabled():
            self.agent.config.trained = True  # its robot is fixed from now on
            if self.agent.config.head.state_optional:
                forget_states(chunks, torch.rand(len(chunks.valid)) < self.agent.config.head.state_dropout)
        pixels = normalise(images.to(self.agent.device), self.agent.config.image)
        with torch.set_grad_enabled(self._vision_learns and torch.is_grad_enabled()):
            vision_tokens = self.agent.encode_vision(pixels)
        loss, metrics = chunk_loss(self.agent, vision_tokens, chunks)
        return loss, {name: value.item() for name, value in metrics.items()}

    def train(self, mode: bool = True) -> RoboFlamingoPolicy:
        """Running statistics of a convolutional tower come from pre-training: a few episodes are no sample."""
        super().train(mode)
        self.agent.vlm.vision_encoder.eval()
        return self

    def get_optim_params(self) -> list[dict[str, Any]]:
        """AdamW's groups: the head, whose rate LeRobot shows, and the vision-language model. Vectors do not decay."""
        rate, decay = self.config.optimizer_lr, self.config.optimizer_weight_decay
        groups = [
            *parameter_groups(self.agent.head.parameters(), rate, decay),
            *parameter_groups(self.agent.vlm.parameters(), rate * self.config.vlm_lr_scale, decay),
        ]
        keys = {"params": "params", "weight_decay": "weight_decay", "lr": "peak_lr"}
        return [{key: group[ours] for key, ours in keys.items()} for group in groups]

    # --- checkpoints ---

    def _save_pretrained(self, save_directory: Path, state_dict: dict[str, Tensor] | None = None) -> None:
        """Write configuration, weights and tokenizer; LeRobot adds the processors.

        Args:
            state_dict: whole tensors in place of those of this process, where they are divided (FSDP).
        """
        self.config.take(self.agent.config)
        self.config.forget_options()
        self.config._save_pretrained(save_directory)
        weights = checkpoint.unique_tensors(self.agent)
        if state_dict is not None:
            weights = {name: state_dict[PREFIX + name] for name in weights}
        write_weights(save_directory, weights)
        self.agent.tokenizer.save_pretrained(save_directory)

    @classmethod
    def from_pretrained(
        cls,
        pretrained_name_or_path: str | Path,
        *,
        config: RoboFlamingoConfig | None = None,
        force_download: bool = False,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        revision: str | None = None,
        dataset_meta: Any = None,
        **options: Any,
    ) -> RoboFlamingoPolicy:
        """A policy from a LeRobot checkpoint: a folder, or a repository on the Hugging Face Hub.

        With a data set training goes on as `rf_agent.training.building.build_policy` begins it: a head of another shape
        is drawn anew, and so is any head where `config.init_head` is false. Without one everything is loaded strictly,
        whatever LeRobot's `strict` says.

        Args:
            config: in place of the checkpoint's own.
            dataset_meta: LeRobot's metadata of the data set that training goes on with; it must fit a trained head.
            options: the rest of LeRobot's arguments; those of `PreTrainedConfig.from_pretrained` are handed on.

        Raises:
            CheckpointError: files or tensors are missing, unexpected or of another shape; the message names them.
        """
        folder = local_folder(
            pretrained_name_or_path,
            force_download=force_download,
            token=token,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
            revision=revision,
        )
        if config is None:
            overrides = options.pop("cli_overrides", [])
            config = PreTrainedConfig.from_pretrained(folder, cli_overrides=overrides)
        # what the options change may need other tensors, which only training brings in
        own = config.agent_config.changed(config.override) if dataset_meta is None else None
        start = read_agent(folder, own)
        policy = cls(config, dataset_meta=dataset_meta, start=start)
        return policy.to(config.device).eval()
