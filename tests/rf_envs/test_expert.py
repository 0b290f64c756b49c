"""The scripted demonstrator on the embedded table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest

import rf_envs
from rf_envs.expert import SKILLS, Expert, blocks
from rf_envs.expert.grasping import is_on_table, shelf_openings
from rf_envs.expert.motions import FINGER, GAIN, LEAD, SPEED, Command, approach, servo, shove
from rf_envs.expert.view import Block, View

FIXTURES = (
    "open_drawer", "close_drawer", "move_slider_left", "move_slider_right",
    "turn_on_led", "turn_off_led", "turn_on_lightbulb", "turn_off_lightbulb",
)  # fmt: skip
TABLE_BLOCKS = tuple(
    name
    for color in ("red", "blue", "pink")
    for name in (f"lift_{color}_block_table", f"push_{color}_block_left", f"push_{color}_block_right")
)
OTHERS = tuple(sorted(set(SKILLS) - set(FIXTURES) - set(TABLE_BLOCKS)))
DOWN_EULER = np.array([np.pi, 0.0, np.pi / 2])


@pytest.fixture(scope="module")
def env() -> Iterator[gym.Env]:
    made = gym.make("rf_envs:rf/PlayTableD-v0", image_size=(8, 8), render_every=1000)
    yield made
    made.close()


def demonstrate(env: gym.Env, task: str, seed: int, disturb: Callable[[np.ndarray], np.ndarray] | None = None) -> int:
    """Steps until the task was done, 0 if it was not."""
    _, info = env.reset(seed=seed, options={"task": task})
    assert info["task"] == task
    expert = rf_envs.Expert(env)
    for step in range(1, 361):
        action = expert.act()
        assert env.action_space.contains(action)
        _, _, terminated, truncated, info = env.step(disturb(action) if disturb else action)
        if terminated or truncated:
            return step if info["is_success"] else 0
    return 0


class Noise:
    """Correlated noise and kicks, as demonstrations are collected with."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._noise, self._kick, self._left = np.zeros(6), np.zeros(3), 0

    def __call__(self, action: np.ndarray) -> np.ndarray:
        scale = 0.3 * np.sqrt(1 - 0.6**2) * np.array([1, 1, 1, 0.5, 0.5, 0.5])
        self._noise = 0.6 * self._noise + scale * self._random.normal(size=6)
        if self._left == 0 and self._random.random() < 0.02:
            self._left = int(self._random.integers(3, 6))
            self._kick = self._random.normal(size=3)
            self._kick /= np.linalg.norm(self._kick)
        disturbed = action.copy()
        disturbed[:6] += self._noise
        if self._left > 0:
            disturbed[:3] = self._kick
            self._left -= 1
        return np.clip(disturbed, -1, 1).astype(np.float32)


def test_knows_every_task():
    assert set(SKILLS) == set(rf_envs.TASKS)


@pytest.mark.parametrize("task", FIXTURES + TABLE_BLOCKS)
def test_solves_the_task_briskly(env, task):
    steps = [demonstrate(env, task, seed) for seed in range(2)]
    assert all(0 < count <= 120 for count in steps), steps


@pytest.mark.parametrize("task", OTHERS)
def test_solves_the_task(env, task):
    # some starts leave no room for the hand (a block in the corner of the shelf)
    assert any(demonstrate(env, task, seed) for seed in range(2))


def test_recovers_from_noise(env):
    tasks = ("open_drawer", "move_slider_right", "turn_off_lightbulb", "lift_blue_block_table", "push_red_block_left")
    solved = [demonstrate(env, task, seed, Noise(seed)) > 0 for task in tasks for seed in range(2)]
    assert np.mean(solved) >= 0.9


def test_remembers_nothing(env):
    env.reset(seed=3, options={"task": "lift_red_block_table"})
    expert = Expert(env)
    for _ in range(20):
        action = expert.act()
        np.testing.assert_array_equal(action, Expert(env).act())
        env.step(action)


def test_takes_up_a_new_task_from_wherever_it_is(env):
    demonstrate(env, "open_drawer", 0)
    start = env.unwrapped
    # hooked behind the drawer's bar: it must go up before it goes sideways
    view = View.of(start)
    action = servo(view, SKILLS["turn_on_led"](view))
    assert action[2] > 0.5
    assert np.abs(action[:2]).max() < 0.1


def test_leaves_the_drawers_bar_before_it_uncovers_a_block_on_the_shelf(env):
    demonstrate(env, "open_drawer", 0)
    view = View.of(env.unwrapped)
    behind = view.scene.slide_x - view.slide
    red = replace(view.blocks["red"], position=np.array([behind, 0.09, 0.461]))
    action = servo(view, SKILLS["lift_red_block_slider"](replace(view, blocks=view.blocks | {"red": red})))
    assert action[2] > 0.5
    assert np.abs(action[:2]).max() < 0.1


