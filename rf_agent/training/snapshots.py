"""Policies of a run before its end: those of the last validations, the best one, and how they act."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rf_agent.base_policy import BasePolicy
from rf_agent.files import write_json
from rf_agent.progress import Reporter
from rf_agent.training.callbacks import Callback

POLICIES, BEST, EVALUATIONS = "policies", "best", "evaluations"
STEP = "step_"
"""How folders of policies and evaluations begin, before the number of their step."""
PLAN_SEED = 1_000_000
"""Of the scenes that policies act in during training: other ones than `rf-agent evaluate` has, which measures those
that were chosen here."""


class EvaluationPlan:
    """How a policy acts during training: in episodes that `rf-agent evaluate` does not play. Of chains these are
    training chains; environments of others that have no such chains play their first ones.

    Args:
        env: environment, of single tasks or of chains.
        episodes: of each task, or chains.
        device: where the policy computes.
        workers: simulator processes.
        tasks: what it learns, which are played where the environment has some of them, else all of its own.

    Attributes:
        others: whether the environment has none of the `tasks`.

    Raises:
        UserError, ImportError: there is no such environment, or it cannot be made here.
    """

    def __init__(self, env: str, episodes: int, device: str, workers: int, tasks: Sequence[str] = ()) -> None:
        from rf_agent.environments import is_ours
        from rf_agent.evaluation.runner import choose_items, env_facts, with_renderer

        self.env, self.episodes, self.device, self.workers = env, episodes, device, workers
        facts = env_facts(env)  # asked now, so that what is wrong with it shows before the training
        self.others = facts.listed and bool(tasks) and not set(tasks) & set(facts.tasks)
        chains, of_task = (episodes, None) if facts.chained else (None, episodes)
        self.items = choose_items(env, facts, chains, of_task, (), PLAN_SEED, () if self.others else tasks)
        options = {"chains": "training"} if facts.chained and is_ours(env) else {}
        self._renderer, self._options = facts.renderer, with_renderer(env, options, facts.renderer)
        self.metric = "average_length" if facts.chained else "success_rate"

    def score(self, policy: Path, output: Path) -> dict[str, float]:
        """The score of a checkpoint directory, under the name of the metric; episodes are kept in `output`."""
        from rf_agent.evaluation.runner import evaluate

        shutil.rmtree(output, ignore_errors=True)
        episodes, _ = evaluate(
            self.env,
            str(policy),
            self.items,
            output,
            workers=self.workers,
            device=self.device,
            env_options=self._options,
            renderer=self._renderer,
        )
        return {self.metric: sum(episode.completed for episode in episodes) / len(episodes)}


class Snapshots(Callback):
    """After each validation keeps the policy, lets it act, and notes which one is the best.

    The best policy has the highest score in the environment, or without one the lowest validation loss.

    Args:
        output: of the run.
        policy: what is trained.
        keep: policies in `output/policies`, the oldest go first.
        plan: what they do in between; its results lie in `output/evaluations`.
        card: makes that of a policy, from what the validation found.
        reporter: where what happens is told.
    """

    def __init__(
        self,
        output: Path,
        policy: BasePolicy,
        keep: int,
        plan: EvaluationPlan | None,
        card: Callable[[dict[str, float]], str],
        reporter: Reporter,
    ) -> None:
        self.output, self.policy, self.keep, self.plan = output, policy, keep, plan
        self.card, self.reporter = card, reporter
        self._record = output / "best.json"
        self._metric = "loss" if plan is None else plan.metric
        self._measure: dict[str, Any] = {"metric": self._metric}
        if plan is not None:
            self._measure |= {"env": plan.env, "episodes": plan.episodes}

    def on_start(self, step: int) -> None:
        """Remove what a run that is continued from an earlier step left behind it."""
        for folder in (self.output / POLICIES).glob(f"{STEP}*"):
            if int(folder.name.rpartition("_")[2]) > step:
                shutil.rmtree(folder)

    def on_validation(self, step: int, scalars: dict[str, float]) -> dict[str, float] | None:
        """Save, evaluate, compare."""
        metric = self._metric
        if not self.keep and self.plan is None and metric not in scalars:
            return None
        folder = self.output / POLICIES / f"{STEP}{step:07d}"
        found: dict[str, float] = {}
        if self.keep or self.plan is not None:
            self.policy.save_pretrained(folder, card=self.card(scalars))
        if self.plan is not None:
            try:
                found = self.plan.score(folder, self.output / EVALUATIONS / folder.name)
            except Exception as error:  # a simulator that dies must not end the training
                self.reporter.log(f"the evaluation at step {step} failed: {error}")
        values = {**scalars, **found}
        if metric in values:
            score = -values[metric] if metric == "loss" else values[metric]
            if score > self._best():
                self._replace_best({"step": step, **self._measure, "score": score, **values}, self.card(values))
        kept = sorted((self.output / POLICIES).glob(f"{STEP}*"))
        for old in kept[: max(0, len(kept) - self.keep)]:
            shutil.rmtree(old)
        return found

    def _best(self) -> float:
        """The best score so far, of those that were measured in the same way."""
        try:
            facts = json.loads(self._record.read_text())
            same = all(facts.get(name) == value for name, value in self._measure.items())
            return float(facts["score"]) if same else float("-inf")
        except (FileNotFoundError, ValueError, KeyError):
            return float("-inf")

    def _replace_best(self, facts: dict[str, Any], card: str) -> None:
        target = self.output / BEST
        self.policy.save_pretrained(target, card=card)
        write_json(self._record, facts)
        self.reporter.log(f"step {facts['step']}: the best policy so far, in {target}")
