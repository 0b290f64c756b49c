"""Reads or writes a LeRobot data set with the package `lerobot-dataset` (module `ledataset`), in its own interpreter.

python ledataset_peer.py read ROOT ARRAYS.npz     what its reader finds in the data set
python ledataset_peer.py write ROOT ARRAYS.npz    its writer makes a data set of the arrays
"""

import sys
from pathlib import Path

import numpy as np
from ledataset.datasets.lerobot_dataset import LeRobotDataset

FPS = 10
KEYS = ("action", "observation.state", "episode_index", "frame_index", "timestamp")


def read(root: Path, arrays: Path) -> None:
    data = LeRobotDataset("test/set", root=root, video_backend="pyav")
    items = [data[index] for index in range(len(data))]
    found = {key: np.stack([item[key].numpy() for item in items]) for key in KEYS}
    for key in data.meta.camera_keys:  # float (3, H, W) in [0, 1]
        found[key] = np.stack([(item[key].numpy() * 255).round().astype(np.uint8).transpose(1, 2, 0) for item in items])
    # A window over time is what training asks for.
    deltas = {data.meta.camera_keys[0]: [-0.1, 0.0], "action": [0.0, 0.1, 0.2]}
    windows = LeRobotDataset("test/set", root=root, video_backend="pyav", delta_timestamps=deltas)
    found["window_actions"] = windows[2]["action"].numpy()
    found["window_frames"] = windows[2][data.meta.camera_keys[0]].numpy()
    found["mean"], found["std"] = (np.asarray(data.meta.stats["action"][name]) for name in ("mean", "std"))
    np.savez(arrays, tasks=[item["task"] for item in items], fps=data.fps, episodes=data.num_episodes, **found)


def write(root: Path, arrays: Path) -> None:
    """Arrays: `lengths`, `tasks` of the episodes, and a row a step of `action`, `observation.state` and cameras."""
    given = dict(np.load(arrays))
    lengths, tasks, use_videos = given.pop("lengths"), given.pop("tasks"), bool(given.pop("use_videos"))
    features = {}
    for key, values in given.items():
        is_camera = values.ndim == 4
        kind = ("video" if use_videos else "image") if is_camera else "float32"
        names = ["height", "width", "channels"] if is_camera else None
        features[key] = {"dtype": kind, "shape": values.shape[1:], "names": names}
    data = LeRobotDataset.create("test/set", FPS, features, root=root, use_videos=use_videos, vcodec="libsvtav1")
    row = 0
    for length, task in zip(lengths, tasks, strict=True):
        for _ in range(length):
            data.add_frame({key: values[row] for key, values in given.items()} | {"task": str(task)})
            row += 1
        data.save_episode(parallel_encoding=False)
    data.finalize()


if __name__ == "__main__":
    {"read": read, "write": write}[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
