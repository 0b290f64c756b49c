"""Progress of long jobs.

Functions of this package take a `Reporter` and never print. `RichReporter` is what the command line passes.
"""

from __future__ import annotations

import time
from types import TracebackType
from typing import Protocol


class Reporter(Protocol):
    """Receives a job's progress."""

    def update(self, fraction: float, text: str) -> None:
        """`fraction` of the job is done, in [0, 1]; `text` is its state in a few words."""

    def log(self, text: str) -> None:
        """A line worth keeping."""


class Silent:
    """A reporter that drops everything."""

    def update(self, fraction: float, text: str) -> None:
        pass

    def log(self, text: str) -> None:
        pass


class RichReporter:
    """A progress bar with the time left; where output is not a terminal, a line every `interval` seconds.

    Examples:
        >>> with RichReporter("train") as reporter:
        ...     train(config, reporter)
    """

    def __init__(self, title: str, interval: float = 30.0):
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

        self.title, self.interval = title, interval
        self._console = Console(soft_wrap=True, highlight=False)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("left {task.fields[left]}"),
            TextColumn("{task.fields[state]}"),
            console=self._console,
            refresh_per_second=2,
        )
        self._task = self._bar.add_task(title, total=1.0, state="", left="?")
        self._started: tuple[float, float] | None = (
            None  # (time, fraction) at the first update: a resumed job starts late
        )
        self._fraction = 0.0
        self._printed = 0.0

    def __enter__(self) -> RichReporter:
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop() if self._console.is_terminal else None

    def update(self, fraction: float, text: str) -> None:
        now = time.monotonic()
        if self._started is None or fraction < self._fraction:  # less than before: another part has begun
            self._started = (now, fraction)
        self._fraction = fraction
        elapsed, gained = now - self._started[0], fraction - self._started[1]
        left = duration(elapsed * (1.0 - fraction) / gained) if gained > 0 else "?"
        self._bar.update(self._task, completed=fraction, state=text, left=left)
        if not self._console.is_terminal and (now - self._printed > self.interval or fraction >= 1.0):
            self._printed = now
            self._console.print(f"{self.title} {fraction:4.0%}  {duration(elapsed)}  left {left}  {text}", markup=False)

    def log(self, text: str) -> None:
        self._console.print(text, markup=False)


def duration(seconds: float) -> str:
    """Seconds as h:mm:ss or m:ss."""
    minutes, seconds = divmod(int(round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
