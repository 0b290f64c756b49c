"""What a table is recording at the moment, and where that goes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rf_agent.errors import UserError
from rf_agent.play.attempt import InstructionAttempt
from rf_agent.play.recording import DemonstrationRecording, VideoRecording

VIDEO_OUTCOMES = {"running": "running", "none": "running", "done": "success", "not done": "failure"}
"""What a video calls the outcomes of attempts; it scores no others."""


class Recorder:
    """Begins and ends the recordings of one table.

    Args:
        folder: where files go; it is made when the first one is.
        name: of the table, the beginning of its files' names.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.recording = False
        """Whether attempts that succeed are kept."""
        self._video: VideoRecording | None = None
        self._videos = 0
        self._demos: DemonstrationRecording | None = None
        self._news: list[dict[str, Any]] = []

    def state(self) -> dict[str, Any]:
        """What the page shows of it."""
        kept = self._demos.kept if self._demos is not None else 0
        return {"video": self._video is not None, "record": self.recording, "kept": kept}

    def news(self) -> list[dict[str, Any]]:
        """Messages for the page since this was last asked: files that were finished, and what went wrong."""
        news, self._news = self._news, []
        return news

    # Videos

    def start_video(self, fps: int) -> None:
        """Begin a video, if none is running."""
        if self._video is None:
            self._videos += 1
            self._video = VideoRecording(self.folder / f"{self.name}-{self._videos}.mp4", fps)

    def add_views(self, views: list[np.ndarray], instruction: str, outcome: str, steps: int) -> None:
        """What is seen, for the video, if one is running. A video that cannot be written is dropped."""
        if self._video is None:
            return
        try:
            self._video.add(views, instruction, VIDEO_OUTCOMES.get(outcome, "not scored"), steps)
        except Exception as error:  # a full disk, or an encoder that ended
            self._drop_video(error)

    def stop_video(self) -> None:
        """Finish the video."""
        if self._video is None:
            return
        try:
            path = self._video.close()
        except Exception as error:
            self._drop_video(error)
            return
        self._video = None
        if path:
            self._news.append({"type": "file", "kind": "video", "name": path.name})

    def _drop_video(self, error: Exception) -> None:
        assert self._video is not None
        self._video.discard()
        self._video = None
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]  # imageio appends the encoder's command
        self._news.append({"type": "problem", "text": f"The video cannot be written and was dropped: {reason}"})

    # Demonstrations

    def record(self, on: bool, env: Any) -> None:
        """Keep what succeeds from the next instruction on, or no longer."""
        if on and self._demos is None:
            self._demos = DemonstrationRecording(self.folder / f"{self.name}.hdf5", env)
        self.recording = on
        self.drop()

    def begin(self, start: Mapping[str, NDArray[np.float64]]) -> None:
        """A new attempt begins, from the state that these options of the environment's reset bring back."""
        self.drop()
        if self._demos is not None and self.recording:
            self._demos.begin(start)

    def drop(self) -> None:
        """Forget the present attempt."""
        if self._demos is not None:
            self._demos.drop()

    @property
    def records_attempt(self) -> bool:
        """Whether the present attempt is recorded, from its beginning on."""
        return self._demos is not None and self._demos.begun

    def needs_images(self) -> bool:
        """Whether the next step is one whose images are kept."""
        return self._demos is not None and self._demos.needs_images()

    def add(self, observation: dict[str, Any], action: NDArray[np.float32]) -> None:
        """A step of the present attempt.

        Raises:
            UserError: it takes too long for a demonstration, and nothing is recorded any more.
        """
        if self._demos is not None:
            try:
                self._demos.add(observation, action)
            except UserError:
                self.recording = False
                self._demos.drop()
                raise

    def keep(self, attempt: InstructionAttempt, attributes: dict[str, Any]) -> None:
        """The present attempt is a demonstration. Raises UserError where it cannot be written."""
        assert self._demos is not None
        steps = len(self._demos)
        path = self._demos.keep(attempt.task, attempt.instruction, attributes)
        self._news.append(
            {"type": "file", "kind": "demonstrations", "name": path.name, "kept": self._demos.kept, "steps": steps}
        )
