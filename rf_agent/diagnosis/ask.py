"""Everything that a diagnosis asks the policy itself."""

from __future__ import annotations

from collections.abc import Sequence

from rf_agent.config import RoboFlamingoConfig
from rf_agent.demos.readers import DemoReader
from rf_agent.diagnosis.actions import beginnings, compare, predict, relative_error, shortened, why_not
from rf_agent.diagnosis.episodes import Episode
from rf_agent.diagnosis.facts import Facts
from rf_agent.diagnosis.hypotheses import Hypothesis, config_hypotheses, try_hypotheses, view_hypotheses
from rf_agent.diagnosis.language import check_language
from rf_agent.policy import RoboFlamingoPolicy
from rf_agent.progress import Reporter

DOUBTFUL = 0.4
"""Relative error from which hypotheses are tried: policies that solve their tasks have 0.35 to 0.5, and one that reads
the robot's pose, too, has hardly more where it sees something wrong."""


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
        hypotheses = _hypotheses(config, facts)
        if hypotheses:
            reporter.update(0.65, f"trying {len(hypotheses)} hypotheses")
            facts.hypotheses = try_hypotheses(policy, episodes, hypotheses, facts.actions.predicted)
    reporter.update(0.9, "reading the instructions")
    known = set(policy.config.tasks)
    instructions = [record.instruction for record in reader.records if record.task in known]
    # of other tasks it may never have read a word
    instructions = instructions or [record.instruction for record in reader.records]
    predicted = facts.actions.predicted if facts.actions else []
    facts.language = check_language(policy, episodes, instructions, asked, predicted)
    left_out["language"] += facts.language.left_out
    if facts.checkpoint is not None and not facts.checkpoint.family:
        left_out["checkpoint"].append(
            "its vision tower and language model together are those of no preset, so there is no family to compare with"
        )
    return left_out


def _hypotheses(config: RoboFlamingoConfig, facts: Facts) -> list[Hypothesis]:
    """What to try: everything for a policy that does not do what was recorded, and what its family has otherwise."""
    error = (facts.actions and facts.actions.relative_error) or 0.0
    if facts.scale_is_off or facts.data_are_dark:
        return []  # no error would tell them apart
    if error > DOUBTFUL:
        return [*view_hypotheses(config.views), *config_hypotheses(config)]
    suspicious = {mismatch.kind for mismatch in facts.checkpoint.mismatches} if facts.checkpoint else set()
    every = [*view_hypotheses(config.views), *config_hypotheses(config)]
    return [hypothesis for hypothesis in every if hypothesis.kind in suspicious]


def _environment_error(policy: RoboFlamingoPolicy, episodes: Sequence[Episode], facts: Facts) -> None:
    """The policy's error on what the environment shows, and on what the data show of the same steps."""
    found = facts.observations
    if found is None or not all(camera.paired for camera in found.cameras):
        return
    if any(view not in images for images in found.shown for view in policy.config.views):
        return
    first = policy.config.views[0]
    counts = [len(images[first]) for images in found.shown]
    recorded = [shortened([episode], count)[0] for episode, count in zip(episodes, counts, strict=True)]
    action = policy.config.action
    try:
        seen = None if all(camera.same for camera in found.cameras) else predict(policy, recorded, found.shown)
    except ValueError as error:  # such as images that are no uint8
        facts.refused = " ".join(str(error).split())
        return
    own = beginnings(facts.actions.predicted if facts.actions else predict(policy, episodes), recorded)
    facts.recorded_error = relative_error(own, recorded, action)
    facts.environment_error = facts.recorded_error if seen is None else relative_error(seen, recorded, action)
