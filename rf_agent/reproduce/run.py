"""A reproduction: stages of one recipe, and what they measured kept in one file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from rf_agent.progress import Reporter
from rf_agent.reproduce.pipeline import Pipeline
from rf_agent.reproduce.recipe import Recipe, claim
from rf_agent.reproduce.results import Results, facts_of
from rf_agent.reproduce.stages import Stage, in_order


class Reproduction(Pipeline):
    """A folder in which stages of one recipe are run.

    Args:
        folder: where everything lies; made if it is not there.
        recipe: the budget.
        workers, device, jobs, reporter: as of `Pipeline`.

    Raises:
        UserError: the folder holds results of another recipe, or `jobs` is below 1.
    """

    def __init__(
        self,
        folder: Path,
        recipe: Recipe,
        workers: int | None = None,
        device: str = "auto",
        jobs: int = 1,
        *,
        reporter: Reporter,
    ) -> None:
        super().__init__(folder, workers, device, jobs, reporter=reporter)
        claim(folder, recipe)
        self.results = Results.of(folder, recipe)

    def run(self, stages: Sequence[Stage], after_each: Callable[[], None] = lambda: None) -> None:
        """As `Pipeline.run`; what was measured is in `results` and in the folder's results.json."""
        ordered = in_order(tuple(stages))
        if all(map(self.is_measured, ordered)):
            super().run(ordered, after_each)  # which checks them
            return
        with self.held():
            self.results = Results.of(self.folder, self.results.recipe)  # others may have written it meanwhile
            self._forget([stage for stage in ordered if not self.is_done(stage)])
            super().run(ordered, after_each)
            for stage in ordered:
                if stage.folder not in self.results.stages:
                    self._ended(stage)

    def is_measured(self, stage: Stage) -> bool:
        """Whether a stage has finished and its facts are in `results`."""
        return self.is_done(stage) and stage.folder in self.results.stages

    def _ended(self, stage: Stage) -> None:
        facts = facts_of(stage, self.folder / stage.folder)
        self.results.add(stage, self.seconds(stage), facts, self.revision(stage))
        self.results.save(self.folder)

    def _forget(self, left: Sequence[Stage]) -> None:
        """What was measured of stages before they are made again."""
        known = [stage.folder for stage in left if stage.folder in self.results.stages]
        for folder in known:
            del self.results.stages[folder]
        if known:
            self.results.save(self.folder)
