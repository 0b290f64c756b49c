"""`rf-agent reproduce` as it is typed."""

import sys

import pytest

from rf_agent import cli
from rf_agent.reproduce.recipe import Recipe, claim
from rf_agent.reproduce.results import Results
from rf_agent.reproduce.tables import make_tables


def call(capsys, *words):
    with pytest.raises(SystemExit) as stop:
        cli.main(["reproduce", *map(str, words)])
    return stop.value.code, capsys.readouterr()


def test_the_list_says_what_each_table_costs(tmp_path, capsys):
    code, said = call(capsys, "--list", "--output", tmp_path)
    assert code == 0 and "table1" in said.out and "0/12" in said.out and "Fig. 3 (a)" in said.out
    assert not any(tmp_path.iterdir())  # listing makes nothing


def test_what_is_there_is_listed_by_its_own_recipe(tmp_path, capsys):
    recipe = Recipe(steps=5, evaluation_chains=1)
    results = Results(recipe)
    for stage in make_tables(["tuning"], recipe, (0,))[0].stages:
        results.add(stage, 60.0, {"pose_error": 0.1})
    claim(tmp_path, recipe)
    results.save(tmp_path)
    code, said = call(capsys, "--list", "--output", tmp_path)
    assert code == 0 and "9/9" in said.out
    code, said = call(capsys, "--page", tmp_path / "page.md", "--output", tmp_path)
    assert code == 0 and "imitation for 5 steps" in (tmp_path / "page.md").read_text()
    code, said = call(capsys, "tuning", "--list", "--output", tmp_path)
    assert code == 0 and "9/9" in said.out
    code, said = call(capsys, "--list", "--steps", "6", "--output", tmp_path)
    assert code == 1 and "with --steps 5 (now 6), --evaluation-chains 1 (now 100)" in said.err


def test_a_number_format_that_this_machine_cannot_train_in_is_refused_at_once(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("rf_agent.training.engine.has_bfloat16", lambda: False)
    code, said = call(capsys, "table1", "--mixed-precision", "bf16", "--device", "cpu", "--output", tmp_path)
    assert code == 1 and "--mixed-precision bf16 is slower on this CPU, or fails: leave it out" in said.err
    assert not (tmp_path / "demos").exists()


@pytest.mark.parametrize(("table", "package"), [("fig3a", "accelerate"), ("table6", "pycocoevalcap.bleu.bleu")])
def test_packages_that_are_needed_in_the_end_are_asked_for_at_once(tmp_path, capsys, monkeypatch, table, package):
    for name in {package, package.partition(".")[0]}:
        monkeypatch.setitem(sys.modules, name, None)
    code, said = call(capsys, table, "--output", tmp_path)
    assert code == 1 and f"needs the package {package!r}: install it with `pip install" in said.err
    assert not (tmp_path / "demos").exists()


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
