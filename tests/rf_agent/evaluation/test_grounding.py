"""What counts as following the colour word."""

import pytest

from rf_agent.commands.grounding import _table
from rf_agent.evaluation.grounding import Trial, grounding, totals
from rf_agent.evaluation.metrics import wilson_interval
from rf_agent.evaluation.results import interval

LIFT = "lift_{}_block_table"


def test_totals_of_a_policy_that_listens_and_of_one_that_does_not():
    listens = Trial(LIFT, {"red": "red", "blue": "blue", "pink": "pink"})
    deaf = Trial(LIFT, {"red": "blue", "blue": "blue", "pink": "blue"})
    still = Trial(LIFT, {"red": None, "blue": None, "pink": None})
    swapped = Trial(LIFT, {"red": "blue", "blue": "red", "pink": None})
    assert totals([listens]) == {"named": (3, 3), "changed": (3, 3)}
    assert totals([deaf]) == {"named": (1, 3), "changed": (0, 3)}
    assert totals([still]) == {"named": (0, 3), "changed": (0, 3)}
    assert totals([swapped]) == {"named": (0, 3), "changed": (1, 3)}
    assert totals([listens, deaf, still, swapped]) == {"named": (4, 12), "changed": (4, 12)}


def test_runs_of_a_trial_are_no_independent_tries():
    """30 trials, half of which go right altogether: the interval is that of 15 of 30, not of 45 of 90."""
    listens = Trial(LIFT.format("*"), {"red": "red", "blue": "blue", "pink": "pink"})
    still = Trial(LIFT.format("*"), {"red": None, "blue": None, "pink": None})
    table = _table([listens, still] * 15)
    cells = [list(column.cells) for column in table.columns]
    low, high = wilson_interval(15, 30)
    assert cells[1][-1] == "45/90" and cells[3][-1] == interval(low, high) != interval(*wilson_interval(45, 90))


def test_the_expert_touches_the_block_that_is_named():
    pytest.importorskip("pybullet", reason="trials are played on the play table")
    done = []
    trials = grounding("rf/PlayTableD-v0", "expert", 2, on_trial=done.append)
    assert totals(trials) == {"named": (6, 6), "changed": (6, 6)}
    assert [trial.task for trial in trials] == [LIFT, "push_{}_block_left"] and done == trials
