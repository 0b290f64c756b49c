"""Training in bfloat16 on CPUs that multiply it natively (AVX512_BF16, AMX), as fast as its parts allow.

Matrix products and convolutions in bfloat16 take half the time of float32 there. PyTorch's kernels of attention and of
group normalization take several times as long instead, as they convert element by element. Group normalization stays in
float32; attention to few keys becomes two products with a softmax in between (0.6 of the time in float32 for 102 keys,
a tenth of a step of roboflamingo-tiny), which needs memory for all scores, so that to many keys it stays in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from rf_agent.nn.cpu_kernels import attention

FLOAT32 = frozenset({F.scaled_dot_product_attention, F.group_norm})
"""Functions whose own kernels are faster in float32."""
FEW_KEYS = 128


def has_bfloat16() -> bool:
    """Whether this machine's CPU multiplies bfloat16, as far as this version of torch can tell."""
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(name.endswith("bf16") and known for name, known in capabilities.items())


class BFloat16Kernels(TorchFunctionMode):
    """Within it and autocast, what `FLOAT32` names computes in float32, or attention by products in bfloat16.

    A mode reaches the calls of any library, such as the language model's attention in `transformers`.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func not in FLOAT32 or not torch.is_autocast_enabled("cpu"):
            return func(*args, **kwargs)
        if func is F.scaled_dot_product_attention and _is_short(*args, **kwargs):
            return attention(*args, **{name: value for name, value in kwargs.items() if name != "enable_gqa"})
        with torch.autocast("cpu", enabled=False):
            return func(*map(_widened, args), **{name: _widened(value) for name, value in kwargs.items()})


def _is_short(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    **others: Any,
) -> bool:
    """Whether attention has few keys, and no options that only torch's own kernel knows."""
    return key.shape[-2] <= FEW_KEYS and not any(others.values())


def _widened(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.dtype == torch.bfloat16 else value
