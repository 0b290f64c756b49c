"""What the metadata of a LeRobot data set says: versions 3.0, 2.1 and 2.0.

    meta/info.json       version, frames a second, features (name, dtype, shape), templates of file names
    meta/tasks.*         instructions by number: a parquet file in v3.0, JSON lines before
    meta/episodes...     lengths of the episodes and, in v3.0, which files hold them: parquet files, JSON lines before

v3.0 keeps many episodes in a file, the versions before one. A data set that `rf_agent.demos.writers.lerobot`
wrote says in meta/roboflamingo.json what LeRobot's format has no place for.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rf_agent.demos.files import DemoError, reading
from rf_agent.demos.readers.parquet import AGAIN, column_names, read_table

OWN_FILE = "meta/roboflamingo.json"
ACTIONS = ("action", "actions")
STATES = ("observation.state", "state")
"""Names of actions and state: LeRobot's, and those that data sets of openpi have."""
VERSIONS = ("v3.0", "v2.1", "v2.0")
PLACEHOLDER = re.compile(r"\{(\w+)(?::0?(\d)d)?\}")


@dataclass(frozen=True)
class Feature:
    """A column of the data, or a video."""

    key: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of an image, whose channels may come first or last."""
        height, width = self.shape[:2] if self.shape[-1] in (1, 3) else self.shape[1:]
        return height, width


@dataclass(frozen=True)
class EpisodeFiles:
    """An episode, and where it lies."""

    index: int
    length: int
    data: Path
    """The parquet file with its rows."""
    videos: dict[str, tuple[Path, float]] = field(default_factory=dict)
    """By feature: the video, and the second at which the episode begins in it."""

    @property
    def name(self) -> str:
        return f"episode {self.index}"


@dataclass(frozen=True)
class OwnMeta:
    """What our export says beyond LeRobot's format; empty for other data sets."""

    layout: dict[str, Any] = field(default_factory=dict)
    """Fields of `Layout`: state, gripper (absent where it is unknown), bounded, paraphrased."""
    image_sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    """By camera: height and width of images that had to be enlarged."""
    episodes: list[dict[str, Any]] = field(default_factory=list)
    """Of each episode: length, task, success, attributes, and start if it is known."""

    def episode(self, episode: EpisodeFiles) -> dict[str, Any]:
        """What is said of an episode; nothing where the data set was changed since."""
        found = self.episodes[episode.index] if 0 <= episode.index < len(self.episodes) else {}
        return found if found.get("length") == episode.length else {}


@dataclass(frozen=True)
class LeRobotMeta:
    """The metadata of a data set."""

    root: Path
    fps: float
    cameras: dict[str, Feature]
    """By the name under which a policy sees them."""
    action: Feature
    state: Feature | None
    has_success: bool
    """Whether the rows say if the task was done (`next.success`)."""
    tasks: dict[int, str]
    episodes: list[EpisodeFiles]
    colorless_cameras: int
    """Images of depth, or of one channel, are not read."""
    own: OwnMeta


def read_meta(root: Path) -> LeRobotMeta:
    """Read and check the metadata of the data set in a folder.

    Raises:
        DemoError: something is missing or damaged, of an unknown version, or cannot be used; the file is named.
        MissingPackageError: pyarrow is not installed.
    """
    where = root / "meta" / "info.json"
    info = _json(where)
    version = info.get("codebase_version")
    if version not in VERSIONS:
        raise DemoError(
            f"{where} is of version {version!r}, but {', '.join(VERSIONS)} can be read: convert the data set with the "
            "scripts of LeRobot"
        )
    fps = info.get("fps")
    if isinstance(fps, bool) or not isinstance(fps, int | float) or not 0 < fps < math.inf:
        raise DemoError(f"{where}: fps is {fps!r}, expected the frames a second: {AGAIN}")
    features = _features(where, info.get("features"))
    cameras = _cameras(where, features)
    action, state = (_first_vector(where, features, keys) for keys in (ACTIONS, STATES))
    if action is None:
        raise DemoError(
            f"{where} has no feature 'action' (it has {', '.join(features) or 'none'}), and nothing else says what the "
            "robot did: rename the one that does"
        )
    videos = [feature.key for feature in cameras.values() if feature.dtype == "video"]
    with reading(root / "meta"):  # numbers that are none
        if version == "v3.0":
            episodes, tasks = _episodes_v3(root, info, videos), _tasks_v3(root)
        else:
            episodes, tasks = _episodes_v2(root, info, videos), _tasks_v2(root)
    held = {episode.index: episode for episode in episodes}
    if not held:
        raise DemoError(f"{root} holds no episode: record some first")
    if info.get("total_episodes", len(held)) != len(held):
        raise DemoError(f"{where} says {info['total_episodes']} episodes, but meta/episodes has {len(held)}: {AGAIN}")
    return LeRobotMeta(
        root,
        float(fps),
        cameras,
        action,
        state,
        "next.success" in features,
        tasks,
        [held[index] for index in sorted(held)],
        sum(_is_colorless(value) for value in (info["features"] or {}).values()),
        _own(root / OWN_FILE),
    )


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DemoError(f"{path} is missing: give the folder of a LeRobot data set, or copy it again") from error
    except (ValueError, OSError) as error:
        raise DemoError(f"{path} cannot be read, because the file is damaged: {AGAIN}") from error
    if not isinstance(found, dict):
        raise DemoError(f"{path} is no JSON object: {AGAIN}")
    return found


