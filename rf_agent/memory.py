"""What a policy remembers of its environments between calls: a value, passed in and handed back."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class PolicyState(NamedTuple):
    """Memory of n environments. Callers only hand it back; every change makes a new one."""

    features: np.ndarray
    """(n, W, d) float32, the features of the last looks, oldest first."""
    length: np.ndarray
    """(n,) int64, how many of them are real."""
    queue: np.ndarray
    """(n, E, 7) float32, the chunk being executed."""
    queued: np.ndarray
    """(n,) int64, how many of its actions are left."""
    instructions: np.ndarray
    """(n,) of str, what each environment was told."""

    @classmethod
    def blank(cls, instructions: np.ndarray, window: int, dim: int, execute: int) -> PolicyState:
        """The memory of environments that have just begun."""
        n = len(instructions)
        return cls(
            np.zeros((n, window, dim), dtype=np.float32),
            np.zeros(n, dtype=np.int64),
            np.zeros((n, execute, 7), dtype=np.float32),
            np.zeros(n, dtype=np.int64),
            instructions,
        )

    def told(self, instructions: np.ndarray, episode_start: np.ndarray | None = None) -> PolicyState:
        """Empty where an environment has a new instruction or begins an episode.

        Raises:
            ValueError: the memory is of another number of environments.
        """
        n = len(instructions)
        if len(self.length) != n:
            raise ValueError(
                f"{n} observations were given, but the history is of {len(self.length)} environments; "
                "call reset() (or pass state=None) first."
            )
        restart = np.asarray(self.instructions != instructions, dtype=bool)
        if episode_start is not None:
            restart = restart | np.asarray(episode_start, dtype=bool).reshape(n)
        return self.cleared(restart)._replace(instructions=instructions)

    def cleared(self, where: np.ndarray) -> PolicyState:
        """Without history and queued actions at `where`, a mask or indices."""
        length, queued = self.length.copy(), self.queued.copy()
        length[where], queued[where] = 0, 0
        return self._replace(length=length, queued=queued)

    def looked(self, rows: np.ndarray, features: np.ndarray, length: np.ndarray, chunks: np.ndarray) -> PolicyState:
        """After a look of the environments `rows`: their history, and the actions (len(rows), E, 7) to come."""
        new = PolicyState(*(array.copy() for array in self))
        new.features[rows], new.length[rows] = features, length
        new.queue[rows], new.queued[rows] = chunks, chunks.shape[1]
        return new

    def popped(self) -> tuple[np.ndarray, PolicyState]:
        """The next action (n, 7) of every environment, each of which has one queued."""
        rows = np.arange(len(self.queued))
        return self.queue[rows, self.queue.shape[1] - self.queued], self._replace(queued=self.queued - 1)