def put_down(held: float, *others: float, length: float = 0.2) -> float:
    """x where a block at x = `held` comes to rest on a line from -0.1, with others on that line."""
    size = np.full(3, 0.05)
    red, *rest = (Block(np.array([x, -0.3, 0.4]), np.eye(3), size) for x in (held, *others))
    view = replace(view_at((held, -0.3, 0.5)), blocks={"red": red} | dict(zip(("blue", "pink"), rest, strict=False)))
    places = -0.1 + np.linspace(0.0, length, 1 + round(length / blocks.SPOT_GRID))
    (x, y, z), index = blocks._free_spot(view, red, places, -0.3, 0.34)
    assert (y, z) == (-0.3, pytest.approx(0.365)) and x == places[index]
    return float(x)


def test_a_block_is_put_down_where_it_is_if_there_is_room():
    assert put_down(0.0123) == pytest.approx(0.0123, abs=blocks.SPOT_GRID / 2)
    assert put_down(0.5) == pytest.approx(0.1) and put_down(-0.5) == pytest.approx(-0.1)
    assert put_down(0.05, length=0.0) == pytest.approx(-0.1)  # only one spot


def test_a_block_is_put_down_at_the_nearest_place_with_room():
    assert put_down(0.03, -0.01, length=0.4) == pytest.approx(0.09, abs=blocks.SPOT_GRID)
    assert put_down(-0.02, 0.02, length=0.4) == pytest.approx(-0.08, abs=blocks.SPOT_GRID)
    # nowhere is room enough: as far from both as can be
    assert put_down(0.0, -0.06, 0.06) == pytest.approx(0.0, abs=blocks.SPOT_GRID)


def into_the_cabinet(held: float, slide: float, slipped: float = 0.0) -> np.ndarray:
    """The action with a block held before the cabinet, the sliding door `slide` (m) to the left.

    The block lies `slipped` (m) nearer than the middle of the fingers.
    """
    view = view_at((held, -0.06, 0.63))
    red = Block(view.tcp - [0, slipped, 0], np.eye(3), np.full(3, 0.05))
    away = Block(np.array([0.3, -0.1, 0.46]), np.eye(3), np.full(3, 0.05))
    view = replace(view, width=0.05, slide=slide, blocks={"red": red, "blue": away, "pink": away})
    return servo(view, SKILLS["place_in_slider"](view))


def sideways_into_the_cabinet(held: float, slide: float) -> float:
    return float(into_the_cabinet(held, slide)[0])


def test_a_step_towards_one_side_of_the_door_makes_that_side_the_choice():
    # which of two sides is the wider cannot be seen within a centimetre, and must not decide where both are wide enough
    for slide in (0.13, 0.14, 0.15):
        assert sideways_into_the_cabinet(-0.15, slide) < -0.5
        assert sideways_into_the_cabinet(0.0, slide) > 0.5
    # one side only is wide enough
    assert sideways_into_the_cabinet(0.0, 0.05) < -0.5
    assert sideways_into_the_cabinet(-0.15, 0.25) > 0.5


def test_a_block_that_has_slipped_is_put_down_as_it_is():
    action = into_the_cabinet(-0.15, 0.14, slipped=0.03)
    assert action[0] < -0.5 and action[6] == -1.0  # opening the fingers before the cabinet would drop it
    assert into_the_cabinet(-0.15, 0.14, slipped=0.06)[6] == 1.0  # that one is not between the fingers


def test_a_block_is_aimed_further_into_the_cabinet_than_it_must_be():
    left, right = shelf_openings(replace(view_at((0.0, -0.1, 0.6)), slide=0.28))[1]
    edge = left + blocks.DOOR_ROOM
    assert right - left > 2 * (blocks.DOOR_ROOM + blocks.INSIDE)
    assert sideways_into_the_cabinet(edge, 0.28) > 0.05
    assert sideways_into_the_cabinet(edge + blocks.INSIDE, 0.28) == pytest.approx(0.0, abs=0.01)


def into_the_drawer(tcp: tuple[float, float, float], block: tuple[float, float], slide: float = 0.0) -> np.ndarray:
    """The action with one block on the table before the open drawer or beside it, and the others on the shelf."""
    shelf = Block(np.array([-0.3, 0.1, 0.46]), np.eye(3), np.full(3, 0.05))
    red = Block(np.array([*block, 0.46]), np.eye(3), np.full(3, 0.05))
    view = replace(view_at(tcp), width=0.0, slide=slide, drawer=0.2, blocks={"red": red, "blue": shelf, "pink": shelf})
    return servo(view, SKILLS["push_into_drawer"](view))


def test_a_block_beside_the_drawer_is_pushed_further_before_it_than_it_must_be():
    middle = rf_envs.scenes.SCENES["D"].drawer_x
    behind = -(0.025 + FINGER + 0.005)  # the hand, seen from the block
    for aside in (0.16, 0.13, 0.1):
        x = middle - aside
        assert into_the_drawer((x + behind, -0.1, 0.468), (x, -0.1))[0] > 0.5
    # far enough, or no longer pushed: up, to come down behind it
    x = middle - 0.08
    assert into_the_drawer((x + behind, -0.1, 0.468), (x, -0.1))[2] > 0.3
    x = middle - 0.13
    assert into_the_drawer((x + behind, -0.1, 0.52), (x, -0.1))[2] > 0.3


