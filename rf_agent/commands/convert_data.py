"""`rf-agent convert` for data sets: those of other formats to our HDF5 file, ours to LeRobot's, any to a small file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from rf_agent.demos.clips import QUALITY
from rf_agent.demos.convert import check_output, convert
from rf_agent.demos.pack import pack
from rf_agent.demos.readers import DemoReader, open_demos
from rf_agent.demos.readers.resized import ResizedReader
from rf_agent.demos.writers.lerobot import write_lerobot
from rf_agent.errors import UserError
from rf_agent.interrupts import sigterm_like_ctrl_c
from rf_agent.progress import RichReporter


@dataclass(kw_only=True)
class _DataSet:
    """What all data sets have in common."""

    output: Path
    """The file of demonstrations that is made (HDF5)."""
    image_size: int | None = None
    """Side of the stored images in pixels; by default as they are."""
    overwrite: bool = False
    """Replace a file that exists."""


@dataclass(kw_only=True)
class _WithoutInstructions(_DataSet):
    """What data sets need whose format knows neither instructions nor grippers."""

    instruction: str | None = None
    """What the robot was asked, in words; needed where the data do not say it."""
    task: str | None = None
    """Name of the task; by default what the data say, or the instruction."""
    cameras: tuple[str, ...] = ()
    """Image observations; all by default."""
    gripper: int | None = None
    """Entry of an action that opens or closes a gripper and has two values. Without, training
    regresses all, but for the last of seven that has two values."""


@dataclass(kw_only=True)
class LeRobot(_DataSet):
    """A LeRobot data set (v3.0, v2.1, v2.0) to an HDF5 file of demonstrations."""

    source: tyro.conf.Positional[Path]
    """Folder of the data set, with meta/info.json."""
    gripper: int | None = None
    """Entry of an action that opens or closes a gripper and has two values; LeRobot does not say it. Without,
    training regresses all entries, but for the last of seven that has two values."""


@dataclass(kw_only=True)
class Calvin(_DataSet):
    """A split of CALVIN to an HDF5 file of demonstrations: its windows with language annotations."""

    source: tyro.conf.Positional[Path]
    """Folder of the data set or of a split, such as task_D_D/training."""
    split: str | None = None
    """Which split, where SOURCE is the folder of the data set; by default training."""
    scenes: tuple[str, ...] = ()
    """Scenes to take, such as A B C; all by default."""
    subset: Path | None = None
    """JSON file with a list of [start, end]: the windows to take."""
    include_last: bool = False
    """Take the frame END of each window too, which the reference implementation never uses."""
    strict: bool = False
    """Stop at a window that cannot be used, instead of leaving it out."""


@dataclass(kw_only=True)
class Robomimic(_WithoutInstructions):
    """A robomimic file, which holds no instructions, to an HDF5 file of demonstrations."""

    source: tyro.conf.Positional[Path]
    """The file (HDF5), with image observations."""
    filter_key: str | None = None
    """Take the demonstrations of this list under mask, such as train."""
    state: tuple[str, ...] = ()
    """Low-level observations that make up the state, in this order."""


@dataclass(kw_only=True)
class Minari(_WithoutInstructions):
    """A Minari data set (stored in HDF5) to an HDF5 file of demonstrations."""

    source: tyro.conf.Positional[Path]
    """Folder of the data set."""
    state: tuple[str, ...] = ()
    """Keys of the observations that make up the state, in this order."""


@dataclass(kw_only=True)
class Pack(_DataSet):
    """Demonstrations into one small HDF5 file, with images as H.264 clips and everything else as it is.

    Any files and folders that `rf-agent train` takes, of one robot and recorded alike. The file is trained on and
    inspected like any other.
    """

    sources: tyro.conf.Positional[tuple[Path, ...]]
    """The files and folders."""
    quality: int = QUALITY
    """Of the images, 0 to 51: lower is better and larger."""


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


Source = LeRobot | Calvin | Robomimic | Minari
DataSet = Source | Pack | ToLeRobot
Args = (
    Annotated[Calvin, tyro.conf.subcommand("calvin")]
    | Annotated[LeRobot, tyro.conf.subcommand("lerobot")]
    | Annotated[Minari, tyro.conf.subcommand("minari")]
    | Annotated[Robomimic, tyro.conf.subcommand("robomimic")]
    | Annotated[Pack, tyro.conf.subcommand("pack")]
    | Annotated[ToLeRobot, tyro.conf.subcommand("to-lerobot")]
)
READER_OPTIONS = {
    *("split", "scenes", "subset", "include_last", "strict"),
    *("instruction", "task", "filter_key", "state", "cameras"),
}
"""Fields of the commands that are arguments of the readers."""


def run(args: DataSet) -> None:
    """Convert and say what was written. Ended before that, by SIGTERM too, it leaves nothing."""
    with sigterm_like_ctrl_c():
        _convert(args)
    Console(soft_wrap=True, highlight=False).print(f"Demonstrations: {args.output}", markup=False)


def _convert(args: DataSet) -> None:
    if isinstance(args, Pack | ToLeRobot) and not 0 <= args.quality <= 51:
        raise UserError(f"--quality is {args.quality}: give 0 (best) to 51")
    if isinstance(args, Pack):
        with RichReporter("pack") as reporter:
            pack(args.sources, args.output, args.image_size, args.quality, args.overwrite, reporter)
    elif isinstance(args, ToLeRobot):
        with RichReporter("convert") as reporter:
            write_lerobot(args.source, args.output, args.fps, args.failures, args.quality, reporter)
    else:
        check_output(args.output, args.overwrite)  # what can be refused is refused before the work
        reader = _reader(args)
        if args.image_size is not None:
            reader = ResizedReader(reader, args.image_size)
        gripper = None if isinstance(args, Calvin) else args.gripper  # CALVIN's is known
        with RichReporter("convert") as reporter:
            convert(reader, args.output, gripper, args.overwrite, reporter)


def _reader(args: Source) -> DemoReader:
    """The demonstrations of a source."""
    options = {key: value for key, value in vars(args).items() if key in READER_OPTIONS}
    if isinstance(args, Calvin):
        from rf_agent.demos.readers.calvin import CalvinReader

        with RichReporter("read") as reporter:
            return CalvinReader(args.source, reporter=reporter, **options)
    if isinstance(args, Robomimic):
        from rf_agent.demos.readers.robomimic import RobomimicReader

        return RobomimicReader(args.source, **options)
    if isinstance(args, Minari):
        from rf_agent.demos.readers.minari import MinariReader

        return MinariReader(args.source, **options)
    if not (args.source / "meta" / "info.json").is_file():
        raise UserError(f"{args.source} has no meta/info.json: give the folder of a LeRobot data set")
    return open_demos(args.source)
