"""All that a diagnosis has found out, and what follows from several findings together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rf_agent.diagnosis.actions import ActionReport
from rf_agent.diagnosis.checkpoint_checks import CheckpointReport
from rf_agent.diagnosis.hypotheses import HypothesisReport
from rf_agent.diagnosis.images import Format
from rf_agent.diagnosis.language import LanguageReport
from rf_agent.diagnosis.observations import ObservationReport
from rf_agent.diagnosis.replay import ReplayReport

BAD = 0.75
"""Relative error from which a policy knows hardly more than a constant action."""
EXPLAINING = ("cameras_swapped", "view_mirrored", "channels_reversed", "image_normalisation", "lm_feature")
"""Causes that a hypothesis can show."""


@dataclass
class Facts:
    """All that was found out; a part is None where it was left out."""

    replay: ReplayReport | None = None
    actions: ActionReport | None = None
    observations: ObservationReport | None = None
    environment_error: float | None = None
    """Relative error of the policy on the environment's observations of the recorded states."""
    recorded_error: float | None = None
    """On the data's observations of the same states."""
    refused: str = ""
    """Why the policy cannot read the environment's observations."""
    hypotheses: HypothesisReport | None = None
    language: LanguageReport | None = None
    checkpoint: CheckpointReport | None = None
    formats: dict[str, Format] = field(default_factory=dict)
    """Of the data's images, by camera."""
    data_problems: list[str] = field(default_factory=list)
    known_tasks: tuple[int, int] | None = None
    """How many of the data's tasks the policy was trained on, and how many there are; None if it does not say."""
    described: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    """What data and environment say of themselves: `renderer`, `scene`, `rate`, as (data, environment)."""

    def other(self, kind: str) -> bool:
        """Whether data and environment say different things of themselves."""
        data, environment = self.described.get(kind, ("", ""))
        return bool(data != environment)

    @property
    def matters(self) -> bool:
        """Whether the policy does worse with one side's images than with the other's, as far as that is known."""
        known = self.environment_error is not None and self.recorded_error is not None
        return not known or bool(self.odd_side) or self.environment_error > self.recorded_error + 0.05  # type: ignore[operator]

    @property
    def odd_side(self) -> str:
        """Where an observation fault sits, by which side's images the policy fits better."""
        if self.environment_error is None or self.recorded_error is None:
            return ""
        if self.environment_error > 1.15 * self.recorded_error:
            return "environment"
        return "data" if self.recorded_error > 1.15 * self.environment_error else ""

    @property
    def scale_is_off(self) -> bool:
        """Whether recorded actions are a multiple of the policy's, so that errors say nothing else."""
        scale = None if self.actions is None or self.strange_tasks else self.actions.scale
        return scale is not None and not 0.4 < scale < 2.5

    @property
    def knows_little(self) -> bool:
        """Whether the policy does hardly better than a constant action on the data's own observations."""
        error = None if self.actions is None else self.actions.relative_error
        excused = self.scale_is_off or self.data_are_dark or self.untrained or self.strange_tasks
        return error is not None and error > BAD and not excused

    @property
    def strange_tasks(self) -> bool:
        """Whether the policy was trained on none of the data's tasks, so that what it does in them says nothing."""
        return self.known_tasks is not None and self.known_tasks[0] == 0 and self.known_tasks[1] > 0

    @property
    def untrained(self) -> bool:
        """Whether nothing can be expected of the policy yet."""
        return self.checkpoint is not None and not self.checkpoint.trained

    @property
    def data_are_dark(self) -> bool:
        """Whether the data's images show nothing any more."""
        return any(form.lost for form in self.formats.values())

    @property
    def explained(self) -> float:
        """Share of the policy's error on the data that the best correction of its observations removes."""
        found = self.hypotheses
        if found is None or not found.plain:
            return 0.0
        best = min((o.error for o in found.outcomes if o.hypothesis.kind in EXPLAINING), default=found.plain)
        return max(0.0, 1 - best / found.plain)
