"""`rf-agent reproduce` as it is typed."""

import pytest

from rf_agent import cli


def call(capsys, *words):
    with pytest.raises(SystemExit) as stop:
        cli.main(["reproduce", *map(str, words)])
    return stop.value.code, capsys.readouterr()


def test_the_list_says_what_each_table_costs(tmp_path, capsys):
    code, said = call(capsys, "--list", "--output", tmp_path)
    assert code == 0 and "table1" in said.out and "0/12" in said.out and "Fig. 3 (a)" in said.out
    assert not any(tmp_path.iterdir())  # listing makes nothing


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "name a table (tuning, table1,"),
        (["table4"], "there is no table 'table4': tables are tuning, table1,"),
        (["table1", "--seeds", "1", "1"], "--seeds is [1, 1]: give one or more different numbers"),
        (["table1", "--seeds", "0", "-1"], "--seeds is [0, -1]: give numbers from 0 on"),
        (["table1", "--steps", "0"], "--steps is 0: give 1 or more"),
        (["--results", "x.json"], "--results is for a page: give --page FILE"),
        (["--results", "x.json", "--page", "y.md"], "there is no x.json"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(words, says, tmp_path, capsys):
    code, said = call(capsys, *words, "--output", tmp_path / "runs")
    assert code != 0 and says in said.err and said.err.count("\n") == 1
