"""A robot unlike CALVIN's: one camera, actions of two numbers in metres a second, no gripper; with a state or without.

Ids are `pointer/<Name>-v0`: `Plain`, `Blind` (no state), `Mirrored`, `Normalised` (its actions lie in [-1, 1]),
`Reversed` (the first entry of an action has the other sign), `Silent` (it says nothing of success, and its reward is
dense: the way that is left, negative), `Turned` (both entries have the other sign); and `rf/OnlyOne-v0`, which is
`Reversed` and, like CALVIN with EGL, refuses to be open twice.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from rf_agent.demos import Demonstration

SIDE, SPEED, STEPS = 24, 0.5, 12


class Pointer(gym.Env):
    """A dot on a square of 1 m that has to leave it to the right."""

    metadata = {"render_modes": [], "render_fps": 10}

    def __init__(
        self,
        state: bool = True,
        mirrored: bool = False,
        normalised: bool = False,
        sign: int = 1,
        silent: bool = False,
        turned: bool = False,
        **_: Any,
    ) -> None:
        spaces: dict[str, gym.Space] = {"top": gym.spaces.Box(0, 255, (SIDE, SIDE, 3), np.uint8)}
        if state:
            spaces["state"] = gym.spaces.Box(-2, 2, (2,), np.float32)
        self.observation_space = gym.spaces.Dict(spaces)
        self.bound = 1.0 if normalised else SPEED
        self.action_space = gym.spaces.Box(-self.bound, self.bound, (2,), np.float32)
        self.state, self.mirrored, self.sign, self.silent, self.turned = state, mirrored, sign, silent, turned

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.position = self.np_random.uniform(0.1, 0.4, 2)
        return self._observe(), self._info()

    def step(self, action):
        signs = (self.sign, -1 if self.turned else 1)
        speed = np.clip(action, -self.bound, self.bound) * SPEED / self.bound * signs
        self.position = self.position + speed / 10
        done = bool(self.position[0] > 0.8)
        reward = float(self.position[0] - 0.8) if self.silent else float(done)
        return self._observe(), reward, done, False, self._info()

    def _info(self):
        if self.silent:
            return {}
        return {"task": "go", "instruction": "go to the right", "is_success": bool(self.position[0] > 0.8)}

    def _observe(self):
        image = np.full((SIDE, SIDE, 3), 40, np.uint8)
        image[2:5, 2:9] = (250, 60, 60)
        column, row = np.clip(self.position * SIDE, 0, SIDE - 2).astype(int)
        image[row : row + 3, column : column + 3] = 255
        observation = {"top": np.ascontiguousarray(image[:, ::-1]) if self.mirrored else image}
        if self.state:
            observation["state"] = self.position.astype(np.float32)
        return observation


for name, options in {
    "Plain": {},
    "Blind": {"state": False},
    "Mirrored": {"mirrored": True},
    "Normalised": {"normalised": True},
    "Reversed": {"sign": -1},
    "Silent": {"silent": True},
    "Turned": {"sign": -1, "turned": True},
}.items():
    gym.register(f"pointer/{name}-v0", Pointer, kwargs=options, disable_env_checker=True)


class OnlyOne(Pointer):
    """Its simulator is made at the first reset."""

    open: OnlyOne | None = None

    def reset(self, **options):
        assert OnlyOne.open in (None, self), "another one is open"
        OnlyOne.open = self
        return super().reset(**options)

    def close(self):
        if OnlyOne.open is self:
            OnlyOne.open = None


gym.register("rf/OnlyOne-v0", OnlyOne, kwargs={"sign": -1}, disable_env_checker=True)


def demonstrate(seed: int, state: bool = True) -> Demonstration:
    """To the right with a swing, in metres a second."""
    env = Pointer(state)
    observation, info = env.reset(seed=seed)
    images, states, actions = [], [], []
    while not info["is_success"]:
        images.append(observation["top"])
        states.append(env.position.copy())
        actions.append(np.array([0.35 + 0.1 * np.cos(len(actions)), 0.1 * np.sin(len(actions) + seed)]))
        observation, _, _, _, info = env.step(actions[-1])
    return Demonstration(
        {"top": np.stack(images)},
        np.stack(actions),
        "go to the right",
        "go",
        state=np.stack(states) if state else None,
        attributes={"seed": seed},
    )
