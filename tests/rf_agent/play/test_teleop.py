"""Hands at the keyboard."""

import numpy as np

from rf_agent.play.teleop import GRIPPER_STEPS, Teleop, view_axes

FRONT = {"look_from": (0, -4, 0), "look_at": (0, 0, 0), "up": (0, 0, 1), "field_of_view": 90.0}


def test_directions_are_those_of_the_view():
    right, away, up = view_axes(FRONT).T
    assert np.allclose((right, away, up), np.eye(3))
    turned = view_axes(FRONT | {"look_from": (4, 0, 1)})
    assert np.allclose(turned[:, 0], (0, 1, 0)) and np.allclose(turned[:, 1], (-1, 0, 0))


def test_time_stands_still_as_soon_as_a_hand_rests():
    hand = Teleop(FRONT)
    assert not hand.active(0.0)
    hand.drive({"x": 0.5, "yaw": -1.0}, "keep", "view", now=0.0)
    assert hand.active(0.1)
    assert np.allclose(hand.act(), (0.5, 0, 0, 0, 0, -1, 1))
    hand.drive({}, "keep", "view", now=0.1)
    assert not hand.active(0.1)


def test_the_fingers_have_time_to_close():
    hand = Teleop()
    hand.drive({"x": 0.5}, "close", "table", now=0.0)
    for _ in range(GRIPPER_STEPS - 2):  # they close while the hand moves
        hand.act()
    hand.drive({}, "keep", "table", now=0.1)
    steps = 0
    while hand.active(0.1):
        assert not hand.act()[:6].any()
        steps += 1
    assert steps == 2


def test_a_gripper_closes_and_stays_so():
    hand = Teleop()
    hand.drive({}, "close", "table", now=0.0)
    assert hand.gripper == "closed" and hand.active(0.0) and hand.act()[6] == -1
    hand.drive({"z": 1.0}, "keep", "table", now=0.0)
    assert np.allclose(hand.act(), (0, 0, 1, 0, 0, 0, -1))


def test_a_hand_that_goes_silent_stops():
    hand = Teleop()
    hand.drive({"x": 1.0}, "keep", "table", now=0.0)
    assert hand.active(0.3) and hand.act()[0] == 1
    assert not hand.active(1.0)
