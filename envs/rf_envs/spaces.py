"""Observation and action space of all environments, and the conversions at their border."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from gymnasium import spaces

from rf_envs.scenes import BLOCK_WIDTH, BUTTON_MAX, DRAWER_MAX, FIXTURE_HALF_STROKE, SWITCH_MAX, Scene

INSTRUCTION_BYTES = 256
"""Length of the instruction in an observation."""
CAMERAS = ("rgb_static", "rgb_gripper")
"""Names of the images in an observation: the view of the table, and that of the hand."""

_JOINT_LOW = np.array([-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973])
_JOINT_HIGH = np.array([2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973])
_SLACK = 0.5
"""Room for a joint to overshoot its limit (rad): observations are not clipped to the bounds."""
_GIVEN_SLACK = 0.2
"""The same for a state that a user gives: simulations overshoot by half of it at most."""
_WIDTH_GIVEN = (-0.05, 0.11)
"""Opening widths (m) that a user may give: the gripper's own 0 to 0.08, and what simulations overshoot."""
_PI = 3.1416
_JOINT_SLACK = 0.01
"""How far (m) a joint of the table may be beyond its end: simulations overshoot a little."""
_BUTTON_SLACK = 0.02
"""The same for the button's lower end: the hand of CALVIN's robot presses it millimetres further than it goes."""
_SWITCH_SLACK = 0.005
"""How near its middle (m) the switch may be while the light bulb is said to be the other way: rounding is forgiven."""
_FLOOR_SLACK = 0.005
"""How far (m) a block may be in the floor."""
_ROOM = 2.0
"""Blocks are within so many metres of the table's centre, though it be on the floor."""
ROBOT_OBS_LOW = np.array([-2.0] * 3 + [-_PI] * 3 + [-0.1, *(_JOINT_LOW - _SLACK), -1.0], dtype=np.float32)
ROBOT_OBS_HIGH = np.array([2.0] * 3 + [_PI] * 3 + [0.2, *(_JOINT_HIGH + _SLACK), 1.0], dtype=np.float32)
_GIVEN_LOW = np.array([-np.inf] * 6 + [_WIDTH_GIVEN[0], *(_JOINT_LOW - _GIVEN_SLACK), -1.0])
_GIVEN_HIGH = np.array([np.inf] * 6 + [_WIDTH_GIVEN[1], *(_JOINT_HIGH + _GIVEN_SLACK), 1.0])


def observation_space(image_size: tuple[int, int]) -> spaces.Dict:
    """The observation space for square images of ``(static, gripper)`` pixels."""
    static, gripper = image_size
    return spaces.Dict(
        {
            "rgb_static": spaces.Box(0, 255, (static, static, 3), np.uint8),
            "rgb_gripper": spaces.Box(0, 255, (gripper, gripper, 3), np.uint8),
            "robot_obs": spaces.Box(ROBOT_OBS_LOW, ROBOT_OBS_HIGH, dtype=np.float32),
            # bytes, as Stable-Baselines3 and vector environments with shared memory cannot carry spaces.Text
            "instruction": spaces.Box(0, 255, (INSTRUCTION_BYTES,), np.uint8),
        }
    )


def action_space() -> spaces.Box:
    """Relative end-effector motion (x, y, z, Euler XYZ) and gripper, each in [-1, 1]."""
    return spaces.Box(-1.0, 1.0, (7,), np.float32)


def check_action(action: Any) -> np.ndarray:
    """The action as (7,) float64, clipped to [-1, 1].

    Raises:
        ValueError: it is not seven numbers, or one of them is NaN.
    """
    array = _numbers("The action", action, 7, "relative x, y, z, Euler x, y, z, and gripper (> 0 opens)")
    if np.isnan(array).any():
        raise ValueError(
            f"The action has NaN at index {np.flatnonzero(np.isnan(array)).tolist()}; expected 7 numbers in "
            "[-1, 1]. Check the policy's output."
        )
    return np.clip(array, -1.0, 1.0)


def check_robot_obs(value: Any) -> np.ndarray:
    """A ``robot_obs`` (15,) given by a user, as float64.

    Raises:
        ValueError: it is not 15 finite numbers; a joint, or the opening width, is out of its limits by more than a
            simulation overshoots; or the gripper is neither -1 nor 1.
    """
    array = _state("robot_obs", value, 15)
    # the pose follows from the joints
    _check_range("robot_obs", array, range(6, 14), _GIVEN_LOW, _GIVEN_HIGH)
    if array[14] not in (-1, 1):
        raise ValueError(f"robot_obs has {array[14]:g} at index 14, the gripper; expected 1 (open) or -1 (closed).")
    return array


