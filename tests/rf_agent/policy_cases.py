"""Policies and observations that the policy's tests share, made fresh for each of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from rf_agent.policy import RoboFlamingoPolicy

torch.set_num_threads(1)

CORPUS = ("push the red block to the left", "open the drawer", "turn on the light bulb with the switch")


def make_policy(seed: int = 0, *changes: str) -> RoboFlamingoPolicy:
    """A micro policy with random weights: W = 4, K = 3, E = 2; `changes` as in `RoboFlamingoConfig.changed`."""
    return RoboFlamingoPolicy.from_preset("roboflamingo-test", CORPUS, seed=seed, changes=changes).eval()


def make_observation(seed: int, n: int | None = None, instruction: Any = CORPUS[0]) -> dict[str, Any]:
    """Random camera images of the environments' sizes; without a batch axis when n is None."""
    rng = np.random.default_rng(seed)
    lead = () if n is None else (n,)
    return {
        "rgb_static": rng.integers(0, 256, (*lead, 200, 200, 3), dtype=np.uint8),
        "rgb_gripper": rng.integers(0, 256, (*lead, 84, 84, 3), dtype=np.uint8),
        "robot_obs": rng.uniform(-1, 1, (*lead, 15)).astype(np.float32),
        "instruction": instruction,
    }


def as_bytes(text: str) -> np.ndarray:
    """An instruction as the environments give it."""
    data = np.zeros(256, dtype=np.uint8)
    encoded = text.encode()
    data[: len(encoded)] = np.frombuffer(encoded, dtype=np.uint8)
    return data


def row(observation: dict[str, Any], i: int) -> dict[str, Any]:
    """One observation of a batch, on its own."""
    return {key: value if isinstance(value, str) else value[i] for key, value in observation.items()}
