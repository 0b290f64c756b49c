"""The chains and their start states equal CALVIN's, element for element."""

import hashlib
import json

import numpy as np
import pytest

import rf_envs
from rf_envs.benchmark import chain_generator
from rf_envs.benchmark.chain_generator import draw_chains, generate_chains, start_states, training_chain
from rf_envs.benchmark.chains import chain, initial_state, state_seed
from rf_envs.benchmark.tasks import TASKS
from rf_envs.scenes import SCENES

CHAINS_SHA256 = "604957a8a2d3102941b278df07df4950bc41f340ed959077b20467d5f692318a"
"""Of CALVIN's chains as compact JSON."""
STARTS_SHA256 = "156766e6981694bfe8887a04cc0163b6c3a55b3e073e2b9524235a5cf8457c84"
"""Of seed and scene_obs of CALVIN's 192 start states, as float64 bytes."""


def test_chains_are_calvins(calvin_file):
    expected = json.loads(calvin_file("eval_sequences.json").read_text())
    assert [[state, tasks] for state, tasks in rf_envs.chains()] == expected


def test_chains_have_the_checksum_of_calvins():
    text = json.dumps([[state, tasks] for state, tasks in rf_envs.chains()], separators=(",", ":"))
    assert hashlib.sha256(text.encode()).hexdigest() == CHAINS_SHA256


def test_chains_can_be_changed_without_harm():
    rf_envs.chains()[0][0]["led"] = 7
    rf_envs.chains()[0][1].clear()
    assert rf_envs.chains()[0] == chain(0)
    assert chain(0)[0]["led"] in (0, 1) and len(chain(0)[1]) == 5


def test_some_start_states_give_the_shipped_chains_again():
    shipped = rf_envs.chains()
    for seed in (0, 50, 191):
        state = start_states()[seed]
        expected = sorted(tasks for other, tasks in shipped if other == state)
        assert sorted(draw_chains(state, len(expected), seed)) == expected


@pytest.mark.slow
def test_the_generator_makes_the_shipped_chains():
    assert generate_chains() == rf_envs.chains()


def test_every_task_occurs():
    assert {task for _, tasks in rf_envs.chains() for task in tasks} == set(TASKS)


def test_start_states_are_calvins(calvin_file):
    golden = json.loads(calvin_file("golden_init_states.json").read_text())
    assert start_states() == [entry["state"] for entry in golden["states"]]
    for entry in golden["states"]:
        robot_obs, scene_obs = initial_state(entry["state"])
        assert state_seed(entry["state"]) == entry["seed"]
        assert robot_obs.tolist() == golden["robot_obs"]
        assert scene_obs.tolist() == entry["scene_obs"]


def test_start_states_have_the_checksum_of_calvins():
    digest = hashlib.sha256()
    for state in start_states():
        digest.update(np.array([state_seed(state), *initial_state(state)[1]]).tobytes())
    assert digest.hexdigest() == STARTS_SHA256


@pytest.mark.parametrize("name", "ABC")
def test_other_scenes_start_on_their_own_surfaces(name):
    scene = SCENES[name]
    for state in start_states():
        _, scene_obs = initial_state(state, scene)
        assert scene_obs[0] == (scene.slide_max if state["slider"] == "left" else 0)
        for index, color in enumerate(scene.block_order):
            where = state[f"{color}_block"]
            (x0, *_), (x1, *_) = scene.surfaces[where]
            assert x0 <= scene_obs[6 + 6 * index] <= x1


@pytest.mark.parametrize("index", [-1, 1000, 1.5, "3", True, None])
def test_a_chain_out_of_range_is_refused(index):
    with pytest.raises(ValueError, match=f"no chain {index!r}; give a whole number from 0 to 999"):
        chain(index)


def test_no_training_chain_is_an_evaluation_chain():
    """Neither in start and tasks, nor in where the blocks stand."""
    evaluated = {(*state.values(), *tasks) for state, tasks in rf_envs.chains()}
    starts = {initial_state(state)[1].tobytes() for state, _ in rf_envs.chains()}
    drawn = set()
    for index in range(400):
        (state, tasks), seed = training_chain(index)
        assert (*state.values(), *tasks) not in evaluated
        assert initial_state(state, seed=seed)[1].tobytes() not in starts
        drawn.add((*state.values(), *tasks))
    assert len(drawn) > 390
    assert training_chain(7) == training_chain(7)


def test_a_chain_that_would_equal_an_evaluation_chain_is_drawn_again(monkeypatch):
    (state, tasks), _ = training_chain(3)
    monkeypatch.setattr(chain_generator, "_evaluation_chains", lambda: {(*state.values(), *tasks)})
    assert training_chain(3)[0][1] != tasks


@pytest.mark.parametrize("index", [-1, 2**31, 1.0, True])
def test_a_training_chain_out_of_range_is_refused(index):
    with pytest.raises(ValueError, match="no training chain"):
        training_chain(index)
