"""Everything that a diagnosis asks the policy itself."""

from __future__ import annotations

from collections.abc import Sequence

from rf_agent.config import RoboFlamingoConfig
from rf_agent.demos.readers import DemoReader
from rf_agent.diagnosis.actions import compare, predict, relative_error, shortened, why_not
from rf_agent.diagnosis.episodes import Episode
from rf_agent.diagnosis.facts import Facts
from rf_agent.diagnosis.hypotheses import Hypothesis, config_hypotheses, try_hypotheses, view_hypotheses
from rf_agent.diagnosis.language import check_language
from rf_agent.policy import RoboFlamingoPolicy
from rf_agent.progress import Reporter

GOOD, DOUBTFUL = 0.25, 0.55
"""Relative errors up to which nothing needs an explanation, and from which the configuration is doubted too."""


def ask(
    policy: RoboFlamingoPolicy,
    episodes: Sequence[Episode],
    reader: DemoReader,
    asked: Sequence[str],
    facts: Facts,
    reporter: Reporter,
) -> dict[str, list[str]]:
    """Compare the policy's actions with the recorded ones, as they are and under every hypothesis.

    Args:
        policy: of the data's robot.
        episodes: what was recorded.
        reader: of all demonstrations.
        asked: what the environment asks for in the same episodes.
        facts: what is found is added here.
        reporter: hears of the progress.

    Returns:
        By section: sentences on what was left out.
    """
    left_out: dict[str, list[str]] = {"actions": [], "language": [], "checkpoint": []}
    if policy.config.head.ensemble is not None and policy.config.head.chunk_size % episodes[0].stride == 0:
        policy.set_execution(max(1, episodes[0].stride))  # averaging needs an image at every step, which data may lack
    reason = why_not(policy, episodes)
    if reason:
        left_out["actions"].append(reason)
    else:
        reporter.update(0.5, "predicting the recorded actions")
        config = policy.config
        facts.actions = compare(predict(policy, episodes), episodes, config.action, config.head.replan_every)
        if facts.actions.relative_error is None:
            left_out["actions"].append("the recorded motion never changes, so that no error can be judged")
        _environment_error(policy, episodes, facts)
        reporter.update(0.65, "trying hypotheses")
        facts.hypotheses = try_hypotheses(policy, episodes, _hypotheses(config, facts))
    reporter.update(0.9, "reading the instructions")
    instructions = [record.instruction for record in reader.records]
    facts.language = check_language(policy, episodes, instructions, asked, not reason)
    left_out["language"] += facts.language.left_out
    if facts.checkpoint is not None and not facts.checkpoint.family:
        left_out["checkpoint"].append(
            "its vision tower and language model together are those of no preset, so there is no family to compare with"
        )
    return left_out


def _hypotheses(config: RoboFlamingoConfig, facts: Facts) -> list[Hypothesis]:
    """What to try. A policy that does what was recorded is not rebuilt, unless its family is otherwise."""
    error = 1.0 if facts.actions is None else facts.actions.relative_error or 0.0
    suspicious = {mismatch.kind for mismatch in facts.checkpoint.mismatches} if facts.checkpoint else set()
    chosen = list(view_hypotheses(config.views)) if error > GOOD else []
    chosen += [one for one in config_hypotheses(config) if error > DOUBTFUL or one.kind in suspicious]
    return chosen


def _environment_error(policy: RoboFlamingoPolicy, episodes: Sequence[Episode], facts: Facts) -> None:
    """The policy's error on what the environment shows, and on what the data show of the same steps."""
    if facts.observations is None or not all(camera.paired for camera in facts.observations.cameras):
        return
    recorded, shown = [], []
    for episode, images in zip(episodes, facts.observations.shown, strict=True):
        if any(view not in images for view in policy.config.views):
            return
        count = len(images[policy.config.views[0]])
        (short,) = shortened([episode], count)
        recorded.append(short)
        shown.append(images)
    try:
        found = predict(policy, recorded, shown)
    except ValueError as error:  # such as images that are no uint8
        facts.refused = " ".join(str(error).split())
        return
    action = policy.config.action
    facts.environment_error = relative_error(found, recorded, action)
    facts.recorded_error = relative_error(predict(policy, recorded), recorded, action)
