"""Policy heads: the hidden states of the last observation steps to a chunk of actions.

To add one: a module in this folder with a subclass of `PolicyHead` under `@register(name)`; it is found by itself.
"""

import importlib
import pkgutil

from rf_agent.nn.heads.base import (
    HEADS,
    MLP,
    History,
    PolicyHead,
    WindowOutput,
    append,
    build_head,
    max_pool,
    mean_pool,
    register,
)

__all__ = [
    "HEADS",
    "MLP",
    "History",
    "PolicyHead",
    "WindowOutput",
    "append",
    "build_head",
    "max_pool",
    "mean_pool",
    "register",
]

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
