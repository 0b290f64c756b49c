"""Training in bfloat16 on CPUs that multiply it natively (AVX512_BF16, AMX), as fast as its parts allow.

Matrix products and convolutions in bfloat16 take half the time of float32 there. PyTorch's kernels of attention and of
group normalization take several times as long instead, as they convert element by element: those stay in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

FLOAT32 = frozenset({F.scaled_dot_product_attention, F.group_norm})
"""Functions that are faster in float32."""


def has_bfloat16() -> bool:
    """Whether this machine's CPU multiplies bfloat16, as far as this version of torch can tell."""
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(name.endswith("bf16") and known for name, known in capabilities.items())


class Float32Kernels(TorchFunctionMode):
    """Within it, what `FLOAT32` names computes in float32 though autocast would have it in bfloat16.

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
        with torch.autocast("cpu", enabled=False):
            return func(*map(_widened, args), **{name: _widened(value) for name, value in kwargs.items()})


def _widened(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.dtype == torch.bfloat16 else value
