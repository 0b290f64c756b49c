"""Lines over the view, and hands at the keyboard."""

import numpy as np
import pytest

from rf_agent.play.driving import LINGER_STEPS, Hand, view_axes
from rf_agent.play.path import predicted_path, project

FRONT = {"look_from": (0, -4, 0), "look_at": (0, 0, 0), "up": (0, 0, 1), "field_of_view": 90.0}


def test_a_path_adds_up_what_the_actions_move():
    actions = np.zeros((3, 7))
    actions[:, 0], actions[2, 2] = (1, 1, 5), -0.5
    assert np.allclose(
        predicted_path((0.1, 0, 0.5), actions, 0.02), [(0.1, 0, 0.5), (0.12, 0, 0.5), (0.14, 0, 0.5), (0.16, 0, 0.49)]
    )


def test_the_middle_and_the_edges_of_the_view():
    assert np.allclose(project([(0, 0, 0)], FRONT), [(0.5, 0.5)])
    assert np.allclose(project([(4, 0, 4), (-4, 0, -4)], FRONT), [(1, 0), (0, 1)])


def test_the_projection_is_that_of_the_simulator():
    cameras = pytest.importorskip("rf_envs.simulators.playtable.cameras")
    pytest.importorskip("pybullet")
    from rf_envs.simulators.playtable.bullet import connect
    from rf_envs.table import TableEnv

    client = connect()
    view = cameras.View.look(client, cameras.STATIC_FROM, cameras.STATIC_TO, cameras.STATIC_UP, cameras.STATIC_LENS)
    points = np.random.default_rng(0).uniform((-0.3, -0.3, 0.4), (0.3, 0.2, 0.7), (20, 3))
    column, row, _ = view.project(points, 200)
    expected = np.stack([column + 0.5, row + 0.5], axis=-1) / 200
    assert np.allclose(project(points, TableEnv.static_camera), expected, atol=1e-4)
    client.disconnect()


def test_directions_are_those_of_the_view():
    right, away, up = view_axes(FRONT).T
    assert np.allclose((right, away, up), np.eye(3))
    turned = view_axes(FRONT | {"look_from": (4, 0, 1)})
    assert np.allclose(turned[:, 0], (0, 1, 0)) and np.allclose(turned[:, 1], (-1, 0, 0))


def test_a_hand_moves_lingers_and_rests():
    hand = Hand(FRONT)
    assert not hand.active(0.0)
    hand.drive({"x": 0.5, "yaw": -1.0}, "keep", "view", now=0.0)
    assert hand.active(0.1)
    assert np.allclose(hand.act(), (0.5, 0, 0, 0, 0, -1, 1))
    hand.drive({}, "keep", "view", now=0.1)
    steps = 0
    while hand.active(0.1):
        assert not hand.act()[:6].any()
        steps += 1
    assert steps == LINGER_STEPS


def test_a_gripper_closes_and_stays_so():
    hand = Hand()
    hand.drive({}, "close", "table", now=0.0)
    assert hand.gripper == "closed" and hand.active(0.0) and hand.act()[6] == -1
    hand.drive({"z": 1.0}, "keep", "table", now=0.0)
    assert np.allclose(hand.act(), (0, 0, 1, 0, 0, 0, -1))


def test_a_hand_that_goes_silent_stops():
    hand = Hand()
    hand.drive({"x": 1.0}, "keep", "table", now=0.0)
    assert hand.active(0.3) and hand.act()[0] == 1
    assert hand.active(1.0) and hand.act()[0] == 0
