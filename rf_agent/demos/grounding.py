"""Image files in memory, as batches of images with positions, captions and questions."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rf_agent.demos.scene_images import read_scene_images
from rf_agent.policy_config import PolicyConfig

POSITION_UNIT = 0.1  # metres of one unit of a position target, so that one centimetre is 0.1
TARGETS = {  # columns of a position target
    "position": slice(0, 3),
    "offset": slice(3, 6),  # from the gripper to the object
    "yaw": slice(6, 8),  # cosine and sine of twice the angle: blocks look the same after half a turn
    "gripper": slice(8, 11),
    "gripper_euler": slice(11, 17),
    "width": slice(17, 18),
}
TARGET_SIZE = 18


@dataclass
class Positions:
    """All (image, text) pairs with a position; the rows of an image are contiguous."""

    image: NDArray[np.int64]  # index into SceneImageSet.images
    text: NDArray[np.int64]  # index into SceneImageSet.texts
    name: NDArray[np.int64]  # index into SceneImageSet.names
    target: NDArray[np.float32]  # (E, TARGET_SIZE); NaN where an object has no yaw


class SceneImageSet:
    """Images at the policy's resolution with everything that is said about them.

    Args:
        paths: files of scene images.
        config: of the policy that sees them: its cameras and image size.

    Attributes:
        images: uint8 (N, V, S, S, 3). texts: every different position text. names: every different object.
        blocks: (N,) which images were rendered together, perhaps of one table: numbers over all files.
        captions: per image, a list. questions: per image, a list of (question, answer).
        is_name: (E,) bool, the rows of `positions` whose text is the object's name and no more.
        scene: float32 (N, names, 5), position and yaw of everything in an image; NaN where there is none.
        hands: float32 (N, 10), the gripper's position, Euler cosines and sines, and width.

    Raises:
        ValueError, FileNotFoundError: for missing, damaged or empty files.
    """

    def __init__(self, paths: Sequence[Path], config: PolicyConfig):
        from rf_agent.preprocess import resize

        if not paths:
            raise ValueError("no images were given: name one or more HDF5 files with --images")
        images: list[NDArray[np.uint8]] = []
        texts: dict[str, int] = {}
        names: dict[str, int] = {}
        rows: list[tuple[int, int, int]] = []
        targets: list[NDArray[np.float32]] = []
        self.captions: list[list[str]] = []
        self.questions: list[list[tuple[str, str]]] = []
        blocks: dict[tuple[int, int], int] = {}
        numbers: list[int] = []
        share: dict[str, str] = {}  # one object for each different string: files say the same very often
        for place, path in enumerate(paths):
            for image in read_scene_images(path, config.views):
                numbers.append(blocks.setdefault((place, image.block), len(blocks)))
                said = image.description
                for position in said["objects"]:
                    text = texts.setdefault(position["text"], len(texts))
                    rows.append((len(images), text, names.setdefault(position["name"], len(names))))
                    targets.append(position_target(position, said["gripper"]))
                self.captions.append([share.setdefault(text, text) for text in said["captions"]])
                self.questions.append([(share.setdefault(q, q), share.setdefault(a, a)) for q, a in said["questions"]])
                resized = [resize(view, config.image.size, config.image.resample) for view in image.views]
                images.append(np.stack(resized))
        self.images, self.blocks = np.stack(images), np.array(numbers, np.int64)
        del images
        self.texts, self.names = list(texts), list(names)
        columns = np.array(rows, np.int64).reshape(-1, 3)
        self.positions = Positions(columns[:, 0], columns[:, 1], columns[:, 2], np.stack(targets))
        self.is_name = self._names_alone()
        self.scene = self._scene()
        self._first = np.searchsorted(self.positions.image, np.arange(len(self.images) + 1))
        self.hands = self.positions.target[self._first[:-1], TARGETS["gripper"].start :]
        self._weights = self._sampling_weights()

    def __len__(self) -> int:
        return len(self.images)

    @functools.cached_property
    def facts(self) -> dict[str, Any]:
        """Which images there are, wherever they lie: their number, and a checksum of them and of what is asked."""
        content = zlib.crc32(self.positions.target.tobytes(), zlib.crc32(self.images.tobytes()))
        return {"images": len(self), "content": f"{content:08x}"}

    def corpus(self) -> list[str]:
        """Every different text, for a tokenizer."""
        captions = {text for texts in self.captions for text in texts}
        asked = {f"Question: {q} Short answer: {a}" for pairs in self.questions for q, a in pairs}
        return sorted({*self.texts, *captions, *asked})

    def entries(self, image: int) -> NDArray[np.int64]:
        """Rows of `positions` that belong to an image."""
        return np.arange(self._first[image], self._first[image + 1])

    def draw_positions(
        self,
        images: Sequence[int] | NDArray[np.int64],
        count: int,
        rng: np.random.Generator,
        names_alone: bool = False,
    ) -> NDArray[np.int64]:
        """Rows of `positions`, (len(images), count): different ones as far as an image has that many.

        With `names_alone` only those whose text is the name of an object.
        """
        drawn = np.empty((len(images), count), np.int64)
        for row, image in enumerate(images):
            entries = self.entries(image)
            if names_alone:
                entries = entries[self.is_name[entries]]
            # The smallest of exponential variates with these rates: weighted sampling without replacement.
            order = np.argsort(rng.exponential(size=len(entries)) / self._weights[entries])
            drawn[row] = entries[np.resize(order, count)]
        return drawn

    def _names_alone(self) -> NDArray[np.bool_]:
        """Of each object in an image, the shortest text is its name."""
        positions = self.positions
        lengths = np.array([len(text) for text in self.texts])[positions.text]
        order = np.lexsort((lengths, positions.name, positions.image))
        pairs = np.stack((positions.image, positions.name), axis=1)[order]
        first = np.ones(len(order), bool)
        first[1:] = (pairs[1:] != pairs[:-1]).any(axis=1)
        found = np.zeros(len(order), bool)
        found[order[first]] = True
        return found

    def _scene(self) -> NDArray[np.float32]:
        scene = np.full((len(self.images), len(self.names), 5), np.nan, np.float32)
        columns = np.r_[TARGETS["position"], TARGETS["yaw"]]
        scene[self.positions.image, self.positions.name] = self.positions.target[:, columns]
        return scene

    def _sampling_weights(self) -> NDArray[np.float64]:
        """Objects that move are asked for more often than those that are always in one place."""
        positions = self.positions
        spread = np.array(
            [
                np.linalg.norm(positions.target[positions.name == name, :3].std(axis=0))
                for name in range(len(self.names))
            ]
        )
        wanted = 0.2 + spread / max(float(spread.max()), 1e-6)
        # An object with many phrases in an image is not to be asked for more often because of that.
        number = len(self.names)
        pair = positions.image * number + positions.name
        _, inverse, counts = np.unique(pair, return_inverse=True, return_counts=True)
        return wanted[positions.name] / counts[inverse]


def position_target(described: dict[str, Any], gripper: dict[str, Any]) -> NDArray[np.float32]:
    """The target vector (TARGET_SIZE,) of an object that `describe()` named; see `TARGETS`."""
    position, hand = np.asarray(described["position"], float), np.asarray(gripper["position"], float)
    euler, yaw = np.asarray(gripper["euler"], float), described.get("yaw")
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
