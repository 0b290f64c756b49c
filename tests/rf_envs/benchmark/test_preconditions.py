"""A task that a given state rules out is refused, with the reason."""

import gymnasium as gym
import numpy as np
import pytest
from fake_simulator import FakeSimulator

from rf_envs.benchmark.preconditions import obstacle, possible
from rf_envs.benchmark.tasks import TASKS
from rf_envs.scenes import SCENES
from rf_envs.table import TableEnv

D = SCENES["D"]


@pytest.fixture(scope="module")
def env():
    table = TableEnv(image_size=(8, 8))
    yield table
    table.close()


@pytest.fixture(scope="module")
def start(env):
    """Blocks apart on table and shelf, drawer and door at their middle, lights on."""
    env.reset(seed=3, options={"task": "push_red_block_left"})
    scene_obs = env.scene_obs.copy()
    scene_obs[:6] = 0.14, 0.1, 0.0, 0.088, 1.0, 1.0
    scene_obs[6:] = (0.05, -0.12, 0.4599, 0, 0, 1.57, -0.25, 0.09, 0.4599, 0, 0, 1.57, 0.25, -0.12, 0.4599, 0, 0, 1.57)
    return scene_obs


IMPOSSIBLE = {
    "turn_on_led": "the LED is on already",
    "turn_on_lightbulb": "the light bulb is on already",
    "open_drawer": r"the drawer can open only 12\.0 cm further, and the task asks for more than 12 cm",
    "close_drawer": r"the drawer can close only 10\.0 cm further",
    "move_slider_left": r"the sliding door can move only 14\.0 cm further to the left, and the task asks for",
    "move_slider_right": r"the sliding door can move only 14\.0 cm further to the right",
    "lift_red_block_slider": "the red block is not in the cabinet",
    "lift_red_block_drawer": "the red block is not in the drawer",
    "lift_blue_block_drawer": "the blue block is not in the drawer",
    "lift_pink_block_slider": "the pink block is not in the cabinet",
    "lift_pink_block_drawer": "the pink block is not in the drawer",
    "lift_blue_block_table": "the blue block is not on the table top",
    "place_in_slider": "the robot holds no block",
    "place_in_drawer": "the robot holds no block",
    "unstack_block": "no block rests on another",
}


@pytest.mark.parametrize("task", IMPOSSIBLE)
def test_an_impossible_task_is_refused_with_the_reason(env, start, task):
    with pytest.raises(ValueError, match=f"{task}' cannot be fulfilled from the given scene_obs: {IMPOSSIBLE[task]}"):
        env.reset(options={"task": task, "scene_obs": start})
    with pytest.raises(gym.error.ResetNeeded, match="A reset that raises an error begins none"):
        env.step(np.zeros(7))
    env.reset(options={"scene_obs": start})  # a good reset puts it right


@pytest.mark.parametrize("task", sorted(set(TASKS) - set(IMPOSSIBLE)))
def test_the_other_tasks_are_taken(env, start, task):
    _, info = env.reset(options={"task": task, "scene_obs": start})
    assert info["task"] == task


def test_what_pushes_need_of_a_block(env, start):
    lifted = start.copy()
    lifted[8] += 0.4  # still in the air when the task begins
    with pytest.raises(ValueError, match="the red block rests on nothing"):
        env.reset(options={"task": "push_red_block_left", "scene_obs": lifted})
    on_the_shelf = start.copy()
    on_the_shelf[6:9], on_the_shelf[18:21] = (-0.15, 0.09, 0.4599), (0.1, 0.09, 0.4599)
    with pytest.raises(ValueError, match="no block is on the table top and touches nothing else"):
        env.reset(options={"task": "push_into_drawer", "scene_obs": on_the_shelf})


