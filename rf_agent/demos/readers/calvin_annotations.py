"""Which windows of a CALVIN folder are demonstrations: its annotations, recordings, scenes, and subsets of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rf_agent.config import INSTRUCTION_BYTES
from rf_agent.demos.files import DemoError
from rf_agent.demos.unpickling import load_plain

ANNOTATIONS = "auto_lang_ann.npy"


@dataclass(frozen=True)
class Window:
    """An annotated range of frames."""

    index: int
    """Its place in the file of annotations."""
    start: int
    end: int
    """As annotated: the frame after the last one that is used, see `CalvinReader`."""
    task: Any
    instruction: Any

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"annotation {self.index} (frames {self.start} to {self.end})"

    def wrong_texts(self) -> str:
        """What is wrong with its texts, or nothing."""
        if not isinstance(self.task, str) or not self.task.strip():
            return "the annotation has no task"
        if not isinstance(self.instruction, str) or not self.instruction.strip():
            return "the annotation has no instruction"
        if len(self.instruction.encode()) > INSTRUCTION_BYTES:
            return f"the instruction has more than {INSTRUCTION_BYTES} bytes"
        return ""


def read_annotations(path: Path) -> list[Window]:
    """All windows of a file of annotations, in its order.

    Raises:
        FileNotFoundError, DemoError: it is not there, damaged, or not in CALVIN's layout.
    """
    said = load_plain(path)
    try:
        language, ranges = said["language"], said["info"]["indx"]
        texts, tasks = list(language["ann"]), list(language["task"])
        pairs = np.asarray(ranges)
    except (KeyError, TypeError, IndexError, ValueError) as error:
        raise _not_annotations(path, "it holds no language/ann, language/task and info/indx") from error
    if not len(texts):
        raise DemoError(f"{path} holds no annotation: give a data set with language annotations")
    if pairs.ndim != 2 or pairs.shape[1] != 2 or pairs.dtype.kind not in "iu":
        raise _not_annotations(path, f"info/indx is {pairs.dtype} {pairs.shape}, expected pairs of whole numbers")
    if not len(texts) == len(tasks) == len(pairs):
        counts = f"{len(texts)} instructions, {len(tasks)} tasks and {len(pairs)} ranges"
        raise _not_annotations(path, f"it holds {counts}, expected as many of each")
    rows = zip(pairs.tolist(), tasks, texts, strict=True)
    return [Window(index, start, end, task, text) for index, ((start, end), task, text) in enumerate(rows)]


def _not_annotations(path: Path, what: str) -> DemoError:
    return DemoError(f"{path} is not a file of CALVIN's annotations: {what}; download it again")


def read_recordings(path: Path) -> NDArray[np.int64] | None:
    """First and last frame of each recording, (N, 2) with both ends included, sorted; None if there is no such file.

    Raises:
        DemoError: the file is damaged or holds something else.
    """
    if not path.is_file():
        return None
    found = load_plain(path)
    if not isinstance(found, np.ndarray) or found.ndim != 2 or found.shape[1] != 2 or found.dtype.kind not in "iu":
        shape = f"{found.dtype} {found.shape}" if isinstance(found, np.ndarray) else type(found).__name__
        raise DemoError(f"{path} is {shape}, expected pairs of whole numbers (N, 2): download it again")
    recordings = found.astype(np.int64)[np.argsort(found[:, 0], kind="stable")]
    wrong = "" if len(recordings) else "holds no recording"
    if (recordings[:, 0] > recordings[:, 1]).any():
        wrong = "holds a recording that ends before it begins"
    elif (recordings[1:, 0] <= recordings[:-1, 1]).any():
        wrong = "holds recordings that overlap"
    if wrong:
        raise DemoError(f"{path} {wrong}: download it again")
    return recordings


def read_scenes(path: Path) -> dict[str, tuple[int, int]]:
    """First and last frame of each scene, both included, by its letter; empty if there is no such file.

    Raises:
        DemoError: the file is damaged or holds something else.
    """
    if not path.is_file():
        return {}
    found = load_plain(path)
    try:
        scenes = {
            str(name).removeprefix("calvin_scene_"): (int(first), int(last)) for name, (first, last) in found.items()
        }
    except (AttributeError, TypeError, ValueError) as error:
        raise DemoError(f"{path} does not name the frames of scenes: download it again") from error
    ranges = sorted(scenes.items(), key=lambda scene: scene[1])
    wrong = [f"scene {name} ends before it begins" for name, (first, last) in ranges if first > last]
    wrong += [
        f"scenes {one} and {other} overlap"
        for (one, (_, last)), (other, (first, _)) in pairwise(ranges)
        if first <= last
    ]
    if wrong:  # the early downloads had a wrong file
        raise DemoError(f"{path}: {wrong[0]}: download it again, or remove it to read all scenes as one")
    return scenes


def choose_scenes(windows: list[Window], wanted: Sequence[str], scenes: dict[str, tuple[int, int]], path: Path) -> Any:
    """The windows that begin in the wanted scenes.

    Raises:
        DemoError: `path`, which was read, does not name such a scene.
    """
    letters = [str(name).removeprefix("calvin_scene_") for name in wanted]
    if not scenes:
        raise DemoError(f"{path} does not exist, so that scenes cannot be chosen: download it, or give no scenes")
    if unknown := [name for name in letters if name not in scenes]:
        raise DemoError(f"{path} knows no scene {unknown[0]!r}: give some of {', '.join(sorted(scenes))}")
    return [window for window in windows if scene_of(window.start, scenes) in letters]


def scene_of(frame: int, scenes: dict[str, tuple[int, int]]) -> str:
    """The letter of the scene that a frame lies in, or nothing."""
    return next((name for name, (first, last) in scenes.items() if first <= frame <= last), "")


def choose_subset(windows: list[Window], path: Path, annotations: Path) -> set[tuple[int, int]]:
    """The ranges in a subset's file: JSON, a list of [start, end] as they are annotated.

    Raises:
        FileNotFoundError, DemoError: it is not there, of another form, empty, or names ranges that are not annotated.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: give a JSON file with a list of [start, end]")
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        if not all(isinstance(number, int) for pair in said for number in pair):
            raise TypeError("not whole numbers")
        pairs = {(start, end) for start, end in said}  # tuples: as lists they would equal no annotation
    except (ValueError, TypeError) as error:
        raise DemoError(f"{path} is not a list of [start, end] in JSON: give such a file") from error
    if not pairs:
        raise DemoError(f"{path} names no window: give a list of [start, end]")
    unknown = pairs - {(window.start, window.end) for window in windows}
    if unknown:
        raise DemoError(
            f"{len(unknown)} of the {len(pairs)} windows in {path} are not annotated in {annotations}, such as "
            f"{list(min(unknown))}: give the subset that belongs to this data set"
        )
    return pairs
