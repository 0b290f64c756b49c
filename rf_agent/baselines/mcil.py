"""MCIL (Lynch and Sermanet, arXiv:2005.07648) as a policy; see `rf_agent.nn.heads.mcil` for what it computes."""

from __future__ import annotations

from rf_agent.baselines.config import MCILConfig
from rf_agent.baselines.model import BaselinePolicy
from rf_agent.baselines.perception import PlanModel
from rf_agent.nn.heads.mcil import MCILHead


class MCILModel(PlanModel):
    """Perceptual and sentence embeddings under MCIL's head."""

    config: MCILConfig

    def make_head(self) -> MCILHead:
        config = self.config
        return MCILHead(self.encoder.dim, config.head, config.action, config.state, self.layout)


class MCILPolicy(BaselinePolicy, MCILModel):
    """The agent over MCIL."""

    config: MCILConfig
    config_class = MCILConfig
