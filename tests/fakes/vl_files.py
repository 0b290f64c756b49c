"""Small folders in the layouts of COCO captions and VQAv2: images of one colour, and what is said about it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

COLORS = {"red": (220, 30, 30), "green": (30, 220, 30), "blue": (30, 30, 220), "white": (240, 240, 240)}


def color_of(number: int) -> str:
    return list(COLORS)[number % len(COLORS)]


def write_vl_files(folder: Path, count: int = 8) -> dict[str, Path]:
    """Images 1 to `count`, with two captions and one question each; the paths by the names of the command's options."""
    paths = {
        "images": folder / "images",
        "captions": folder / "captions_toy.json",
        "questions": folder / "v2_OpenEnded_mscoco_toy_questions.json",
        "annotations": folder / "v2_mscoco_toy_annotations.json",
    }
    paths["images"].mkdir(parents=True)
    numbers = range(1, count + 1)
    files = {n: f"COCO_toy_{n:012d}.jpg" for n in numbers}
    for n, name in files.items():
        Image.fromarray(np.full((24, 40, 3), COLORS[color_of(n)], np.uint8)).save(paths["images"] / name)
    write(
        paths["captions"],
        images=[{"id": n, "file_name": files[n]} for n in numbers],
        annotations=[
            {"id": 10 * n + i, "image_id": n, "caption": text.format(color_of(n))}
            for n in numbers
            for i, text in enumerate(("a {} wall.", "the wall is {}"))
        ],
    )
    asked = [{"question_id": 100 * n, "image_id": n} for n in numbers]
    write(paths["questions"], questions=[key | {"question": "What color is it?"} for key in asked])
    write(
        paths["annotations"],
        annotations=[
            key
            | {
                "answers": [{"answer": color_of(key["image_id"]), "answer_id": i} for i in range(9)]
                + [{"answer": "grey"}],
                "multiple_choice_answer": color_of(key["image_id"]),
                "answer_type": "other",
            }
            for key in asked
        ],
    )
    return paths


def write(path: Path, **content: object) -> None:
    path.write_text(json.dumps(content))


def change(path: Path, key: str, index: int | slice, value: object) -> None:
    """Replace a part of the list `key` of a JSON file; None deletes it."""
    content = json.loads(path.read_text())
    if value is None:
        del content[key][index]
    else:
        content[key][index] = value
    path.write_text(json.dumps(content))
