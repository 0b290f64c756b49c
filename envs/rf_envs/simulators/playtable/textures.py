"""Surfaces drawn by our own code, the same on every machine: woods and a tiled floor."""

from __future__ import annotations

import colorsys
import zlib
from pathlib import Path

import imageio.v3 as iio
import numpy as np
from numpy.typing import NDArray

SIZE = 256
"""Side of a texture in pixels; a texture repeats without a seam."""

RGB = tuple[int, ...]
# light and dark tone (RGB), how many rings cross the board, how strong the fine fibres are
WOODS: dict[str, tuple[RGB, RGB, int, float]] = {
    "oak": ((196, 146, 96), (140, 94, 54), 7, 0.22),
    "mahogany": ((132, 62, 42), (78, 32, 22), 9, 0.20),
    "birch": ((232, 208, 168), (206, 174, 128), 5, 0.16),
    "pine": ((220, 178, 112), (184, 132, 70), 6, 0.18),
}


def wood(name: str) -> NDArray[np.uint8]:
    """One board (SIZE, SIZE, 3) whose grain runs along the first texture axis (image columns).

    A name that is none of `WOODS` gives a wood of its own, the same one each time.
    """
    light, dark, rings, fibres = WOODS.get(name) or _drawn(name)
    rng = np.random.default_rng(sum(map(ord, name)))
    y, x = np.mgrid[0:SIZE, 0:SIZE] / SIZE
    bend = _noise(rng, 2, 3) * 0.09 + _noise(rng, 4, 6) * 0.03
    ring = 0.5 + 0.5 * np.sin(2 * np.pi * (rings * (y + bend) + 0.3 * np.sin(2 * np.pi * x)))
    tone = np.clip(0.75 * ring**1.5 + fibres * (_noise(rng, 3, 90) + 0.6 * _noise(rng, 8, 128)), 0, 1)
    pixels = np.asarray(dark) + (np.asarray(light) - np.asarray(dark)) * tone[..., None]
    return np.clip(pixels, 0, 255).astype(np.uint8)


def _drawn(name: str) -> tuple[RGB, RGB, int, float]:
    """Tones and grain of a wood that has a name only: from yellow to red, pale to strong, dark to light."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    hue, saturation, value = rng.uniform(0.01, 0.13), rng.uniform(0.2, 0.75), rng.uniform(0.4, 0.95)
    light, dark = (
        tuple(round(255 * part) for part in colorsys.hsv_to_rgb(hue, min(1.0, saturation * more), value * shade))
        for more, shade in ((1.0, 1.0), (1.2, rng.uniform(0.55, 0.85)))
    )
    return light, dark, int(rng.integers(4, 11)), float(rng.uniform(0.14, 0.24))


def floor_tiles() -> NDArray[np.uint8]:
    """A light grey checker board with joints."""
    y, x = np.mgrid[0:SIZE, 0:SIZE] * 2 // SIZE
    pixels = np.where(((x + y) % 2)[..., None], 236, 214) * np.ones(3)
    joint = (np.arange(SIZE) % (SIZE // 2)) < 2
    pixels[joint, :] -= 16
    pixels[:, joint] -= 16
    return pixels.clip(0, 255).astype(np.uint8)


def write_textures(folder: Path, names: set[str]) -> None:
    """Write `NAME.png` for each wood named, and `floor.png`."""
    for name in sorted(names):
        iio.imwrite(folder / f"{name}.png", wood(name))
    iio.imwrite(folder / "floor.png", floor_tiles())


def _noise(rng: np.random.Generator, columns: int, rows: int) -> NDArray[np.float64]:
    """Smooth periodic noise in [-1, 1] with that many cells along each texture axis."""
    cells = rng.uniform(-1, 1, (rows, columns))

    def axis(count: int):
        position = np.arange(SIZE) * count / SIZE
        low = position.astype(int)
        part = position - low
        return low % count, (low + 1) % count, part * part * (3 - 2 * part)

    y0, y1, fy = axis(rows)
    x0, x1, fx = axis(columns)
    top = cells[y0][:, x0] * (1 - fx) + cells[y0][:, x1] * fx
    bottom = cells[y1][:, x0] * (1 - fx) + cells[y1][:, x1] * fx
    return top * (1 - fy)[:, None] + bottom * fy[:, None]
