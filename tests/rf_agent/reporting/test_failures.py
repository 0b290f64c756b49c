"""Which task broke chains, after which task, where, and how long it took."""

from fake_runs import TASKS, chain, chains

from rf_agent.evaluation.metrics import Attempt, Episode
from rf_agent.reporting import failures
from rf_agent.reporting.failures import START, Count


def test_where_chains_break():
    counts = failures.by_position(chains([0, 2, 2, 5]), 5)
    assert counts == [Count(4, 1), Count(3, 0), Count(3, 2), Count(1, 0), Count(1, 0)]


def test_which_task_breaks_chains_most_often_comes_first():
    counts = failures.by_task(chains([0, 2, 2, 5]))
    assert list(counts)[:2] == [TASKS[2], TASKS[0]]
    assert counts[TASKS[2]] == Count(3, 2) and counts[TASKS[1]] == Count(3, 0)


def test_after_which_task():
    counts = failures.by_transition(chains([0, 2, 2, 5]))
    assert counts[START, TASKS[0]] == Count(4, 1)
    assert counts[TASKS[1], TASKS[2]] == Count(3, 2)
    assert failures.by_family(chains([0, 2, 2, 5]))["lift", "place"] == Count(3, 2)


def test_steps_of_attempts():
    found = failures.step_histogram(chains([0, 2]))
    assert sum(found.solved) == 2 and sum(found.failed) == 2
    assert found.medians == (40.5, 360.0)
    assert found.failed[-1] == 2 and len(found.solved) == len(found.failed) == -(-360 // found.width)


def test_records_without_steps_have_no_histogram():
    assert failures.step_histogram([Episode("chain/0", (Attempt("a", True),), 10, 1.0, 0, 0)]) is None


def test_only_solved_attempts_have_no_median_of_failures():
    assert failures.step_histogram([chain(0, 5)]).medians == (42.0, None)
