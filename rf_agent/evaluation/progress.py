"""What an evaluation says while it runs: the score so far, the speed, and where the time goes."""

from __future__ import annotations

import time
from collections.abc import Iterable

from rf_agent.evaluation import metrics
from rf_agent.evaluation.metrics import Episode
from rf_agent.progress import Reporter


class Progress:
    """Called with each finished episode, it updates a reporter.

    Args:
        reporter: hears of it.
        total: episodes that are to be played.
        length: sub-tasks of an episode: 5 for chains, 1 for single tasks.
    """

    def __init__(self, reporter: Reporter, total: int, length: int) -> None:
        self.reporter, self.total, self.length = reporter, total, length
        self.episodes: list[Episode] = []
        self._kept = 0
        self._begun = time.perf_counter()

    def keep(self, episodes: Iterable[Episode]) -> None:
        """Take over the episodes of an earlier run: they count in the score, but not in the speed of this one."""
        self.episodes.extend(episodes)
        self._kept = len(self.episodes)
        self._begun = time.perf_counter()
        if self.episodes:
            self.reporter.update(min(self._kept / self.total, 1.0), self.text())

    def __call__(self, episode: Episode) -> None:
        self.episodes.append(episode)
        self.reporter.update(min(len(self.episodes) / self.total, 1.0), self.text())

    def text(self) -> str:
        """The state in a line."""
        parts = [f"{len(self.episodes)}/{self.total}", self._score()]
        played = self.episodes[self._kept :]
        if not played:
            return ", ".join([*parts, "of an earlier run"])
        elapsed = time.perf_counter() - self._begun
        parts.append(f"{sum(episode.steps for episode in played) / max(elapsed, 1e-9):.0f} steps/s")
        seconds = sum(episode.seconds for episode in played)
        if seconds > 0:
            policy = sum(episode.policy_seconds for episode in played) / seconds
            rendering = sum(episode.render_seconds for episode in played) / seconds
            simulator = max(0.0, 1 - policy - rendering)
            parts.append(f"simulator {simulator:.0%}, rendering {rendering:.0%}, policy {policy:.0%}")
        return ", ".join(parts)

    def _score(self) -> str:
        if not any(episode.attempts for episode in self.episodes):
            return f"return {metrics.mean_return(self.episodes)['mean']:.2f}"
        solved = [episode.completed for episode in self.episodes]
        rates = [sum(done >= needed for done in solved) / len(solved) for needed in range(1, self.length + 1)]
        shares = " ".join(f"{100 * rate:.0f}" for rate in rates)
        if self.length == 1:
            return f"{shares} % solved"
        return f"SR1-{self.length} {shares} %, length {sum(solved) / len(solved):.2f}"
