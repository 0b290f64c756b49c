"""Pictures of the table with captions, questions and places: what a small VLM is pre-trained on.

One HDF5 file: `rgb_static` and `rgb_gripper` (N, S, S, 3) uint8, `description` N JSON strings (what the environment's
`describe()` said) and `done`, which blocks of `BLOCK` pictures are complete, so that a collection can be resumed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from rf_agent.demos.files import open_hdf5
from rf_agent.demos.store import VIEWS
from rf_agent.environments import Environments
from rf_agent.progress import Reporter, Silent
from rf_agent.workers import run_jobs

BLOCK = 32  # pictures a job makes, and an HDF5 chunk holds


@dataclass(kw_only=True)
class SceneImageConfig:
    """Collect pictures of random scenes for pre-training."""

    output: Path
    """HDF5 file to write; a file begun with the same settings is continued."""
    env: str = "rf/PlayTableD-v0"
    """Environment that scatters and describes the scenes."""
    count: int = 20_000
    """Number of pictures (each in both views)."""
    image_size: int = 112
    """Side of the stored pictures in pixels: the policy's image size, or larger."""
    workers: int = 2
    """Processes that render."""
    seed: int = 0
    """Seed of the scenes; other seeds give other pictures."""


def collect_scene_images(config: SceneImageConfig, reporter: Reporter | None = None) -> Path:
    """Render `config.count` random scenes with their descriptions, in parallel; returns the file.

    The content depends on the settings alone, not on the number of workers or on interruptions.

    Raises:
        ValueError: if the file exists with other settings, is damaged, or a setting is impossible.
    """
    if config.count < 1 or config.image_size < 16 or config.workers < 1:
        raise ValueError(
            f"cannot make {config.count} pictures of {config.image_size} pixels with {config.workers} workers: "
            "give 1 or more pictures, 16 or more pixels, 1 or more workers"
        )
    with Environments() as environments:
        can_randomize = hasattr(environments.get(config.env).unwrapped, "randomize")
    if not can_randomize:  # said before anything is written
        raise ValueError(
            f"the environment {config.env!r} cannot randomize its scene: give one such as rf/PlayTableD-v0"
        )
    reporter = reporter or Silent()
    blocks = -(-config.count // BLOCK)
    with open_hdf5(config.output, "a") as file:
        done = _prepare(file, config, blocks)
    jobs = (
        (config.env, config.seed, block, min(BLOCK, config.count - block * BLOCK), config.image_size)
        for block in range(blocks)
        if not done[block]
    )
    finished = int(done.sum())
    for (_, _, block, size, _), result in run_jobs(_render_block, jobs, config.workers, Environments):
        rows = slice(block * BLOCK, block * BLOCK + size)
        # Opened for each block: a process that is killed in between leaves a closed, readable file.
        with open_hdf5(config.output, "r+") as file:
            for view in VIEWS:
                file[view][rows] = result[view]
            file["description"][rows] = result["description"]
            file["done"][block] = True
        finished += 1
        reporter.update(finished / blocks, f"{min(finished * BLOCK, config.count)}/{config.count} pictures")
    return config.output


def _prepare(file: h5py.File, config: SceneImageConfig, blocks: int) -> NDArray[np.bool_]:
    """Lay the file out, or check that it was laid out for the same settings; returns the blocks done."""
    settings = {key: value for key, value in asdict(config).items() if key not in ("output", "workers")}
    if "settings" in file.attrs:
        stored = json.loads(file.attrs["settings"])
        if stored != settings:
            changed = [key for key in settings if stored.get(key) != settings[key]]
            raise ValueError(
                f"{config.output} was begun with another {' and '.join(changed)}: give the same settings to "
                "continue, or another --output"
            )
    elif len(file):
        raise ValueError(f"{config.output} holds something other than pictures: give another --output")
    else:
        shape = (config.count, config.image_size, config.image_size, 3)
        for view in VIEWS:
            file.create_dataset(
                view,
                shape,
                np.uint8,
                chunks=(min(BLOCK, config.count), *shape[1:]),
                compression="gzip",
                compression_opts=1,
            )
        file.create_dataset("description", (config.count,), h5py.string_dtype())
        file.create_dataset("done", (blocks,), bool)
        file.attrs["settings"] = json.dumps(settings)
    return np.asarray(file["done"][:])


def _render_block(environments: Environments, job: tuple[str, int, int, int, int]) -> dict[str, Any]:
    """Pictures `block * BLOCK` and following, each from a seed of its own."""
    from rf_agent.preprocess import resize

    env_id, seed, block, count, size = job
    env = environments.get(env_id).unwrapped
    frames: dict[str, list[NDArray[np.uint8]]] = {view: [] for view in VIEWS}
    descriptions = []
    for index in range(block * BLOCK, block * BLOCK + count):
        observation = env.randomize(int(np.random.SeedSequence([seed, index]).generate_state(1)[0]))
        for view in VIEWS:
            frames[view].append(np.asarray(resize(observation[view], size), np.uint8))
        descriptions.append(json.dumps(env.describe(), default=_plain))
    return {**{view: np.stack(images) for view, images in frames.items()}, "description": descriptions}


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return [round(float(number), 5) for number in value.ravel()]
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"describe() returned a {type(value).__name__}, which JSON cannot hold")


@dataclass(frozen=True)
class Picture:
    """One row of a picture file: both views (S, S, 3) uint8 and the environment's description."""

    views: tuple[NDArray[np.uint8], ...]
    description: dict[str, Any]


def read_scene_images(path: Path, names: tuple[str, ...] = VIEWS) -> Iterator[Picture]:
    """The complete pictures of a file, in order.

    Raises:
        FileNotFoundError, ValueError: if the file is missing, damaged, or holds no complete picture.
    """
    with open_hdf5(path) as file:
        missing = [name for name in (*names, "description", "done") if name not in file]
        if missing:
            raise ValueError(f"{path} has no {missing[0]!r}: give a file that `rf-agent pretrain` rendered")
        done = file["done"][:]
        if not done.any():
            raise ValueError(f"{path} holds no complete picture yet: run its collection again to go on")
        for block in np.flatnonzero(done):
            rows = slice(int(block) * BLOCK, (int(block) + 1) * BLOCK)
            try:
                images = [file[name][rows] for name in names]
                texts = file["description"].asstr()[rows]
            except OSError as error:
                raise ValueError(
                    f"{path} is damaged at picture {rows.start}: delete it and collect it again"
                ) from error
            for index, text in enumerate(texts):
                yield Picture(tuple(image[index] for image in images), json.loads(text))
