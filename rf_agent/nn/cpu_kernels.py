"""Which kernels a policy that acts on a CPU computes with, where torch's own choice is a slow one.

Measured on a core of an AMD EPYC with torch 2.13, as every choice here:

- linear layers in float32: torch asks MKL, which takes twice as long there as oneDNN, and also where few rows (the
  tokens of one instruction) meet a large matrix. Those in bfloat16 go through oneDNN anyway.
- attention in bfloat16: torch's fused kernel takes twice as long as two products with a softmax in between.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode


class CPUKernels(TorchFunctionMode):
    """Within this context, what needs no gradient and lies on a CPU is computed with the kernels above.

    Args:
        product: a linear layer by oneDNN.
    """

    def __init__(self, product: Callable[..., Tensor]) -> None:
        super().__init__()
        self.product = product

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.linear and is_ours(args, torch.float32) and args[0].dim() > 1:
            return self._linear(*args, **kwargs)
        if func is F.scaled_dot_product_attention and not kwargs and is_ours(args, torch.bfloat16):
            return attention(*args)
        return func(*args, **kwargs)

    def _linear(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """x (..., i), weight (o, i), bias (o,) -> (..., o)."""
        return self.product(x, weight, bias, "none", [], "")


def is_ours(tensors: tuple[Any, ...], dtype: torch.dtype) -> bool:
    """Whether all of the `tensors` are on a CPU, of `dtype` and without gradients; None is of any kind."""
    return not torch.is_grad_enabled() and all(
        t is None or (t.dtype == dtype and t.device.type == "cpu") for t in tensors
    )


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """What `torch.nn.functional.scaled_dot_product_attention` is defined as, by two products. It holds all scores."""
    scores = (query * (query.shape[-1] ** -0.5 if scale is None else scale)) @ key.transpose(-2, -1)
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if attn_mask is not None:
        hides = attn_mask.dtype == torch.bool
        scores = scores.masked_fill(~attn_mask, -torch.inf) if hides else scores + attn_mask
    return F.dropout(scores.softmax(dim=-1), dropout_p) @ value


@functools.cache
def _product() -> Callable[..., Tensor] | None:
    """A linear layer by oneDNN, as torch's compiler calls it, if this build of torch has it and it works here."""
    if not torch.backends.mkldnn.is_available():
        return None
    x, weight = torch.arange(12.0).view(3, 4), torch.arange(20.0).view(5, 4)
    try:
        product = torch.ops.mkldnn._linear_pointwise.default
        works = torch.allclose(product(x, weight, None, "none", [], ""), x @ weight.T)
    except (AttributeError, RuntimeError):  # an older torch, or one for another processor
        return None
    return product if works else None


def cpu_kernels() -> AbstractContextManager[Any]:
    """The context `CPUKernels`; one without effect where oneDNN is not to be had."""
    product = _product()
    return nullcontext() if product is None else CPUKernels(product)
