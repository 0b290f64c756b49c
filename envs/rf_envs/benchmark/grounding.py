"""Scenes that ask whether the colour word decides: the same one with an instruction for each colour."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from rf_envs.benchmark.tasks import COLORS

TASKS = ("lift_{}_block_table", "push_{}_block_left", "push_{}_block_right")
"""The kinds of task, with `{}` for the colour."""
SPACING = 0.10
"""Metres between the centres of two blocks, so that the hand fits between."""
BLOCKS = slice(6, 24)
"""Of scene_obs: three rows of position and Euler angles."""
ATTEMPTS = 200


def draw_scene(env: Any, seed: int) -> dict[str, Any]:
    """Reset options of a scene with every block on the table: scene_obs (24,), robot_obs (15,), and the scene's name
    where that changes from reset to reset.

    The environment puts a block on the table when the task needs it there, so each block's place comes from a
    reset of its own, drawn again until the three stand apart.

    Args:
        env: an environment of single tasks; it is reset.
        seed: of the scene.

    Raises:
        RuntimeError: the blocks never stood apart.
    """
    rng = np.random.default_rng(seed)
    same_scene: dict[str, Any] = {}
    for _ in range(ATTEMPTS):
        places = {}
        for color in COLORS:
            options = {"task": f"lift_{color}_block_table", **same_scene}
            observation, _ = env.reset(seed=int(rng.integers(2**31)), options=options)
            same_scene = env.scene_options
            rows = np.array(env.scene_obs)[BLOCKS].reshape(3, 6)
            position = env.scene_info["movable_objects"][f"block_{color}"]["current_pos"]
            # Scenes list their blocks in different orders.
            row = int(np.linalg.norm(rows[:, :3] - np.asarray(position), axis=1).argmin())
            places[row] = rows[row].copy()
        scene = np.array(env.scene_obs)
        scene[BLOCKS] = np.concatenate([places[row] for row in range(3)])
        centres = [place[:2] for place in places.values()]
        if all(np.linalg.norm(a - b) >= SPACING for a, b in itertools.combinations(centres, 2)):
            return {"scene_obs": scene, "robot_obs": np.array(observation["robot_obs"], np.float64), **same_scene}
    raise RuntimeError(f"In {ATTEMPTS} draws no three blocks stood {SPACING} m apart on the table.")


def touched_color(robot_info: dict[str, Any], scene_info: dict[str, Any]) -> str | None:
    """Colour of the block that the robot touches, of several the one that it presses most; None if it touches none."""
    forces: dict[int, float] = {}
    for contact in robot_info["contacts"]:  # PyBullet: [2] is the other body, [9] the normal force
        forces[contact[2]] = forces.get(contact[2], 0.0) + contact[9]
    blocks = scene_info["movable_objects"]
    touched = {color: forces[uid] for color in COLORS if (uid := blocks[f"block_{color}"]["uid"]) in forces}
    return max(touched, key=touched.__getitem__) if touched else None