def test_reasons_name_no_part_of_the_simulation(env, start):
    lifted = start.copy()
    lifted[8] += 0.4
    for scene_obs in (start, lifted):
        env.reset(options={"scene_obs": scene_obs})
        state = {"robot_info": env.robot_info, "scene_info": env.scene_info}
        # where everything hangs in the air or has moved as far as it can, more is impossible
        for block in state["scene_info"]["movable_objects"].values():
            block["contacts"] = ()
        for door in state["scene_info"]["doors"].values():
            door["current_state"] = -0.001
        reasons = [reason for task in TASKS if (reason := obstacle(task, state, D))]
        assert len(reasons) > 20
        assert not [text for text in reasons if "_" in text or "-0.0" in text]


def test_without_a_task_one_is_drawn_that_the_state_allows(env, start):
    drawn = {env.reset(seed=seed, options={"scene_obs": start})[1]["task"] for seed in range(60)}
    assert len(drawn) > 5 and not drawn & set(IMPOSSIBLE)


def test_a_state_that_allows_none_of_the_environments_tasks_is_refused(start):
    table = TableEnv(image_size=(8, 8), tasks=("turn_on_led", "open_drawer"))
    with pytest.raises(ValueError, match="allows none of the tasks turn_on_led, open_drawer"):
        table.reset(options={"scene_obs": start})
    table.close()


ON_TABLE = {  # what can be done with a block that stands there alone
    color: {f"{verb}_{color}_block_{side}" for verb in ("push", "rotate") for side in ("left", "right")}
    | {f"lift_{color}_block_table"}
    for color in ("red", "blue", "pink")
}
AT_FIRST = set().union(*ON_TABLE.values(), ("move_slider_left", "open_drawer", "turn_on_lightbulb", "turn_on_led"))
WHERE = {"slider": 0, "drawer": 1, "bulb": 4, "led": 5, "red": slice(6, 9)}  # in scene_obs


@pytest.mark.parametrize(
    ("changes", "gained", "lost"),
    [
        ({}, set(), set()),
        ({"slider": 0.28}, {"move_slider_right"}, {"move_slider_left"}),
        ({"drawer": 0.22}, {"close_drawer", "push_into_drawer"}, {"open_drawer"}),
        ({"bulb": 1}, {"turn_off_lightbulb"}, {"turn_on_lightbulb"}),
        ({"led": 1}, {"turn_off_led"}, {"turn_on_led"}),
        ({"red": (0.0, -0.1, 0.46)}, set(), {"push_red_block_left"}),  # the button is in the way
        ({"red": (-0.2, 0.09, 0.46)}, {"lift_red_block_slider"}, ON_TABLE["red"]),
        (
            {"drawer": 0.22, "red": (0.18, -0.3, 0.36)},
            {"close_drawer", "push_into_drawer", "lift_red_block_drawer"},
            {"open_drawer"} | ON_TABLE["red"],
        ),
        ({"red": (0.17, -0.1, 0.5)}, {"unstack_block"}, ON_TABLE["red"] | ON_TABLE["blue"]),  # on the blue one
    ],
)
def test_what_is_possible_follows_from_where_things_are(changes, gained, lost):
    assert possible_tasks(lay_out(changes)) == (AT_FIRST | gained) - lost


def test_a_hand_that_holds_a_block_can_put_it_down_and_nothing_else():
    simulator = lay_out({"red": (0.06, -0.1, 0.6)})
    simulator.robot_obs[:3], simulator.robot_obs[14] = simulator.scene_obs[WHERE["red"]], -1
    assert possible_tasks(simulator) == {"place_in_slider", "stack_block"}
    simulator.scene_obs[WHERE["drawer"]] = 0.22
    assert possible_tasks(simulator) == {"place_in_slider", "stack_block", "place_in_drawer", "push_into_drawer"}


def lay_out(changes):
    """Three blocks apart on the table, everything closed and off; but for the changes."""
    simulator = FakeSimulator()
    simulator.scene_obs[6::6] = 0.06, 0.17, 0.28
    for what, value in changes.items():
        simulator.scene_obs[WHERE[what]] = value
    return simulator


def possible_tasks(simulator):
    return {task for task in TASKS if possible(task, simulator.info(), D)}
