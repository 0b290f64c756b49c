"""Moving the gripper: one action from a state and a place to go, and the two motions all skills are made of.

Everything here is a continuous function of the measured state. The relative actions add up to a target that
the arm follows with a lag; a proportional law on the *measured* pose is stable without knowing that target,
and its label can be seen in the images.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rf_envs.expert.view import Vector, View
from rf_envs.rotations import wrap_angle
from rf_envs.simulators.base import MAX_RELATIVE_POSITION, MAX_RELATIVE_ROTATION

DOWN = np.array([np.pi, 0.0, np.pi / 2])
"""Euler angles of the gripper pointing down with the fingers opening along world x."""
TIP = 0.016
"""From the tool centre point down to the finger tips (m)."""
FINGER = 0.014
"""Half the thickness of the closed fingers (m)."""
TRAVEL = 0.54
"""Height (m) at which the gripper passes over blocks on the table."""
MAX_LEAN = 0.5
"""Largest tilt (rad) of the gripper at places that the arm cannot reach with the fingers straight down."""
GAIN = 0.3
"""Part of the measured error that one action covers; with the arm's lag, a higher one overshoots."""
SPEED = 0.8
"""Largest norm of the position part of an action, and of its rotation part."""
LEAD = 0.1
"""How far ahead (m) of the gripper the waypoint runs while it pushes; far enough for full speed."""
STEER = 2.0
"""Weight of the lateral error while pushing, when the arm's lag pulls it off the line."""
OVERLAP = 0.02
"""How far (m) the gripper may be past the point of contact and still count as behind the thing."""
CLIMB_MARGIN = 0.03
"""Height (m) missing to the free path at which sideways motion stops altogether."""

PANEL_FRONT = -0.055
"""y (m) up to which the gripper passes in front of the sliding door's handle."""


@dataclass(frozen=True)
class Command:
    """Where the gripper shall go and whether it shall be open."""

    position: Vector
    yaw: float = DOWN[2]
    lean: Vector = field(default_factory=lambda: np.zeros(2))
    """Tilt (rad) of the fingers sideways, the way they open (to +x at `DOWN`), and forward (to +y)."""
    open: bool = False
    speed: float = SPEED


def servo(view: View, command: Command) -> NDArray[np.float32]:
    """One action (7,) in [-1, 1] from the measured pose towards the command."""
    move = GAIN * (command.position - view.tcp) / MAX_RELATIVE_POSITION
    goal = np.array([DOWN[0] - command.lean[0], DOWN[1] - command.lean[1], command.yaw])
    turn = GAIN * wrap_angle(goal - view.euler) / MAX_RELATIVE_ROTATION
    action = [*_limit(move, command.speed), *_limit(turn, SPEED), 1.0 if command.open else -1.0]
    return np.array(action, dtype=np.float32)


def ramp(value: float, start: float, end: float) -> float:
    """0 up to `start`, 1 from `end` on, linear in between (`start` > `end` falls instead)."""
    return float(np.clip((value - start) / (end - start), 0.0, 1.0))


def approach(tcp: Vector, goal: ArrayLike, way_in: ArrayLike, radius: float, misaligned: float = 0.0) -> Vector:
    """Waypoint on a collision-free way to `goal`.

    Far from the straight line through `goal` along `way_in` the gripper keeps the distance `|way_in|`; it
    comes in once it is within `radius` of that line. Where it is too deep, it backs out before it moves sideways.

    Args:
        tcp: measured position (3,), m.
        goal: position to reach (3,), m.
        way_in: from the goal to where the last stretch begins (3,), m.
        radius: lateral error (m) that is good enough to come in; at twice that it stays out.
        misaligned: further error in units of `radius` (of the yaw, say) that keeps the gripper out.
    """
    goal, way_in = np.asarray(goal, dtype=float), np.asarray(way_in, dtype=float)
    length = float(np.linalg.norm(way_in))
    axis = way_in / length
    depth = float((tcp - goal) @ axis)
    sideways = goal + depth * axis - tcp
    keep_out = length * ramp(max(float(np.linalg.norm(sideways)) / radius, misaligned), 1.0, 2.0)
    freedom = np.full(3, ramp(keep_out - depth, CLIMB_MARGIN, 0.0))
    if goal[1] + way_in[1] < PANEL_FRONT + 0.02:
        # at the panel stands the door's handle: come away from there before going sideways past it
        freedom[0] *= 1 - ramp(tcp[1], PANEL_FRONT, PANEL_FRONT + 0.02) * keep_out / length
    return tcp + freedom * sideways + (keep_out - depth) * axis


def shove(
    tcp: Vector,
    contact: ArrayLike,
    direction: ArrayLike,
    gap: float,
    way_in: ArrayLike,
    radius: float,
    hold: float | None = None,
) -> Vector:
    """Waypoint for pushing a thing: come in behind it, then run along `direction` while it stays in front.

    Args:
        tcp: measured position (3,), m.
        contact: the tcp's position (3,), m, when it just touches the thing; it moves along with the thing.
        direction: unit vector (3,) of the push.
        gap: distance (m) before `contact` at which the push starts.
        way_in: as in `approach`, seen from the start of the push.
        radius: lateral error (m) that is good enough to come in.
        hold: lateral error (m) up to which it pushes on; at 1.5 times that it backs out. Default: `radius`.
    """
    contact, direction = np.asarray(contact, dtype=float), np.asarray(direction, dtype=float)
    hold = radius if hold is None else hold
    behind = float((contact - tcp) @ direction)
    lateral = tcp - contact + behind * direction
    ready = ramp(float(np.linalg.norm(lateral)), 1.5 * hold, hold)
    ready *= ramp(behind, -OVERLAP, -OVERLAP / 2) * ramp(behind, gap + 0.05, gap + 0.02)
    come = approach(tcp, contact - gap * direction, way_in, radius)
    return (1 - ready) * come + ready * (tcp + LEAD * direction - STEER * lateral)


def _limit(vector: Vector, norm: float) -> Vector:
    return vector * min(1.0, norm / max(float(np.linalg.norm(vector)), 1e-9))
