"""What was asked of the robot, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class InstructionAttempt:
    """The attempt to follow one instruction."""

    number: int
    instruction: str
    task: str
    not_scored: str
    """Why nothing says whether it was done; empty where the environment's check does."""
    outcome: str = "running"
    """"running", "done", "not done" (its time was up), "ended" (time was up, and nobody knows), "kept" (a person says
    that it was done) or "stopped"."""
    steps: int = 0


@dataclass
class Chain:
    """Tasks that are asked for one after the other, each once the one before is done."""

    index: int
    tasks: list[tuple[str, str]]
    """Names and instructions."""
    completed: int = 0
    outcome: str = "running"
    """That of its last attempt, as soon as it goes on no more."""

    def next_task(self, outcome: str) -> tuple[str, str] | None:
        """The name and the instruction to go on with after an attempt; None if the chain has ended."""
        if self.outcome != "running":
            return None
        self.completed += outcome == "done"
        if outcome == "done" and self.completed < len(self.tasks):
            return self.tasks[self.completed]
        self.outcome = outcome
        return None
