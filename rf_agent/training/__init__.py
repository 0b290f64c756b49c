"""Pre-training and imitation: settings, objectives, the loop.

`train(TrainConfig(...))` fits a policy; see docs/training.md.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rf_agent.training.callbacks import Callback
    from rf_agent.training.trainer import TrainConfig, TrainReport, train

__all__ = ["Callback", "TrainConfig", "TrainReport", "train"]

_HOMES = {"Callback": "callbacks", "TrainConfig": "trainer", "TrainReport": "trainer", "train": "trainer"}


def __getattr__(name: str) -> Any:
    """Imported when asked for, so that the parts of this package do not import all of it."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