def test_a_block_before_the_doors_handle_is_pushed_aside_first():
    x = rf_envs.scenes.SCENES["D"].slide_x + 0.01  # a little right of the handle: the hand goes to the block's left
    assert into_the_drawer((x, -0.05, 0.6), (x, -0.08))[0] < -0.3
    # with the handle elsewhere, or not so near the door, it comes down behind the block
    assert abs(into_the_drawer((x, -0.05, 0.6), (x, -0.08), slide=0.1)[0]) < 0.1
    assert abs(into_the_drawer((x, -0.05, 0.6), (x, -0.14))[0]) < 0.1


def test_unknown_task_is_named():
    class Table:
        task = "fold_the_laundry"

        @property
        def unwrapped(self):
            return self

    with pytest.raises(ValueError, match="fold_the_laundry"):
        Expert(Table()).act()


def view_at(position: tuple[float, float, float], euler: np.ndarray = DOWN_EULER) -> View:
    return View(
        scene=rf_envs.scenes.SCENES["D"], tcp=np.array(position), euler=euler, width=0.08, slide=0.0,
        drawer=0.0, button=0.0, switch=0.0, led=False, lightbulb=False, blocks={},
    )  # fmt: skip


def test_servo_is_proportional_and_bounded():
    view = view_at((0.0, 0.0, 0.5))
    near = servo(view, Command(np.array([0.01, 0.0, 0.5]), open=True))
    np.testing.assert_allclose(near, [GAIN * 0.5, 0, 0, 0, 0, 0, 1], atol=1e-6)
    far = servo(view, Command(np.array([1.0, 1.0, 0.5]), yaw=0.0))
    assert np.linalg.norm(far[:3]) == pytest.approx(SPEED)
    assert np.linalg.norm(far[3:6]) == pytest.approx(SPEED)
    assert far[6] == -1


def test_servo_turns_the_short_way_round():
    view = view_at((0.0, 0.0, 0.5), np.array([-np.pi + 0.1, 0.0, np.pi / 2]))
    assert servo(view, Command(view.tcp))[3] < 0


def test_approach_stays_up_until_it_is_above_and_backs_out_first():
    goal, way_in = np.array([0.2, 0.0, 0.45]), np.array([0.0, 0.0, 0.1])
    high = approach(np.array([0.0, 0.0, 0.6]), goal, way_in, 0.01)
    np.testing.assert_allclose(high, [0.2, 0.0, 0.55])
    deep = approach(np.array([0.0, 0.0, 0.45]), goal, way_in, 0.01)
    np.testing.assert_allclose(deep, [0.0, 0.0, 0.55])
    above = approach(np.array([0.205, 0.0, 0.55]), goal, way_in, 0.01)
    np.testing.assert_allclose(above, goal)
    turned = approach(np.array([0.2, 0.0, 0.55]), goal, way_in, 0.01, misaligned=3.0)
    np.testing.assert_allclose(turned, [0.2, 0.0, 0.55])


def test_shove_runs_on_behind_the_thing_and_comes_round_from_its_other_side():
    contact, direction, way_in = np.array([0.1, 0.0, 0.46]), np.array([1.0, 0.0, 0.0]), np.array([0.0, 0.0, 0.08])
    pushing = shove(np.array([0.09, 0.0, 0.46]), contact, direction, 0.03, way_in, 0.012)
    np.testing.assert_allclose(pushing, [0.09 + LEAD, 0.0, 0.46])
    wrong_side = shove(np.array([0.2, 0.0, 0.46]), contact, direction, 0.03, way_in, 0.012)
    np.testing.assert_allclose(wrong_side, [0.2, 0.0, 0.54])


def test_before_a_reset_there_is_nothing_to_demonstrate():
    with pytest.raises(gym.error.ResetNeeded, match="call env.reset"):
        rf_envs.TableEnv().expert().act()


def test_which_block_is_stacked_upon_follows_from_the_colours(env):
    """Not from distances, which may be nearly equal: a policy would learn the mean of both ways."""
    chosen = 0
    for seed in range(12):
        env.reset(seed=seed, options={"task": "stack_block"})
        view = View.of(env.unwrapped)
        held = min(view.blocks, key=lambda color: float(np.linalg.norm(view.blocks[color].position - view.tcp)))
        lying = [color for color in ("red", "blue", "pink") if color != held and is_on_table(view.blocks[color])]
        if len(lying) < 2 or not demonstrate(env, "stack_block", seed):
            continue
        blocks = View.of(env.unwrapped).blocks
        offsets = {color: np.linalg.norm((blocks[color].position - blocks[held].position)[:2]) for color in lying}
        assert min(offsets, key=lambda color: offsets[color]) == lying[0]
        chosen += 1
    assert chosen >= 2
