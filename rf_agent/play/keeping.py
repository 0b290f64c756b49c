"""What a table is recording at the moment, and where that goes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rf_agent.errors import UserError
from rf_agent.play.recording import Demonstrations, Film


class Attempt(Protocol):
    """Something that was asked."""

    task: str
    instruction: str


class Keeping:
    """The film and the demonstrations of one table.

    Args:
        folder: where files go; it is made when the first one is.
        name: of the table, the beginning of its files' names.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.recording = False
        self._film: Film | None = None
        self._films = 0
        self._demos: Demonstrations | None = None
        self._news: list[dict[str, Any]] = []

    def state(self) -> dict[str, Any]:
        """What the page shows of it."""
        kept = self._demos.kept if self._demos is not None else 0
        return {"video": self._film is not None, "record": self.recording, "kept": kept}

    def news(self) -> list[dict[str, Any]]:
        """Files that were finished since this was last asked."""
        news, self._news = self._news, []
        return news

    # the film

    def start_film(self, fps: int) -> None:
        """Begin a film, if none is running."""
        if self._film is None:
            self._films += 1
            self._film = Film(self.folder / f"{self.name}-{self._films}.mp4", fps)

    def film_frame(self, views: list[np.ndarray], instruction: str, outcome: str, steps: int) -> None:
        """What is seen, for the film, if one is running."""
        if self._film:
            outcomes = {"done": "success", "not done": "failure", "ended": "not scored"}
            self._film.add(views, instruction, outcomes.get(outcome, "running"), steps)

    def stop_film(self) -> None:
        """Finish the film."""
        if self._film:
            path = self._film.close()
            self._film = None
            if path:
                self._news.append({"type": "file", "kind": "video", "name": path.name})

    # demonstrations

    def record(self, on: bool, env: Any, env_id: str) -> None:
        """Keep what succeeds from the next instruction on, or no longer."""
        if on and self._demos is None:
            self._demos = Demonstrations(self.folder / f"{self.name}.hdf5", env, env_id)
        self.recording = on
        self.drop()

    def begin(self) -> None:
        """A new attempt."""
        self.drop()

    def drop(self) -> None:
        """Forget the present attempt."""
        if self._demos is not None:
            self._demos.drop()

    def needs_images(self) -> bool:
        return self._demos is not None and self.recording and self._demos.needs_images()

    def add(self, observation: dict[str, Any], action: NDArray[np.float32]) -> None:
        """A step of the present attempt."""
        if self._demos is not None and self.recording:
            try:
                self._demos.add(observation, action)
            except UserError:
                self.recording = False
                self._demos.drop()
                raise

    def keep(self, attempt: Attempt, attributes: dict[str, Any]) -> None:
        """The present attempt is a demonstration."""
        assert self._demos is not None
        steps = len(self._demos)
        path = self._demos.keep(attempt.task, attempt.instruction, attributes)
        self._news.append(
            {"type": "file", "kind": "demonstrations", "name": path.name, "kept": self._demos.kept, "steps": steps}
        )
