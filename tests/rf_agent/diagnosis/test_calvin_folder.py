"""CALVIN's own format: its frames say the state of the scene, which brings the starts back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from calvin_files import annotate

from rf_agent.diagnosis.run import diagnose

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Two demonstrations of the expert as frames of a data set, with the original images."""
    pytest.importorskip("pybullet", reason="the frames come from the play table")
    import gymnasium

    path = tmp_path_factory.mktemp("calvin") / "training"
    path.mkdir()
    env = gymnasium.make("rf_envs:rf/PlayTableD-v0", disable_env_checker=True)
    number, windows, recordings = 0, [], []
    for seed, task in enumerate(("push_pink_block_right", "turn_on_led")):
        observation, info = env.reset(seed=seed, options={"task": task})
        expert, first, over = env.unwrapped.expert(), number, False
        while not over:
            scene, action = env.unwrapped.scene_obs.copy(), expert.act()
            frame = {key: observation[key] for key in ("rgb_static", "rgb_gripper", "robot_obs")}
            np.savez(path / f"episode_{number:07d}.npz", rel_actions=np.float64(action), scene_obs=scene, **frame)
            observation, _, terminated, truncated, info = env.step(action)
            number, over = number + 1, terminated or truncated
        windows.append((first, number, task, info["instruction"]))
        recordings.append((first, number - 1))
    env.close()
    annotate(path, windows)
    np.save(path / "ep_start_end_ids.npy", np.array(recordings))
    return path


def test_its_starts_are_restored(folder):
    found = diagnose("expert", folder, "rf/PlayTableD-v0")
    assert found.causes == []
    assert found.facts.replay.successes == 2 and found.facts.replay.reproduced
    assert all(camera.paired and not camera.differs for camera in found.facts.observations.cameras)


def test_its_scene_is_not_that_of_another_environment(folder):
    found = diagnose("expert", folder, "rf/PlayTableB-v0")
    assert found.causes[0].kind in ("camera_moved", "replay_fails", "scene")
