"""Rates and intervals against numbers worked out by hand."""

import pytest

from rf_agent.evaluation import metrics
from rf_agent.evaluation.metrics import Attempt, Episode
from rf_agent.evaluation.results import task_table


def chain(key: str, completed: int) -> Episode:
    names = ["open_drawer", "turn_on_led", "lift_red_block_table", "push_red_block_left", "close_drawer"]
    attempts = [Attempt(name, True) for name in names[:completed]]
    if completed < 5:
        attempts.append(Attempt(names[completed], False))
    return Episode(key, tuple(attempts), steps=100, seconds=1.0, seed=0, chain=int(key))


def test_wilson_interval_of_textbook_values():
    # Newcombe (1998), Statistics in Medicine 17, table I: Wilson's method without continuity correction
    assert metrics.wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert metrics.wilson_interval(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert metrics.wilson_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert metrics.wilson_interval(29, 29) == pytest.approx((0.8830, 1.0), abs=5e-5)


def test_wilson_interval_without_trials_says_nothing():
    assert metrics.wilson_interval(0, 0) == (0.0, 1.0)


def test_wilson_interval_refuses_more_successes_than_trials():
    with pytest.raises(ValueError, match="3 of 2"):
        metrics.wilson_interval(3, 2)


def test_bootstrap_interval_is_seeded_and_near_the_normal_one():
    values = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0] * 50
    low, high = metrics.bootstrap_interval(values, seed=3)
    assert (low, high) == metrics.bootstrap_interval(values, seed=3)
    half = 1.96 * (35 / 12) ** 0.5 / 300**0.5  # variance of a die is 35/12
    assert low == pytest.approx(2.5 - half, abs=0.02)
    assert high == pytest.approx(2.5 + half, abs=0.02)


def test_bootstrap_interval_of_equal_values_is_a_point():
    assert metrics.bootstrap_interval([2.0] * 7) == (2.0, 2.0)


def test_chain_metrics():
    episodes = [chain("0", 5), chain("1", 2), chain("2", 0), chain("3", 2)]
    rates = metrics.success_rates(episodes, 5)
    assert list(rates) == ["1", "2", "3", "4", "5"]
    assert [entry["rate"] for entry in rates.values()] == [0.75, 0.75, 0.25, 0.25, 0.25]
    assert rates["5"]["ci95"] == list(metrics.wilson_interval(1, 4))
    average = metrics.average_length(episodes)
    assert average["mean"] == pytest.approx(9 / 4)
    assert average["ci95"][0] < 9 / 4 < average["ci95"][1]
    counts = metrics.task_counts(episodes)
    assert counts["open_drawer"] == {"success": 3, "total": 4}
    assert counts["lift_red_block_table"] == {"success": 1, "total": 3}


def test_mean_over_tasks_weighs_tasks_equally():
    counts = {"a": {"success": 1, "total": 1}, "b": {"success": 0, "total": 9}}
    assert metrics.mean_success(counts) == 0.5


def test_task_groups():
    names = {
        "turn_on_led": "fixtures",
        "move_slider_left": "fixtures",
        "close_drawer": "fixtures",
        "push_blue_block_right": "push",
        "lift_pink_block_slider": "lift",
        "stack_block": "stack",
    }
    assert {task: metrics.task_group(task) for task in names} == names


def test_the_mean_of_tasks_that_were_tried_unequally_often_has_no_interval_of_the_attempts():
    equal = {"lift_a": {"success": 9, "total": 10}, "lift_b": {"success": 5, "total": 10}}
    unequal = {"lift_a": {"success": 100, "total": 100}, "lift_b": {"success": 0, "total": 4}}
    means = [list(task_table(counts).columns[3].cells)[-1] for counts in (equal, unequal)]
    assert means == ["48.1 – 85.5", ""]
