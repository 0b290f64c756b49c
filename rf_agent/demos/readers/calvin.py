"""Reads CALVIN's data sets as they are published: a folder of frames, and annotations that name ranges of them.

episode_0000000.npz               one frame: rel_actions (7,), robot_obs (15,), rgb_static, rgb_gripper, and others
lang_annotations/auto_lang_ann.npy   instructions, tasks, and the range of frames of each
ep_start_end_ids.npy              the first and last frame of each recording
scene_info.npy                    the first and last frame of each scene
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rf_agent.demos.demonstration import Layout
from rf_agent.demos.files import DemoError
from rf_agent.demos.npz import BrokenFile, open_npz
from rf_agent.demos.readers.base import DemoReader, Record
from rf_agent.demos.readers.calvin_annotations import (
    ANNOTATIONS,
    Window,
    choose_scenes,
    choose_subset,
    read_annotations,
    read_recordings,
    read_scenes,
    scene_of,
)
from rf_agent.progress import Reporter, Silent

CAMERAS = ("rgb_static", "rgb_gripper")
LAYOUT = Layout(CAMERAS, 7, 6, True, "robot_obs", 15, 30.0, 1, bounded=True, paraphrased=True)
"""CALVIN's robot. Its instructions of a task say the same in other words."""
BLOCK = 256  # frames that a thread reads at a time


