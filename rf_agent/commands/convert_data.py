"""`rf-agent convert` for data sets: those of other formats into our HDF5 file, and ours into LeRobot's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from rf_agent.demos.convert import convert
from rf_agent.demos.readers import open_demos
from rf_agent.demos.writers.lerobot import write_lerobot
from rf_agent.errors import UserError
from rf_agent.progress import RichReporter


@dataclass(kw_only=True)
class LeRobot:
    """A LeRobot data set (v3.0, v2.1, v2.0) to an HDF5 file of demonstrations."""

    source: tyro.conf.Positional[Path]
    """Folder of the data set, with meta/info.json."""
    output: Path
    """The file (HDF5)."""
    gripper: int | None = None
    """Entry of an action that opens or closes a gripper and has two values; LeRobot does not say it. Without,
    training regresses all entries."""
    overwrite: bool = False
    """Replace a file that exists."""


@dataclass(kw_only=True)
class ToLeRobot:
    """Demonstrations to a LeRobot data set (v3.0), with videos in H.264.

    LeRobot wants an image at every step: collect with --frame-stride 1. Files with images at every n-th step are
    refused, since leaving out steps would lose their actions.
    """

    source: tyro.conf.Positional[Path]
    """The file (HDF5)."""
    output: Path
    """Folder that is made."""
    fps: float | None = None
    """Actions a second, where the file does not say it."""
    failures: bool = False
    """Also write the demonstrations that did not succeed."""
    quality: int = 14
    """Of the videos, 0 to 51: lower is better and larger."""


DataSet = LeRobot | ToLeRobot
Args = Annotated[LeRobot, tyro.conf.subcommand("lerobot")] | Annotated[ToLeRobot, tyro.conf.subcommand("to-lerobot")]


def run(args: DataSet) -> None:
    """Convert and say what was written."""
    with RichReporter("convert") as reporter:
        if isinstance(args, ToLeRobot):
            if not 0 <= args.quality <= 51:
                raise UserError(f"--quality is {args.quality}: give 0 (best) to 51")
            write_lerobot(args.source, args.output, args.fps, args.failures, args.quality, reporter)
        else:
            if not (args.source / "meta" / "info.json").is_file():
                raise UserError(f"{args.source} has no meta/info.json: give the folder of a LeRobot data set")
            convert(open_demos(args.source), args.output, args.gripper, args.overwrite, reporter)
    Console(soft_wrap=True, highlight=False).print(f"Demonstrations: {args.output}", markup=False)
