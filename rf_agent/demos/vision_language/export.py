"""Scene images of the play table in the layouts of COCO captions and VQAv2, for tools and papers that read those."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rf_agent.demos.files import DemoError, open_hdf5
from rf_agent.demos.scene_images import read_scene_images
from rf_agent.files import write_text
from rf_agent.progress import Reporter, Silent

ANSWERS = 10
"""Answers of a question in VQAv2, by as many people. A scene has one right answer, which is given as often."""
NUMBERS = {"none", "one", "two", "three"}
QUESTIONS_PER_IMAGE = 100
"""Numbers of questions that an image reserves, so that they do not depend on other images."""


class Exported(NamedTuple):
    """What `export_scene_images` wrote."""

    images: Path
    captions: Path
    questions: Path
    annotations: Path


def exported_files(folder: Path, subset: str) -> Exported:
    """Where the files of a subset are, named as COCO and VQAv2 name theirs."""
    return Exported(
        folder / subset,
        folder / f"captions_{subset}.json",
        folder / f"v2_OpenEnded_mscoco_{subset}_questions.json",
        folder / f"v2_mscoco_{subset}_annotations.json",
    )


def check_subset(name: str) -> None:
    """Raise DemoError for a name of a subset that does not suit file names."""
    if not re.fullmatch(r"[A-Za-z0-9-]+", name):
        raise DemoError(f"the subset is called {name!r}: give a name of letters and digits, such as val")


def export_scene_images(
    source: Path, output: Path, camera: str, subset: str, reporter: Reporter | None = None
) -> Exported:
    """Write images of one camera as JPEG files, with captions and questions about them.

    Args:
        source: file of scene images (HDF5).
        output: folder to write to; files of the same subset are replaced.
        camera: the view that is described.
        subset: name such as train or val, a part of all file names.

    Returns:
        The paths, see `exported_files`.

    Raises:
        FileNotFoundError, DemoError, ValueError: the source is missing or damaged, has no such camera, or the name of
            the subset does not suit file names.
    """
    check_subset(subset)
    reporter = reporter or Silent()
    files = exported_files(output, subset)
    images: list[dict[str, Any]] = []
    captions: list[dict[str, Any]] = []
    questions: list[dict[str, Any]] = []
    answers: list[dict[str, Any]] = []
    with open_hdf5(source) as file:
        total = len(file.get("description", ()))
    for number, scene in enumerate(read_scene_images(source, (camera,)), start=1):
        if number == 1:
            _clear(files)
        name = f"COCO_{subset}_{number:012d}.jpg"
        _save(scene.views[0], files.images / name)
        height, width = scene.views[0].shape[:2]
        images.append({"id": number, "file_name": name, "height": height, "width": width})
        for text in scene.description["captions"]:
            captions.append({"id": len(captions) + 1, "image_id": number, "caption": text})
        for index, (question, answer) in enumerate(scene.description["questions"]):
            key = {"question_id": number * QUESTIONS_PER_IMAGE + index, "image_id": number}
            questions.append(key | {"question": question})
            answers.append(key | _answered(question, answer))
        if number % 32 == 0 or number == total:
            reporter.update(number / total, f"{number}/{total} images written")
    about = {"info": {"description": f"scene images of the play table, camera {camera}"}, "data_subtype": subset}
    # last, so that a folder with these files is a whole one
    _write(files.captions, about | {"images": images, "annotations": captions})
    _write(files.questions, about | {"task_type": "Open-Ended", "data_type": "mscoco", "questions": questions})
    _write(files.annotations, about | {"data_type": "mscoco", "annotations": answers})
    return files


def _answered(question: str, answer: str) -> dict[str, Any]:
    kind = "yes/no" if answer in ("yes", "no") else "number" if answer in NUMBERS else "other"
    people = [{"answer": answer, "answer_confidence": "yes", "answer_id": i + 1} for i in range(ANSWERS)]
    first_words = " ".join(question.split()[:2])
    return {"question_type": first_words, "answer_type": kind, "multiple_choice_answer": answer, "answers": people}


def _clear(files: Exported) -> None:
    """Remove what was said of images that are replaced now, so that none has another's captions."""
    for path in (files.captions, files.questions, files.annotations):
        path.unlink(missing_ok=True)
    files.images.mkdir(parents=True, exist_ok=True)


def _write(path: Path, content: dict[str, Any]) -> None:
    write_text(path, json.dumps(content) + "\n")


def _save(pixels: NDArray[np.uint8], path: Path) -> None:
    # small images: full colour resolution, or the blocks' edges take on the table's colour
    Image.fromarray(pixels).save(path, quality=95, subsampling=0)
