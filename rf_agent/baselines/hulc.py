"""HULC (Mees et al., arXiv:2204.06252) as a policy; see `rf_agent.nn.heads.hulc` for what it computes."""

from __future__ import annotations

from rf_agent.baselines.config import HULCConfig
from rf_agent.baselines.model import BaselinePolicy
from rf_agent.baselines.perception import PlanModel
from rf_agent.nn.heads.hulc import HULCHead


class HULCModel(PlanModel):
    """Perceptual and sentence embeddings under HULC's head."""

    config: HULCConfig

    def make_head(self) -> HULCHead:
        config = self.config
        return HULCHead(self.encoder.dim, config.head, config.action, config.state, self.layout)


class HULCPolicy(BaselinePolicy, HULCModel):
    """The agent over HULC."""

    config: HULCConfig
    config_class = HULCConfig
