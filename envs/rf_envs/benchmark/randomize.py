"""Random states that no task would leave: what a vision-language model learns to see the table from."""

from __future__ import annotations

import numpy as np

from rf_envs.benchmark.chains import YAW_RANGE
from rf_envs.benchmark.start_states import (
    HELD_WIDTH,
    OVERLAP,
    are_apart,
    draw_joint,
    held_pose,
    on_surface,
    on_top_of,
    write_poses,
)
from rf_envs.benchmark.tasks import COLORS, StateInfo, blocks
from rf_envs.geometry import fixture_positions
from rf_envs.rotations import wrap_angle
from rf_envs.scenes import BLOCK_WIDTH, DRAWER_MAX, SWITCH_MAX, TABLE_TOP, Scene
from rf_envs.simulators.base import Simulator

MAX_TRIES = 100
TABLE_X = 0.38
TABLE_Y = (-0.155, -0.03)
"""Blocks are scattered over this part of the table, wider than any task's start."""
BUTTON_CLEARANCE = 0.085
ARM_LOW, ARM_HIGH = np.array([-0.35, -0.35, 0.36]), np.array([0.4, 0.1, 0.65])
"""The box in which the tcp is drawn."""
MAX_PENETRATION = 0.004
"""A proposal in which things overlap deeper than this (m) is dropped: it would fly apart and look wrong."""


def randomize(scene: Scene, simulator: Simulator, rng: np.random.Generator) -> StateInfo:
    """Put the simulator into a random state: fixtures, lights, blocks and robot anywhere sensible.

    Returns:
        The state info.

    Raises:
        RuntimeError: every proposal had things inside one another.
    """
    for _ in range(MAX_TRIES):
        scene_obs = _scene_obs(scene, rng)
        position, euler = _gripper(scene, rng, scene_obs)
        holds = rng.random() < 0.15
        if holds:
            index = int(rng.integers(len(COLORS)))
            scene_obs[6 + 6 * index : 12 + 6 * index] = held_pose(position, euler)
        width = HELD_WIDTH if holds else float(rng.choice([0.0, 0.08, rng.uniform(0.0, 0.08)]))
        joints = simulator.inverse_kinematics(position, euler)
        gripper = -1.0 if width < 0.05 else 1.0
        simulator.reset(np.array([*position, *euler, width, *joints, gripper]), scene_obs)
        info = simulator.info()
        if _is_sound(info):
            return info
    raise RuntimeError(f"Found no sound random state of scene {scene.name} within {MAX_TRIES} tries.")


def _scene_obs(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    while True:
        scene_obs = np.zeros(24)
        scene_obs[0] = draw_joint(rng, (0.0, scene.slide_max), scene.slide_max)
        scene_obs[1] = draw_joint(rng, (0.0, DRAWER_MAX), DRAWER_MAX)
        scene_obs[3] = draw_joint(rng, (0.0, SWITCH_MAX), SWITCH_MAX)
        scene_obs[4] = scene_obs[3] > SWITCH_MAX / 2
        scene_obs[5] = rng.integers(2)

        order = rng.permutation(COLORS).tolist()
        poses: dict[str, np.ndarray] = {order[0]: _block(scene, rng, order[0], scene_obs[1])}
        stacks = rng.random() < 0.12
        poses[order[1]] = (
            on_top_of(poses[order[0]], _yaw(rng), rng) if stacks else _block(scene, rng, order[1], scene_obs[1])
        )
        poses[order[2]] = _block(scene, rng, order[2], scene_obs[1])
        if are_apart(list(poses.values()), spacing=0.065):
            return write_poses(scene, scene_obs, poses)


def _yaw(rng: np.random.Generator) -> float:
    """Half of the blocks stand as in CALVIN's starts, the others anyhow."""
    return float(rng.uniform(*YAW_RANGE) if rng.random() < 0.5 else rng.uniform(0.0, np.pi))


def _block(scene: Scene, rng: np.random.Generator, color: str, drawer: float) -> np.ndarray:
    choice = rng.random()
    if choice < 0.15 and drawer > 0.16:
        return on_surface(scene, "drawer", color, float(rng.uniform(*YAW_RANGE)), drawer, rng)
    if choice < 0.40:
        side = "slider_left" if rng.random() < 0.5 else "slider_right"
        return on_surface(scene, side, color, float(rng.uniform(*YAW_RANGE)), drawer, rng)
    button = np.array([scene.button_x, -0.12])
    while True:
        place = np.array([rng.uniform(-TABLE_X, TABLE_X), rng.uniform(*TABLE_Y)])
        if np.linalg.norm(place - button) > BUTTON_CLEARANCE:
            return np.array([*place, TABLE_TOP + BLOCK_WIDTH / 2 - OVERLAP, 0.0, 0.0, _yaw(rng)])


def _gripper(scene: Scene, rng: np.random.Generator, scene_obs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A tcp pose: anywhere above the table, or close to a block or a fixture."""
    euler = np.array([np.pi + rng.normal(0, 0.08), rng.normal(0, 0.08), np.pi / 2 + rng.uniform(-0.5, 0.5)])
    choice = rng.random()
    if choice < 0.35:
        position = rng.uniform(ARM_LOW, ARM_HIGH)
    elif choice < 0.75:
        block = scene_obs[6:].reshape(3, 6)[rng.integers(3)]
        position = block[:3] + [*rng.normal(0, 0.03, 2), rng.uniform(0.0, 0.15)]
        turn = wrap_angle(block[5] - np.pi / 2, np.pi)
        if rng.random() < 0.5 and abs(turn) < 0.8:
            euler[2] = np.pi / 2 + turn
    else:
        fixtures = fixture_positions(scene, scene_obs[:4])
        name = str(rng.choice(["drawer handle", "sliding door handle", "switch", "button"]))
        position = fixtures[name] + rng.normal(0, 0.04, 3) + [0.0, -0.02, 0.03]
        if name == "switch" and rng.random() < 0.7:
            euler[0] -= rng.uniform(0.3, 0.8)
    return np.clip(position, ARM_LOW, ARM_HIGH), euler


def _is_sound(info: StateInfo) -> bool:
    """Nothing is deep inside anything else, and a block that nothing touches has not been left in the air."""
    touching = [block["contacts"] for block in blocks(info).values()]
    overlaps = [contact[8] for contacts in (info["robot_info"]["contacts"], *touching) for contact in contacts]
    return all(touching) and min(overlaps) > -MAX_PENETRATION
