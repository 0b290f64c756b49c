"""MCIL's head (Lynch and Sermanet, arXiv:2005.07648): a Gaussian latent plan, and a mixture of logistics.

Simplified against the paper: the RNNs are GRUs; when acting, neither plans nor actions are sampled: the mean of the
plan, and the mean of the likeliest logistic, are taken; the gripper is classified; all windows have an instruction, so
that both contexts learn from the same windows, where the paper has far more windows without one; chunks of K actions
are predicted at an observation step (the paper: K = 1).
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from rf_agent.config import ActionConfig, HeadConfig, StateConfig
from rf_agent.nn.heads.base import Proprioception, register
from rf_agent.nn.heads.plan import FeatureLayout, PlanHead, own_config
from rf_agent.nn.latent_plans import GaussianPlan
from rf_agent.nn.plan_config import MCILHeadConfig
from rf_agent.nn.plan_recognition import RecurrentRecognition


@register("mcil")
class MCILHead(PlanHead):
    """A plan of normally distributed numbers; the prior is an MLP, the posterior a bidirectional GRU."""

    def __init__(
        self,
        dim: int,
        config: HeadConfig,
        action: ActionConfig,
        state: StateConfig,
        layout: FeatureLayout | None = None,
    ) -> None:
        own, layout = own_config(config, MCILHeadConfig, layout)
        plans = GaussianPlan(own.plan)
        recognition = RecurrentRecognition(
            layout.perceptual, own.recognition_hidden, own.recognition_layers, plans.parameters, own.dropout
        )
        super().__init__(dim, own, action, state, layout, plans, recognition)
        self.proprioception = Proprioception(layout.perceptual, state) if own.proprioception else None

    def feature(self, hidden: Tensor, mask: Tensor, robot: Tensor | None = None) -> Tensor:
        """As `PolicyHead.feature`; with proprioception the state is a part of what is perceived, and not of the
        instruction."""
        feature = self.pool(hidden, mask)  # (N, p + ds)
        if self.proprioception is None:
            return feature
        if robot is None:
            raise ValueError("no state of the robot was given, but the head reads it (head.proprioception); add it.")
        perceived = self.proprioception(robot)  # (N, p)
        return feature + F.pad(perceived, (0, self.layout.sentence))
