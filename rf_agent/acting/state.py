"""What a policy remembers of its environments between calls: a value, passed in and handed back."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class PolicyState(NamedTuple):
    """Memory of n environments. Callers only hand it back; every change makes a new one."""

    memory: np.ndarray
    """(n, ...) float32, what the policy head remembers (`rf_agent.nn.heads.History`)."""
    length: np.ndarray
    """(n,) int64, how many observation steps that holds."""
    queue: np.ndarray
    """(n, E, D) float32, the actions that are being carried out."""
    queued: np.ndarray
    """(n,) int64, how many of them are left."""
    blend: np.ndarray
    """(n, K, D) float32, weighted means of what steps predicted for the last step, the next, ...; K is 0 without
    ensembling."""
    blended: np.ndarray
    """(n, K) int64, how many predictions each mean is of."""
    instructions: np.ndarray
    """(n,) of str, the instruction of each environment."""

    @classmethod
    def empty(
        cls, instructions: np.ndarray, memory: np.ndarray, action_dim: int, replan_every: int, overlap: int = 0
    ) -> PolicyState:
        """The memory of environments that have just begun.

        Args:
            instructions: (n,) of str.
            memory: (n, ...) of a history without observation steps.
            action_dim: entries of an action (D).
            replan_every: environment steps from one observation step to the next (E).
            overlap: predictions that are averaged at most (K); 0 without ensembling.
        """
        n = len(instructions)
        return cls(
            memory,
            np.zeros(n, dtype=np.int64),
            np.zeros((n, replan_every, action_dim), dtype=np.float32),
            np.zeros(n, dtype=np.int64),
            np.zeros((n, overlap, action_dim), dtype=np.float32),
            np.zeros((n, overlap), dtype=np.int64),
            instructions,
        )

    def restart(self, instructions: np.ndarray, episode_start: np.ndarray | None = None) -> PolicyState:
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
            starts = np.asarray(episode_start, dtype=bool)
            if starts.size != n:
                raise ValueError(f"episode_start has {starts.size} entries, but there are {n} environments: give {n}.")
            restart = restart | starts.reshape(n)
        return self.clear(restart)._replace(instructions=instructions)

    def clear(self, where: np.ndarray) -> PolicyState:
        """Without history and without actions to come at `where`, a mask or indices."""
        length, queued = self.length.copy(), self.queued.copy()
        blended = self.blended.copy()
        length[where], queued[where], blended[where] = 0, 0, 0
        return self._replace(length=length, queued=queued, blended=blended)

    def append(self, rows: np.ndarray, memory: np.ndarray, length: np.ndarray) -> PolicyState:
        """After an observation step of the environments `rows`: what the head remembers now."""
        lengths = self.length.copy()
        lengths[rows] = length
        if len(rows) < len(lengths):
            everything = self.memory.copy()
            everything[rows] = memory
            memory = everything
        return self._replace(memory=memory, length=lengths)

    def enqueue(self, rows: np.ndarray, actions: np.ndarray) -> PolicyState:
        """With actions (len(rows), E, D) to come in the environments `rows`."""
        queue, queued = self.queue.copy(), self.queued.copy()
        queue[rows], queued[rows] = actions, actions.shape[1]
        return self._replace(queue=queue, queued=queued)

    def without_queue(self) -> PolicyState:
        """Without actions to come; the history stays."""
        return self._replace(queued=np.zeros_like(self.queued), blended=np.zeros_like(self.blended))

    def ensemble(self, rows: np.ndarray, chunks: np.ndarray, decay: float) -> tuple[np.ndarray, PolicyState]:
        """Temporal ensembling: the mean of all that was predicted for this step.

        Args:
            rows: (r,) environments that observe, as they do at every step.
            chunks: (r, K, D) predicted now, for this step and those after it.
            decay: the i-th prediction for a step weighs exp(-decay * i); i = 0 is the oldest.

        Returns:
            (r, D), and the memory that counts this prediction.
        """
        blend, blended = self.blend.copy(), self.blended.copy()
        # what the last observation step called the next step is this step
        counts = np.pad(blended[rows, 1:], ((0, 0), (0, 1)))
        means = np.pad(blend[rows, 1:], ((0, 0), (0, 1), (0, 0)))
        # share of the last of c + 1 predictions: exp(-dc) / (exp(0) + ... + exp(-dc)), of which no part may overflow
        with np.errstate(over="ignore"):
            shares = 1 / np.exp(decay * np.arange(chunks.shape[1])).cumsum()
        share = shares[counts][..., None].astype(np.float32)
        means = np.where(share < 1, (1 - share) * means + share * chunks, chunks)
        blend[rows], blended[rows] = means, counts + 1
        return means[:, 0], self._replace(blend=blend, blended=blended)

    def dequeue(self) -> tuple[np.ndarray, PolicyState]:
        """The next action (n, D) of every environment, each of which has one queued."""
        rows = np.arange(len(self.queued))
        return self.queue[rows, self.queue.shape[1] - self.queued], self._replace(queued=self.queued - 1)
