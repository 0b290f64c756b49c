"""The chain environment, on a simulator without physics."""

import numpy as np
import pytest

import rf_envs
from rf_envs.benchmark.chain_generator import training_chain
from rf_envs.benchmark.chains import initial_state
from rf_envs.chain import ChainEnv
from rf_envs.language.instructions import EVALUATION
from rf_envs.spaces import decode_instruction

STAY = np.zeros(7, dtype=np.float32)
EASY = {
    "open_drawer": (1, 0.22),
    "close_drawer": (1, 0.0),
    "move_slider_left": (0, 0.28),
    "move_slider_right": (0, 0.0),
    "turn_on_led": (5, 1),
    "turn_off_led": (5, 0),
    "turn_on_lightbulb": (4, 1),
    "turn_off_lightbulb": (4, 0),
}
"""Task to the number in scene_obs, and its value, that fulfil it."""


def fulfil(simulator, task: str) -> None:
    index, value = EASY[task]
    simulator.scene_obs[index] = value


@pytest.fixture
def easy_chain(monkeypatch):
    tasks = ["open_drawer", "turn_on_led", "move_slider_left", "close_drawer", "turn_off_led"]
    state = rf_envs.chains()[0][0] | {"drawer": "closed", "led": 0, "slider": "right"}
    monkeypatch.setattr("rf_envs.chain.chain", lambda index: (dict(state), list(tasks)))
    return tasks


def test_a_chain_starts_in_its_own_state(chain_env):
    for index in (0, 7, 999):
        state, tasks = rf_envs.chains()[index]
        observation, info = chain_env.reset(seed=0, options={"chain": index})
        robot_obs, scene_obs = initial_state(state)
        assert np.array_equal(chain_env.scene_obs, scene_obs)
        assert np.array_equal(chain_env.robot_obs, robot_obs)
        assert info == {
            "is_success": False,
            "task": tasks[0],
            "instruction": EVALUATION[tasks[0]],
            "renderer": "fake",
            "subtask": 0,
            "completed": 0,
            "chain": index,
        }
        assert decode_instruction(observation["instruction"]) == info["instruction"]


def test_the_return_is_the_number_of_tasks_done(chain_env, simulator, easy_chain):
    chain_env.reset(seed=0)
    rewards = []
    for number, task in enumerate(easy_chain):
        assert chain_env.step(STAY)[1] == 0.0
        fulfil(simulator, task)
        observation, reward, terminated, truncated, info = chain_env.step(STAY)
        rewards.append(reward)
        assert info["completed"] == number + 1
        assert (terminated, truncated, info["is_success"]) == (number == 4, False, number == 4)
        assert decode_instruction(observation["instruction"]) == info["instruction"] == EVALUATION[info["task"]]
        assert info["task"] == easy_chain[min(number + 1, 4)] and info["subtask"] == min(number + 1, 4)
    assert rewards == [1.0] * 5
    assert chain_env.step(STAY)[1:4] == (0.0, True, False)


def test_each_sub_task_has_its_own_time(make_env, simulator, easy_chain):
    env = make_env(ChainEnv, max_steps=3)
    env.reset(seed=0)
    assert [env.step(STAY)[3] for _ in range(2)] == [False, False]
    fulfil(simulator, easy_chain[0])
    assert env.step(STAY)[1:4] == (1.0, False, False)
    assert [env.step(STAY)[3] for _ in range(3)] == [False, False, True]
    assert env.step(STAY)[4]["completed"] == 1


def test_a_sub_task_counts_from_where_it_was_given(chain_env, simulator, easy_chain):
    chain_env.reset(seed=0)
    fulfil(simulator, "turn_on_led")
    assert chain_env.step(STAY)[1] == 0.0
    fulfil(simulator, "open_drawer")
    assert chain_env.step(STAY)[1] == 1.0
    # the LED was on already when this was asked for
    assert chain_env.step(STAY)[1] == 0.0
    simulator.scene_obs[5] = 0
    chain_env.step(STAY)
    assert chain_env.step(STAY)[4]["completed"] == 1


def test_what_chains_do_not_have_is_refused(chain_env, make_env):
    with pytest.raises(ValueError, match="Chains have tasks of their own: leave out tasks="):
        make_env(ChainEnv, tasks=["open_drawer"])
    with pytest.raises(ValueError, match="plays chains, which have no colour trials"):
        chain_env.color_trial(0, seed=0)


def test_chains_are_drawn_by_the_seed(chain_env):
    drawn = [chain_env.reset(seed=seed)[1]["chain"] for seed in range(20)]
    assert drawn == [chain_env.reset(seed=seed)[1]["chain"] for seed in range(20)]
    assert len(set(drawn)) > 15


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"chain": 1000}, "There is no chain 1000; give a whole number from 0 to 999"),
        ({"chain": -1}, "There is no chain -1"),
        ({"chain": "first"}, "There is no chain 'first'"),
        ({"task": "open_drawer"}, "Unknown reset option 'task'"),
        ({"scene_obs": [0.0]}, r"scene_obs has shape \(1,\)"),
    ],
)
def test_bad_options_are_refused(chain_env, options, message):
    with pytest.raises(ValueError, match=message):
        chain_env.reset(options=options)


def test_a_given_state_replaces_the_chains_own(chain_env):
    _, scene_obs = initial_state(rf_envs.chains()[0][0])
    scene_obs[1] = 0.11
    chain_env.reset(options={"chain": 37, "scene_obs": scene_obs})
    assert np.array_equal(chain_env.scene_obs, scene_obs)


def test_a_block_above_its_shelf_comes_to_rest_before_the_first_task(chain_env, simulator):
    steps = []
    simulator.step = lambda action: steps.append(action)
    _, scene_obs = initial_state(rf_envs.chains()[0][0])
    scene_obs[8] += 0.02
    chain_env.reset(options={"chain": 0, "scene_obs": scene_obs})
    assert len(steps) > 0 and all(not action[:6].any() and action[6] == 1.0 for action in steps)


def test_a_state_that_rules_out_the_first_task_is_refused(chain_env):
    chain_env.reset(options={"chain": 37})
    first, scene_obs = chain_env.task, chain_env.scene_obs.copy()
    assert first == "turn_off_lightbulb"
    scene_obs[3:5] = 0  # it is off
    said = (
        "'turn_off_lightbulb' cannot be fulfilled .* the light bulb is off already.* give another chain, or a scene_obs"
    )
    with pytest.raises(ValueError, match=said):
        chain_env.reset(options={"chain": 37, "scene_obs": scene_obs})


def test_training_chains_are_others_and_start_elsewhere(make_env, simulator):
    env = make_env(ChainEnv, chains="training")
    (state, tasks), seed = training_chain(5)
    _, info = env.reset(seed=0, options={"chain": 5})
    assert info["chain"] == 5 and info["task"] == tasks[0]
    assert np.array_equal(env.scene_obs, initial_state(state, seed=seed)[1])
    drawn = {env.reset(seed=seed)[1]["chain"] for seed in range(5)}
    assert len(drawn) == 5 and max(drawn) > 1000
    with pytest.raises(ValueError, match="no training chain -1"):
        env.reset(options={"chain": -1})
    with pytest.raises(ValueError, match="kind of chains"):
        make_env(ChainEnv, chains="test")
