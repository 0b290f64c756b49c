"""Reads LeRobot data sets (versions 3.0, 2.1 and 2.0): parquet files and videos, see `lerobot_meta`.

Rows are frames: one image of every camera, a state and an action, fps times a second. The instruction is the row's
task; an episode whose task changes is cut there. LeRobot does not say which entry of an action is a gripper.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rf_agent.demos.demonstration import Demonstration, Layout
from rf_agent.demos.files import DemoError
from rf_agent.demos.readers.base import DemoReader, Record
from rf_agent.demos.readers.lerobot_meta import EpisodeFiles, LeRobotMeta, read_meta
from rf_agent.demos.readers.parquet import AGAIN, INSTALL, StoredImages, read_table, vectors
from rf_agent.demos.readers.video import VideoFrames, frame_times, without_frame
from rf_agent.errors import require


class LeRobotReader(DemoReader):
    """The episodes of a data set, in their order.

    Args:
        path: its folder, the one with meta/info.json.

    Raises:
        DemoError: it is damaged, incomplete, empty or of an unknown version; file and episode are named.
        MissingPackageError: pyarrow or PyAV is not installed.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.skipped = Path(path), {}
        self._meta = meta = read_meta(self.path)
        if any(feature.dtype == "video" for feature in meta.cameras.values()):
            require("av", "reading LeRobot data sets", INSTALL)
        if meta.colorless_cameras:
            self.skipped["cameras of depth or of one channel, which are not read"] = meta.colorless_cameras
        self.layout = _layout(meta)
        if self.layout.state in meta.cameras:
            raise DemoError(f"{self.path}: a camera is named {self.layout.state!r} like the state: rename that feature")
        self.records = []
        starts, times, first_rows = [0], [], []
        for episode, columns, first_row in _episodes(meta):
            self.records += _records(meta, episode, columns, starts[-1])
            first_rows.append(first_row)
            times.append(columns["timestamp"][:, 0].astype(np.float64))
            starts.append(starts[-1] + episode.length)
        self.frame_count = starts[-1]
        self._starts = np.array(starts)  # (episodes + 1,) rows of the reader's frames
        self._first_rows = first_rows  # of the episodes in their parquet files
        self._times = np.concatenate(times)  # (frame_count,) seconds since the episode began
        self._videos = VideoFrames(tolerance=0.5 / meta.fps)
        self._stored = StoredImages(limit=2 * len(meta.cameras))

    @property
    def action_key(self) -> str:
        """What the data set calls its actions."""
        return self._meta.action.key

    @property
    def state_key(self) -> str | None:
        """What it calls the state; None if it has none."""
        return None if self._meta.state is None else self._meta.state.key

    def images(self, camera: str, rows: NDArray[np.int64]) -> list[NDArray[np.uint8]]:
        """Images (H, W, 3) uint8 of a camera at these rows."""
        feature, rows = self._meta.cameras[camera], np.asarray(rows, np.int64)
        height, width = self._meta.own.image_sizes.get(camera, (None, None))
        owners = np.searchsorted(self._starts, rows, side="right") - 1
        found: list[Any] = [None] * len(rows)
        for owner in np.unique(owners):
            episode = self._meta.episodes[owner]
            (places,) = np.nonzero(owners == owner)
            if feature.dtype == "video":
                path, begin = episode.videos[feature.key]
                images = self._videos.read(path, begin + self._times[rows[places]], episode.name)
            else:
                in_file = rows[places] - self._starts[owner] + self._first_rows[owner]
                images = [self._stored.read(episode.data, feature.key, int(row), episode.name) for row in in_file]
            for place, image in zip(places, images, strict=True):
                found[place] = image[:height, :width]
        return found

    def start(self, record: Record) -> dict[str, Any]:
        """The state that our export says an episode began in; nothing for parts of an episode that begin later."""
        owner = int(np.searchsorted(self._starts, record.first_frame, side="right")) - 1
        if record.first_frame != self._starts[owner]:
            return {}
        start = self._meta.own.episode(self._meta.episodes[owner]).get("start", {})
        return {option: np.array(numbers, np.float64) for option, numbers in start.items()}

    def problems(self) -> Iterator[str]:
        """What stands in the way of training, each beginning with the name of its demonstration.

        Videos are read without decoding them: damage within a frame shows only when it is used.
        """
        yield from self.table_problems()
        for feature in self._meta.cameras.values():
            if feature.dtype == "video":
                yield from self._video_problems(feature.key, feature.image_size)

    def table_problems(self) -> Iterator[str]:
        """Those of the `problems` that the tables show: no video is opened."""
        layout = replace(self.layout, cameras=())
        for record in self.records:
            demo = Demonstration({}, record.actions, record.instruction, state=record.state)
            for text in demo.problems(layout):
                yield f"{record.name}: {text}"
        for owner, episode in enumerate(self._meta.episodes):
            times = self._times_of(owner)
            if not (np.isfinite(times).all() and (np.diff(times) > 0).all()):
                yield f"{episode.name}: the timestamps do not ascend"

    def close(self) -> None:
        """Close the videos."""
        self._videos.close()
        self._stored.close()

    def _times_of(self, owner: int) -> NDArray[np.float64]:
        return self._times[self._starts[owner] : self._starts[owner + 1]]

    def _video_problems(self, key: str, size: tuple[int, int]) -> Iterator[str]:
        """Videos that are missing, damaged, of another size, or without all frames of an episode."""
        last: Path | None = None
        for owner, episode in enumerate(self._meta.episodes):
            path, begin = episode.videos[key]
            if path != last:  # episodes share files
                last, error = path, ""
                try:
                    times, found = frame_times(path)
                except DemoError as problem:
                    error = str(problem)
                else:
                    if found != size:
                        error = f"{path} has images of shape {found}, but meta/info.json says {size}: {AGAIN}"
            if error:
                yield f"{episode.name}: {error}"
            elif lacking := without_frame(times, begin + self._times_of(owner), self._videos.tolerance):
                yield f"{episode.name}: {path} lacks {lacking} of its {episode.length} frames: {AGAIN}"


