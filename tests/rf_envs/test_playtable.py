"""The embedded simulator: CALVIN's numbers, its logic, repeatability, images."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest

from rf_envs.scenes import NEUTRAL_JOINTS, SCENES
from rf_envs.simulators.playtable import PlayTable, assets

ENVS = Path(__file__).parents[2] / "envs"
DOWN = (np.pi, 0.0, np.pi / 2)


@pytest.fixture(scope="module")
def table():
    simulator = PlayTable("D")
    yield simulator
    simulator.close()


def drive(table: PlayTable, *waypoints, gripper: float = -1.0, steps: int = 50) -> None:
    """Move the tcp through world positions by relative actions, as a policy would."""
    for waypoint in waypoints:
        for _ in range(steps):
            error = np.asarray(waypoint) - table.robot_obs[:3]
            turn = (np.array(DOWN) - table.robot_obs[3:6] + np.pi) % (2 * np.pi) - np.pi
            action = np.concatenate([np.clip(error / 0.02 * 0.3, -0.8, 0.8), np.clip(turn / 0.05 * 0.2, -1, 1)])
            table.step(np.append(action, gripper))
            if np.linalg.norm(error) < 0.01:
                break


def test_neutral_pose_is_calvins(table):
    table.reset()
    # the tcp that calvin_env reports for the same joint angles with its own robot description
    expected = [0.02586889, -0.2313129, 0.5712808, 3.09045411, -0.02908596, 1.50013585, 0.07999963]
    np.testing.assert_allclose(table.robot_obs[:7], expected, atol=1e-6)
    np.testing.assert_allclose(table.robot_obs[7:14], NEUTRAL_JOINTS, atol=1e-5)
    assert table.robot_obs[14] == 1.0


def test_reset_restores_a_recorded_state(table):
    table.reset()
    drive(table, (0.1, -0.1, 0.55), steps=20)
    robot, scene = table.robot_obs, table.scene_obs
    table.reset()
    table.reset(robot, scene)
    np.testing.assert_allclose(table.scene_obs, scene, atol=3e-3)
    np.testing.assert_allclose(table.robot_obs[:3], robot[:3], atol=2e-3)
    assert table.robot_obs[14] == robot[14]


def test_same_actions_give_the_same_bits(table):
    def digest(simulator: PlayTable) -> str:
        rng = np.random.default_rng(7)
        simulator.reset()
        total = hashlib.sha256()
        for _ in range(60):
            simulator.step(np.clip(rng.normal((0.2, 0.3, -0.5, 0, 0, 0, 0), 0.5), -1, 1))
            total.update(simulator.robot_obs.tobytes() + simulator.scene_obs.tobytes())
        total.update(simulator.render("static", 64).tobytes() + simulator.render("gripper", 48).tobytes())
        return total.hexdigest()

    other = PlayTable("D")
    try:
        assert digest(table) == digest(table) == digest(other)
    finally:
        other.close()


def test_pressing_the_button_toggles_the_led(table):
    table.reset()
    x = SCENES["D"].button_x
    drive(table, (x, -0.12, 0.60), (x, -0.12, 0.468))
    assert table.scene_obs[5] == 1
    drive(table, (x, -0.12, 0.60))
    assert table.scene_obs[5] == 1, "letting go must not turn it off"
    drive(table, (x, -0.12, 0.468))
    assert table.scene_obs[5] == 0
    assert table.info()["scene_info"]["lights"]["led"]["logical_state"] == 0


def test_switch_drives_the_bulb(table):
    scene = np.zeros(24)
    scene[6:24] = np.tile((0.0, -0.1, 0.46, 0, 0, 0), 3) + np.repeat([0.05, 0.17, 0.3], 6) * ([1, 0, 0, 0, 0, 0] * 3)
    scene[3] = 0.088
    table.reset(scene_obs=scene)
    table.step(np.zeros(7))
    assert table.scene_obs[4] == 1
    scene[3] = 0.0
    table.reset(scene_obs=scene)
    table.step(np.zeros(7))
    assert table.scene_obs[4] == 0


def test_blocks_rest_where_calvins_surfaces_are(table):
    """Table, shelf and open drawer hold a block; contacts name the link that CALVIN's oracle looks for."""
    scene = np.zeros(24)
    scene[1] = 0.22
    scene[6:12] = (0.2, -0.1, 0.462, 0, 0, 0)
    scene[12:18] = (-0.24, 0.09, 0.462, 0, 0, 0)
    scene[18:24] = (0.15, -0.27, 0.37, 0, 0, 0)
    table.reset(scene_obs=scene)
    for _ in range(30):
        table.step(np.array([0, 0, 0, 0, 0, 0, 1.0]))
    heights = table.scene_obs[[8, 14, 20]]
    np.testing.assert_allclose(heights, (0.46, 0.46, 0.361), atol=3e-3)
    info = table.info()["scene_info"]
    links = info["fixed_objects"]["table"]["links"]
    for block, link in (
        ("block_red", "base_link"),
        ("block_blue", "plank_link"),
        ("block_pink", "drawer_link"),
    ):
        touched = {(c[2], c[4]) for c in info["movable_objects"][block]["contacts"]}
        assert touched == {(info["fixed_objects"]["table"]["uid"], links[link])}


