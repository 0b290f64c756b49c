"""Demonstrations into one small file: images as H.264 clips, everything else as it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from rf_agent.demos.clips import CODEC, QUALITY, require_av
from rf_agent.demos.convert import check_output, write_file
from rf_agent.demos.demonstration import Layout
from rf_agent.demos.files import DemoError, open_hdf5
from rf_agent.demos.readers import DemoReader, open_demos
from rf_agent.demos.readers.hdf5 import HDF5Reader
from rf_agent.demos.readers.resized import ResizedReader
from rf_agent.demos.store import read_env_args
from rf_agent.progress import Reporter, Silent


def pack(
    sources: Sequence[str | Path],
    output: str | Path,
    image_size: int | None = None,
    quality: int = QUALITY,
    overwrite: bool = False,
    reporter: Reporter | None = None,
) -> Path:
    """Write demonstrations to a new HDF5 file with images as H.264 clips, all or none of them.

    The file is read like any other. Labels, executed actions, states, attributes and starts are those of the sources;
    images lose a little (`rf_agent.demos.clips` has figures), and lose it again if packed ones are packed.

    Args:
        sources: files or folders of any format that `open_demos` knows, of one robot and recorded alike.
        output: the file.
        image_size: side of the images in pixels, such as that of a policy; by default as they are.
        quality: of the clips: x264's crf, 0 (best, and not without loss) to 51.
        overwrite: replace a file that exists.
        reporter: of the progress.

    Returns:
        The file.

    Raises:
        FileExistsError: it exists.
        FileNotFoundError, DemoError: a source or one of its demonstrations cannot be used, they do not fit together, or
            none of them succeeded; nothing is written.
        DiskFullError: the disk is full; nothing is left.
        MissingPackageError: PyAV is not installed.
    """
    output, reporter, paths = Path(output), reporter or Silent(), [Path(source) for source in sources]
    if not 0 <= quality <= 51:
        raise DemoError(f"the quality is {quality}: give 0 (best) to 51")
    check_output(output, overwrite)
    require_av()
    _check_paths(paths, output)
    readers = [open_demos(path, reporter) for path in paths]
    layout = _common_layout(readers)
    if not any(record.success for reader in readers for record in reader.records):
        raise DemoError(
            f"none of the demonstrations in {', '.join(map(str, paths))} succeeded, and training takes those that did: "
            "give others"
        )
    origin = _origin(readers, layout) | {"image_codec": CODEC, "image_quality": quality}
    if image_size is not None:
        readers = [ResizedReader(reader, image_size) for reader in readers]
        origin["image_size"] = image_size
    write_file(readers, output, layout, origin, reporter, quality)
    for reader in readers:
        reader.close()
    return output


def _check_paths(paths: Sequence[Path], output: Path) -> None:
    """Refuse sources that are none, or given twice, or to be replaced."""
    if not paths:
        raise DemoError("no demonstrations were given: name one or more files or folders")
    seen: set[Path] = set()
    for path in paths:
        if path.resolve() in seen:
            raise DemoError(f"{path} is given twice: name every file once")
        seen.add(path.resolve())
    if output.resolve() in seen:
        raise DemoError(f"{output} is a source and the output: give another --output")


def _common_layout(readers: Sequence[DemoReader]) -> Layout:
    """The layout of all readers. Raises DemoError where one has another."""
    first, layout = readers[0], readers[0].layout
    for other in readers[1:]:
        theirs = other.layout
        if set(theirs.cameras) == set(layout.cameras):
            theirs = replace(theirs, cameras=layout.cameras)  # their order says nothing
        for field in fields(Layout):
            own, another = getattr(layout, field.name), getattr(theirs, field.name)
            if own != another:
                raise DemoError(
                    f"{other.path} has {field.name} {another!r}, but {first.path} has {own!r}: pack demonstrations of "
                    "one robot that were recorded alike, or each into a file of its own and train on these together"
                )
    return layout


def _origin(readers: Sequence[DemoReader], layout: Layout) -> dict[str, Any]:
    """What all sources say of where they come from, and their names."""
    said = [_env_args(reader) for reader in readers]
    common = {
        key: value for key, value in said[0].items() if all(key in other and other[key] == value for other in said)
    }
    names = [reader.path.name for reader in readers]
    return {key: value for key, value in common.items() if key not in layout.described()} | {"packed_from": names}


def _env_args(reader: DemoReader) -> dict[str, Any]:
    if not isinstance(reader, HDF5Reader) or reader.path.is_dir():
        return {}
    with open_hdf5(reader.path) as file:
        return read_env_args(file)
