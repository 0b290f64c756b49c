"""Evidence to causes, on findings made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from rf_agent.diagnosis.actions import ActionReport, Entry
from rf_agent.diagnosis.causes import REMEDIES, TITLES, Evidence, rank
from rf_agent.diagnosis.checkpoint_checks import CheckpointReport, Mismatch
from rf_agent.diagnosis.evidence import evidence
from rf_agent.diagnosis.facts import Facts
from rf_agent.diagnosis.hypotheses import Hypothesis, HypothesisReport, Outcome
from rf_agent.diagnosis.language import LanguageReport
from rf_agent.diagnosis.replay import Replay, ReplayReport, Trial


def kinds(facts: Facts) -> list[str]:
    return [cause.kind for cause in rank(evidence(facts))]


def acting(error: float, slope: float = 1.0, correlation: float = 0.9, gripper: float = 0.0) -> ActionReport:
    motion = [Entry(index, False, error, 1.0, 0.2, correlation, slope) for index in range(3)]
    return ActionReport([*motion, Entry(3, True, gripper, 0.3, 0.1, 0.9, 1.0)], steps=100)


def test_evidence_adds_up_and_weak_evidence_is_left_out():
    causes = rank([
        Evidence("window", 0.5, "a"),
        Evidence("renderer", 0.4, "b", "environment"),
        Evidence("renderer", 0.4, "c"),
        Evidence("rate", 0.2, "d"),
    ])  # fmt: skip
    assert [cause.kind for cause in causes] == ["renderer", "window"]
    assert causes[0].likelihood == pytest.approx(0.64)
    assert causes[0].evidence == ["b", "c"] and causes[0].where == "environment"
    assert all(cause.remedy for cause in causes)


def test_every_cause_has_a_title_and_a_remedy():
    assert TITLES.keys() == REMEDIES.keys()
    assert all(remedies and all(remedies.values()) for remedies in REMEDIES.values())


def test_a_policy_that_acts_as_recorded_gives_no_cause():
    language = LanguageReport(loss=8.0, uniform=6.0, error=0.3, exchanged_error=0.3)
    assert kinds(Facts(actions=acting(0.3), language=language, checkpoint=CheckpointReport())) == []


def test_units_and_the_gripper_show_in_what_the_policy_does():
    assert kinds(Facts(actions=acting(30.0, slope=0.02))) == ["action_scale"]
    assert kinds(Facts(actions=acting(0.3, gripper=0.95))) == ["gripper_sign"]


def test_the_correction_that_helps_most_is_named_first():
    outcomes = [
        Outcome(Hypothesis("cameras_swapped", "exchanged"), 0.6),
        Outcome(Hypothesis("channels_reversed", "reversed"), 0.2),
        Outcome(Hypothesis("window", "a window of 4"), 0.98),
    ]
    facts = Facts(actions=acting(1.0), hypotheses=HypothesisReport(1.0, outcomes, 100))
    assert kinds(facts)[0] == "channels_reversed" and "window" not in kinds(facts)


def test_a_language_model_without_language_is_named_where_nothing_else_explains_the_error():
    bad = LanguageReport(loss=7.0, uniform=6.5, error=1.0, exchanged_error=1.0)
    assert kinds(Facts(actions=acting(1.0), language=bad))[0] == "language_model"
    good = LanguageReport(loss=3.0, uniform=6.5, error=1.0, exchanged_error=1.6)
    assert kinds(Facts(actions=acting(1.0), language=good)) == ["unexplained", "language_model"]
    explained = HypothesisReport(1.0, [Outcome(Hypothesis("channels_reversed", "reversed"), 0.2)], 100)
    assert kinds(Facts(actions=acting(1.0), language=bad, hypotheses=explained)) == ["channels_reversed"]


def test_a_replay_that_one_change_mends_names_it():
    plain = Trial("", "as recorded", np.ones(4), 0, 3, 0.3)
    mended = Trial("action_scale", "times 10", np.full(4, 10.0), 3, 3, 0.0)
    assert kinds(Facts(replay=ReplayReport(plain=plain, trials=[mended]))) == ["action_scale"]
    no_better = Trial("action_scale", "times 10", np.full(4, 10.0), 0, 3, 0.25)
    failed, done, unknown = (Replay("a", "b", 9, success, {}, None, None, "") for success in (False, True, None))
    report = ReplayReport([failed] * 3 + [unknown], plain, [no_better])
    (cause,) = rank(evidence(Facts(replay=report)))
    assert cause.kind == "replay_fails" and cause.evidence[0].startswith("0 of 3 replays succeed")
    most_do = ReplayReport([done] * 7 + [failed], Trial("", "as recorded", np.ones(4), 0, 1, 0.3), [no_better])
    assert kinds(Facts(replay=most_do)) == []


def test_a_window_that_the_run_trained_with_is_no_cause():
    other = Mismatch("window", "head.window", 4, 8)
    assert kinds(Facts(checkpoint=CheckpointReport("tiny", mismatches=[other]))) == ["window"]
    assert kinds(Facts(checkpoint=CheckpointReport("tiny", mismatches=[other], trained_window=4))) == []
    trained = rank(evidence(Facts(checkpoint=CheckpointReport("tiny", mismatches=[other], trained_window=8))))
    assert trained[0].likelihood > 0.85


def test_of_an_untrained_policy_nothing_else_is_said():
    language = LanguageReport(loss=7.0, uniform=6.5, error=1.0, exchanged_error=1.0)
    checkpoint = CheckpointReport("tiny", trained=False, mismatches=[Mismatch("window", "head.window", 4, 8)])
    assert kinds(Facts(actions=acting(1.1), language=language, checkpoint=checkpoint)) == ["untrained"]


def test_what_data_and_environment_say_of_themselves():
    facts = Facts(described={"scene": ("D", "A"), "rate": (30.0, 30.0), "renderer": ("egl", "tiny")})
    assert kinds(facts) == ["scene", "renderer"]


def test_tasks_that_the_policy_never_saw():
    assert kinds(Facts(known_tasks=(0, 5))) == ["unknown_tasks"]
    assert kinds(Facts(known_tasks=(2, 5))) == []
