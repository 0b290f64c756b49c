"""Another instruction in the present state: what a person at the table does."""

import numpy as np
import pytest

from rf_envs.benchmark.chains import chain
from rf_envs.benchmark.tasks import TASKS
from rf_envs.chain import ChainEnv
from rf_envs.expert import Expert
from rf_envs.language.instructions import EVALUATION
from rf_envs.spaces import decode_instruction

STAY = np.zeros(7, dtype=np.float32)


@pytest.fixture
def started(env):
    env.reset(seed=0, options={"task": "open_drawer"})
    return env


def test_a_known_instruction_is_judged_from_the_present_state_on(started, simulator):
    simulator.scene_obs[:2] = 0.0
    started.step(STAY)
    before = started.scene_obs.copy()
    observation, info = started.ask("Pull the drawer open.")
    assert (info["task"], info["is_success"]) == ("open_drawer", False) and "not_scored" not in info
    assert decode_instruction(observation["instruction"]) == "Pull the drawer open." == info["instruction"]
    assert np.array_equal(started.scene_obs, before)
    simulator.scene_obs[1] += 0.13
    assert started.step(STAY)[1:3] == (1.0, True)


def test_one_can_ask_again_after_success(started, simulator):
    simulator.scene_obs[1] = 0.0
    started.step(STAY)
    started.ask("open the drawer")
    simulator.scene_obs[1] = 0.18
    assert started.step(STAY)[2]
    _, info = started.ask("close the drawer")
    assert info["task"] == "close_drawer" and not info["is_success"]
    assert started.step(STAY)[1:4] == (0.0, False, False)
    simulator.scene_obs[1] = 0.0
    assert started.step(STAY)[1:3] == (1.0, True)


def test_steps_count_from_the_instruction(make_env):
    env = make_env(max_steps=3)
    env.reset(seed=0, options={"task": "turn_on_led"})
    for _ in range(2):
        env.step(STAY)
    env.ask("turn off the led")
    assert [env.step(STAY)[3] for _ in range(3)] == [False, False, True]


def test_free_text_is_tried_but_not_scored(started, simulator):
    _, info = started.ask("dance for me")
    assert info["task"] == "" and info["not_scored"] == "no known instruction asks for that"
    simulator.scene_obs[1] += 0.13
    assert started.step(STAY)[1:4] == (0.0, False, False)


def test_what_the_state_rules_out_says_why(started, simulator):
    simulator.scene_obs[1] = 0.0
    started.step(STAY)
    _, info = started.ask("close the drawer")
    assert info["task"] == "" and info["not_scored"]
    _, info = started.ask("something in other words", task="open_drawer")
    assert info["task"] == "open_drawer"


@pytest.mark.parametrize(
    ("arguments", "match"),
    [(("x" * 300,), "300 bytes"), (("go", "fly"), "Unknown task 'fly'"), ((" ",), "The instruction is blank")],
)
def test_what_cannot_be_asked_changes_nothing(started, arguments, match):
    with pytest.raises(ValueError, match=match):
        started.ask(*arguments)
    assert started.task == "open_drawer"


def test_a_chain_asks_by_itself(make_env):
    env = make_env(ChainEnv)
    env.reset(seed=0)
    with pytest.raises(ValueError, match="use the environment of single tasks"):
        env.ask("open the drawer")


def test_images_are_fresh_where_observations_repeat_them(make_env):
    env = make_env(render_every=1000)
    first, _ = env.reset(seed=0)
    observation, *_ = env.step(np.ones(7, np.float32))
    assert np.array_equal(observation["rgb_static"], first["rgb_static"])
    images = env.images()
    assert images.keys() == {"rgb_static", "rgb_gripper"}
    assert not np.array_equal(images["rgb_static"], first["rgb_static"])


def test_wordings_begin_with_the_one_of_evaluations(env):
    wordings = env.wordings()
    assert tuple(wordings) == TASKS
    assert all(wordings[task][0] == EVALUATION[task] and len(set(wordings[task])) > 10 for task in TASKS)
    assert all(env.task_of(text) == task for task in TASKS for text in wordings[task])


def test_possible_tasks_are_those_of_the_present_state(started, simulator):
    simulator.scene_obs[1] = 0.0
    started.step(STAY)
    assert "open_drawer" in started.possible_tasks() and "close_drawer" not in started.possible_tasks()


def test_the_start_of_a_chain_resets_to_it(env):
    options, tasks = env.chain_start(3, "D")
    env.reset(options=options)
    assert np.allclose(env.scene_obs, options["scene_obs"])
    assert [task for task, _ in tasks] == chain(3)[1]
    assert [env.task_of(text) for _, text in tasks] == chain(3)[1]
    with pytest.raises(ValueError, match="no chain 1000"):
        env.chain_start(1000, "D")


def test_the_expert_says_why_it_does_not_demonstrate_free_text(started):
    started.ask("sing a song")
    with pytest.raises(ValueError, match="asked for is none of its tasks, .* env.ask\\(instruction, task="):
        Expert(started).act()
