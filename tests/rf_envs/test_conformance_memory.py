"""Environments give back what they take: many resets, and several environments opened and closed."""

from __future__ import annotations

import gc
import multiprocessing
import os
from pathlib import Path

import gymnasium as gym
import pytest

STATM = Path("/proc/self/statm")


def resident() -> float:
    """Memory of this process in MiB."""
    gc.collect()
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def try_out(env: gym.Env, resets: int) -> None:
    for seed in range(resets):
        env.reset(seed=seed)
        env.step(env.action_space.sample())


def growth(env_id: str) -> tuple[float, float, float]:
    """Memory after the warm-up, and what 300 resets and twelve environments add to it, in MiB."""

    def make() -> gym.Env:
        return gym.make(f"rf_envs:{env_id}", image_size=(64, 48))

    env = make()
    try_out(env, 20)
    warm = resident()
    try_out(env, 300)
    after_resets = resident()
    for _ in range(12):
        env.close()
        env = make()
        try_out(env, 1)
    after_openings = resident()
    env.close()
    return warm, after_resets - warm, after_openings - after_resets


@pytest.mark.slow
@pytest.mark.skipif(not STATM.exists(), reason="this system does not tell a process its memory in /proc")
def test_resets_and_closed_environments_leave_nothing_behind():
    # in a process of its own, where no other test has filled memory that could be taken again
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        warm, by_resets, by_openings = pool.apply(growth, ("rf/PlayTableD-v0",))
    # 5 % are allowed, for three environments; what is kept of a table's files would be 0.5 MiB each
    assert by_resets < 0.01 * warm
    assert by_openings < 3.0
