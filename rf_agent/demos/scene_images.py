"""Images of the table with captions, questions and positions: what a small VLM is pre-trained on.

One HDF5 file: for each camera, by its name, (N, S, S, 3) uint8, `description` N JSON strings (what the environment's
`describe()` said) and `done`, which blocks of `BLOCK` images are complete, so that a collection can be resumed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from rf_agent.demos.episodes import env_layout
from rf_agent.demos.files import PATIENCE, open_hdf5
from rf_agent.environments import Environments
from rf_agent.evaluation.options import parse_options
from rf_agent.progress import Reporter, Silent
from rf_agent.workers import run_jobs

BLOCK = 32  # images a job makes, and an HDF5 chunk holds


@dataclass(kw_only=True)
class SceneImageConfig:
    """Collect images of random scenes for pre-training."""

    output: Path
    """HDF5 file to write; a file begun with the same settings is continued."""
    env: str = "rf/PlayTableD-v0"
    """Environment that randomizes and describes the scenes."""
    env_options: tuple[str, ...] = ()
    """Arguments of the environment as NAME=VALUE, such as renderer=tiny of the real CALVIN."""
    count: int = 20_000
    """Number of images (each in both views)."""
    image_size: int = 112
    """Side of the stored images in pixels: the policy's image size, or larger."""
    workers: int = 2
    """Processes that render."""
    seed: int = 0
    """Seed of the scenes; other seeds give other images."""


def scene_file(env: str) -> str:
    """Name of the file with the images of one of several environments, without its ending."""
    return f"scene_images_{env.rpartition('/')[2]}"


def collect_scene_images(
    config: SceneImageConfig, reporter: Reporter | None = None, needed: Sequence[str] = ()
) -> Path:
    """Render `config.count` random scenes with their descriptions, in parallel; returns the file.

    The content depends on the settings alone, not on the number of workers or on interruptions.

    Args:
        config: what is rendered.
        reporter: hears how far it is.
        needed: cameras that the environment must have.

    Raises:
        ValueError: if the file exists with other settings, is damaged, or a setting is impossible; or a camera is
            lacking.
    """
    if config.count < 1 or config.image_size < 16 or config.workers < 1:
        raise ValueError(
            f"cannot make {config.count} images of {config.image_size} pixels with {config.workers} workers: "
            "give 1 or more images, 16 or more pixels, 1 or more workers"
        )
    options = parse_options(config.env_options)
    with Environments() as environments:
        env = environments.get(config.env, **options)
        can_randomize, cameras = hasattr(env.unwrapped, "randomize"), env_layout(env, 1).cameras
    if not can_randomize:  # said before anything is written
        raise ValueError(
            f"the environment {config.env!r} cannot randomize its scene: give one such as rf/PlayTableD-v0"
        )
    if lacking := [name for name in needed if name not in cameras]:
        raise ValueError(
            f"the environment {config.env!r} has no camera {lacking[0]!r}: give one of {', '.join(cameras)}"
        )
    reporter = reporter or Silent()
    blocks = -(-config.count // BLOCK)
    with open_hdf5(config.output, "a") as file:
        done = _prepare(file, config, blocks, cameras)
    jobs = (
        (config.env, options, config.seed, block, min(BLOCK, config.count - block * BLOCK), config.image_size)
        for block in range(blocks)
        if not done[block]
    )
    finished = int(done.sum())
    for (_, _, _, block, size, _), result in run_jobs(_render_block, jobs, config.workers, Environments):
        rows = slice(block * BLOCK, block * BLOCK + size)
        # Opened for each block: a process that is killed in between leaves a closed, readable file.
        with open_hdf5(config.output, "r+", PATIENCE) as file:
            for camera in cameras:
                file[camera][rows] = result[camera]
            file["description"][rows] = result["description"]
            file["done"][block] = True
        finished += 1
        reporter.update(finished / blocks, f"{min(finished * BLOCK, config.count)}/{config.count} images")
    return config.output


def _prepare(file: h5py.File, config: SceneImageConfig, blocks: int, cameras: tuple[str, ...]) -> NDArray[np.bool_]:
    """Lay the file out, or check that it was laid out for the same settings; returns the blocks done."""
    settings = {key: value for key, value in asdict(config).items() if key not in ("output", "workers")}
    if not settings["env_options"]:
        del settings["env_options"]  # files of older versions have none
    settings = json.loads(json.dumps(settings))
    if "settings" in file.attrs:
        stored = json.loads(file.attrs["settings"])
        if stored != settings:
            changed = [key for key in {**stored, **settings} if stored.get(key) != settings.get(key)]
            raise ValueError(
                f"{config.output} was begun with another {' and '.join(changed)}: give the same settings to "
                "continue, or another --output"
            )
    elif len(file):
        raise ValueError(f"{config.output} holds something other than images: give another --output")
    else:
        shape = (config.count, config.image_size, config.image_size, 3)
        for camera in cameras:
            file.create_dataset(
                camera,
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


def _render_block(environments: Environments, job: tuple[str, dict[str, Any], int, int, int, int]) -> dict[str, Any]:
    """Images `block * BLOCK` and following, each from a seed of its own."""
    from rf_agent.preprocess import resize

    env_id, options, seed, block, count, size = job
    env = environments.get(env_id, **options)
    if hasattr(env.unwrapped, "draw_layout"):  # a block has one layout: building a table takes longer than its image
        env.unwrapped.draw_layout(_seed(seed, block, 1))
    cameras = env_layout(env, 1).cameras
    images: dict[str, list[NDArray[np.uint8]]] = {camera: [] for camera in cameras}
    descriptions = []
    for index in range(block * BLOCK, block * BLOCK + count):
        observation = env.unwrapped.randomize(_seed(seed, index))
        for camera in cameras:
            images[camera].append(np.asarray(resize(observation[camera], size), np.uint8))
        descriptions.append(json.dumps(env.unwrapped.describe(), default=_plain))
    return {**{camera: np.stack(taken) for camera, taken in images.items()}, "description": descriptions}


def _seed(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return [round(float(number), 5) for number in value.ravel()]
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"describe() returned a {type(value).__name__}, which JSON cannot hold")


@dataclass(frozen=True)
class SceneImage:
    """One row of such a file: an image (S, S, 3) uint8 of each camera, and the environment's description."""

    views: tuple[NDArray[np.uint8], ...]
    description: dict[str, Any]
    block: int
    """Of its file: images of one block may be of one table."""


def read_scene_images(path: Path, cameras: tuple[str, ...]) -> Iterator[SceneImage]:
    """The complete images of a file, in order, of these cameras.

    Raises:
        FileNotFoundError, ValueError: if the file is missing, damaged, or holds no complete image.
    """
    with open_hdf5(path) as file:
        missing = [name for name in (*cameras, "description", "done") if name not in file]
        if missing:
            raise ValueError(f"{path} has no {missing[0]!r}: give a file that `rf-agent pretrain` rendered")
        done = file["done"][:]
        if not done.any():
            raise ValueError(f"{path} holds no complete image yet: run its collection again to go on")
        for block in np.flatnonzero(done):
            rows = slice(int(block) * BLOCK, (int(block) + 1) * BLOCK)
            try:
                images = [file[name][rows] for name in cameras]
                texts = file["description"].asstr()[rows]
            except OSError as error:
                raise ValueError(f"{path} is damaged at image {rows.start}: delete it and collect it again") from error
            for index, text in enumerate(texts):
                yield SceneImage(tuple(image[index] for image in images), json.loads(text), int(block))
