"""`rf-agent collect` as it is typed: what is missing in the end is no success."""

import pytest
from fake_table import TASKS

from rf_agent import cli


@pytest.fixture
def collect(tmp_path, capfd):
    """Exit code, output and error of a collection in an environment whose second task cannot be solved."""

    def call(*words):
        given = ("--env", "fake_table:Hopeless-v0", "--workers", "1", "--episodes-per-task", "2", "--attempts", "3")
        with pytest.raises(SystemExit) as stop:
            cli.main(["collect", "--output", str(tmp_path / "d.hdf5"), *given, *words])
        return stop.value.code, *capfd.readouterr()

    return call


def test_a_collection_that_is_whole_is_a_success(collect):
    code, out, err = collect("--tasks", TASKS[0])
    assert code == 0 and "2 demonstrations" in out + err


def test_demonstrations_that_are_missing_are_a_failure_that_names_their_task(collect):
    code, out, err = collect()
    assert code == 1 and "2 demonstrations" in out + err  # what there is was kept
    assert "gave up on 2 demonstrations of go_right after 3 scenes each: raise --attempts, or leave" in err


def test_a_collection_without_demonstrations_is_a_failure(collect):
    code, _, err = collect("--tasks", TASKS[1])
    assert code == 1 and "nothing was demonstrated: every attempt failed" in err
