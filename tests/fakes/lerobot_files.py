"""Small LeRobot data sets as LeRobot's own code lays them out, written without ours."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

FPS = 10
FRONT, WRIST = "observation.images.front", "observation.image"
"""Both ways in which data sets name a camera: ours are called `front` and `image`."""
SIZE = {FRONT: (48, 64), WRIST: (34, 32)}


def smooth_frames(count: int, seed: int, size: tuple[int, int]) -> np.ndarray:
    """Images (count, H, W, 3) that survive a video's compression, each unlike the others: the brightness says which."""
    rows, columns = np.mgrid[0 : size[0], 0 : size[1]]
    frames = np.zeros((count, *size, 3), np.float64)
    for index in range(count):
        level = 40 + (37 * index + 61 * seed) % 150
        frames[index] = np.stack([level + rows * 0.5, level + columns * 0.4, np.full(size, 200 - level)], axis=-1)
    return frames.clip(0, 255).astype(np.uint8)


@dataclass
class FakeEpisode:
    """What an episode holds; tasks are one text a row."""

    actions: np.ndarray
    state: np.ndarray
    images: dict[str, np.ndarray]
    tasks: list[str] = field(default_factory=list)


def make_episodes(lengths: tuple[int, ...] = (7, 4, 9, 5, 6), dim: int = 4, size: int = 3) -> list[FakeEpisode]:
    episodes = []
    for index, length in enumerate(lengths):
        rng = np.random.default_rng(index)
        images = {key: smooth_frames(length, index + 10 * place, SIZE[key]) for place, key in enumerate(SIZE)}
        actions, state = (rng.normal(size=(length, n)).astype(np.float32) for n in (dim, size))
        episodes.append(FakeEpisode(actions, state, images, [f"do thing {index % 2}"] * length))
    return episodes


def write_v3(root: Path, episodes: list[FakeEpisode], per_file: int = 2, dtype: str = "video", **video) -> Path:
    """A data set of version 3.0 with so many episodes in a file, all files in one chunk."""
    tasks = sorted({task for episode in episodes for task in episode.tasks})
    rows, begins, first = [], 0, 0
    for begin in range(0, len(episodes), per_file):
        group, number = episodes[begin : begin + per_file], begin // per_file
        tables = []
        for offset, episode in enumerate(group):
            index, length = begin + offset, len(episode.actions)
            tables.append(_table(episode, index, first, tasks, dtype))
            begins = sum(len(other.actions) for other in group[:offset])
            row = {
                "episode_index": index,
                "tasks": sorted(set(episode.tasks)),
                "length": length,
                "data/chunk_index": 0,
                "data/file_index": number,
                "dataset_from_index": first,
                "dataset_to_index": first + length,
            }
            for key in SIZE if dtype == "video" else ():
                row |= {f"videos/{key}/chunk_index": 0, f"videos/{key}/file_index": number}
                row |= {f"videos/{key}/from_timestamp": begins / FPS, f"videos/{key}/to_timestamp": begins + length}
            rows.append(row)
            first += length
        _write_table(root / f"data/chunk-000/file-{number:03d}.parquet", pa.concat_tables(tables))
        for key in SIZE if dtype == "video" else ():
            frames = np.concatenate([episode.images[key] for episode in group])
            write_video(root / f"videos/{key}/chunk-000/file-{number:03d}.mp4", frames, **video)
    _write_table(root / "meta/episodes/chunk-000/file-000.parquet", pa.Table.from_pylist(rows))
    _write_table(root / "meta/tasks.parquet", pa.table({"task_index": range(len(tasks)), "__index_level_0__": tasks}))
    paths = {
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
    }
    _write_info(root, episodes, "v3.0", dtype, paths)
    return root


def write_v21(root: Path, episodes: list[FakeEpisode], chunks_size: int = 3, dtype: str = "video", **video) -> Path:
    """A data set of version 2.1: a file for each episode."""
    tasks = sorted({task for episode in episodes for task in episode.tasks})
    first, lines = 0, []
    for index, episode in enumerate(episodes):
        chunk = f"chunk-{index // chunks_size:03d}"
        table = _table(episode, index, first, tasks, dtype)
        _write_table(root / f"data/{chunk}/episode_{index:06d}.parquet", table)
        for key in SIZE if dtype == "video" else ():
            write_video(root / f"videos/{chunk}/{key}/episode_{index:06d}.mp4", episode.images[key], **video)
        lines.append({"episode_index": index, "tasks": sorted(set(episode.tasks)), "length": len(episode.actions)})
        first += len(episode.actions)
    (root / "meta").mkdir(exist_ok=True)
    named = [{"task_index": index, "task": task} for index, task in enumerate(tasks)]
    for name, content in (("episodes", lines), ("tasks", named)):
        (root / f"meta/{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in content))
    paths = {
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
        "chunks_size": chunks_size,
    }
    _write_info(root, episodes, "v2.1", dtype, paths)
    return root


def write_video(path: Path, frames: np.ndarray, fps: int = FPS, **options) -> None:
    """An MP4 file; options are x264's, by default with frames that refer to later ones."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("h264", rate=fps, options={"g": "2", "crf": "12"} | options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))


def edit_info(root: Path, **changes) -> None:
    """Change entries of meta/info.json."""
    path = root / "meta" / "info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_table(path: Path, **columns) -> None:
    """Replace columns of a parquet file; None drops one."""
    table = pq.read_table(path)
    for name, values in columns.items():
        place = table.column_names.index(name)
        table = table.remove_column(place)
        if values is not None:
            table = table.add_column(place, name, [values if isinstance(values, pa.Array) else pa.array(values)])
    pq.write_table(table, path)


def _table(episode: FakeEpisode, index: int, first: int, tasks: list[str], dtype: str) -> pa.Table:
    steps = np.arange(len(episode.actions))
    columns = {
        "action": _vectors(episode.actions),
        "observation.state": _vectors(episode.state),
        "timestamp": pa.array((steps / FPS).astype(np.float32)),
        "frame_index": steps,
        "episode_index": np.full(len(steps), index),
        "index": first + steps,
        "task_index": [tasks.index(task) for task in episode.tasks],
    }
    if dtype == "image":
        kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
        for key, images in episode.images.items():
            values = [{"bytes": _png(image), "path": f"frame-{step}.png"} for step, image in enumerate(images)]
            columns[key] = pa.array(values, kind)
    return pa.table(columns)


def _vectors(values: np.ndarray) -> pa.Array:
    """One number a row is stored as a number, more as a list of fixed size."""
    flat = pa.array(values.reshape(-1))
    return flat if values.shape[1] == 1 else pa.FixedSizeListArray.from_arrays(flat, values.shape[1])


def _png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def _write_table(path: Path, table: pa.Table) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=5)


def _write_info(root: Path, episodes: list[FakeEpisode], version: str, dtype: str, paths: dict) -> None:
    names = ["height", "width", "channels"]
    features = {key: {"dtype": dtype, "shape": [*size, 3], "names": names} for key, size in SIZE.items()}
    for key, values in (("action", episodes[0].actions), ("observation.state", episodes[0].state)):
        features[key] = {"dtype": "float32", "shape": [values.shape[1]], "names": None}
    for key in ("timestamp", "frame_index", "episode_index", "index", "task_index"):
        features[key] = {"dtype": "float32" if key == "timestamp" else "int64", "shape": [1], "names": None}
    info = {"codebase_version": version, "robot_type": "fake", "fps": FPS, "chunks_size": 1000, "features": features}
    (root / "meta" / "info.json").write_text(json.dumps(info | {"total_episodes": len(episodes)} | paths))
