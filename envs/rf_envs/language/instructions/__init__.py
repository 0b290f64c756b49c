"""What people say for each task.

`TRAINING` holds many instructions per task for demonstrations, `EVALUATION` one per task that is in none of them
but uses only their words, and `ENRICHED` many more in freer English. All were written for this project.
"""

from __future__ import annotations

from rf_envs.benchmark.tasks import TASKS
from rf_envs.language.instructions.enriched import ENRICHED
from rf_envs.language.instructions.evaluation import EVALUATION
from rf_envs.language.instructions.training import TRAINING
from rf_envs.language.instructions.words import plain

__all__ = ["ENRICHED", "EVALUATION", "KINDS", "TRAINING", "task_of"]

KINDS: dict[str, dict[str, tuple[str, ...]]] = {
    "evaluation": {task: (text,) for task, text in EVALUATION.items()},
    "training": TRAINING,
    "enriched": ENRICHED,
}
"""Kind of instructions to task to instructions."""

_TASK_OF = {plain(text): task for kind in KINDS.values() for task in TASKS for text in kind[task]}


def task_of(instruction: str) -> str | None:
    """The task that a known instruction asks for, whatever its case, spaces and closing mark; None for other texts."""
    return _TASK_OF.get(plain(instruction))
