"""Our LeRobot data sets against the package `lerobot-dataset`: each reads what the other has written.

It needs an environment of its own, with torch and torchvision of one build beside it; `RF_LEDATASET_PYTHON` names its
interpreter.
"""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from lerobot_files import FPS, FRONT, WRIST, make_episodes, smooth_frames

from rf_agent.demos import Demonstration
from rf_agent.demos.demonstration import Layout
from rf_agent.demos.readers import open_demos
from rf_agent.demos.store import append_demos, create_store
from rf_agent.demos.writers.lerobot import write_lerobot
from rf_agent.policy import RoboFlamingoPolicy
from rf_agent.training.trainer import TrainConfig, train

PYTHON = os.environ.get("RF_LEDATASET_PYTHON")
SCRIPT = Path(__file__).parents[2] / "fakes" / "ledataset_peer.py"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON, reason="no interpreter with lerobot-dataset (RF_LEDATASET_PYTHON)"),
]


def peer(tmp_path, *words):
    variables = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf"), "OMP_NUM_THREADS": "1"}
    command = [PYTHON, str(SCRIPT), *map(str, words)]
    done = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def error(first, second):
    """The largest mean difference of two images."""
    return np.abs(first.astype(int) - second.astype(int)).mean(axis=(1, 2, 3)).max()


def test_the_package_reads_our_export(tmp_path):
    layout = Layout(("front", "wrist"), 4, 3, True, "robot_obs", 2, float(FPS))
    demos = []
    for index in range(6):
        rng, length = np.random.default_rng(index), 25 + index
        images = {"front": smooth_frames(length, index, (48, 64)), "wrist": smooth_frames(length, index + 9, (33, 31))}
        actions, state = rng.uniform(-1, 1, (length, 4)), rng.normal(size=(length, 2))
        demos.append(Demonstration(images, actions, f"öffne {index % 3}", f"task {index % 3}", state))
    path = tmp_path / "d.hdf5"
    create_store(path, layout, {})
    append_demos(path, demos, layout)
    root = write_lerobot(path, tmp_path / "set", data_megabytes=8e-3, video_megabytes=6e-3)
    assert len(list(root.glob("videos/**/*.mp4"))) > 2 and len(list(root.glob("data/**/*.parquet"))) > 1
    peer(tmp_path, "read", root, tmp_path / "found.npz")
    found = dict(np.load(tmp_path / "found.npz"))
    records = open_demos(path).records
    order = [int(record.name.removeprefix("demo_")) for record in records]  # demonstrations are stored by task
    given = [demos[index] for index in order]
    actions = np.concatenate([demo.actions for demo in given])
    assert (found["fps"], found["episodes"]) == (FPS, 6)
    assert np.array_equal(found["action"], actions)
    assert np.array_equal(found["observation.state"], np.concatenate([demo.state for demo in given]))
    assert found["tasks"].tolist() == [demo.instruction for demo in given for _ in demo.actions]
    assert found["episode_index"].tolist() == [index for index, demo in enumerate(given) for _ in demo.actions]
    front, wrist = (np.concatenate([demo.images[camera] for demo in given]) for camera in layout.cameras)
    assert error(found["observation.images.front"], front) < 3
    assert found["observation.images.wrist"].shape[1:] == (34, 32, 3)
    assert error(found["observation.images.wrist"][:, :33, :31], wrist) < 3
    assert np.array_equal(found["window_actions"], actions[2:5])
    window = (found["window_frames"] * 255).round().astype(np.uint8).transpose(0, 2, 3, 1)
    assert error(window, front[1:3]) < 3
    np.testing.assert_allclose(found["mean"], actions.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(found["std"], actions.std(axis=0), atol=1e-6)


@pytest.mark.parametrize("use_videos", [True, False])
def test_we_read_what_the_package_writes(tmp_path, use_videos):
    episodes = make_episodes((7, 4, 9))
    size = {FRONT: (96, 128), WRIST: (64, 66)}  # SVT-AV1 takes no smaller ones
    cameras = {
        key: np.concatenate([smooth_frames(len(one.actions), index, size[key]) for index, one in enumerate(episodes)])
        for key in size
    }
    arrays = {"action": np.concatenate([one.actions for one in episodes])} | cameras
    arrays["observation.state"] = np.concatenate([one.state for one in episodes])
    tasks, lengths = [one.tasks[0] for one in episodes], [len(one.actions) for one in episodes]
    np.savez(tmp_path / "given.npz", tasks=tasks, lengths=lengths, use_videos=use_videos, **arrays)
    peer(tmp_path, "write", tmp_path / "set", tmp_path / "given.npz")
    reader = open_demos(tmp_path / "set")
    assert not list(reader.problems())
    assert [record.instruction for record in reader.records] == tasks
    assert np.array_equal(np.concatenate([record.actions for record in reader.records]), arrays["action"])
    assert np.array_equal(np.concatenate([record.state for record in reader.records]), arrays["observation.state"])
    for key, name in ((FRONT, "front"), (WRIST, "image")):
        images = np.stack(reader.images(name, np.arange(20)))
        assert error(images, cameras[key]) < (3 if use_videos else 1e-9)
        assert error(np.stack(reader.images(name, np.array([19, 8, 0]))), cameras[key][[19, 8, 0]]) < 3
    settings = {"steps": 2, "batch_size": 2, "sequence_length": 6, "threads": 1, "evaluations": 1, "device": "cpu"}
    report = train(
        TrainConfig(demos=(tmp_path / "set",), output=tmp_path / "run", preset="roboflamingo-test", **settings)
    )
    policy = RoboFlamingoPolicy.from_pretrained(report.output, "cpu")
    seen = {"front": cameras[FRONT][0], "image": cameras[WRIST][0], "instruction": tasks[0]}
    assert policy.config.fps == FPS and policy.act(seen).shape == (4,)
