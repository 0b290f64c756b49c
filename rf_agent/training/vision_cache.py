"""Vision tokens of frames whose tower does not learn: computed when first needed, kept on disk for the next run."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rf_agent.config import ImageConfig

FOLDER = ".vision_tokens"
BLOCK = 32
"""Frames that are always encoded together: sums over other batches may round differently, and a run that is resumed
shall not."""
SAVE_EVERY = 64
"""Blocks after which the record of what is there is written."""
DISK_SHARE = 0.5
"""Share of the free disk that the caches of a run may take."""


def cache_key(frames: NDArray[np.uint8], tower: nn.Module, image: ImageConfig) -> str:
    """Name of the cache of some frames, seen by a tower with these weights."""
    digest = hashlib.blake2b(digest_size=12)
    digest.update(json.dumps([frames.shape, vars(image)]).encode())
    digest.update(np.ascontiguousarray(frames).data)
    for name, tensor in sorted(tower.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


class VisionCache:
    """Tokens of frames in a file: memory is left to the system's file cache.

    What is asked for and not there yet is encoded, so that training begins at once. All values, also those just
    encoded, come back as they are stored, in float16.

    Args:
        folder: of this cache; made if it is not there, else gone on with.
        rows: the first of the frames that it is for, and the one after the last.
        shape: of a frame's tokens (V, n, dv).
        encode: rows (m,) of the frames to their tokens (m, V, n, dv).
    """

    def __init__(
        self, folder: Path, rows: tuple[int, int], shape: tuple[int, ...], encode: Callable[[Tensor], Tensor]
    ) -> None:
        self.folder, self.rows, self.encode = folder, rows, encode
        folder.mkdir(parents=True, exist_ok=True)
        count = rows[1] - rows[0]
        data, self._record = folder / "tokens.float16", folder / "blocks.npy"
        blocks, size = -(-count // BLOCK), int(2 * count * np.prod(shape))
        known = self._record.exists() and data.exists() and data.stat().st_size == size
        self._done = np.load(self._record) if known else np.zeros(blocks, bool)
        self._tokens = np.memmap(data, np.float16, "r+" if known else "w+", shape=(count, *shape))
        self._unsaved = 0

    @property
    def share(self) -> float:
        """Share of the frames that are encoded."""
        return float(self._done.mean())

    def get(self, rows: NDArray[np.int64]) -> Tensor:
        """Tokens (m, V, n, dv) float16 of frames (m,)."""
        places = rows - self.rows[0]
        for block in np.unique(places // BLOCK):
            if not self._done[block]:
                self._fill(int(block))
        return torch.from_numpy(self._tokens[places])

    def save(self) -> None:
        """Write down what is there, so that another run can use it."""
        if self._unsaved:
            self._tokens.flush()
            draft = self._record.with_suffix(f".{os.getpid()}.npy")
            np.save(draft, self._done)
            os.replace(draft, self._record)
            self._unsaved = 0

    @torch.no_grad()
    def _fill(self, block: int) -> None:
        first = block * BLOCK
        rows = torch.arange(first, min(first + BLOCK, len(self._tokens)))
        tokens = self.encode(rows + self.rows[0]).cpu().to(torch.float16).numpy()
        self._tokens[first : first + len(rows)] = tokens
        self._done[block] = True
        self._unsaved += 1
        if self._unsaved >= SAVE_EVERY:
            self.save()


def kept_tokens(caches: Sequence[VisionCache], rows: NDArray[np.int64]) -> Tensor:
    """Tokens (m, V, n, dv) of frames (m,), each from the cache that its row belongs to."""
    parts, order = [], []
    for cache in caches:
        (inside,) = np.nonzero((rows >= cache.rows[0]) & (rows < cache.rows[1]))
        if len(inside):
            parts.append(cache.get(rows[inside]))
            order.append(inside)
    return torch.cat(parts)[torch.from_numpy(np.concatenate(order).argsort())]


def has_room(folder: Path, size: int) -> bool:
    """Whether the disk has room for so many bytes: a write to a full one would end the process."""
    parent = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return size < DISK_SHARE * shutil.disk_usage(parent).free
