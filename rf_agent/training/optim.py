"""Parameter groups, the learning-rate schedule and the moving average of the weights."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from rf_agent.interrupts import DeferredInterrupts


def parameter_groups(
    parameters: Iterable[nn.Parameter], learning_rate: float, weight_decay: float
) -> list[dict[str, Any]]:
    """AdamW groups by one rule: matrices decay; biases, norms, gates and other vectors do not. Frozen ones
    are left out."""
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    matrices = [parameter for parameter in trained if parameter.dim() >= 2]
    vectors = [parameter for parameter in trained if parameter.dim() < 2]
    groups = [
        {"params": matrices, "weight_decay": weight_decay, "peak_lr": learning_rate},
        {"params": vectors, "weight_decay": 0.0, "peak_lr": learning_rate},
    ]
    return [group for group in groups if group["params"]]


def schedule(progress: float, warmup: float, final: float) -> float:
    """Factor of the learning rate: linear warm-up, then half a cosine down.

    A function of the share of the run that is over, so that runs limited by time decay as those limited by
    steps.

    Args:
        progress: in [0, 1].
        warmup: share of the run in which the rate rises from (almost) zero.
        final: factor at the end.
    """
    if progress < warmup:
        return max(progress / warmup, 1e-3)
    fraction = (min(progress, 1.0) - warmup) / max(1.0 - warmup, 1e-9)
    return final + (1.0 - final) * 0.5 * (1.0 + math.cos(math.pi * fraction))


def set_learning_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set every group's rate to `factor` of its `peak_lr`."""
    for group in optimizer.param_groups:
        group["lr"] = factor * group["peak_lr"]


class EMA:
    """Exponential moving average of the trained parameters, which acts better than the last weights do.

    Frozen parameters are not copied (`torch.optim.swa_utils.AveragedModel` would copy a whole language
    model).

    Args:
        model: whose trained parameters are followed.
        decay: of the average, reached gradually: after n steps it is at most (1 + n) / (10 + n).
    """

    def __init__(self, model: nn.Module, decay: float):
        self.decay, self.steps = decay, 0
        self._parameters = {name: value for name, value in model.named_parameters() if value.requires_grad}
        self.averages = {name: value.detach().clone() for name, value in self._parameters.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the current weights."""
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        get_ema_multi_avg_fn(decay)(list(self.averages.values()), list(self._parameters.values()), self.steps)
        self.steps += 1

    @torch.no_grad()
    def copy_to_model(self) -> None:
        """Overwrite the model's weights with the averages."""
        for name, parameter in self._parameters.items():
            parameter.copy_(self.averages[name])

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within the context the model holds the averages."""
        kept = {name: parameter.detach().clone() for name, parameter in self._parameters.items()}
        try:
            self.copy_to_model()
            yield
        finally:  # whatever happens: averages must not be saved as what is trained
            with torch.no_grad(), DeferredInterrupts():
                for name, parameter in self._parameters.items():
                    parameter.copy_(kept[name])