@pytest.mark.parametrize("name", sorted(SCENES))
def test_every_scene_is_seen_by_both_cameras(name):
    simulator = PlayTable(name)
    try:
        static, hand = simulator.render("static", 100), simulator.render("gripper", 84)
        assert static.shape == (100, 100, 3) and static.dtype == np.uint8 and hand.shape == (84, 84, 3)
        for color, channels in (("red", (0,)), ("blue", (2,)), ("pink", (0, 2))):
            strong = static.astype(int)
            other = [c for c in range(3) if c not in channels]
            mask = (strong[..., list(channels)] > 120).all(-1) & (strong[..., other] < 40).all(-1)
            assert mask.sum() > 12, f"the {color} block is not visible in scene {name}"
    finally:
        simulator.close()


def test_images_follow_the_state_and_are_fresh_arrays(table):
    table.reset()
    before = table.render("static", 100)
    copy = before.copy()
    drive(table, (0.1, -0.1, 0.6), steps=15)
    after = table.render("static", 100)
    np.testing.assert_array_equal(before, copy)
    assert np.abs(after.astype(int) - before).max() > 60


def test_folders_of_killed_processes_are_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    left, alive, new, other = (tmp_path / f"play_table_{name}" for name in ("left", "alive", "new", "other"))
    for folder in (left, alive, new, other):
        folder.mkdir()
        (folder / "table.urdf").touch()
        if folder is not other:  # of an earlier version, which had no lock
            (folder / assets.LOCK).touch()
        if folder is not new:
            os.utime(folder, (time.time() - 7200,) * 2)
    code = f"import pathlib, sys\nsys.path.insert(0, {str(ENVS)!r})\nfrom rf_envs.simulators.playtable import assets\n"
    code += f"held = assets._locked(pathlib.Path({str(alive)!r}))\nprint('locked', flush=True)\ninput()"
    holder = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout.readline() == b"locked\n"
    os.utime(alive, (time.time() - 7200,) * 2)
    assets.remove_left_behind.__wrapped__()
    assert not left.exists() and alive.exists() and new.exists() and other.exists()
    holder.kill()
    holder.communicate()
    assets.remove_left_behind.__wrapped__()
    assert not alive.exists()


@pytest.mark.parametrize("entry", [-1.0, 0.0])
def test_the_gripper_closes_at_zero_and_below_and_opens_above(table, entry):
    table.reset()
    for _ in range(10):
        table.step(np.array([0, 0, 0, 0, 0, 0, entry]))
    assert table.robot_obs[6] < 0.005 and table.robot_obs[14] == -1
    for _ in range(10):
        table.step(np.array([0, 0, 0, 0, 0, 0, 0.1]))
    assert table.robot_obs[6] > 0.075 and table.robot_obs[14] == 1


def test_inverse_kinematics_reaches_and_leaves_the_state_alone(table):
    table.reset()
    before = table.robot_obs
    joints = table.inverse_kinematics((0.2, -0.1, 0.5), DOWN)
    np.testing.assert_array_equal(table.robot_obs, before)
    obs = before.copy()
    obs[7:14] = joints
    table.reset(obs)
    np.testing.assert_allclose(table.robot_obs[:3], (0.2, -0.1, 0.5), atol=5e-3)