def check_scene_obs(value: Any, scene: Scene) -> np.ndarray:
    """A ``scene_obs`` (24,) given by a user, as float64, with the light bulb as the switch says.

    Raises:
        ValueError: it is not 24 finite numbers; a light is neither 0 nor 1, or the bulb is not as the switch says; a
            joint or a block is where it cannot be; or blocks are inside one another.
    """
    array = _state("scene_obs", value, 24)
    if not np.isin(array[4:6], (0, 1)).all():
        raise ValueError(
            f"scene_obs has {array[4:6].tolist()} at index 4 and 5, the light bulb and the LED; expected 0 "
            "(off) or 1 (on) for each."
        )
    low, high = np.full(24, -np.inf), np.full(24, np.inf)
    low[:4] = -_JOINT_SLACK
    ends = (scene.slide_max, DRAWER_MAX, BUTTON_MAX, SWITCH_MAX)
    high[:4] = np.add(ends, (_JOINT_SLACK, _JOINT_SLACK, _BUTTON_SLACK, _JOINT_SLACK))
    for start in (6, 12, 18):
        low[start : start + 3], high[start : start + 3] = (-_ROOM, -_ROOM, -_FLOOR_SLACK), _ROOM
    _check_range("scene_obs", array, range(24), low, high)
    beyond = array[3] - FIXTURE_HALF_STROKE * SWITCH_MAX
    if abs(beyond) > _SWITCH_SLACK and (beyond > 0) != bool(array[4]):
        raise ValueError(
            f"scene_obs has the switch at {array[3]:.3f} (index 3), which turns the light bulb "
            f"{'on' if beyond > 0 else 'off'}, but {array[4]:g} at index 4; make them agree."
        )
    positions = array[6:].reshape(3, 6)[:, :3]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        if np.linalg.norm(positions[one] - positions[other]) < 0.75 * BLOCK_WIDTH:
            names = [scene.block_names[index] for index in (one, other)]
            raise ValueError(f"scene_obs has {' and '.join(names)} inside one another; move them apart.")
    array = array.copy()
    array[4] = beyond > 0  # else the first step would turn it on or off, and fulfil a task
    return array


def _state(name: str, value: Any, size: int) -> np.ndarray:
    array = _numbers(name, value, size, "CALVIN's layout; env.unwrapped has one of the present state")
    if not np.isfinite(array).all():
        raise ValueError(
            f"{name} has values that are not finite at index {np.flatnonzero(~np.isfinite(array)).tolist()}; "
            f"expected {size} finite numbers."
        )
    return array


def _check_range(name: str, array: np.ndarray, indices: Iterable[int], low: np.ndarray, high: np.ndarray) -> None:
    for index in indices:
        if not low[index] <= array[index] <= high[index]:
            expected = f"{low[index]:.3g} to {high[index]:.3g} (m or rad)"
            raise ValueError(f"{name} has {array[index]:g} at index {index}; expected {expected}.")


def _numbers(name: str, value: Any, size: int, meaning: str) -> np.ndarray:
    try:
        array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} is not an array of numbers ({error}); expected {size}: {meaning}.") from error
    if array.shape != (size,):
        raise ValueError(f"{name} has shape {array.shape}; expected ({size},): {meaning}.")
    return array


def encode_instruction(text: str) -> np.ndarray:
    """The text's UTF-8 bytes, padded with zeros: (256,) uint8.

    Raises:
        ValueError: it is not a str, needs more than 256 bytes or holds a null character.
    """
    if not isinstance(text, str):
        raise ValueError(f"The instruction must be a str, got {type(text).__name__}: {text!r}.")
    try:
        data = text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"The instruction {text!r} is not valid Unicode text ({error.reason}).") from error
    if len(data) > INSTRUCTION_BYTES:
        raise ValueError(
            f"The instruction takes {len(data)} bytes in UTF-8, but observations have room for "
            f"{INSTRUCTION_BYTES}; shorten it: {text[:40]!r}..."
        )
    if b"\0" in data:
        raise ValueError(f"The instruction {text!r} holds a null character, which marks its end; take it out.")
    encoded = np.zeros(INSTRUCTION_BYTES, dtype=np.uint8)
    encoded[: len(data)] = np.frombuffer(data, dtype=np.uint8)
    return encoded


def decode_instruction(encoded: np.ndarray) -> str:
    """The text of an observation's ``instruction``."""
    return bytes(np.asarray(encoded, dtype=np.uint8)).rstrip(b"\0").decode("utf-8")
