"""HULC's head (Mees, Hermann and Burgard, arXiv:2204.06252): MCIL's with a discrete plan, a transformer that recognises
it, a contrastive loss between windows and instructions, and motions in the gripper's frame.

Simplified against the paper and its code: the decoder is a GRU, not an Elman RNN; when acting, neither plans nor
actions are sampled: the likeliest class of each variable, and the mean of the likeliest logistic, are taken; all
windows have an instruction; chunks of K actions are predicted at an observation step and turned by the orientation at
that step (the paper: K = 1); a plan is kept for a window (the paper: 30 steps).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rf_agent.config import ActionConfig, ConfigError, HeadConfig, StateConfig
from rf_agent.nn.gripper_frame import to_gripper_frame, to_world_frame
from rf_agent.nn.heads.base import register
from rf_agent.nn.heads.plan import FeatureLayout, PlanHead, own_config
from rf_agent.nn.latent_plans import CategoricalPlan
from rf_agent.nn.plan_config import HULCHeadConfig
from rf_agent.nn.plan_recognition import TransformerRecognition

TEMPERATURE = 0.07
"""Of the contrastive loss before training, as CLIP's (arXiv:2103.00020)."""
LARGEST_SCALE = 100.0
"""Largest factor of the cosines, as CLIP's."""


@register("hulc")
class HULCHead(PlanHead):
    """A plan of categorical variables; the prior is an MLP, the posterior a transformer.

    With `gripper_frame` the orientation of the gripper, three Euler angles in radians, are the last numbers of a
    feature.

    Raises:
        ConfigError: `gripper_frame` with a robot whose motions it does not know.
    """

    def __init__(
        self,
        dim: int,
        config: HeadConfig,
        action: ActionConfig,
        state: StateConfig,
        layout: FeatureLayout | None = None,
    ) -> None:
        own, layout = own_config(config, HULCHeadConfig, layout)
        if own.gripper_frame:
            check_robot(action, state)
        plans = CategoricalPlan(own.categoricals, own.classes, own.balance)
        recognition = TransformerRecognition(
            layout.perceptual,
            own.heads,
            own.recognition_hidden,
            own.recognition_layers,
            own.window,
            own.sequence,
            plans.parameters,
            own.dropout,
        )
        super().__init__(
            dim,
            own,
            action,
            state,
            layout,
            plans,
            recognition,
            feature_dim=dim + 3 if own.gripper_frame else dim,
            sees=layout.width if own.local else layout.perceptual,
            # of a motion whose entries lie in [-1, 1], the shift along any axis does not exceed this
            bound=math.sqrt(3) if own.gripper_frame else 1.0,
        )
        self.orientation = tuple(state.entries[3:6]) if own.gripper_frame else ()
        self.contrastive = own.contrastive
        if own.contrastive:
            self.align = nn.Linear(own.sequence, own.goal)
            self.log_scale = nn.Parameter(torch.tensor(-math.log(TEMPERATURE)))

    def feature(self, hidden: Tensor, mask: Tensor, robot: Tensor | None = None) -> Tensor:
        """As `PolicyHead.feature`: (N, p + ds), or (N, p + ds + 3) with the gripper's orientation."""
        feature = self.pool(hidden, mask)
        if not self.orientation:
            return feature
        if robot is None:
            raise ValueError("no state of the robot was given, but the head reads it (head.gripper_frame); add it.")
        return torch.cat((feature, robot[:, list(self.orientation)].to(feature.dtype)), dim=-1)

    def to_own_frame(self, motion: Tensor, features: Tensor) -> Tensor:
        """Motions (..., K, 6) at the steps of some features (..., f), turned into the gripper's frame."""
        return to_gripper_frame(motion, self._orientation(features, motion)) if self.orientation else motion

    def to_world(self, motion: Tensor, features: Tensor) -> Tensor:
        """Motions (..., K, 6) in the gripper's frame, turned back; what lies beyond the largest action is cut."""
        if not self.orientation:
            return motion
        return to_world_frame(motion, self._orientation(features, motion)).clamp(-1.0, 1.0)

    def auxiliary_loss(self, sequence: Tensor, language: Tensor, sentence: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The contrastive loss between windows and instructions: HULC aligns video and language so."""
        if not self.contrastive:
            return super().auxiliary_loss(sequence, language, sentence)
        scale = self.log_scale.exp().clamp(max=LARGEST_SCALE)
        instructions = torch.unique(sentence, dim=0, return_inverse=True)[1]  # (B,)
        loss = contrastive_loss(self.align(sequence), language, instructions, scale)
        return self.contrastive * loss, {"contrastive": loss.detach()}

    def _orientation(self, features: Tensor, motion: Tensor) -> Tensor:
        return features[..., None, -3:].expand(*motion.shape[:-1], 3)  # (..., K, 3)


def contrastive_loss(windows: Tensor, language: Tensor, instructions: Tensor, scale: Tensor) -> Tensor:
    """Symmetric InfoNCE as CLIP's: each window finds its instruction in the batch, and each instruction its window.

    Args:
        windows: (B, g). language: (B, g) of their instructions.
        instructions: (B,) numbers that are the same where instructions are: those are no negatives of each other.
        scale: factor of the cosines.

    Returns:
        The mean over both directions; 0 where all instructions are the same.
    """
    cosines = F.normalize(windows.float(), dim=-1) @ F.normalize(language.float(), dim=-1).t()  # (B, B)
    own = torch.eye(len(cosines), dtype=torch.bool, device=cosines.device)
    same = instructions[:, None] == instructions[None]
    logits = (scale.float() * cosines).masked_fill(same & ~own, float("-inf"))
    targets = torch.arange(len(cosines), device=cosines.device)
    return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.t(), targets)) / 2


def check_robot(action: ActionConfig, state: StateConfig) -> None:
    """Raise ConfigError for a robot whose motions are not those of CALVIN's."""
    is_calvin = (action.dim, action.gripper, action.normalization) == (7, 6, "none")
    if not is_calvin or state.entries[:6] != (0, 1, 2, 3, 4, 5):
        raise ConfigError(
            f"head.gripper_frame is True, but the robot has actions of {action.dim} entries (gripper at "
            f"{action.gripper}, normalization {action.normalization!r}) and state.entries {list(state.entries)}, and "
            "only CALVIN's 7 entries with its gripper's pose in the state's first 6 can be turned: set "
            "head.gripper_frame and head.proprioception to false."
        )
