"""The play table with a fault planted in it: what `rf-agent diagnose` must find. Ids are `planted/<Name>-v0`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np

STEP = np.array([0.02, 0.02, 0.02, 0.05, 0.05, 0.05, 1.0], np.float32)
"""Metres and radians of a full step of each entry of an action."""

Observation = dict[str, Any]


def swapped(observation: Observation) -> Observation:
    return {
        **observation,
        "rgb_static": observation["rgb_gripper"],
        "rgb_gripper": observation["rgb_static"],
    }


def on_images(change: Callable[[np.ndarray], np.ndarray], *cameras: str) -> Callable[[Observation], Observation]:
    def changed(observation: Observation) -> Observation:
        return {**observation, **{camera: change(observation[camera]) for camera in cameras}}

    return changed


def in_other_light(image: np.ndarray) -> np.ndarray:
    """As another renderer draws it: brighter, of another contrast, tinted, and softer."""
    tinted = 255 * (image / 255.0) ** np.array([0.6, 0.7, 0.85]) + 6
    soft = (tinted + np.roll(tinted, 1, 0) + np.roll(tinted, 1, 1)) / 3
    return np.clip(soft, 0, 255).astype(np.uint8)


BOTH = ("rgb_static", "rgb_gripper")
OBSERVATIONS: dict[str, Callable[[Observation], Observation]] = {
    "Swapped": swapped,
    "Mirrored": on_images(lambda image: np.ascontiguousarray(image[:, ::-1]), "rgb_gripper"),
    "UpsideDown": on_images(lambda image: np.ascontiguousarray(image[::-1]), "rgb_static"),
    "BGR": on_images(lambda image: np.ascontiguousarray(image[..., ::-1]), *BOTH),
    "Unit": on_images(lambda image: (image / 255).astype(np.float32), *BOTH),
    "Dark": on_images(lambda image: (image / 255).astype(np.uint8), *BOTH),
    "Renderer": on_images(in_other_light, *BOTH),
}
ACTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "Metres": lambda action: action / STEP,
    "Gripper": lambda action: action * np.array([1, 1, 1, 1, 1, 1, -1], np.float32),
}


class Planted(gym.Wrapper):
    """An environment whose observations, or the actions that it is given, are changed."""

    def __init__(self, env: gym.Env, fault: str):
        super().__init__(env)
        self.see = OBSERVATIONS.get(fault, lambda observation: observation)
        self.do = ACTIONS.get(fault, lambda action: action)

    def reset(self, **options: Any):
        observation, info = self.env.reset(**options)
        return self.see(observation), info

    def step(self, action: np.ndarray):
        observation, *rest = self.env.step(self.do(np.asarray(action)).astype(np.float32))
        return (self.see(observation), *rest)


def make(fault: str, **options: Any) -> gym.Env:
    # the cameras draw when the demonstrations hold an image: at other steps nothing is compared
    return Planted(gym.make("rf_envs:rf/PlayTableD-v0", disable_env_checker=True, render_every=3, **options), fault)


for name in ("Healthy", *OBSERVATIONS, *ACTIONS):
    gym.register(f"planted/{name}-v0", make, kwargs={"fault": name}, disable_env_checker=True)
