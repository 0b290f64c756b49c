"""Writes demonstrations as a LeRobot data set, version 3.0, which `lerobot-train` and its viewers read.

What was carried out under disturbances (`actions_executed`) has no place there and is left out.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from rf_agent.demos.demonstration import Layout
from rf_agent.demos.files import DemoError, DiskFullError
from rf_agent.demos.readers import DemoReader, open_demos
from rf_agent.demos.writers.lerobot_dataset import DATA_MEGABYTES, VIDEO_MEGABYTES, LeRobotDataset
from rf_agent.files import DISK_FULL
from rf_agent.progress import Reporter, Silent


def write_lerobot(
    source: DemoReader | str | Path,
    output: str | Path,
    fps: float | None = None,
    failures: bool = False,
    quality: int = 14,
    reporter: Reporter | None = None,
    data_megabytes: float = DATA_MEGABYTES,
    video_megabytes: float = VIDEO_MEGABYTES,
) -> Path:
    """Write demonstrations to a new folder in LeRobot's format, all or none of them.

    Images of odd height or width get their last row or column twice, since videos want even sizes.

    Args:
        source: demonstrations with an image at every step, or their file.
        output: the folder.
        fps: actions a second, where the source does not say.
        failures: export the demonstrations that did not succeed, too.
        quality: of the videos: x264's crf, lower is better. At 14, images of the play table differ by 2.5 of 255 on
            average; at 0 it is 1.9, since videos have colours at half resolution.
        reporter: of the progress.
        data_megabytes, video_megabytes: files are split about there.

    Returns:
        The folder.

    Raises:
        FileExistsError: it exists.
        DemoError: demonstrations that cannot be used, or without an image at every step; nothing is written.
        DiskFullError: the disk is full; nothing is left.
        MissingPackageError: pyarrow or PyAV is not installed.
    """
    output = Path(output)
    if output.exists():
        raise FileExistsError(f"{output} exists: give the name of a new folder")
    reporter = reporter or Silent()
    reader = source if isinstance(source, DemoReader) else open_demos(source, reporter)
    layout = _checked(reader, fps)
    records = [record for record in reader.records if failures or record.success]
    if not records:
        raise DemoError(f"none of the demonstrations in {reader.path} succeeded: record others, or give --failures")
    if left_out := len(reader.records) - len(records):
        reporter.log(f"{left_out} demonstrations did not succeed and are left out (--failures exports them, too)")
    for problem in reader.problems():
        raise DemoError(f"{reader.path}: {problem}")
    for reason, count in reader.skipped.items():
        reporter.log(f"left out: {count} ({reason})")
    draft = output.with_name(f".{output.name}.{os.getpid()}-{secrets.token_hex(3)}")
    try:
        with _disk_full(output):
            draft.mkdir(parents=True)
            dataset = LeRobotDataset(draft, layout, quality, data_megabytes, video_megabytes)
            with dataset.open():
                for done, record in enumerate(records):
                    reporter.update(done / len(records), f"{done}/{len(records)} demonstrations")
                    dataset.add(reader.demonstration(record), f"{reader.path}: {record.name}")
            dataset.write_meta()
            os.replace(draft, output)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    reporter.update(1.0, f"{len(records)}/{len(records)} demonstrations")
    return output


def _checked(reader: DemoReader, fps: float | None) -> Layout:
    """The layout of what is to be written."""
    layout = reader.layout
    if layout.frame_stride != 1:
        raise DemoError(
            f"{reader.path} holds an image at every {layout.frame_stride} steps, but LeRobot wants one at every step: "
            "collect with --frame-stride 1 (steps cannot be left out, since their actions would be lost)"
        )
    if fps is not None and layout.fps is not None and fps != layout.fps:
        raise DemoError(f"{reader.path} has {layout.fps:g} actions a second, not {fps:g}: leave out --fps")
    fps = fps if layout.fps is None else layout.fps
    if fps is None or not 0.01 <= fps <= 1000:
        raise DemoError(f"fps of {reader.path} is {fps}: give the actions a second with --fps")
    return replace(layout, fps=fps)


@contextmanager
def _disk_full(output: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        raise DiskFullError(
            f"the disk has no room for {output}: nothing was kept; make room and start again"
        ) from error
