"""RoboFlamingoPolicy: camera images and an instruction in, actions out."""

from __future__ import annotations

from rf_agent import checkpoint
from rf_agent.base_policy import BasePolicy
from rf_agent.config import RoboFlamingoConfig
from rf_agent.errors import UserError
from rf_agent.model import BETWEEN, RoboFlamingoModel
from rf_agent.nn.fusion import with_other_resamplers


class RoboFlamingoPolicy(BasePolicy, RoboFlamingoModel):
    """The RoboFlamingo agent: the network with its tokenizer, and what it takes to act; see `BasePolicy`."""

    config: RoboFlamingoConfig
    config_class = RoboFlamingoConfig

    def begin_from(self, start: BasePolicy, source: str, vl_pretrained: bool = True) -> None:
        """Take the vision-language model of another RoboFlamingo policy; without `vl_pretrained` its vision tower and
        language model alone."""
        if not isinstance(start, RoboFlamingoPolicy):
            raise UserError(
                f"{source} is a policy of type {start.config.type!r}, but RoboFlamingo begins from a vision-language "
                "model: give another --init"
            )
        weights = with_other_resamplers(checkpoint.unique_tensors(start.vlm), self.vlm.fusion.resamplers)
        if not vl_pretrained:
            drawn = checkpoint.unique_tensors(self.vlm)
            weights |= {name: tensor for name, tensor in drawn.items() if name.startswith(BETWEEN)}
        checkpoint.load_strictly(self.vlm, weights, source)
