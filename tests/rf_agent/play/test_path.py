"""Lines over the view."""

import numpy as np
import pytest

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
