"""The two kinds of recordings of a table: a video of what was seen, and a file of demonstrations to train on."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rf_agent.errors import UserError
from rf_agent.evaluation.video import Video, compose

FRAME_STRIDE = 3
"""Images are kept at every third step, as `rf-agent collect` does: that is where policies observe."""
MAX_STEPS = 3000
"""Steps of a demonstration, 100 s: what is longer is no demonstration of one task, and fills the memory."""


class VideoRecording:
    """A video at the speed of the robot, made of frames that come when they come.

    Args:
        path: the .mp4 file; it appears when the video is closed.
        fps: steps a second.
    """

    def __init__(self, path: Path, fps: int) -> None:
        self.path = path
        self._video = Video(path, fps)
        self.frames = 0

    def add(self, views: list[np.ndarray], instruction: str, outcome: str, steps: int) -> None:
        """What is seen, for as many steps as it stayed."""
        frame = compose(views[0], views[-1], instruction, "", outcome)
        for _ in range(max(1, min(steps, 15))):
            self._video.add(frame)
            self.frames += 1

    def close(self) -> Path | None:
        """Finish the file; None, and no file, if nothing was seen."""
        if not self.frames:
            self.discard()
            return None
        self._video.close()
        return self.path

    def discard(self) -> None:
        """Leave no file, whatever state it is in."""
        with contextlib.suppress(Exception):  # what could not be written may not be closed either
            self._video.discard()


class DemonstrationRecording:
    """Attempts at one table that may be kept as demonstrations, in one file.

    Args:
        path: the HDF5 file; it is made when the first one is kept.
        env: the environment, with actions in [-1, 1].

    Raises:
        UserError: the environment is none that demonstrations can be recorded in.
    """

    def __init__(self, path: Path, env: Any) -> None:
        from rf_agent.demos.episodes import env_layout

        self.path, self.kept = path, 0
        self._layout = env_layout(env, FRAME_STRIDE)
        self._renderer = str(getattr(env.unwrapped, "renderer", "unknown"))
        self._file_env_id = ""
        self._start: dict[str, NDArray[np.float64]] = {}
        self.drop()

    def begin(self, start: Mapping[str, NDArray[np.float64]]) -> None:
        """An attempt begins.

        Args:
            start: options of the environment's reset that bring the present state back.
        """
        self.drop()
        self.begun, self._start = True, dict(start)

    def drop(self) -> None:
        """Forget the present attempt."""
        self.begun = False
        self._actions: list[NDArray[np.float32]] = []
        self._states: list[Any] = []
        self._images: dict[str, list[Any]] = {camera: [] for camera in self._layout.cameras}

    def __len__(self) -> int:
        return len(self._actions)

    def needs_images(self) -> bool:
        """Whether the next step is one whose images are kept."""
        return self.begun and len(self._actions) % FRAME_STRIDE == 0

    def add(self, observation: dict[str, Any], action: NDArray[np.float32]) -> None:
        """What was seen (with fresh images, if `needs_images`) and what was done then, if an attempt has begun."""
        if not self.begun:
            return
        if len(self._actions) >= MAX_STEPS:
            raise UserError(f"the demonstration has {MAX_STEPS} steps: it is dropped; record shorter ones")
        if self.needs_images():
            for camera, kept in self._images.items():
                kept.append(np.array(observation[camera]))
        if self._layout.state is not None:
            self._states.append(np.array(observation[self._layout.state]))
        self._actions.append(np.clip(np.asarray(action, np.float32), -1, 1))

    def keep(self, task: str, instruction: str, attributes: dict[str, Any]) -> Path:
        """Write the present attempt to the file, and forget it.

        Args:
            task: its name; empty for free text.
            instruction: what was asked.
            attributes: `env_id`, the environment's name, and whatever else is known.

        Raises:
            UserError: there is nothing to keep, or the disk is full.
        """
        from rf_agent.demos.collect import FORMAT_VERSION
        from rf_agent.demos.demonstration import Demonstration
        from rf_agent.demos.store import append_demos, create_store

        if not self._actions:
            raise UserError("nothing was done since recording began, so there is no demonstration to keep")
        demo = Demonstration(
            images={camera: np.stack(images) for camera, images in self._images.items()},
            actions=np.stack(self._actions),
            instruction=instruction,
            task=task,
            state=np.stack(self._states) if self._states else None,
            success=True,
            attributes=attributes,
            start=self._start,
        )
        self._file_env_id = self._file_env_id or str(attributes["env_id"])  # those of other scenes say so themselves
        origin = {
            "env_name": self._file_env_id,
            "type": 2,  # robomimic's name for environments of Gymnasium
            "env_kwargs": {},
            "renderer": self._renderer,
            "version": FORMAT_VERSION,
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        create_store(self.path, self._layout, origin)
        append_demos(self.path, [demo], self._layout)
        self.kept += 1
        self.drop()
        return self.path
