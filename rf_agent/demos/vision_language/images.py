"""Image files: found by their numbers, read when they are asked for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rf_agent.config import ImageConfig
from rf_agent.demos.files import DemoError
from rf_agent.preprocess import resize

NUMBERED = re.compile(r"(\d+)\.(?:jpe?g|png)$", re.IGNORECASE)


def file_names(folder: Path) -> list[str]:
    """Names of the files in a folder, sorted.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder: give the folder of the images")
    return sorted(entry.name for entry in folder.iterdir())


def numbered_files(folder: Path) -> dict[int, list[Path]]:
    """Image files by the number at the end of their names: COCO_train2014_000000000123.jpg is 123.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    found: dict[int, list[Path]] = {}
    for name in file_names(folder):
        if match := NUMBERED.search(name):
            found.setdefault(int(match[1]), []).append(folder / name)
    return found


def check_any(count: int, source: Path, folder: Path, example: str) -> None:
    """Raise DemoError when none of the images that `source` names is in `folder`."""
    if not count:
        raise DemoError(
            f"{folder} holds none of the images that {source} names, such as {example}: give the folder of the images"
        )


class ImageReader:
    """Images at a policy's resolution. Files that cannot be decoded are counted and left to the caller to skip.

    Args:
        paths: the files.
        config: resolution, and how to resize.

    Attributes:
        broken: files that could not be decoded so far.
    """

    def __init__(self, paths: Sequence[Path], config: ImageConfig) -> None:
        self.paths, self.config = paths, config
        self.broken: set[Path] = set()
        self._different = len(set(paths))

    def read(self, index: int) -> NDArray[np.uint8] | None:
        """uint8 (S, S, 3), or None where the file cannot be decoded.

        Raises:
            DemoError: none of the files can.
        """
        path = self.paths[index]
        if path in self.broken:
            return None
        try:
            with Image.open(path) as image:
                pixels = np.array(image.convert("RGB"))
        # Pillow raises OSError and its kinds, and SyntaxError for some damaged PNG files
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            self.broken.add(path)
            if len(self.broken) == self._different:
                raise DemoError(
                    f"none of the {self._different} images can be decoded, the last was {path}: copy them again"
                ) from error
            return None
        return resize(pixels, self.config.size, self.config.resample)
