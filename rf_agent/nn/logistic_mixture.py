"""Mixtures of discretised logistic distributions (PixelCNN++, arXiv:1701.05517), one for each entry of an action."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

LEAST_LOG_SCALE = -7.0
"""Narrower distributions are not predicted: they would explain single demonstrations without bound."""


class LogisticMixture(NamedTuple):
    """Distributions of some numbers, each a mixture of M logistic ones."""

    logits: Tensor
    """(..., M) of the shares."""
    means: Tensor
    """(..., M)."""
    log_scales: Tensor
    """(..., M)."""

    @classmethod
    def from_parameters(cls, parameters: Tensor) -> LogisticMixture:
        """What a network predicts (..., 3, M), in float32."""
        logits, means, log_scales = parameters.float().unbind(dim=-2)
        return cls(logits, means, log_scales.clamp(min=LEAST_LOG_SCALE))

    def mode(self) -> Tensor:
        """(...): the mean of the component with the largest share."""
        return self.means.gather(-1, self.logits.argmax(dim=-1, keepdim=True))[..., 0]

    def negative_log_likelihood(self, values: Tensor, bound: float, bins: int) -> Tensor:
        """Of the bins around some numbers.

        Args:
            values: (...) in [-bound, bound]; what lies beyond counts as on the edge.
            bound: the outermost bins lie around -bound and bound, and hold all that is beyond.
            bins: how many there are in all, evenly spread.

        Returns:
            (...) in nats, not negative.
        """
        values = values.float().clamp(-bound, bound)
        half = bound / (bins - 1)  # of a bin's width
        centred, inverse = values[..., None] - self.means, (-self.log_scales).exp()  # (..., M)
        above, below = inverse * (centred + half), inverse * (centred - half)  # the bin's edges in units of the scale
        # log(sigmoid(above) - sigmoid(below)), as a sum that neither cancels nor underflows
        inside = F.logsigmoid(above) + F.logsigmoid(-below) + torch.log(-torch.expm1(-2 * half * inverse))
        lowest, highest = values <= half - bound, values >= bound - half
        log_probability = torch.where(
            lowest[..., None], F.logsigmoid(above), torch.where(highest[..., None], F.logsigmoid(-below), inside)
        )
        return -(self.logits.log_softmax(dim=-1) + log_probability).logsumexp(dim=-1)
