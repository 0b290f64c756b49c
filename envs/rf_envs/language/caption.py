"""The instruction, written on rendered frames."""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

INK, PAPER = 245, 16
"""Grey levels of the letters and of the strip behind them."""
COVER = 0.75
"""How much of the frame the strip hides; the letters hide it all."""
SMALLEST_FONT = 8
LARGEST_STRIP = 0.4
"""Part of the frame that a strip may take; longer texts are set smaller, then cut short."""


def captioned(frame: NDArray[np.uint8], text: str) -> NDArray[np.uint8]:
    """A copy of the frame with the text on a dark strip along its lower edge.

    The text is wrapped. If it would take more than 0.4 of the frame it is set smaller, and cut short where
    that is not enough. Frames too small for any letters come back as they are.

    Args:
        frame: (h, w, 3).
        text: one sentence; an empty one leaves the frame as it is.

    Returns:
        (h, w, 3), a new array.
    """
    result = frame.copy()
    light, kept = _strip(text, *frame.shape[:2])
    if len(light):
        below = result[-len(light) :]
        below[:] = (below * kept + light) >> 8
    return result


# the same few texts are written on every frame of an episode
@functools.lru_cache(maxsize=16)
def _strip(text: str, height: int, width: int) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
    """256 times the light that a caption adds, (h, w, 3), and the part in 256 of the frame that it keeps."""
    lines, font = _typeset(text, height, width)
    line, margin = _spacing(font)
    image = Image.new("L", (width, len(lines) * line + margin if lines else 0), 0)
    draw = ImageDraw.Draw(image)
    for index, words in enumerate(lines):
        draw.text((margin, margin // 2 + index * line), words, fill=255, font=font)
    letters = np.repeat(np.asarray(image, dtype=np.float64).reshape(image.height, width, 1), 3, axis=2) / 255
    light = letters * INK + (1 - letters) * COVER * PAPER
    kept = (1 - letters) * (1 - COVER)
    return np.round(256 * light).astype(np.uint16), np.round(256 * kept).astype(np.uint16)


def _spacing(font: ImageFont.FreeTypeFont) -> tuple[int, int]:
    """Height of a line and margin of the strip, in pixels."""
    return round(1.25 * font.size), round(0.5 * font.size)


def _typeset(text: str, height: int, width: int) -> tuple[list[str], ImageFont.FreeTypeFont]:
    """The text's lines and the largest font with which they fit; no line if none does."""
    for size in range(max(SMALLEST_FONT, min(height, width) // 20), SMALLEST_FONT - 1, -1):
        font = _font(size, text.isascii())
        line, margin = _spacing(font)
        room = max(0, int(LARGEST_STRIP * height - margin) // line)
        lines = _wrap(text, font, width - 2 * margin)
        if len(lines) <= room:
            return lines, font
    lines = lines[:room]
    if lines:
        while lines[-1] and font.getlength(f"{lines[-1]}…") > width - 2 * margin:
            lines[-1] = lines[-1][:-1]
        lines[-1] = f"{lines[-1].rstrip()}…"
    return lines, font


def _wrap(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """Lines of at most so many pixels, broken between words, or within one that is too long for a line."""
    lines: list[str] = []
    for word in text.split():
        if lines and font.getlength(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
            continue
        while len(word) > 1 and font.getlength(word) > width:
            end = next(end for end in range(len(word) - 1, 0, -1) if end == 1 or font.getlength(word[:end]) <= width)
            lines.append(word[:end])
            word = word[end:]
        lines.append(word)
    return lines


@functools.lru_cache(maxsize=64)
def _font(size: int, ascii_only: bool) -> ImageFont.FreeTypeFont:
    """Pillow's own font, or for what it cannot write (accents, other scripts) the one that Matplotlib brings."""
    if not ascii_only and (matplotlib := importlib.util.find_spec("matplotlib")) and matplotlib.origin:
        path = Path(matplotlib.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
        if path.exists():
            return ImageFont.truetype(str(path), size)
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font
