"""What if? The policy is shown corrected observations, or is built otherwise: does it then do what was recorded?

An error that falls by much under one correction alone is strong evidence for it, wherever the fault sits.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rf_agent.config import ConfigError, RoboFlamingoConfig
from rf_agent.diagnosis.actions import beginnings, predict, relative_error, shortened
from rf_agent.diagnosis.episodes import Episode
from rf_agent.diagnosis.images import GEOMETRIES, Correction
from rf_agent.nn.initialization import EmptyInit
from rf_agent.policy import RoboFlamingoPolicy

NORMALISATIONS = {
    "CLIP's": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "ImageNet's": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "mean 0.5, deviation 0.25": ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25)),
    "mean 0.5, deviation 0.5": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "none (pixels in [0, 1])": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}
WINDOWS = (1, 4, 8, 12, 24)


@dataclass(frozen=True)
class Hypothesis:
    """Something that may be wrong, and how to undo it."""

    kind: str
    """The cause it belongs to."""
    label: str
    """What is done, in words."""
    views: Mapping[str, Correction] = field(default_factory=dict)
    """Corrections of what the policy is shown, by view."""
    changes: tuple[str, ...] = ()
    """Changes of the configuration, see `RoboFlamingoConfig.changed`."""


@dataclass
class Outcome:
    """The policy's relative error with a hypothesis."""

    hypothesis: Hypothesis
    error: float


@dataclass
class HypothesisReport:
    """All that were tried."""

    plain: float = 1.0
    """The error without any, on the same steps."""
    outcomes: list[Outcome] = field(default_factory=list)
    steps: int = 0

    def best(self, kind: str) -> Outcome | None:
        """That of a kind with the smallest error."""
        return min((o for o in self.outcomes if o.hypothesis.kind == kind), key=lambda o: o.error, default=None)


def view_hypotheses(views: Sequence[str]) -> Iterator[Hypothesis]:
    """Swapped, mirrored and recoloured views."""
    for i, first in enumerate(views):
        for second in views[i + 1 :]:
            swapped = {first: Correction(second), second: Correction(first)}
            yield Hypothesis("cameras_swapped", f"{first} and {second} exchanged", swapped)
    for view in views:
        for geometry in [name for name in GEOMETRIES if name]:
            yield Hypothesis("view_mirrored", f"{view} {geometry}", {view: Correction(view, geometry)})
    every = {view: Correction(view, "", True) for view in views}
    yield Hypothesis("channels_reversed", "red and blue exchanged in every view", every)
    if len(views) > 1:
        for view in views:
            label = f"red and blue exchanged in {view}"
            yield Hypothesis("channels_reversed", label, {view: every[view]})


def config_hypotheses(config: RoboFlamingoConfig) -> Iterator[Hypothesis]:
    """Other ways to prepare images, to read the language model, and to remember."""
    for name, (mean, std) in NORMALISATIONS.items():
        if (config.image.mean, config.image.std) != (mean, std):
            changes = (f"image.mean={list(mean)}", f"image.std={list(std)}")
            yield Hypothesis("image_normalisation", f"image normalisation {name}", changes=changes)
    other = "final_norm" if config.language.lm_feature == "last_block_input" else "last_block_input"
    yield Hypothesis("lm_feature", f"language.lm_feature {other}", changes=(f"language.lm_feature={other}",))
    if config.head.type == "lstm":  # other heads fix it by their shape
        for window in WINDOWS:
            if window != config.head.window:
                yield Hypothesis("window", f"a window of {window}", changes=(f"head.window={window}",))


def rebuilt(policy: RoboFlamingoPolicy, changes: Sequence[str]) -> RoboFlamingoPolicy | None:
    """The policy with another configuration and the same parameters, which are shared; None if they do not fit it."""
    if all(change.startswith(("image.mean=", "image.std=")) for change in changes):  # the network stays as it is
        other = copy.copy(policy)
        other.config = policy.config.changed(changes)
        return other
    try:
        with EmptyInit():
            other = RoboFlamingoPolicy(policy.config.changed(changes), policy.tokenizer)
        other.load_state_dict(policy.state_dict(), assign=True)
    except (ConfigError, RuntimeError):
        return None
    return other.to(policy.device).eval()


def try_hypotheses(
    policy: RoboFlamingoPolicy,
    episodes: Sequence[Episode],
    hypotheses: Sequence[Hypothesis],
    predicted: Sequence[NDArray[np.float32]],
    frames: int = 12,
    count: int = 4,
) -> HypothesisReport:
    """Relative errors under each hypothesis, on the beginnings of a few episodes.

    Args:
        policy: see `rf_agent.diagnosis.actions.why_not`.
        episodes: what was recorded.
        hypotheses: what to try.
        predicted: what the policy does in the episodes as it is.
        frames: of each episode.
        count: episodes at most.
    """
    chosen = shortened(episodes[:count], frames * max(1, policy.config.head.replan_every // episodes[0].stride))
    report = HypothesisReport(steps=sum(len(episode.actions) for episode in chosen))
    report.plain = relative_error(beginnings(predicted, chosen), chosen, policy.config.action)
    for hypothesis in hypotheses:
        other = rebuilt(policy, hypothesis.changes) if hypothesis.changes else policy
        if other is not None:
            report.outcomes.append(Outcome(hypothesis, _error(other, chosen, hypothesis.views)))
    return report


def _error(policy: RoboFlamingoPolicy, episodes: Sequence[Episode], views: Mapping[str, Correction]) -> float:
    shown: list[dict[str, Any]] = [
        {**episode.images, **{view: correction(episode.images) for view, correction in views.items()}}
        for episode in episodes
    ]
    return relative_error(predict(policy, episodes, shown), episodes, policy.config.action)
