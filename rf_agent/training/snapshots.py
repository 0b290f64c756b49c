"""Policies of a run before its end: those of the last validations, the best one, and how they act."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from rf_agent.policy import RoboFlamingoPolicy
from rf_agent.progress import Reporter
from rf_agent.training.callbacks import Callback

POLICIES, BEST, EVALUATIONS = "policies", "best", "evaluations"


@dataclass(frozen=True)
class EvaluationPlan:
    """How a policy acts during training."""

    env: str
    """Environment, of single tasks or of chains."""
    episodes: int
    """Episodes of each task, or chains."""


class Snapshots(Callback):
    """After each validation keeps the policy, lets it act, and notes which one is the best.

    The best policy has the highest score in the environment, or without one the lowest validation loss.

    Args:
        output: of the run.
        policy: what is trained.
        keep: policies in `output/policies`, the oldest go first.
        plan: what they do in between; its results lie in `output/evaluations`.
        card: of the policies.
        reporter: where what happens is told.
    """

    def __init__(
        self,
        output: Path,
        policy: RoboFlamingoPolicy,
        keep: int,
        plan: EvaluationPlan | None,
        card: str,
        reporter: Reporter,
    ) -> None:
        self.output, self.policy, self.keep, self.plan = output, policy, keep, plan
        self.card, self.reporter = card, reporter
        self._record = output / "best.json"

    def on_validation(self, step: int, scalars: dict[str, float]) -> dict[str, float] | None:
        """Save, evaluate, compare."""
        folder = self.output / POLICIES / f"step_{step:07d}"
        shutil.rmtree(folder, ignore_errors=True)  # of a step that is repeated after a resume
        self.policy.save_pretrained(folder, card=self.card)
        found = _act(self.plan, folder, self.output / EVALUATIONS / folder.name) if self.plan else {}
        score = next(iter(found.values())) if found else -scalars["loss"] if "loss" in scalars else None
        if score is not None and score > self._best():
            self._replace_best(folder, {"step": step, "score": score, **scalars, **found})
        kept = sorted((self.output / POLICIES).glob("step_*"))
        for old in kept[: len(kept) - self.keep]:
            shutil.rmtree(old)
        return found

    def _best(self) -> float:
        """The best score so far."""
        try:
            return float(json.loads(self._record.read_text())["score"])
        except (FileNotFoundError, ValueError, KeyError):
            return float("-inf")

    def _replace_best(self, folder: Path, facts: dict[str, float]) -> None:
        draft, target = self.output / f".{BEST}", self.output / BEST
        shutil.rmtree(draft, ignore_errors=True)
        shutil.copytree(folder, draft)
        shutil.rmtree(target, ignore_errors=True)
        os.replace(draft, target)
        self._record.write_text(json.dumps(facts, indent=2) + "\n")
        self.reporter.log(f"step {facts['step']}: the best policy so far, in {target}")


def _act(plan: EvaluationPlan, policy: Path, output: Path) -> dict[str, float]:
    """The score of a policy in an environment: `average_length` of chains, or `success_rate`."""
    from rf_agent.evaluation.agents import trained_tasks
    from rf_agent.evaluation.episode import chain_items, task_items
    from rf_agent.evaluation.runner import env_facts, evaluate, with_renderer

    shutil.rmtree(output, ignore_errors=True)
    facts = env_facts(plan.env)
    learned = trained_tasks(str(policy))
    tasks = [task for task in facts.tasks if task in learned] or list(facts.tasks)
    items = chain_items(plan.episodes, 0) if facts.chained else task_items(tasks, plan.episodes, 0)
    options = with_renderer(plan.env, {}, facts.renderer)
    episodes, _ = evaluate(plan.env, str(policy), items, output, env_options=options, renderer=facts.renderer)
    name = "average_length" if facts.chained else "success_rate"
    return {name: sum(episode.completed for episode in episodes) / len(episodes)}
