"""Collection of demonstrations and pictures: reproducible, resumable, in parallel."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from fake_table import TASKS

from rf_agent.demos.collect import CollectConfig, collect
from rf_agent.demos.noise import ActionNoise
from rf_agent.demos.scene_images import SceneImageConfig, collect_scene_images, read_scene_images
from rf_agent.demos.store import inspect, iterate_demos

ENV = "fake_table:FakeTable-v0"


def config(path, **changes):
    return CollectConfig(**{"output": path, "env": ENV, "episodes_per_task": 4, "workers": 1} | changes)


def content(path):
    return [
        (
            demo.attributes["task"],
            demo.attributes["seed"],
            demo.actions_executed.tobytes(),
            demo.frames["rgb_static"],
        )
        for _, demo in iterate_demos(path)
    ]


def same(first, second):
    return len(first) == len(second) and all(
        a[:3] == b[:3] and np.array_equal(a[3], b[3]) for a, b in zip(first, second, strict=True)
    )


def test_only_successes_are_kept_and_failures_are_counted(tmp_path):
    report = collect(config(tmp_path / "d.hdf5", episodes_per_task=8))
    assert report.demos == dict.fromkeys(TASKS, 8) and not report.missing
    assert sum(report.failures.values()) > 0
    summary = inspect(report.output)
    assert not summary.problems and summary.demos == 16
    for _, demo in iterate_demos(report.output):
        assert set(np.unique(demo.actions[:, 0])) <= {-0.5, 0.5}  # labels are undisturbed
        assert len(demo.frames["rgb_static"]) == -(-len(demo.actions) // 3)
    executed = np.concatenate([demo.actions_executed for _, demo in iterate_demos(report.output)])
    assert executed[:, :6].std() > 0.05 and set(executed[:, 6]) == {-1.0}


def test_extending_gives_the_same_demonstrations(tmp_path):
    collect(config(tmp_path / "whole.hdf5", image_size=16))
    for episodes, tasks in ((1, TASKS[1:]), (2, TASKS), (4, TASKS)):
        collect(config(tmp_path / "parts.hdf5", image_size=16, episodes_per_task=episodes, tasks=tasks))
    assert same(content(tmp_path / "whole.hdf5"), content(tmp_path / "parts.hdf5"))
    assert content(tmp_path / "whole.hdf5")[0][3].shape[1:] == (16, 16, 3)


def test_interrupted_collection_resumes_with_workers(tmp_path):
    path = tmp_path / "d.hdf5"
    code = (
        "from rf_agent.demos.collect import CollectConfig, collect\n"
        "from pathlib import Path\n"
        f"collect(CollectConfig(output=Path({str(path)!r}), env={ENV!r}, episodes_per_task=999, workers=1))\n"
    )
    paths = [str(Path(__file__).parents[1] / "fakes"), str(Path(__file__).parents[2])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([*paths, os.environ.get("PYTHONPATH", "")])}
    process = subprocess.Popen([sys.executable, "-c", code], env=environment)
    for _ in range(600):
        time.sleep(0.1)
        if path.exists() and path.stat().st_size > 60_000:
            break
    process.send_signal(signal.SIGINT)  # what Ctrl-C sends, at any moment, a write included
    process.wait()
    before = inspect(path).demos
    assert before > 2
    report = collect(config(path, episodes_per_task=before // 2 + 3, workers=2))
    assert not report.missing and not inspect(path).problems
    fresh = collect(config(tmp_path / "fresh.hdf5", episodes_per_task=3))
    held = {item[:3] for item in content(path)}
    assert {item[:3] for item in content(fresh.output)} <= held


def test_unknown_task_and_bad_environment(tmp_path):
    with pytest.raises(ValueError, match="cannot demonstrate 'fly': choose among go_left"):
        collect(config(tmp_path / "d.hdf5", tasks=("fly",)))
    with pytest.raises(ValueError, match="cannot make the environment 'Nowhere-v0'"):
        collect(config(tmp_path / "d.hdf5", env="Nowhere-v0"))
    assert not (tmp_path / "d.hdf5").exists()


def test_pictures_resume_and_do_not_depend_on_workers(tmp_path):
    def settings(name, **changes):
        base = {"output": tmp_path / name, "env": ENV, "count": 70, "image_size": 16, "workers": 1}
        return SceneImageConfig(**base | changes)

    collect_scene_images(settings("one.hdf5"))
    collect_scene_images(settings("two.hdf5", workers=2))
    first, second = (list(read_scene_images(tmp_path / name)) for name in ("one.hdf5", "two.hdf5"))
    assert len(first) == 70
    for a, b in zip(first, second, strict=True):
        assert a.description == b.description and np.array_equal(a.views[0], b.views[0])
    import h5py

    with h5py.File(tmp_path / "two.hdf5", "r+") as file:  # as if stopped before the second block
        file["done"][1] = False
        file["rgb_static"][32:64] = 0
    assert len(list(read_scene_images(tmp_path / "two.hdf5"))) == 38
    collect_scene_images(settings("two.hdf5"))
    assert np.array_equal(list(read_scene_images(tmp_path / "two.hdf5"))[40].views[0], first[40].views[0])
    with pytest.raises(ValueError, match="begun with another count"):
        collect_scene_images(settings("two.hdf5", count=80))


def test_noise_leaves_the_gripper_and_some_episodes_alone():
    levels = [ActionNoise(1.0, np.random.default_rng(seed)).level for seed in range(200)]
    assert 10 < sum(level == 0 for level in levels) < 80
    noise = ActionNoise(1.0, np.random.default_rng(next(i for i, level in enumerate(levels) if level > 0.6)))
    actions = np.stack([noise(np.array([0, 0, 0, 0, 0, 0, 1.0])) for _ in range(500)])
    assert (actions[:, 6] == 1).all() and np.abs(actions).max() <= 1
    assert actions[:, :3].std() > 1.5 * actions[:, 3:6].std()
