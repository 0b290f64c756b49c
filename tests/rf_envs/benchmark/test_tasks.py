"""The task checks agree with CALVIN's oracle, thresholds and quirks included."""

import hashlib
import re

import numpy as np
import pytest
from fake_simulator import FakeSimulator

from rf_envs.benchmark.tasks import TASKS, achieved, check_task, is_done
from rf_envs.rotations import euler_from_quaternion

TASKS_SHA256 = "4f2e726f5ca581ae9435e3a11f4e6c6fd5b39881141fba74f3c0964c333d20fe"
RED, BLUE, PINK = 6, 12, 18
"""Where a block's pose begins in scene_obs of scene D."""


def done(before: FakeSimulator, after: FakeSimulator) -> set[str]:
    return achieved(before.info(), after.info())


@pytest.fixture
def before() -> FakeSimulator:
    return FakeSimulator()


@pytest.fixture
def after() -> FakeSimulator:
    return FakeSimulator()


def hold(simulator: FakeSimulator, block: int) -> None:
    simulator.robot_obs[14] = -1
    simulator.robot_obs[:3] = simulator.scene_obs[block : block + 3]


def test_the_34_tasks_are_calvins_in_its_order(calvin_file):
    text = calvin_file("new_playtable_tasks.yaml").read_text()
    assert TASKS == tuple(re.findall(r"^  (\w+): *\[", text, flags=re.MULTILINE))


def test_the_34_tasks_have_the_checksum_of_calvins():
    assert len(set(TASKS)) == 34
    assert hashlib.sha256("\n".join(TASKS).encode()).hexdigest() == TASKS_SHA256


def test_nothing_is_done_when_nothing_changes(before):
    assert done(before, before) == set()


@pytest.mark.parametrize(
    ("index", "start", "end", "expected"),
    [
        (0, 0.0, 0.14, set()),
        (0, 0.0, 0.16, {"move_slider_left"}),
        (0, 0.28, 0.14, set()),
        (0, 0.28, 0.12, {"move_slider_right"}),
        (1, 0.0, 0.11, set()),
        (1, 0.0, 0.13, {"open_drawer"}),
        (1, 0.22, 0.11, set()),
        (1, 0.22, 0.09, {"close_drawer"}),
        (4, 0, 1, {"turn_on_lightbulb"}),
        (4, 1, 0, {"turn_off_lightbulb"}),
        (5, 0, 1, {"turn_on_led"}),
        (5, 1, 0, {"turn_off_led"}),
        (RED, 0.0, 0.11, {"push_red_block_right"}),
        (RED, 0.0, -0.11, {"push_red_block_left"}),
        (RED, 0.0, 0.09, set()),
        (PINK, 0.24, 0.13, {"push_pink_block_left"}),
    ],
)
def test_fixtures_lights_and_pushes(before, after, index, start, end, expected):
    before.scene_obs[index], after.scene_obs[index] = start, end
    if index == RED:
        # out of the way of the blue block
        before.scene_obs[BLUE + 1] = after.scene_obs[BLUE + 1] = -0.15
    assert done(before, after) == expected


@pytest.mark.parametrize(
    ("degrees", "expected"),
    [
        (59, set()),
        (61, {"rotate_blue_block_left"}),
        (-59, set()),
        (-61, {"rotate_blue_block_right"}),
        (179, {"rotate_blue_block_left"}),
        (-179, {"rotate_blue_block_right"}),
        (200, {"rotate_blue_block_right"}),
    ],
)
def test_rotation_counts_beyond_60_degrees(before, after, degrees, expected):
    after.scene_obs[BLUE + 5] += np.radians(degrees)
    assert done(before, after) == expected


def test_rotation_does_not_count_if_the_block_tips_travels_or_is_in_the_air(before, after):
    after.scene_obs[BLUE + 5] += np.radians(90)
    assert done(before, after) == {"rotate_blue_block_left"}
    for change in ({3: np.radians(40)}, {1: 0.11}, {2: 0.09}):
        other = FakeSimulator()
        other.scene_obs[:] = after.scene_obs
        for offset, amount in change.items():
            other.scene_obs[BLUE + offset] += amount
        assert "rotate_blue_block_left" not in done(before, other)


