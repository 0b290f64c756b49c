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

from rf_agent.policy_config import PolicyConfig

FOLDER, TOKENS = ".vision_tokens", "tokens.float16"
VERSION = 1
BLOCK = 32
"""Frames that are always encoded together: other batches may round differently, and a resumed run must not differ from
one that was never interrupted."""
SAVE_EVERY = 64
"""Blocks after which the record of encoded blocks is written."""
DISK_SHARE = 0.5
"""Share of the free disk that the caches of a run may take."""


def cache_key(frames: str, tower: nn.Module, config: PolicyConfig) -> str:
    """Name of the cache of some frames, seen by a tower of this configuration with these weights.

    Args:
        frames: their fingerprint (`Frames.fingerprint`).
        tower: the vision tower.
        config: of the policy.
    """
    digest = hashlib.blake2b(digest_size=12)
    values = config.to_dict()
    digest.update(json.dumps([VERSION, BLOCK, frames, values["image"], values["vision"]]).encode())
    for name, tensor in sorted(tower.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


class VisionCache:
    """Tokens of frames in a file, read from it at every use: the system decides what of it stays in memory.

    Frames are encoded when they are first asked for, so that training begins at once. All values, also those just
    encoded, come back as they are stored, in float16. Several runs may use one cache at the same time: they write the
    same values.

    Args:
        folder: of this cache; an existing one is continued.
        rows: the first of its frames, and the one after the last.
        shape: of a frame's tokens (V, n, dv).
        encode: rows (m,) of the frames to their tokens (m, V, n, dv).
    """

    def __init__(
        self, folder: Path, rows: tuple[int, int], shape: tuple[int, ...], encode: Callable[[Tensor], Tensor]
    ) -> None:
        self.folder, self.rows, self.encode = folder, rows, encode
        folder.mkdir(parents=True, exist_ok=True)
        self.shape, count = shape, rows[1] - rows[0]
        blocks, self._row_bytes = -(-count // BLOCK), int(2 * np.prod(shape))
        self._record = folder / "blocks.npy"
        # Never cut or replaced: another run may be using it. Growing it leaves what is there.
        (folder / TOKENS).touch()
        self._file = open(folder / TOKENS, "r+b", buffering=0)
        is_whole = self._file.seek(0, os.SEEK_END) >= count * self._row_bytes
        if not is_whole:
            self._file.truncate(count * self._row_bytes)
            self._record.unlink(missing_ok=True)  # without the tokens that it tells of, it would hand out zeros
        self._done = self._recorded(blocks)
        self._unsaved = 0

    def _recorded(self, blocks: int) -> NDArray[np.bool_]:
        """The blocks that some run has written down as encoded."""
        try:
            done = np.load(self._record)
        except (OSError, ValueError, EOFError):  # not there, or cut off as the machine went down
            return np.zeros(blocks, bool)
        return done if done.shape == (blocks,) else np.zeros(blocks, bool)

    @property
    def share(self) -> float:
        """Share of the frames that are encoded."""
        return float(self._done.mean())

    def get(self, rows: NDArray[np.int64]) -> Tensor:
        """Tokens (m, V, n, dv) float16 of frames (m,)."""
        own = rows - self.rows[0]
        blocks = np.unique(own // BLOCK)
        if not self._done[blocks].all():
            self._done |= self._recorded(len(self._done))  # what another process has encoded since
        for block in blocks[~self._done[blocks]]:
            self._fill(int(block))
        tokens = np.empty((len(own), *self.shape), np.float16)
        flat = tokens.reshape(len(own), -1).view(np.uint8)
        for target, row in zip(flat, own.tolist(), strict=True):
            if os.preadv(self._file.fileno(), [target.data], row * self._row_bytes) != self._row_bytes:
                raise OSError(f"{self.folder / TOKENS} was cut while it was used: start again with --resume")
        return torch.from_numpy(tokens)

    def save(self) -> None:
        """Record which frames are encoded, so that another run can use them."""
        if self._unsaved:
            os.fsync(self._file.fileno())
            draft = self._record.with_suffix(f".{os.getpid()}.npy")
            np.save(draft, self._done | self._recorded(len(self._done)))
            os.replace(draft, self._record)
            self._unsaved = 0

    def close(self) -> None:
        """Record what is encoded and close the file."""
        self.save()
        self._file.close()

    @torch.no_grad()
    def _fill(self, block: int) -> None:
        first = block * BLOCK
        rows = torch.arange(first, min(first + BLOCK, self.rows[1] - self.rows[0]))
        with torch.autocast("cuda", enabled=False), torch.autocast("cpu", enabled=False):  # full precision is stored
            tokens = self.encode(rows + self.rows[0]).cpu().to(torch.float16).contiguous().numpy()
        left, place = memoryview(tokens.reshape(-1).view(np.uint8).data), first * self._row_bytes
        while left:
            written = os.pwrite(self._file.fileno(), left, place)
            left, place = left[written:], place + written
        self._done[block] = True
        self._unsaved += 1
        if self._unsaved >= SAVE_EVERY:
            self.save()


def kept_tokens(caches: Sequence[VisionCache], rows: NDArray[np.int64]) -> Tensor:
    """Tokens (m, V, n, dv) of frames (m,), each from the cache that its row belongs to."""
    tokens = torch.empty(len(rows), *caches[0].shape, dtype=torch.float16)
    for cache in caches:
        (inside,) = np.nonzero((rows >= cache.rows[0]) & (rows < cache.rows[1]))
        if len(inside):
            tokens[torch.from_numpy(inside)] = cache.get(rows[inside])
    return tokens


def has_room(folders: Sequence[Path], size: int) -> bool:
    """Whether the disk has room for caches of so many bytes in these folders, of which some may be there already."""
    first = folders[0].absolute()
    parent = next(path for path in (first, *first.parents) if path.exists())
    files = [folder / TOKENS for folder in folders]
    held = sum(512 * file.stat().st_blocks for file in files if file.exists())
    return size - held < DISK_SHARE * shutil.disk_usage(parent).free
