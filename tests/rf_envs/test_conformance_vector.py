"""Vector environments, in one process or in several, play what single environments play.

All ids of the embedded table stand side by side in each of them; every environment is followed over its episode's end
into the next episode.
"""

from __future__ import annotations

import functools
import multiprocessing
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import pytest
from conformance import CHAINS, IDS, Stir, same
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv

# workers are forked off a process that has imported what they need once; spawned ones would each import torch
multiprocessing.set_forkserver_preload(["stable_baselines3.common.vec_env", "rf_envs", "pybullet"])
SEED = 7
STEPS = 9
ARGUMENTS = {"image_size": (64, 48), "max_steps": 4}  # an episode ends twice while it is watched


class Moment(NamedTuple):
    """What an environment said at a reset or a step."""

    observation: dict[str, np.ndarray]
    reward: float
    ended: tuple[bool, bool]
    is_success: bool
    task: str
    chain: int | None


def make(env_id: str) -> Callable[[], gym.Env]:
    return functools.partial(gym.make, f"rf_envs:{env_id}", **ARGUMENTS)


def stirs() -> list[Stir]:
    return [Stir(index) for index in range(len(IDS))]


@functools.cache
def single(index: int) -> list[Moment]:
    """The moments of one environment that is in no vector, reset with its own seed and then without one."""
    env, stir, moments = make(IDS[index])(), Stir(index), []
    observation, info = env.reset(seed=SEED + index)
    moments.append(moment(observation, 0.0, (False, False), info))
    for _ in range(STEPS):
        if any(moments[-1].ended):
            observation, info = env.reset()
            moments.append(moment(observation, 0.0, (False, False), info))
        observation, reward, terminated, truncated, info = env.step(stir.act(observation))
        moments.append(moment(observation, reward, (terminated, truncated), info))
    env.close()
    return moments


def moment(observation: dict[str, np.ndarray], reward: float, ended: tuple[bool, bool], info: dict[str, Any]) -> Moment:
    ended = bool(ended[0]), bool(ended[1])
    chain = int(info["chain"]) if "chain" in info else None
    return Moment(observation, float(reward), ended, bool(info["is_success"]), str(info["task"]), chain)


def gymnasiums(make_vector: Callable[[Sequence[Callable[[], gym.Env]]], gym.vector.VectorEnv]) -> list[list[Moment]]:
    """The moments of Gymnasium's vector environments, which reset in the step after an episode's end."""
    envs, drivers = make_vector([make(env_id) for env_id in IDS]), stirs()

    def pick(batch: dict[str, Any], index: int) -> dict[str, Any]:
        # an info that some environments do not give comes with a mask, `_name`
        return {name: value[index] for name, value in batch.items() if batch.get(f"_{name}", [True] * 99)[index]}

    try:
        observations, infos = envs.reset(seed=SEED)
        rows = [[moment(pick(observations, i), 0.0, (False, False), pick(infos, i))] for i in range(len(IDS))]
        while min(map(len, rows)) < max(len(single(index)) for index in range(len(IDS))):
            newest = [row[-1] for row in rows]
            # an environment that is reset in this step does not look at its action
            actions = [
                np.zeros(7, np.float32) if any(last.ended) else stir.act(last.observation)
                for last, stir in zip(newest, drivers, strict=True)
            ]
            observations, rewards, terminated, truncated, infos = envs.step(np.stack(actions))
            for i, row in enumerate(rows):
                row.append(moment(pick(observations, i), rewards[i], (terminated[i], truncated[i]), pick(infos, i)))
    finally:
        envs.close()
    return rows


