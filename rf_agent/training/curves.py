"""Learning curves on disk."""

from __future__ import annotations

import json
import secrets
import time
from pathlib import Path
from typing import Any

LOG, PICTURE, TENSORBOARD, WANDB_ID = "log.jsonl", "curves.png", "tensorboard", "wandb_id"
DRAW_SECONDS = 60.0


class Curves:
    """Appends scalars to `log.jsonl`; where TensorBoard is installed, to event files in `directory/tensorboard`; and to
    Weights & Biases where a project is named.

    Args:
        directory: of the run.
        wandb: project at Weights & Biases, or None.

    Raises:
        ImportError: `wandb` is asked for, but not installed.
    """

    def __init__(self, directory: Path, wandb: str | None = None):
        directory.mkdir(parents=True, exist_ok=True)
        self.directory, self._wandb = directory, None
        if wandb is not None:
            try:
                import wandb as service
            except ImportError as error:
                raise ImportError("--wandb needs the package wandb: pip install wandb") from error
            kept = directory / WANDB_ID  # the same for a resumed run: its curves go on
            if not kept.exists():
                kept.write_text(secrets.token_hex(6))
            name = directory.resolve().name
            self._wandb = service.init(
                project=wandb, dir=str(directory), id=kept.read_text(), name=name, resume="allow"
            )
        self._drawn = time.monotonic()
        self._file = (directory / LOG).open("a", encoding="utf-8")
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            self._writer = None
        else:
            self._writer = SummaryWriter(str(directory / TENSORBOARD))

    def write(self, step: int, scalars: dict[str, Any], split: str = "train") -> None:
        """Record `scalars` (floats) of that step under `split`."""
        values = {name: float(value) for name, value in scalars.items()}
        self._file.write(json.dumps({"step": step, "split": split, **values}) + "\n")
        self._file.flush()
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(f"{split}/{name}", value, step)
        if self._wandb is not None:
            self._wandb.log({f"{split}/{name}": value for name, value in values.items()}, step=step)

    def draw(self) -> None:
        """Draw what was written so far as `curves.png`, at most once a minute: it takes about a second."""
        if time.monotonic() - self._drawn > DRAW_SECONDS:
            draw_curves(self.directory)
            self._drawn = time.monotonic()

    def close(self) -> None:
        """Draw once more and close the files."""
        draw_curves(self.directory)
        self._file.close()
        if self._writer is not None:
            self._writer.close()
        if self._wandb is not None:
            self._wandb.finish()


def read_log(directory: Path) -> list[dict[str, Any]]:
    """The rows of a run's `log.jsonl`, in order; of a step that was repeated after a resume, the last one.

    A line that a crash cut off is left out.
    """
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    for line in (directory / LOG).read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        key = row["split"], row["step"]
        rows.pop(key, None)
        rows[key] = row
    return list(rows.values())


def draw_curves(directory: Path) -> Path | None:
    """Learning curves of a run as `curves.png`: a panel for each scalar of the validation, else for the loss.

    Returns:
        The file, or None if nothing was logged yet.
    """
    rows = read_log(directory)
    names = [name for row in rows if row["split"] == "validation" for name in row if name not in ("step", "split")]
    names = list(dict.fromkeys(names)) or ["loss"]
    if not rows:
        return None
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(3, len(names))
    lines = -(-len(names) // columns)
    figure = Figure(figsize=(4.2 * columns, 2.8 * lines))
    FigureCanvasAgg(figure)
    figure.subplots_adjust(0.15 / columns, 0.15 / lines, 1 - 0.03 / columns, 1 - 0.1 / lines, 0.25, 0.35)
    for index, name in enumerate(names):
        axes = figure.add_subplot(lines, columns, index + 1)
        for split, style in (("train", "-"), ("validation", "o-")):
            points = [(row["step"], row[name]) for row in rows if row["split"] == split and name in row]
            if points:
                axes.plot(*zip(*points, strict=True), style, label=split, markersize=3, linewidth=1)
        axes.set_title(name, fontsize=9)
        axes.tick_params(labelsize=7)
        axes.set_xlabel("step", fontsize=7)
        axes.locator_params(nbins=5)
        if index == 0:
            axes.legend(fontsize=7)
    path = directory / PICTURE
    figure.savefig(path, dpi=110)
    return path
