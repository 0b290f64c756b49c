"""The files of a LeRobot data set (version 3.0), written episode by episode.

meta/info.json, stats.json, tasks.parquet, episodes/   what the data set holds, see `readers.lerobot_meta`
meta/roboflamingo.json                                 what LeRobot has no place for: task names, gripper, seeds
data/chunk-000/file-000.parquet                        a row a step: action, observation.state, indices
videos/observation.images.<camera>/chunk-000/...mp4    a frame a step
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from rf_agent.demos.demonstration import Demonstration, Layout
from rf_agent.demos.files import DemoError
from rf_agent.demos.readers.lerobot_meta import OWN_FILE
from rf_agent.demos.writers.lerobot_files import FILES_A_CHUNK, ParquetFiles, VideoFiles, even, table_of
from rf_agent.demos.writers.lerobot_stats import Combined, Statistics, image_statistics, vector_statistics

VERSION = "v3.0"
DATA_MEGABYTES, VIDEO_MEGABYTES = 100, 200
"""About the largest size of a file, as LeRobot has it."""
FILE = "chunk-{chunk_index:03d}/file-{file_index:03d}"
DATA_PATH, EPISODES_PATH = f"data/{FILE}.parquet", f"meta/episodes/{FILE}.parquet"
VIDEO_PATH = f"videos/{{video_key}}/{FILE}.mp4"
INDICES = {"timestamp": "float32"} | dict.fromkeys(("frame_index", "episode_index", "index", "task_index"), "int64")
EPISODES_AT_ONCE = 500
"""Rows of meta/episodes that are written together."""
OWN_LAYOUT = ("state", "gripper", "bounded", "paraphrased")
"""Fields of a layout that LeRobot has no place for."""


class LeRobotDataset:
    """The files of a data set that is being written."""

    def __init__(self, root: Path, layout: Layout, quality: int, data_megabytes: float, video_megabytes: float) -> None:
        assert layout.fps is not None
        self.root, self.layout, self.quality = root, layout, quality
        self.limits = data_megabytes, video_megabytes
        self.vectors = {"action": layout.action_dim} | ({"observation.state": layout.state_dim} if layout.state else {})
        self.data = ParquetFiles(root, DATA_PATH, data_megabytes)
        self.episodes = ParquetFiles(root, EPISODES_PATH, data_megabytes)
        self.videos: dict[str, VideoFiles] = {}  # by camera, from the first demonstration on
        self.sizes: dict[str, tuple[int, int]] = {}
        self.tasks: dict[str, int] = {}
        self.rows: list[dict[str, Any]] = []  # of meta/episodes, to be written
        self.own: list[dict[str, Any]] = []
        self.frames = 0
        self.statistics: dict[str, Combined] = {}

    @contextmanager
    def open(self) -> Iterator[None]:
        """Finish all files at the end of the block."""
        try:
            yield
            self._flush()
            for files in self._files():
                files.close()
        finally:
            for files in self._files():
                files.discard()

    def add(self, demo: Demonstration, name: str) -> None:
        """Write a demonstration. Raises DemoError, with `name`, if its images are not like those before."""
        images = {camera: demo.images[camera] for camera in self.layout.cameras}
        if not self.videos:
            self.sizes = {camera: (frames.shape[1], frames.shape[2]) for camera, frames in images.items()}
            self._begin_videos()
        for camera, frames in images.items():
            if frames.shape[1:3] != self.sizes[camera]:
                raise DemoError(
                    f"{name}: images[{camera!r}] have shape {frames.shape[1:3]}, but those before have "
                    f"{self.sizes[camera]}: a video has images of one size"
                )
        length, index = len(demo.actions), len(self.own)
        columns = self._columns(demo, index)
        chunk, file = self.data.place(length)
        row = {
            "episode_index": index,
            "tasks": [demo.instruction],
            "length": length,
            "data/chunk_index": chunk,
            "data/file_index": file,
            "dataset_from_index": self.frames,
            "dataset_to_index": self.frames + length,
        }
        types = [(key, dim, "float32") for key, dim in self.vectors.items()]
        self.data.write(table_of(columns, [*types, *((key, 1, kind) for key, kind in INDICES.items())]))
        statistics = {key: vector_statistics(values) for key, values in columns.items()}
        for camera, frames in images.items():
            key = f"observation.images.{camera}"
            frames = even(frames)
            placed = self.videos[camera].write(frames)
            names = ("chunk_index", "file_index", "from_timestamp", "to_timestamp")
            row |= {f"videos/{key}/{name}": value for name, value in zip(names, placed, strict=True)}
            statistics[key] = image_statistics(frames)
        for key, found in statistics.items():
            self.statistics.setdefault(key, Combined()).add(found)
            row |= {f"stats/{key}/{name}": value.tolist() for name, value in found.items()}
        self.rows.append(row)
        self.frames += length
        attributes = {key: v.item() if isinstance(v, np.generic) else v for key, v in demo.attributes.items()}
        own = {"length": length, "task": demo.task, "success": demo.success, "attributes": attributes}
        start = {option: np.asarray(numbers).tolist() for option, numbers in demo.start.items()}
        self.own.append(own | ({"start": start} if start else {}))
        if len(self.rows) >= EPISODES_AT_ONCE:
            self._flush()

    def write_meta(self) -> None:
        """Write what stands in meta/, the episodes excepted."""
        _write_tasks(self.root / "meta" / "tasks.parquet", list(self.tasks))
        self._write_json("meta/info.json", self._info())
        stats = {key: _listed(combined.result()) for key, combined in self.statistics.items()}
        self._write_json("meta/stats.json", stats)
        described = self.layout.described()
        said = {key: described[key] for key in OWN_LAYOUT if key in described}  # an unknown gripper is left out
        enlarged = {camera: list(size) for camera, size in self.sizes.items() if size[0] % 2 or size[1] % 2}
        self._write_json(OWN_FILE, {"layout": said, "image_sizes": enlarged, "episodes": self.own})

    def _files(self) -> list[ParquetFiles | VideoFiles]:
        return [self.data, self.episodes, *self.videos.values()]

    def _begin_videos(self) -> None:
        assert self.layout.fps is not None
        for camera, (height, width) in self.sizes.items():
            template = VIDEO_PATH.replace("{video_key}", f"observation.images.{camera}")
            size = height + height % 2, width + width % 2
            self.videos[camera] = VideoFiles(self.root, template, self.limits[1], self.layout.fps, size, self.quality)

    def _columns(self, demo: Demonstration, index: int) -> dict[str, Any]:
        """The rows of an episode, (T, D) each."""
        length = len(demo.actions)
        steps = np.arange(length)
        task = self.tasks.setdefault(demo.instruction, len(self.tasks))
        rate = next(iter(self.videos.values())).rate
        columns: dict[str, Any] = {"action": demo.actions}
        if self.layout.state:
            columns["observation.state"] = demo.state
        columns["timestamp"] = (steps / float(rate)).astype(np.float32)[:, None]
        columns["frame_index"], columns["index"] = steps[:, None], (self.frames + steps)[:, None]
        columns["episode_index"], columns["task_index"] = (np.full((length, 1), n, np.int64) for n in (index, task))
        return columns

    def _flush(self) -> None:
        """Write the rows of meta/episodes that are waiting."""
        import pyarrow as pa

        if not self.rows:
            return
        chunk, file = self.episodes.place(len(self.rows))
        placed = {"meta/episodes/chunk_index": chunk, "meta/episodes/file_index": file}
        self.episodes.write(pa.Table.from_pylist([row | placed for row in self.rows]))
        self.rows = []

    def _info(self) -> dict[str, Any]:
        features: dict[str, Any] = {}
        for camera, videos in self.videos.items():
            described = videos.described()
            features[f"observation.images.{camera}"] = {
                "dtype": "video",
                "shape": [described["video.height"], described["video.width"], 3],
                "names": ["height", "width", "channels"],
                "info": described,
            }
        for key, dim in self.vectors.items():
            names = [f"{key.rpartition('.')[2]}_{entry}" for entry in range(dim)]
            features[key] = {"dtype": "float32", "shape": [dim], "names": names}
        features |= {key: {"dtype": kind, "shape": [1], "names": None} for key, kind in INDICES.items()}
        return {
            "codebase_version": VERSION,
            "robot_type": None,
            "total_episodes": len(self.own),
            "total_frames": self.frames,
            "total_tasks": len(self.tasks),
            "chunks_size": FILES_A_CHUNK,
            "data_files_size_in_mb": DATA_MEGABYTES,
            "video_files_size_in_mb": VIDEO_MEGABYTES,
            "fps": next(iter(self.videos.values())).described()["video.fps"],
            "splits": {"train": f"0:{len(self.own)}"},
            "data_path": DATA_PATH,
            "video_path": VIDEO_PATH,
            "features": features,
        }

    def _write_json(self, name: str, content: dict[str, Any]) -> None:
        (self.root / name).write_text(json.dumps(content, indent=4, ensure_ascii=False), encoding="utf-8")


def _listed(found: Statistics) -> dict[str, Any]:
    return {name: value.tolist() for name, value in found.items()}


def _write_tasks(path: Path, tasks: Sequence[str]) -> None:
    """The instructions as pandas stores them in its index, which is how LeRobot looks them up."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    index = "__index_level_0__"
    column = {"field_name": "task_index", "name": "task_index", "pandas_type": "int64", "numpy_type": "int64"}
    said = {
        "index_columns": [index],
        "column_indexes": [],
        "columns": [
            column | {"metadata": None},
            {"name": None, "field_name": index, "pandas_type": "unicode", "numpy_type": "object", "metadata": None},
        ],
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.0.0",
    }
    table = pa.table({"task_index": pa.array(range(len(tasks)), pa.int64()), index: pa.array(tasks, pa.string())})
    pq.write_table(table.replace_schema_metadata({"pandas": json.dumps(said)}), path)