def baselines(make_vector: Callable[[Sequence[Callable[[], gym.Env]]], Any]) -> list[list[Moment]]:
    """The moments of Stable-Baselines3's vector environments, which reset in the step of an episode's end."""
    envs, drivers = make_vector([make(env_id) for env_id in IDS]), stirs()

    def pick(batch: dict[str, np.ndarray], index: int) -> dict[str, np.ndarray]:
        return {key: value[index].copy() for key, value in batch.items()}

    try:
        envs.seed(SEED)
        observations = envs.reset()
        rows = [[moment(pick(observations, i), 0.0, (False, False), envs.reset_infos[i])] for i in range(len(IDS))]
        for _ in range(STEPS):
            actions = [stir.act(row[-1].observation) for row, stir in zip(rows, drivers, strict=True)]
            observations, rewards, dones, infos = envs.step(np.stack(actions))
            for i, row in enumerate(rows):
                if not dones[i]:
                    row.append(moment(pick(observations, i), rewards[i], (False, False), infos[i]))
                    continue
                truncated = infos[i]["TimeLimit.truncated"]
                last = infos[i]["terminal_observation"]
                row.append(moment(last, rewards[i], (not truncated, truncated), infos[i]))
                row.append(moment(pick(observations, i), 0.0, (False, False), envs.reset_infos[i]))
    finally:
        envs.close()
    return rows


def assert_same(rows: list[list[Moment]]) -> None:
    for index, (env_id, row) in enumerate(zip(IDS, rows, strict=True)):
        expected = single(index)
        assert len(row) >= len(expected)
        for step, (here, there) in enumerate(zip(expected, row, strict=False)):
            assert here[1:] == there[1:], f"{env_id}, moment {step}"
            assert same(here.observation, there.observation), f"{env_id}, moment {step}"
        assert sum(any(m.ended) for m in expected) == 2


def test_gymnasiums_sync_vector():
    assert_same(gymnasiums(SyncVectorEnv))


def asynchronous(environments: Sequence[Callable[[], gym.Env]]) -> AsyncVectorEnv:
    return AsyncVectorEnv(environments, shared_memory=True, context="forkserver")


def subprocesses(environments: list[Callable[[], gym.Env]]) -> Any:
    vectors = pytest.importorskip("stable_baselines3.common.vec_env")
    return vectors.SubprocVecEnv(environments, start_method="forkserver")


def test_gymnasiums_async_vector_with_shared_memory():
    assert_same(gymnasiums(asynchronous))


def test_stable_baselines_dummy_vector():
    vectors = pytest.importorskip("stable_baselines3.common.vec_env")
    assert_same(baselines(vectors.DummyVecEnv))


def test_stable_baselines_subprocess_vector():
    assert_same(baselines(subprocesses))


@functools.cache
def chain_start(env_id: str, chain: int) -> dict[str, np.ndarray]:
    env = make(env_id)()
    observation, _ = env.reset(seed=99, options={"chain": chain})
    env.close()
    return observation


TWICE = [env_id for env_id in CHAINS for _ in range(2)]


def assert_chain_starts(observations: dict[str, np.ndarray], chain: int) -> None:
    for worker, env_id in enumerate(TWICE):
        start = {key: value[worker] for key, value in observations.items()}
        assert same(start, chain_start(env_id, chain)), f"{env_id}, worker {worker}"


@pytest.mark.parametrize("chain", [0, 503])
def test_a_chain_starts_the_same_in_every_async_worker(chain, async_chains):
    async_chains.reset(seed=[3 * worker for worker in range(len(TWICE))])  # workers with different pasts
    observations, infos = async_chains.reset(options={"chain": chain})
    assert infos["chain"].tolist() == [chain] * len(TWICE)
    assert_chain_starts(observations, chain)


def test_a_chain_starts_the_same_in_every_subprocess():
    envs = subprocesses([make(env_id) for env_id in TWICE])
    try:
        for chain in (0, 503):
            envs.set_options({"chain": chain})
            observations = envs.reset()
            assert [info["chain"] for info in envs.reset_infos] == [chain] * len(TWICE)
            assert_chain_starts(observations, chain)
    finally:
        envs.close()


@pytest.fixture(scope="module")
def async_chains():
    envs = asynchronous([make(env_id) for env_id in TWICE])
    yield envs
    envs.close()