def _own(path: Path) -> OwnMeta:
    if not path.is_file():
        return OwnMeta()
    said = _json(path)
    with reading(path):
        sizes = {str(camera): (int(size[0]), int(size[1])) for camera, size in said["image_sizes"].items()}
        episodes = [dict(episode, attributes=dict(episode["attributes"])) for episode in said["episodes"]]
        return OwnMeta(dict(said["layout"]), sizes, episodes)


def _json_lines(path: Path, keys: Sequence[str]) -> list[dict[str, Any]]:
    if not path.is_file():
        raise DemoError(f"{path} is missing: {AGAIN}")
    rows = []
    with reading(path):
        lines = path.read_text(encoding="utf-8").split("\n")  # JSON may hold other ends of lines within its texts
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            rows.append({key: row[key] for key in keys})
        except (ValueError, KeyError, TypeError) as error:
            raise DemoError(f"{path}: line {number} is no JSON object with {', '.join(keys)}: {AGAIN}") from error
    return rows


def _features(where: Path, said: Any) -> dict[str, Feature]:
    """All features by key, images without colours excepted."""
    try:
        return {
            str(key): Feature(str(key), str(value["dtype"]), tuple(map(int, value["shape"])))
            for key, value in said.items()
            if not _is_colorless(value)
        }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DemoError(f"{where}: features must each have a dtype and a shape: {AGAIN}") from error


def _is_colorless(feature: dict[str, Any]) -> bool:
    """Whether a feature is a camera of depth, or of one channel."""
    described = feature.get("info") or feature.get("video_info") or {}
    shape, is_camera = feature.get("shape"), feature.get("dtype") in ("video", "image")
    single = is_camera and isinstance(shape, list) and len(shape) == 3 and 1 in (shape[0], shape[-1])
    return bool(single or described.get("video.is_depth_map") or described.get("is_depth_map"))


def _cameras(where: Path, features: dict[str, Feature]) -> dict[str, Feature]:
    found: dict[str, Feature] = {}
    for key, feature in features.items():
        if feature.dtype not in ("video", "image"):
            continue
        name = key.removeprefix("observation.images.").removeprefix("observation.")
        if "/" in name or name in ("", "instruction"):
            raise DemoError(f"{where}: {key!r} cannot name a camera: rename that feature, without '/'")
        if name in found:
            raise DemoError(f"{where}: {key!r} and {found[name].key!r} are both the camera {name!r}: rename one")
        if len(feature.shape) != 3 or 3 not in (feature.shape[0], feature.shape[-1]):
            raise DemoError(f"{where}: {key} has shape {list(feature.shape)}, expected [H, W, 3] or [3, H, W]")
        found[name] = feature
    if not found:
        raise DemoError(f"{where} has no feature of dtype video or image: a policy needs a camera")
    return found


def _first_vector(where: Path, features: dict[str, Feature], keys: Sequence[str]) -> Feature | None:
    """What the first of some names that is there stands for; of names that are not LeRobot's own if it can be that."""
    if (found := _vector(where, features, keys[0])) is not None:
        return found
    for key in keys[1:]:
        with contextlib.suppress(DemoError):  # something else of that name
            if (found := _vector(where, features, key)) is not None:
                return found
    return None