def test_a_push_does_not_count_once_the_block_has_left_its_surface(before, after):
    after.scene_obs[RED : RED + 3] = 0.11, 0.09, 0.46
    assert done(before, after) == set()


@pytest.mark.parametrize(
    ("place", "height", "lift"),
    [("table", (-0.1, 0.46), 0.05), ("slider", (0.09, 0.46), 0.03), ("drawer", (-0.3, 0.36), 0.05)],
)
def test_lifting_needs_height_a_hold_and_the_right_start(before, after, place, height, lift):
    for simulator in (before, after):
        simulator.scene_obs[RED + 1 : RED + 3] = height
    after.scene_obs[RED + 2] += lift - 0.002
    hold(after, RED)
    assert done(before, after) == set()
    after.scene_obs[RED + 2] += 0.004
    hold(after, RED)
    assert done(before, after) == {f"lift_red_block_{place}"}
    after.robot_obs[14] = 1
    assert done(before, after) == set()


@pytest.mark.parametrize(
    ("target", "task"),
    [((0.0, 0.09, 0.46), "place_in_slider"), ((0.18, -0.3, 0.36), "place_in_drawer")],
)
def test_placing_needs_a_held_block_and_letting_go(before, after, target, task):
    before.scene_obs[PINK + 2] = 0.6
    hold(before, PINK)
    after.scene_obs[PINK : PINK + 3] = target
    assert done(before, after) == {task}
    hold(after, PINK)
    assert done(before, after) == set()
    assert done(FakeSimulator(), after) == set()


def test_stacking_and_unstacking(before, after):
    before.scene_obs[RED + 2] = 0.6
    hold(before, RED)
    after.scene_obs[RED : RED + 3] = after.scene_obs[BLUE : BLUE + 3] + [0, 0, 0.04]
    assert done(before, after) == {"stack_block"}
    assert done(after, before) == {"unstack_block"}


def test_a_stacked_block_must_be_slow(before, after):
    before.scene_obs[RED + 2] = 0.6
    after.scene_obs[RED : RED + 3] = after.scene_obs[BLUE : BLUE + 3] + [0, 0, 0.04]
    start, now = before.info(), after.info()
    now["scene_info"]["movable_objects"]["block_red"]["current_lin_vel"] = (0.0, 0.0, -1.1)
    assert not is_done("stack_block", start, now)


def test_pushing_into_the_drawer(before, after):
    after.scene_obs[BLUE : BLUE + 3] = 0.18, -0.3, 0.36
    assert done(before, after) == {"push_into_drawer"}
    before.scene_obs[BLUE + 1] = 0.09
    assert done(before, after) == set()


def test_an_unknown_task_is_refused_with_a_suggestion():
    with pytest.raises(ValueError, match=r"Unknown task 'open_draw'; did you mean 'open_drawer'.*rf_envs\.TASKS"):
        check_task("open_draw")


def test_euler_angles_turn_about_the_fixed_axes_in_turn():
    def turn(axis: int, angle: float) -> np.ndarray:
        one, other = [i for i in range(3) if i != axis]
        matrix = np.eye(3)
        sine = np.sin(angle) if axis != 1 else -np.sin(angle)
        matrix[one, one] = matrix[other, other] = np.cos(angle)
        matrix[one, other], matrix[other, one] = -sine, sine
        return matrix

    for quaternion in np.random.default_rng(0).normal(size=(50, 4)):
        x, y, z = euler_from_quaternion(quaternion)
        axis, w = quaternion[:3] / np.linalg.norm(quaternion), quaternion[3] / np.linalg.norm(quaternion)
        for vector in np.eye(3):
            turned = vector + 2 * np.cross(axis, np.cross(axis, vector) + w * vector)
            assert np.allclose(turn(2, z) @ turn(1, y) @ turn(0, x) @ vector, turned)
