"""The benchmark's episodes for whoever resets environments by itself: Stable-Baselines3, vector environments, loops.

This module needs Gymnasium.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym

from rf_agent.evaluation.episode import Item, chain_items, task_items

__all__ = ["BenchmarkEpisodes", "chain_items", "divide_episodes", "task_items"]


class BenchmarkEpisodes(gym.Wrapper, gym.utils.RecordConstructorArgs):
    """Each `reset` begins the next of the given episodes, with the seed and the options that `rf-agent evaluate` uses.

    After the last episode comes the first again. A reset in the midst of an episode, or one with a seed, begins with
    the first: every call of `evaluate_policy` plays the same episodes, `EvalCallback`'s too, although a vector
    environment goes on by itself after the last episode that counts. So wrappers that end episodes, such as
    `TimeLimit`, belong inside this one. `info["episode_key"]` names the episode.

    `divide_episodes` is for several environments. In those that `gym.make_vec` makes with this wrapper,
    `envs.set_attr("items", divide_episodes(items, n_envs))` gives each its own, before the first reset.

    Args:
        env: an environment of chains or tasks, as `gym.make` makes it.
        items: the episodes, in order: `chain_items(chains, seed)` or `task_items(tasks, episodes_per_task, seed)`.

    Raises:
        ValueError: there are no episodes.

    Examples:
        >>> items = chain_items(10, seed=0)
        >>> env = Monitor(BenchmarkEpisodes(gym.make("rf_envs:rf/PlayTableChainD-v0"), items))
        >>> average_length, _ = evaluate_policy(policy, env, n_eval_episodes=len(items))
    """

    def __init__(self, env: gym.Env, items: Sequence[Item]) -> None:
        gym.utils.RecordConstructorArgs.__init__(self, items=items)
        gym.Wrapper.__init__(self, env)
        if not items:
            raise ValueError("BenchmarkEpisodes was given no episodes; give chain_items(...) or task_items(...).")
        self.items = tuple(items)
        self._index = 0  # of the present episode
        self._played = 0  # episodes that have ended since the first one began
        self._begun, self._ended = False, False  # whether the present episode has had a step, and its last one

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin the next episode, or the first one if there is a seed or the present episode has not ended.

        Args:
            seed: its value makes no difference: each episode has its own.
            options: none; each episode has its own.

        Raises:
            ValueError: there are options.
        """
        if options:
            raise ValueError(
                f"reset got the options {options!r}, but BenchmarkEpisodes gives each episode its own; leave them out, "
                "or reset the environment inside."
            )
        if seed is None and not self._ended and self._begun and self._played < len(self.items):
            gym.logger.warn(
                f"{self.items[self._index].key} was reset before its end, so BenchmarkEpisodes begins again with "
                f"{self.items[0].key}, after {self._played} of {len(self.items)} episodes. If another wrapper ended "
                "it, such as TimeLimit, put that one inside."
            )
        if seed is not None or not self._ended:
            self._index = self._played = 0
        else:
            self._index = (self._index + 1) % len(self.items)
        self._begun = self._ended = False
        item = self.items[self._index]
        observation, info = self.env.reset(seed=item.seed, options=dict(item.options))
        return observation, {**info, "episode_key": item.key}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step the environment."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._begun = True
        if (terminated or truncated) and not self._ended:
            self._ended, self._played = True, self._played + 1
        return observation, reward, terminated, truncated, {**info, "episode_key": self.items[self._index].key}


def divide_episodes(items: Sequence[Item], n_envs: int) -> list[list[Item]]:
    """The episodes of each of `n_envs` environments, as many as `evaluate_policy` counts of each.

    Its result is then that of all `items`, whatever the number of environments.

    Raises:
        ValueError: there are more environments than episodes, or none.

    Examples:
        >>> items = chain_items(100, seed=0)
        >>> def make(part):
        ...     return lambda: Monitor(BenchmarkEpisodes(gym.make("rf_envs:rf/PlayTableChainD-v0"), part))
        >>> envs = SubprocVecEnv([make(part) for part in divide_episodes(items, 8)])
        >>> average_length, _ = evaluate_policy(policy, envs, n_eval_episodes=len(items))
    """
    if not 1 <= n_envs <= len(items):
        raise ValueError(f"{len(items)} episodes cannot be divided over {n_envs} environments; give 1 to {len(items)}.")
    # The counts are those of stable_baselines3.common.evaluation: the last environments have one more.
    counts = [(len(items) + index) // n_envs for index in range(n_envs)]
    ends = [sum(counts[: index + 1]) for index in range(n_envs)]
    return [list(items[end - count : end]) for count, end in zip(counts, ends, strict=True)]
