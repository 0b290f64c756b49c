"""How a policy that acts runs its network at a look: as it is written, or compiled for its shapes."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from rf_agent.nn import looks
from rf_agent.nn.cpu_kernels import cpu_kernels
from rf_agent.nn.flamingo import Flamingo
from rf_agent.nn.heads import History, PolicyHead
from rf_agent.nn.looks import Told

Step: TypeAlias = Callable[
    [Flamingo, PolicyHead, Tensor, Told, History], tuple[Tensor, Tensor, History]
]  # as `rf_agent.nn.looks.step`

WIDE = 512
"""Width of a language model from which choosing kernels saves more than looking at every call costs."""
BUCKET = 16
"""Compiled texts are padded to a multiple of so many tokens, so that few lengths occur."""


def eager_step(
    vlm: Flamingo, head: PolicyHead, pixels: Tensor, told: Told, history: History
) -> tuple[Tensor, Tensor, History]:
    """`rf_agent.nn.looks.step`, with the kernels that suit a CPU where the policy is on one and large enough."""
    with cpu_kernels() if vlm.dim >= WIDE else nullcontext():
        return looks.step(vlm, head, pixels, told, history)


class CompiledStep:
    """`rf_agent.nn.looks.step` through `torch.compile`, once for every number of environments and bucket of text.

    The first call with new shapes takes up to minutes. Where compilation fails there is a warning, and the network
    runs as it is written from then on.

    Args:
        options: of `torch.compile`; on a GPU the kernels of a step are recorded as a CUDA graph if none are given.
    """

    def __init__(self, **options: Any) -> None:
        self.options = options
        self._compiled: Step | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"options": self.options, "_compiled": None}  # copies compile anew

    def __call__(
        self, vlm: Flamingo, head: PolicyHead, pixels: Tensor, told: Told, history: History
    ) -> tuple[Tensor, Tensor, History]:
        if self._compiled is None:
            defaults = {"mode": "reduce-overhead"} if pixels.device.type == "cuda" else {}
            self._compiled = torch.compile(looks.step, dynamic=False, **(self.options or defaults))
        if self._compiled is eager_step:
            return eager_step(vlm, head, pixels, told, history)
        try:
            with torch._dynamo.config.patch(allow_rnn=True):  # of an LSTM only the weights are read
                return self._compiled(vlm, head, pixels, bucketed(told), history)
        except Exception as error:  # of many kinds; what is wrong with the call is raised again below
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            result = eager_step(vlm, head, pixels, told, history)
            warnings.warn(f"the policy could not be compiled and runs as it is written: {reason}", stacklevel=2)
            self._compiled = eager_step
            return result


def bucketed(told: Told) -> Told:
    """The same texts, padded to a multiple of `BUCKET` tokens."""
    padding = (0, -told.tokens.shape[1] % BUCKET)
    return told._replace(tokens=F.pad(told.tokens, padding), mask=F.pad(told.mask, padding))
