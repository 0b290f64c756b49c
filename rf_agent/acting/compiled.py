"""How a policy runs its network at an observation step: eagerly, or compiled for its shapes."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from rf_agent.nn.cpu_kernels import cpu_kernels
from rf_agent.nn.heads import History
from rf_agent.policy_model import PolicyModel, TextInputs

Step: TypeAlias = Callable[
    [PolicyModel, Tensor, TextInputs, History], tuple[Tensor, Tensor | None, History]
]  # as `PolicyModel.step`

WIDE = 512
"""Width of a language model from which choosing kernels saves more than checking every call costs."""
MOST_SHAPES = 64
"""Numbers of environments and text buckets that are compiled; torch's own limit is 8, and what is more runs eagerly."""
BUCKET = 16
"""Compiled texts are padded to a multiple of so many tokens, so that few lengths occur."""


def eager_step(
    model: PolicyModel, pixels: Tensor, text: TextInputs, history: History
) -> tuple[Tensor, Tensor | None, History]:
    """`PolicyModel.step`, with kernels that suit a CPU where the model is on one and large enough."""
    with cpu_kernels() if model.width >= WIDE else nullcontext():
        return model.step(pixels, text, history)


class CompiledStep:
    """`PolicyModel.step` through `torch.compile`, once for every number of environments and text bucket.

    The first call with new shapes takes up to minutes. Where compilation fails there is a warning, and the network
    runs eagerly from then on.

    Args:
        options: of `torch.compile`. On a GPU the kernels of a step are recorded as a CUDA graph if none are given.
    """

    def __init__(self, **options: Any) -> None:
        self.options = options
        self._compiled: Step | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"options": self.options, "_compiled": None}  # copies compile anew

    def __call__(
        self, model: PolicyModel, pixels: Tensor, text: TextInputs, history: History
    ) -> tuple[Tensor, Tensor | None, History]:
        if self._compiled is None:
            defaults = {"mode": "reduce-overhead"} if pixels.device.type == "cuda" else {}
            self._compiled = torch.compile(PolicyModel.step, dynamic=False, **(self.options or defaults))
        if self._compiled is eager_step:
            return eager_step(model, pixels, text, history)
        try:
            with torch._dynamo.config.patch(  # of an LSTM only the weights are read
                allow_rnn=True, recompile_limit=MOST_SHAPES
            ):
                return self._compiled(model, pixels, _suited(model, text), history)
        except Exception as error:  # of many kinds; what is wrong with the call is raised again below
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            result = eager_step(model, pixels, text, history)
            warnings.warn(f"the policy could not be compiled and runs eagerly: {reason}", stacklevel=2)
            self._compiled = eager_step
            return result


def _suited(model: PolicyModel, text: TextInputs) -> TextInputs:
    return text if model.reads_padding else bucketed(text, model.longest_text)


def bucketed(text: TextInputs, most: int | None = None) -> TextInputs:
    """The same texts, padded to a multiple of `BUCKET` tokens, but not beyond `most`."""
    length = text.tokens.shape[1]
    longer = -(-length // BUCKET) * BUCKET
    padding = (0, (longer if most is None else max(length, min(longer, most))) - length)
    return text._replace(tokens=F.pad(text.tokens, padding), mask=F.pad(text.mask, padding))
