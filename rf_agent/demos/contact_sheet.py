"""A picture of what demonstrations show: frames of one demonstration of each task, side by side."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from rf_agent.demos.files import DemoError
from rf_agent.demos.readers.base import DemoReader, Record

HEIGHT = 112
"""Of each frame in the picture, in pixels."""
GAP, LINE = 6, 16
MOMENTS = ("first", "middle", "last")


def contact_sheet(reader: DemoReader, tasks: int = 12) -> Image.Image:
    """First, middle and last frame of one demonstration of each task, in every camera.

    Args:
        reader: the demonstrations.
        tasks: how many tasks at most, evenly taken from all; of each the first demonstration is drawn.
    """
    firsts: dict[str, Record] = {}
    for record in reader.records:
        firsts.setdefault(record.task, record)
    names = sorted(firsts)
    chosen = [names[index] for index in np.unique(np.linspace(0, len(names) - 1, min(tasks, len(names))).astype(int))]
    rows = [_row(reader, firsts[task]) for task in chosen]
    font = ImageFont.load_default(size=12)
    title = f"{reader.path.name}: {len(reader.records)} demonstrations of {len(names)} tasks, {len(rows)} shown"
    texts = [f"{task}: {firsts[task].instruction} ({len(firsts[task].actions)} steps)" for task in chosen]
    width = max([int(font.getlength(text)) for text in (title, *texts)] + [row.shape[1] for row in rows]) + 2 * GAP
    sheet = Image.new("RGB", (width, 2 * LINE + sum(LINE + row.shape[0] + GAP for row in rows)), "white")
    draw = ImageDraw.Draw(sheet)
    cameras = ", ".join(reader.layout.cameras)
    draw.text((GAP, 0), title, "black", font)
    draw.text((GAP, LINE), f"of each camera ({cameras}) the {', '.join(MOMENTS)} frame", "dimgray", font)
    top = 2 * LINE
    for text, row in zip(texts, rows, strict=True):
        draw.text((GAP, top), text, "black", font)
        sheet.paste(Image.fromarray(row), (GAP, top + LINE))
        top += LINE + row.shape[0] + GAP
    return sheet


def _row(reader: DemoReader, record: Record) -> NDArray[np.uint8]:
    """The frames of a demonstration side by side, (HEIGHT, W, 3)."""
    frames = reader.frame_rows(record)
    moments = frames[[0, len(frames) // 2, len(frames) - 1]] if len(frames) else frames
    shown = []
    for camera in reader.layout.cameras:
        try:
            images = reader.images(camera, moments)
        except DemoError:  # what is wrong with it is said elsewhere
            images = [np.full((HEIGHT, HEIGHT, 3), 200, np.uint8)] * len(MOMENTS)
        for image in images:
            size = (max(1, round(image.shape[1] * HEIGHT / image.shape[0])), HEIGHT)
            shown.append(np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR)))
            shown.append(np.full((HEIGHT, 2, 3), 255, np.uint8))
        shown.append(np.full((HEIGHT, GAP, 3), 255, np.uint8))
    return np.concatenate(shown, axis=1)
