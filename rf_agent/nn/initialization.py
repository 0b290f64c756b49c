"""Models without initial values, for those whose values come from elsewhere: built at once, in any number format."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


class EmptyInit(TorchFunctionMode):
    """Modules that are built within this context leave their parameters unfilled, and so take neither time nor memory.

    Buffers are filled as ever: no checkpoint holds all of them.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        target = args[0] if args else kwargs.get("tensor")  # the functions of torch.nn.init pass it by name
        name = getattr(func, "__name__", "")
        if isinstance(target, nn.Parameter) and name.endswith("_") and not name.startswith("_"):
            if name != "requires_grad_":
                return target
        return func(*args, **kwargs)


def cast_uninitialized(module: nn.Module, dtype: torch.dtype) -> None:
    """Give parameters that are not filled yet another number format; buffers keep theirs, and with them the parameters
    of batch norms, which must fit their statistics."""
    norms = [part for part in module.modules() if isinstance(getattr(part, "running_var", None), Tensor)]
    spared = {id(parameter) for norm in norms for parameter in norm.parameters(recurse=False)}
    for parameter in module.parameters():
        if parameter.is_floating_point() and id(parameter) not in spared:
            parameter.data = torch.empty_like(parameter, dtype=dtype)
