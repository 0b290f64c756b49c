"""Policies of a run before its end: those of the last validations, the best one, and how they act."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rf_agent.base_policy import BasePolicy
from rf_agent.progress import Reporter
from rf_agent.training.callbacks import Callback

POLICIES, BEST, EVALUATIONS = "policies", "best", "evaluations"
STEP = "step_"
"""How folders of policies and evaluations begin, before the number of their step."""


class EvaluationPlan:
    """How a policy acts during training.

    Args:
        env: environment, of single tasks or of chains.
        episodes: of each task, or chains.
        device: where the policy computes.
        workers: simulator processes.

    Raises:
        UserError, ImportError: there is no such environment, or it cannot be made here.
    """

    def __init__(self, env: str, episodes: int, device: str, workers: int) -> None:
        from rf_agent.evaluation.runner import env_facts

        self.env, self.episodes, self.device, self.workers = env, episodes, device, workers
        self._facts = env_facts(env)  # asked now, so that what is wrong with it shows before the training
        self.metric = "average_length" if self._facts.chained else "success_rate"

    def score(self, policy: Path, output: Path) -> dict[str, float]:
        """The score of a checkpoint directory, under the name of the metric; episodes are kept in `output`."""
        from rf_agent.evaluation.agents import trained_tasks
        from rf_agent.evaluation.episode import chain_items, task_items
        from rf_agent.evaluation.runner import evaluate, with_renderer

        shutil.rmtree(output, ignore_errors=True)
        facts, learned = self._facts, trained_tasks(str(policy))
        tasks = [task for task in facts.tasks if task in learned] or list(facts.tasks)
        items = chain_items(self.episodes, 0) if facts.chained else task_items(tasks, self.episodes, 0)
        episodes, _ = evaluate(
            self.env,
            str(policy),
            items,
            output,
            workers=self.workers,
            device=self.device,
            env_options=with_renderer(self.env, {}, facts.renderer),
            renderer=facts.renderer,
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

    def on_start(self, step: int) -> None:
        """Remove what a run that is continued from an earlier step left behind it."""
        for folder in (self.output / POLICIES).glob(f"{STEP}*"):
            if int(folder.name.rpartition("_")[2]) > step:
                shutil.rmtree(folder)

    def on_validation(self, step: int, scalars: dict[str, float]) -> dict[str, float] | None:
        """Save, evaluate, compare."""
        metric = "loss" if self.plan is None else self.plan.metric
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
            if score > self._best(metric):
                self._replace_best({"step": step, "metric": metric, "score": score, **values}, self.card(values))
        kept = sorted((self.output / POLICIES).glob(f"{STEP}*"))
        for old in kept[: max(0, len(kept) - self.keep)]:
            shutil.rmtree(old)
        return found

    def _best(self, metric: str) -> float:
        """The best score so far, by this metric."""
        try:
            facts = json.loads(self._record.read_text())
            return float(facts["score"]) if facts["metric"] == metric else float("-inf")
        except (FileNotFoundError, ValueError, KeyError):
            return float("-inf")

    def _replace_best(self, facts: dict[str, Any], card: str) -> None:
        target = self.output / BEST
        self.policy.save_pretrained(target, card=card)
        draft = self._record.with_suffix(".partial")
        draft.write_text(json.dumps(facts, indent=2) + "\n")
        os.replace(draft, self._record)
        self.reporter.log(f"step {facts['step']}: the best policy so far, in {target}")