class CalvinReader(DemoReader):
    """The language-annotated windows of a CALVIN folder, sorted by task and first frame.

    An annotation (start, end) stands for the frames start to end - 1: the reference implementation never uses the
    frame `end`. Actions are `rel_actions`. Windows that overlap share frames. Opening it reads actions, states and the
    sizes of images of all these frames; images follow when they are asked for. Nothing is written to the folder.

    A window with a frame that is missing, damaged, of another shape, not finite or with actions outside [-1, 1], or a
    range that is empty, beyond the data or across two recordings or scenes, is left out and counted in `skipped`.

    Args:
        path: folder of a split, such as `training`; or that of the data set.
        split: which of its splits, if it is that of the data set; `training` by default.
        scenes: letters of scenes to choose, all by default.
        subset: JSON file with a list of [start, end]: the windows to choose.
        annotations: the folder of annotations in the split.
        include_last: take the frame `end` of each window too.
        strict: raise an error for a window that would be left out.
        threads: that read frames when it is opened.
        reporter: hears of that.

    Raises:
        FileNotFoundError, DemoError: the folder is none of CALVIN, damaged, or no window is left; with `strict` also
            naming the first window that cannot be used, and its file.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        split: str | None = None,
        scenes: Sequence[str] = (),
        subset: str | Path | None = None,
        annotations: str = "lang_annotations",
        include_last: bool = False,
        strict: bool = False,
        threads: int = 8,
        reporter: Reporter | None = None,
    ) -> None:
        self.path = calvin_split(Path(path), split, annotations)
        self.layout, self.skipped = LAYOUT, {}
        self._extra = int(include_last)
        source, scene_file = self.path / annotations / ANNOTATIONS, self.path / "scene_info.npy"
        windows = read_annotations(source)
        pairs = None if subset is None else choose_subset(windows, Path(subset), source)
        known = read_scenes(scene_file)
        if scenes:
            windows = choose_scenes(windows, scenes, known, scene_file)
        windows = [window for window in windows if pairs is None or (window.start, window.end) in pairs]
        if not windows:
            raise DemoError(f"{source} annotates no window of this choice: choose other scenes or another subset")
        numbers, self._digits = frame_files(self.path)
        self._left_out: Counter[str] = Counter()
        recordings = read_recordings(self.path / "ep_start_end_ids.npy")
        good = self._usable_ranges(windows, numbers, recordings, known, strict)
        frames = np.unique(np.concatenate([self._range(window) for window in good] or [np.empty(0, np.int64)]))
        actions, states, broken = self._read_frames(frames, threads, reporter or Silent())
        good = self._without_broken(good, frames, broken, strict)
        self.skipped = dict(sorted(self._left_out.items()))
        if not good:
            reasons = "; ".join(f"{reason} ({count})" for reason, count in self.skipped.items())
            raise DemoError(f"{self.path} has no window that can be used: {reasons}. Download it again")
        self._frames = np.unique(np.concatenate([self._range(window) for window in good]))
        self.frame_count = len(self._frames)
        kept = np.searchsorted(frames, self._frames)
        self.records = list(self._records(good, actions[kept], states[kept], known))

    def images(self, camera: str, rows: NDArray[np.int64]) -> list[NDArray[np.uint8]]:
        """Images (H, W, 3) uint8 of a camera at these rows."""
        found = []
        for row in rows:
            with open_npz(self._file(int(self._frames[row]))) as arrays:
                found.append(arrays.image(camera))
        return found

    def start(self, record: Record) -> dict[str, Any]:
        """The state of the robot and of the scene (24,) at the first frame, which CALVIN's environments restore."""
        try:
            with open_npz(self._file(int(self._frames[record.first_frame]))) as arrays:
                scene = arrays.vector("scene_obs", 24)
        except BrokenFile:  # nothing else needs it, so it may be missing
            return {}
        return {"robot_obs": None if record.state is None else record.state[0], "scene_obs": scene}

    def problems(self) -> Iterator[str]:
        """Nothing: windows that cannot be trained on were left out (`skipped`) or refused."""
        return iter(())

    def _file(self, number: int) -> Path:
        return self.path / f"episode_{number:0{self._digits}d}.npz"

    def _range(self, window: Window) -> NDArray[np.int64]:
        return np.arange(window.start, window.end + self._extra)

    def _leave_out(self, window: Window, reason: str, strict: bool, file: str = "") -> None:
        if strict:
            where = f" ({file})" if file else ""
            raise DemoError(f"{self.path}: {window.name}, task {window.task}: {reason}{where}; leave it out or mend it")
        self._left_out[reason] += 1

    def _usable_ranges(
        self,
        windows: list[Window],
        numbers: NDArray[np.int64],
        recordings: NDArray[np.int64] | None,
        scenes: dict[str, tuple[int, int]],
        strict: bool,
    ) -> list[Window]:
        """The windows whose texts and ranges are in order; of their frames nothing is known yet."""
        good = []
        for window in windows:
            first, last = window.start, window.end - 1 + self._extra
            reason = window.wrong_texts()
            if not reason and window.start >= window.end:
                reason = "the range ends before it begins" if window.start > window.end else "the range is empty"
            if not reason and (first < numbers[0] or last > numbers[-1]):
                reason = "the range lies beyond the data"
            if not reason and recordings is not None:
                place = int(np.searchsorted(recordings[:, 0], first, side="right")) - 1
                if place < 0 or first > recordings[place, 1]:
                    reason = "the range begins outside all recordings"
                elif last > recordings[place, 1]:
                    reason = "the range crosses the end of a recording"
            if not reason and scenes and scene_of(first, scenes) != scene_of(last, scenes):
                reason = "the range crosses the end of a scene"
            if reason:
                self._leave_out(window, reason, strict)
            else:
                good.append(window)
        return good

    def _read_frames(
        self, frames: NDArray[np.int64], threads: int, reporter: Reporter
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], dict[int, str]]:
        """Actions (F, 7) and states (F, 15) of these frames, and what is wrong with some, by frame number."""
        actions = np.zeros((len(frames), 7), np.float32)
        states = np.zeros((len(frames), 15), np.float32)
        sizes = np.zeros((len(frames), len(CAMERAS), 2), np.int64)
        broken: dict[int, str] = {}

        def read(first: int) -> None:
            for row in range(first, min(first + BLOCK, len(frames))):
                try:
                    with open_npz(self._file(int(frames[row]))) as arrays:
                        actions[row] = arrays.vector("rel_actions", 7)
                        states[row] = arrays.vector("robot_obs", 15)
                        sizes[row] = [arrays.image_size(camera) for camera in CAMERAS]
                except BrokenFile as error:
                    broken[int(frames[row])] = error.reason

        with ThreadPoolExecutor(max(1, threads)) as pool:
            try:
                for done, _ in enumerate(pool.map(read, range(0, len(frames), BLOCK)), 1):
                    count = min(done * BLOCK, len(frames))
                    reporter.update(count / len(frames), f"{count}/{len(frames)} frames")
            except BaseException:
                pool.shutdown(cancel_futures=True)  # do not read on after Ctrl-C
                raise
        whole = np.array([number not in broken for number in frames.tolist()], bool)
        usual = sizes[whole][0] if whole.any() else sizes[:0]
        for wrong, reason in (
            (~np.isfinite(actions).all(1), "rel_actions has NaN or infinite values"),
            (~np.isfinite(states).all(1), "robot_obs has NaN or infinite values"),
            ((np.abs(actions) > 1.0 + 1e-6).any(1), "rel_actions lie outside [-1, 1]"),
            ((sizes != usual).any((1, 2)) if whole.any() else ~whole, "an image is of another size than the first"),
        ):
            for number in frames[wrong & whole].tolist():
                broken.setdefault(number, reason)
        return actions, states, broken

    def _without_broken(
        self, windows: list[Window], frames: NDArray[np.int64], broken: dict[int, str], strict: bool
    ) -> list[Window]:
        """The windows whose frames are all whole."""
        numbers = np.array(sorted(broken), np.int64)
        good = []
        for window in windows:
            place = int(np.searchsorted(numbers, window.start))
            if place < len(numbers) and numbers[place] < window.end + self._extra:
                number = int(numbers[place])
                self._leave_out(window, broken[number], strict, self._file(number).name)
            else:
                good.append(window)
        return good

    def _records(
        self,
        windows: list[Window],
        actions: NDArray[np.float32],
        states: NDArray[np.float32],
        scenes: dict[str, tuple[int, int]],
    ) -> Iterator[Record]:
        for window in sorted(windows, key=lambda one: (one.task, one.start, one.end, one.instruction)):
            first = int(np.searchsorted(self._frames, window.start))
            rows = slice(first, first + window.end + self._extra - window.start)
            attributes: dict[str, Any] = {"start": window.start, "end": window.end}
            if scene := scene_of(window.start, scenes):
                attributes |= {"scene": scene}
            yield Record(
                window.name, window.task, window.instruction, actions[rows], first, states[rows], True, attributes
            )


