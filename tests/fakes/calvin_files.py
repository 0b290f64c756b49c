"""A small data set in CALVIN's layout on disk, with made-up content."""

from __future__ import annotations

from pathlib import Path

import numpy as np

WINDOWS = (  # start, end, task, instruction: the first two share frames
    (102, 110, "open_drawer", "open the drawer"),
    (105, 113, "close_drawer", "push the drawer shut"),
    (120, 130, "open_drawer", "pull the handle of the drawer"),
    (131, 139, "turn_on_led", "press the button"),
)
RECORDINGS = ((100, 115), (116, 139))
SCENES = {"calvin_scene_B": [100, 115], "calvin_scene_A": [116, 139]}


def frame(number: int, dtype: type = np.float64, extras: bool = True) -> dict[str, np.ndarray]:
    """The arrays of one frame; they depend on its number alone."""
    rng = np.random.default_rng(number)
    values = {
        "actions": rng.normal(size=7).astype(dtype),
        "rel_actions": np.append(rng.uniform(-1, 1, 6), rng.choice([-1.0, 1.0])).astype(dtype),
        "robot_obs": rng.normal(size=15).astype(dtype),
        "scene_obs": rng.normal(size=24).astype(dtype),
        "rgb_static": rng.integers(0, 256, (10, 12, 3), dtype=np.uint8),
        "rgb_gripper": rng.integers(0, 256, (6, 6, 3), dtype=np.uint8),
    }
    if extras:
        values["rgb_tactile"] = np.zeros((4, 3, 6), np.uint8)
        values["depth_static"] = np.zeros((10, 12), np.float32)
        values["depth_gripper"] = np.zeros((6, 6), np.float32)
        values["depth_tactile"] = np.zeros((4, 3, 2), np.float32)
    return values


def write_frame(folder: Path, number: int, digits: int = 7, **changes: np.ndarray | None) -> Path:
    """Write a frame with some of its arrays exchanged, or left out where None is given."""
    path = folder / f"episode_{number:0{digits}d}.npz"
    values = {key: value for key, value in (frame(number) | changes).items() if value is not None}
    np.savez_compressed(path, **values)
    return path


def annotate(folder: Path, windows=WINDOWS, **changes) -> Path:
    """Write the annotations of a split."""
    path = folder / "lang_annotations" / "auto_lang_ann.npy"
    path.parent.mkdir(parents=True, exist_ok=True)
    language = {
        "ann": [window[3] for window in windows],
        "task": [window[2] for window in windows],
        "emb": np.zeros((len(windows), 1, 384), np.float32),
    }
    info = {"episodes": [], "indx": [(window[0], window[1]) for window in windows]}
    np.save(path, {"language": language, "info": info} | changes, allow_pickle=True)
    return path


def make_calvin(
    root: Path, split: str = "training", dtype: type = np.float64, extras: bool = True, digits: int = 7, **options
) -> Path:
    """Write a data set with one split, whose folder is returned. Recordings and scenes include both their ends."""
    folder = root / split
    folder.mkdir(parents=True)
    for number in range(RECORDINGS[0][0], RECORDINGS[-1][1] + 1):
        np.savez_compressed(folder / f"episode_{number:0{digits}d}.npz", **frame(number, dtype, extras))
    annotate(folder, **options)
    np.save(folder / "ep_start_end_ids.npy", np.array(RECORDINGS))
    np.save(folder / "ep_lens.npy", np.array([last + 1 - first for first, last in RECORDINGS]))
    np.save(folder / "scene_info.npy", SCENES, allow_pickle=True)
    return folder
