"""How an environment is asked for something, whatever it offers for that."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Answer(NamedTuple):
    """What an environment says to an instruction."""

    observation: dict[str, Any]
    task: str
    """Name of the task that it judges; empty if it judges nothing."""
    not_scored: str
    """Why it judges nothing."""


def ask(env: Any, words: str, task: str | None, seed: int) -> Answer:
    """Ask for something in the present state; where an environment cannot do that, in an episode that begins now.

    Args:
        env: the environment.
        words: the instruction.
        task: name of the task, where it is known.
        seed: of the episode.

    Raises:
        ValueError: the environment does not take the instruction.
    """
    table = env.unwrapped
    if hasattr(table, "ask"):
        observation, info = table.ask(words, task)
        not_scored = str(info.get("not_scored", ""))
    else:
        task = table.task_of(words) if hasattr(table, "task_of") else None
        options = {"instruction": words} if task is None else {"task": task}
        observation, info = env.reset(seed=seed, options=options)
        known = task is not None or info.get("instruction") == words
        not_scored = "" if known else "the environment does not know this instruction"
    return Answer(observation, "" if not_scored else str(info.get("task", "")), not_scored)


def begin_again(env: Any) -> dict[str, NDArray[np.float64]]:
    """Have the environment begin an episode in its present state, so that it can begin there once more.

    A state says where everything is, but neither how fast it moves nor where the robot's controller wants to go. A
    reset stops the one and forgets the other: recorded from there, actions do the same again after the same reset.

    Returns:
        The options of that reset; none where the environment takes no such options, or not those of this state.
    """
    table = env.unwrapped
    known = [key for key in ("robot_obs", "scene_obs") if key in getattr(table, "reset_options", ())]
    state = {key: np.array(getattr(table, key), np.float64) for key in known if hasattr(table, key)}
    if state:
        try:
            env.reset(options=dict(state))
        except ValueError:  # such as a block that fell from the table
            return {}
    return state