def _vector(where: Path, features: dict[str, Feature], key: str) -> Feature | None:
    feature = features.get(key)
    if feature is None:
        return None
    if len(feature.shape) != 1 or feature.shape[0] < 1:
        raise DemoError(f"{where}: {key} has shape {list(feature.shape)}, expected [D]: write it as a vector")
    if not re.fullmatch(r"float(16|32|64)|u?int(8|16|32|64)", feature.dtype):
        raise DemoError(f"{where}: {key} has dtype {feature.dtype!r}, expected numbers such as float32")
    return feature


def _path(root: Path, info: dict[str, Any], template: str, numbers: dict[str, Any]) -> Path:
    """A file by the template of its name, such as data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet."""
    text = info.get(template)
    where = root / "meta" / "info.json"
    if not isinstance(text, str):
        raise DemoError(f"{where}: {template} is {text!r}, expected the template of a file name: {AGAIN}")
    try:  # not str.format, which a template may make do more than fill in numbers
        name = PLACEHOLDER.sub(lambda match: str(numbers[match[1]]).zfill(int(match[2] or 0)), text)
    except KeyError as error:
        raise DemoError(f"{where}: {template} {text!r} names {error.args[0]!r}, which is not known: {AGAIN}") from error
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise DemoError(f"{where}: {template} {text!r} leads out of the data set: {AGAIN}")
    return root / name


def _episodes_v3(root: Path, info: dict[str, Any], videos: Sequence[str]) -> list[EpisodeFiles]:
    files = sorted((root / "meta" / "episodes").glob("*/*.parquet"))
    if not files:
        raise DemoError(f"{root / 'meta' / 'episodes'} holds no parquet file: {AGAIN}")
    places = [f"videos/{key}/{name}" for key in videos for name in ("chunk_index", "file_index", "from_timestamp")]
    columns = ["episode_index", "length", "data/chunk_index", "data/file_index", *places]
    episodes = []
    for path in files:
        for row in read_table(path, columns).to_pylist():
            if lacking := [key for key, value in row.items() if value is None]:
                raise DemoError(f"{path}: episode {row['episode_index']} has no {lacking[0]}: {AGAIN}")
            data = {"chunk_index": row["data/chunk_index"], "file_index": row["data/file_index"]}
            held = {}
            for key in videos:
                at = {name: row[f"videos/{key}/{name}"] for name in ("chunk_index", "file_index", "from_timestamp")}
                held[key] = _path(root, info, "video_path", {"video_key": key} | at), float(at["from_timestamp"])
            path_of_data = _path(root, info, "data_path", data)
            episodes.append(EpisodeFiles(int(row["episode_index"]), int(row["length"]), path_of_data, held))
    return episodes


def _episodes_v2(root: Path, info: dict[str, Any], videos: Sequence[str]) -> list[EpisodeFiles]:
    size = info.get("chunks_size")
    if not isinstance(size, int) or size < 1:
        raise DemoError(f"{root / 'meta' / 'info.json'}: chunks_size is {size!r}, expected episodes a folder: {AGAIN}")
    episodes = []
    for row in _json_lines(root / "meta" / "episodes.jsonl", ("episode_index", "length")):
        index, length = int(row["episode_index"]), int(row["length"])
        numbers = {"episode_chunk": index // size, "episode_index": index}
        held = {key: (_path(root, info, "video_path", {"video_key": key} | numbers), 0.0) for key in videos}
        episodes.append(EpisodeFiles(index, length, _path(root, info, "data_path", numbers), held))
    return episodes


def _tasks_v3(root: Path) -> dict[int, str]:
    """The instructions, which are the index of a pandas table: a column called `__index_level_0__` or `task`."""
    path = root / "meta" / "tasks.parquet"
    key = next((name for name in ("task", "__index_level_0__") if name in column_names(path)), "task")
    table = read_table(path, ["task_index", key])
    return {int(row["task_index"]): str(row[key]) for row in table.to_pylist()}


def _tasks_v2(root: Path) -> dict[int, str]:
    rows = _json_lines(root / "meta" / "tasks.jsonl", ("task_index", "task"))
    return {int(row["task_index"]): str(row["task"]) for row in rows}
