"""Learning curves on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


class Curves:
    """Appends scalars to `log.jsonl` and, where TensorBoard is installed, to event files in
    `directory/tensorboard`."""

    def __init__(self, directory: Path):
        directory.mkdir(parents=True, exist_ok=True)
        self._file = (directory / "log.jsonl").open("a", encoding="utf-8")
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            self._writer = None
        else:
            self._writer = SummaryWriter(str(directory / "tensorboard"))

    def write(self, step: int, scalars: dict[str, Any], split: str = "train") -> None:
        """Record `scalars` (floats) of that step under `split`."""
        values = {name: float(value) for name, value in scalars.items()}
        self._file.write(json.dumps({"step": step, "split": split, **values}) + "\n")
        self._file.flush()
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(f"{split}/{name}", value, step)

    def close(self) -> None:
        self._file.close()
        if self._writer is not None:
            self._writer.close()
