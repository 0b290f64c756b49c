"""Captions in COCO's layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rf_agent.demos.files import DemoError
from rf_agent.demos.vision_language.annotations import read_entries
from rf_agent.demos.vision_language.images import check_any, file_names
from rf_agent.demos.vision_language.prompts import Pair, Prompts

KIND = "captions in COCO's layout (captions_*.json)"


class CaptionSet:
    """Images with their captions. Image files are not opened.

    Args:
        annotations: `captions_*.json`: `images` with `id` and `file_name`, `annotations` with `image_id` and `caption`.
        images: folder of the image files.

    Attributes:
        ids: number of each image. paths: its file. captions: its captions, one or more.
        missing: images left out because the folder does not hold them.

    Raises:
        FileNotFoundError: a file or folder is missing.
        DemoError: it is no such file, two images have one number, a caption belongs to no image, or the folder holds
            none of the images.
    """

    def __init__(self, annotations: Path, images: Path) -> None:
        files = read_entries(annotations, "images", {"id": int, "file_name": str}, KIND, unique="id")
        texts = read_entries(annotations, "annotations", {"image_id": int, "caption": str}, KIND)
        captions: dict[int, list[str]] = {image["id"]: [] for image in files}
        for text in texts:
            if text["image_id"] not in captions:
                raise DemoError(
                    f"{annotations}: a caption is of image {text['image_id']}, which 'images' does not name"
                )
            if text["caption"].strip():
                captions[text["image_id"]].append(text["caption"].strip())
        there = set(file_names(images))
        described = [image for image in files if captions[image["id"]]]
        if not described:
            raise DemoError(f"{annotations} has only empty captions: give {KIND}")
        kept = [image for image in described if image["file_name"] in there]
        check_any(len(kept), annotations, images, described[0]["file_name"])
        self.missing = len(described) - len(kept)
        self.ids = [image["id"] for image in kept]
        self.paths = [images / image["file_name"] for image in kept]
        self.captions = [captions[image["id"]] for image in kept]

    def __len__(self) -> int:
        return len(self.paths)

    def prompt(self, index: int, prompts: Prompts) -> str:
        """What a model is told before it says what is in an image."""
        return prompts.about_image().given

    def pair(self, index: int, rng: np.random.Generator, prompts: Prompts) -> Pair:
        """A random caption of an image."""
        texts = self.captions[index]
        return prompts.about_image(texts[int(rng.integers(len(texts)))])

    def training_pair(self, index: int, rng: np.random.Generator, prompts: Prompts) -> Pair:
        """The same for training: the words before the caption are to be said too, as in the reference."""
        given, wanted = self.pair(index, rng, prompts)
        return Pair("", given + wanted)
