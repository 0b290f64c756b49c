"""Picture files in memory, as batches of images with places, captions and questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rf_agent.demos.scene_images import read_scene_images

POSITION_UNIT = 0.1  # metres of one unit of a place target, so that one centimetre is 0.1
TARGETS = {  # columns of a place target
    "position": slice(0, 3),
    "offset": slice(3, 6),  # from the gripper to the thing
    "yaw": slice(6, 8),  # cosine and sine of twice the angle: blocks look the same after half a turn
    "gripper": slice(8, 11),
    "gripper_euler": slice(11, 17),
    "width": slice(17, 18),
}
TARGET_SIZE = 18


@dataclass
class Places:
    """All (picture, text) pairs with a place; the rows of a picture are contiguous."""

    picture: NDArray[np.int64]  # index into SceneImageSet.images
    text: NDArray[np.int64]  # index into SceneImageSet.texts
    name: NDArray[np.int64]  # index into SceneImageSet.names
    target: NDArray[np.float32]  # (E, TARGET_SIZE); NaN where a thing has no yaw


class SceneImageSet:
    """Pictures at the policy's resolution with everything that is said about them.

    Args:
        paths: picture files.
        image_size: side of the policy's images.
        resample: how pictures are resized, as in `rf_agent.config.ImageConfig`.

    Attributes:
        images: uint8 (N, V, S, S, 3). texts: every different place text. names: every different thing.
        captions: per picture, a list. questions: per picture, a list of (question, answer).
        scene: float32 (N, names, 5), position and yaw of everything in a picture; NaN where there is none.
        hands: float32 (N, 10), the gripper's position, Euler cosines and sines, and width.

    Raises:
        ValueError, FileNotFoundError: for missing, damaged or empty files.
    """

    def __init__(self, paths: Sequence[Path], image_size: int, resample: str = "bilinear"):
        from rf_agent.preprocess import resize

        if not paths:
            raise ValueError("no pictures were given: name one or more HDF5 files with --pictures")
        images: list[NDArray[np.uint8]] = []
        texts: dict[str, int] = {}
        names: dict[str, int] = {}
        rows: list[tuple[int, int, int]] = []
        targets: list[NDArray[np.float32]] = []
        self.captions: list[list[str]] = []
        self.questions: list[list[tuple[str, str]]] = []
        share: dict[str, str] = {}  # one object for each different string: files say the same things very often
        for path in paths:
            for picture in read_scene_images(path):
                said = picture.description
                for place in said["places"]:
                    text = texts.setdefault(place["text"], len(texts))
                    rows.append((len(images), text, names.setdefault(place["name"], len(names))))
                    targets.append(position_target(place, said["gripper"]))
                self.captions.append([share.setdefault(text, text) for text in said["captions"]])
                self.questions.append([(share.setdefault(q, q), share.setdefault(a, a)) for q, a in said["questions"]])
                images.append(np.stack([resize(view, image_size, resample) for view in picture.views]))
        self.images = np.stack(images)
        del images
        self.texts, self.names = list(texts), list(names)
        columns = np.array(rows, np.int64).reshape(-1, 3)
        self.places = Places(columns[:, 0], columns[:, 1], columns[:, 2], np.stack(targets))
        self.scene = self._scene()
        self._first = np.searchsorted(self.places.picture, np.arange(len(self.images) + 1))
        self.hands = self.places.target[self._first[:-1], TARGETS["gripper"].start :]
        self._weights = self._sampling_weights()

    def __len__(self) -> int:
        return len(self.images)

    def corpus(self) -> list[str]:
        """Every different text, for a tokenizer."""
        captions = {text for texts in self.captions for text in texts}
        asked = {f"Question: {q} Short answer: {a}" for pairs in self.questions for q, a in pairs}
        return sorted({*self.texts, *captions, *asked})

    def entries(self, picture: int) -> NDArray[np.int64]:
        """Rows of `places` that belong to a picture."""
        return np.arange(self._first[picture], self._first[picture + 1])

    def draw_positions(
        self, pictures: Sequence[int] | NDArray[np.int64], count: int, rng: np.random.Generator
    ) -> NDArray[np.int64]:
        """Rows of `places`, (len(pictures), count): different ones as far as a picture has that many."""
        drawn = np.empty((len(pictures), count), np.int64)
        for row, picture in enumerate(pictures):
            entries = self.entries(picture)
            # The smallest of exponential variates with these rates: weighted sampling without replacement.
            order = np.argsort(rng.exponential(size=len(entries)) / self._weights[entries])
            drawn[row] = entries[np.resize(order, count)]
        return drawn

    def _scene(self) -> NDArray[np.float32]:
        scene = np.full((len(self.images), len(self.names), 5), np.nan, np.float32)
        columns = np.r_[TARGETS["position"], TARGETS["yaw"]]
        scene[self.places.picture, self.places.name] = self.places.target[:, columns]
        return scene

    def _sampling_weights(self) -> NDArray[np.float64]:
        """Things that move are asked for more often than things that are always in one place."""
        places = self.places
        spread = np.array(
            [np.linalg.norm(places.target[places.name == name, :3].std(axis=0)) for name in range(len(self.names))]
        )
        wanted = 0.2 + spread / max(float(spread.max()), 1e-6)
        # A thing with many wordings in a picture is not to be asked for more often because of that.
        number = len(self.names)
        pair = places.picture * number + places.name
        _, inverse, counts = np.unique(pair, return_inverse=True, return_counts=True)
        return wanted[places.name] / counts[inverse]


def position_target(place: dict[str, Any], gripper: dict[str, Any]) -> NDArray[np.float32]:
    """The target vector (TARGET_SIZE,) of a place; see `TARGETS`."""
    position, hand = np.asarray(place["position"], float), np.asarray(gripper["position"], float)
    euler, yaw = np.asarray(gripper["euler"], float), place.get("yaw")
    turn = [np.nan, np.nan] if yaw is None else [np.cos(2 * yaw), np.sin(2 * yaw)]
    values = [
        *(position / POSITION_UNIT),
        *((position - hand) / POSITION_UNIT),
        *turn,
        *(hand / POSITION_UNIT),
        *np.cos(euler),
        *np.sin(euler),
        float(gripper["width"]) / 0.08,
    ]
    return np.asarray(values, np.float32)


def as_tensor(images: NDArray[np.uint8], rows: NDArray[np.int64] | Sequence[int], device: torch.device) -> Tensor:
    """Rows of an image array as a tensor on `device`."""
    return torch.from_numpy(images[np.asarray(rows)]).to(device)