def _layout(meta: LeRobotMeta) -> Layout:
    said = meta.own.layout
    return Layout(
        cameras=tuple(meta.cameras),
        action_dim=meta.action.shape[0],
        gripper=said.get("gripper"),
        gripper_known="gripper" in said,
        state=None if meta.state is None else str(said.get("state") or "state"),
        state_dim=0 if meta.state is None else meta.state.shape[0],
        fps=meta.fps,
        bounded=bool(said.get("bounded", False)),
        paraphrased=bool(said.get("paraphrased", False)),
    )


def _episodes(meta: LeRobotMeta) -> Iterator[tuple[EpisodeFiles, dict[str, NDArray[Any]], int]]:
    """Every episode with the columns of its rows (T, D), and the row at which it begins in its file."""
    sizes = {"episode_index": 1, "task_index": 1, "timestamp": 1, meta.action.key: meta.action.shape[0]}
    if meta.state is not None:
        sizes[meta.state.key] = meta.state.shape[0]
    if meta.has_success:
        sizes["next.success"] = 1
    stored = [camera.key for camera in meta.cameras.values() if camera.dtype == "image"]
    last: Path | None = None
    for episode in meta.episodes:
        path = episode.data
        if path != last:  # episodes share files
            table = read_table(path, list(sizes), episode.name, stored)
            columns, last = {key: vectors(table, key, dim, path) for key, dim in sizes.items()}, path
            owners = columns["episode_index"][:, 0]
            order = np.argsort(owners, kind="stable")
            in_order = owners[order]
        begin, end = (np.searchsorted(in_order, episode.index, side=side) for side in ("left", "right"))
        rows = order[begin:end]
        first = int(rows[0]) if len(rows) else 0
        if len(rows) != episode.length or (len(rows) and rows[-1] != first + len(rows) - 1):
            raise DemoError(
                f"{path}: {episode.name} has {len(rows)} rows, but the metadata say {episode.length}, one after the "
                f"other: {AGAIN}"
            )
        yield episode, {key: values[first : first + len(rows)] for key, values in columns.items()}, first


def _records(
    meta: LeRobotMeta, episode: EpisodeFiles, columns: dict[str, NDArray[Any]], first_frame: int
) -> Iterator[Record]:
    """The demonstrations of an episode: one for each stretch of rows with the same task."""
    own = meta.own.episode(episode)
    tasks = columns["task_index"][:, 0]
    cuts = [0, *(np.flatnonzero(np.diff(tasks)) + 1).tolist(), len(tasks)]
    success = bool(columns["next.success"].any()) if meta.has_success else True
    for number, (first, last) in enumerate(zip(cuts[:-1], cuts[1:], strict=True), 1):
        if last > first and int(tasks[first]) not in meta.tasks:
            raise DemoError(f"{episode.data}: {episode.name} has task {tasks[first]}, which meta/tasks lacks: {AGAIN}")
        instruction = meta.tasks[int(tasks[first])] if last > first else ""
        yield Record(
            episode.name if len(cuts) == 2 else f"{episode.name} (part {number})",
            str(own.get("task") or instruction),
            instruction,
            columns[meta.action.key][first:last].astype(np.float32),
            first_frame + first,
            None if meta.state is None else columns[meta.state.key][first:last].astype(np.float32),
            bool(own.get("success", success)),
            dict(own.get("attributes", {})),
        )
