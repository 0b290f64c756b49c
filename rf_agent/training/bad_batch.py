"""The batch that stopped a run, kept so that `torch.load` shows it without running anything that the file names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

BAD_BATCH = "bad_batch.pt"


def keep_bad_batch(path: Path, step: int, parts: Sequence[tuple[Any, float]]) -> str:
    """Write the batches of a step.

    Args:
        path: of the file, a dictionary of `step` and `batches`: pairs of a batch and its share of the step.
        step: steps done before.
        parts: what is kept.

    Returns:
        A sentence that says how to look at it, or why it could not be kept.
    """
    try:
        torch.save({"step": step, "batches": plain(list(parts))}, path)
    except (OSError, RuntimeError) as error:  # torch raises RuntimeError where a write fails
        path.unlink(missing_ok=True)
        return f"The batch could not be kept in {path} ({error})"
    return f"The batch is kept: torch.load({str(path)!r})['batches'] shows it"


def plain(value: Any) -> Any:
    """A value as tensors, numbers, texts, lists and dictionaries, which `torch.load` reads as data alone."""
    if value is None or isinstance(value, (torch.Tensor, bool, int, float, str)):
        return value
    if isinstance(value, np.random.Generator):
        return plain(value.bit_generator.state)
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return torch.from_numpy(value)
    if isinstance(value, np.generic):
        return value.item()
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return {key if isinstance(key, (str, int)) else str(key): plain(item) for key, item in value.items()}
    if hasattr(value, "_asdict"):  # a named tuple
        return plain(value._asdict())
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return repr(value)
