"""The paper's numbers: complete, and of CALVIN's tasks."""

import pytest

from rf_agent.reporting import paper


def test_table_9_names_the_34_tasks():
    rf_envs = pytest.importorskip("rf_envs")
    assert set(paper.TABLE_9) == set(rf_envs.TASKS)


def test_table_1_is_consistent():
    """An average length is the sum of the five rates, up to rounding."""
    for row in paper.TABLE_1:
        assert sum(row.rates) == pytest.approx(row.average_length, abs=0.011), row.name
    assert paper.reference_row(enriched=False).average_length == 4.09
    assert paper.reference_row(enriched=True).average_length == 1.85


def test_the_other_tables_are_consistent():
    for table in (paper.TABLE_3, paper.TABLE_5, paper.TABLE_7, paper.TABLE_8):
        for scores in table.values():
            assert sum(scores.rates) == pytest.approx(scores.average_length, abs=0.011), scores
    assert str(paper.TABLE_8["everything learns"]) == "0.50 (42, 7, 1, 0, 0 %)"


def test_spot_checks_of_table_9():
    assert paper.task_rate("stack_block") == 0.641 and paper.task_rate("lift_red_block_drawer") == 1.0
    assert paper.TABLE_9["push_blue_block_right"][4] == 0.400


def test_only_calvins_tasks_are_compared():
    assert paper.are_calvins(["stack_block", "open_drawer"])
    assert not paper.are_calvins(["stack_block", "go_left"]) and not paper.are_calvins([])
