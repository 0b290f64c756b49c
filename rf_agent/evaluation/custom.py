"""Agents that are not of this project: any object with `act` and `reset`, or with Stable-Baselines3's `predict`."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import numpy as np

from rf_agent.errors import UserError
from rf_agent.modules import import_module

FACTORY = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


def is_factory(name: str) -> bool:
    """Whether a name is `package.module:factory`."""
    return FACTORY.fullmatch(name) is not None


def make(name: str) -> Any:
    """What the function or class `package.module:factory` returns when it is called without arguments.

    The module may lie in the present folder.

    Raises:
        UserError: there is no such module or factory, or what it makes is no agent.
    """
    found = _find(name)
    if isinstance(found, type) or (callable(found) and not hasattr(found, "act") and not hasattr(found, "predict")):
        found = found()
    as_agent(found)
    return found


def as_agent(agent: Any) -> ActAgent | PredictAgent:
    """An object with `act(observation)`, or else with `predict(observation, state, episode_start, deterministic)`.

    Raises:
        UserError: it has neither.
    """
    if callable(getattr(agent, "act", None)):
        return ActAgent(agent)
    if callable(getattr(agent, "predict", None)):
        return PredictAgent(agent)
    raise UserError(f"{type(agent).__name__} is no agent: give an object with act(observation), or with predict")


class ActAgent:
    """An object with `act(observation)` and, if it remembers anything, `reset()`.

    Its attribute `render_every`, if it has one, says how often it reads the cameras, in environment steps.
    """

    def __init__(self, agent: Any) -> None:
        self.agent = agent
        self.render_every = int(getattr(agent, "render_every", 1))

    def reset(self, env: Any, seed: int) -> None:
        if hasattr(self.agent, "reset"):
            self.agent.reset()

    def act(self, observation: Any) -> np.ndarray:
        return self.agent.act(observation)


class PredictAgent:
    """An object with Stable-Baselines3's `predict`: its state is kept here, from step to step of an episode."""

    def __init__(self, agent: Any) -> None:
        self.agent = agent
        self.render_every = int(getattr(agent, "render_every", 1))

    def reset(self, env: Any, seed: int) -> None:
        self._state: Any = None
        self._start = True

    def act(self, observation: Any) -> np.ndarray:
        start = np.array([self._start])
        action, self._state = self.agent.predict(
            observation, state=self._state, episode_start=start, deterministic=True
        )
        self._start = False
        return action


def fingerprint(name: str) -> str:
    """Digest of the factory's module, so that results of changed code are not mixed. It does not see what it loads.

    Raises:
        UserError: there is no such module or factory.
    """
    _find(name)
    file = getattr(import_module(name.partition(":")[0]), "__file__", None)
    source = Path(file).read_bytes() if file else b""
    return hashlib.sha256(name.encode() + source).hexdigest()[:16]


def _find(name: str) -> Any:
    module_name, _, path = name.partition(":")
    try:
        found: Any = import_module(module_name)
        for part in path.split("."):
            found = getattr(found, part)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # the module is there, but something that it imports is not
        raise UserError(
            f"--policy is {name!r}, but there is no module {error.name!r} here or among the installed ones"
        ) from error
    except AttributeError as error:
        raise UserError(f"--policy is {name!r}, but {error}: give module:factory") from error
    return found