def calvin_split(path: Path, split: str | None = None, annotations: str = "lang_annotations") -> Path:
    """The folder of a split, given it or the folder of a data set.

    Raises:
        FileNotFoundError, DemoError: there is none.
    """
    if not path.is_dir():
        raise FileNotFoundError(f"{path} is no directory: give a folder of CALVIN, such as task_D_D/training")
    folder = path if split is None else path / split
    if split is None and not (path / annotations).is_dir() and (path / "training").is_dir():
        folder = path / "training"
    if not folder.is_dir():
        found = sorted(child.name for child in path.iterdir() if (child / annotations).is_dir())
        raise DemoError(f"{path} has no split {split!r}: give one of {', '.join(found) or 'none with annotations'}")
    if not (folder / annotations / ANNOTATIONS).is_file():
        raise DemoError(
            f"{folder} has no {annotations}/{ANNOTATIONS}: give a folder of CALVIN with language annotations"
        )
    return folder


def frame_files(folder: Path) -> tuple[NDArray[np.int64], int]:
    """Numbers of the frames that have a file, sorted, and how many digits are in the names of the files.

    Raises:
        DemoError: there is none.
    """
    pattern = re.compile(r"episode_(\d+)\.npz")
    digits = [match[1] for match in map(pattern.fullmatch, (child.name for child in folder.iterdir())) if match]
    if not digits:
        raise DemoError(f"{folder} has no frames (episode_0000000.npz and so on): give a folder of CALVIN")
    return np.sort(np.array(digits, np.int64)), min(map(len, digits))
