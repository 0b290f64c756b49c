"""Tables for papers: the right numbers, and text that breaks no format."""

import csv
import io
import re

import pytest
from fake_runs import chains, write_run

from rf_agent.evaluation.metrics import wilson_interval
from rf_agent.reporting import tables
from rf_agent.reporting.runs import read_runs

HOSTILE = r"50%_of $x & #1 ~^{a}\b|c<d>[e]*`f`"


@pytest.fixture
def runs(tmp_path):
    folders = [
        write_run(tmp_path / "a", chains([0, 2, 2, 5])),
        write_run(tmp_path / "b", chains([5, 5, 5, 5]), policy=HOSTILE),
    ]
    return read_runs(folders)


def test_chains_like_table_1(runs):
    first, _, *rest = tables.chain_table(runs).rows
    low, high = wilson_interval(3, 4)
    assert first[:3] == ("some/policy", "4", f"0.750 [{low:.3f}, {high:.3f}]")
    assert first[-1].startswith("2.25 [")
    assert ("RoboFlamingo, ABCD (Lang) → D (paper)", "1000", "0.964") == next(r for r in rest if "4.09" in r)[:3]


def test_tasks_like_table_9(runs):
    rows = {row[0]: row[1:] for row in tables.task_table(runs).rows}
    assert rows["place in drawer"] == ("0.333 (1/3)", "1.000 (4/4)", "0.989")
    assert rows["mean over tasks"][1] == "1.000"


def test_tasks_of_other_environments_have_no_column_of_the_paper(tmp_path):
    episodes = [e.__class__(e.key, tuple(), 1, 1.0, 0, 0, 1.0) for e in chains([1])]
    (run,) = read_runs([write_run(tmp_path / "a", episodes)])
    (table,) = tables.tables([run])
    assert table.columns == ("Method", "Episodes", "Return") and table.rows[0][2] == "1.000 [1.000, 1.000]"


def test_markdown_tables_have_equal_rows(runs):
    text = tables.markdown(tables.tables(runs))
    lines = [line for line in text.splitlines() if line.startswith("|")]
    widths = [len(re.findall(r"(?<!\\)\|", line)) for line in lines]
    assert len(lines) > 10 and set(widths) <= {9, 5, 10}
    assert "<d>" not in text and "&lt;d&gt;" in text and r"\|c" in text


def test_latex_escapes_what_it_reads_as_commands(runs):
    text = tables.latex(tables.tables(runs))
    assert r"50\%\_of \$x \& \#1 \textasciitilde{}\textasciicircum{}\{a\}\textbackslash{}b\textbar{}c" in text
    for line in text.splitlines():
        assert not line.startswith(("[", "*"))
    for body in re.findall(r"\\begin\{tabular\}\{(l?r*)\}(.*?)\\end\{tabular\}", text, re.S):
        rows = [line for line in body[1].splitlines() if line.endswith(r"\\")]
        assert rows and {len(re.findall(r"(?<!\\)&", row)) + 1 for row in rows} == {len(body[0])}
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 3


def test_csv_is_one_table_with_all_numbers(runs):
    rows = list(csv.DictReader(io.StringIO(tables.csv_text(runs))))
    found = {(row["run"], row["measure"]): row for row in rows}
    assert float(found["some/policy", "3 in a row"]["value"]) == 0.25
    assert float(found["some/policy", "average length"]["value"]) == 2.25
    assert found["some/policy", "task place_in_drawer"]["solved"] == "1"
    name = runs[1].label
    difference = found[name, "difference in average length"]
    assert float(difference["value"]) == 2.75 and difference["against"] == "some/policy" and difference["p_holm"]
    assert all(None not in row and None not in row.values() for row in rows)


def test_runs_that_share_no_episode_say_in_what_else_they_differ(tmp_path):
    one, other = (chains([1, 2, 3, 4])[half] for half in (slice(0, 2), slice(2, 4)))
    folders = [
        write_run(tmp_path / "a", one, renderer="tiny"),
        write_run(tmp_path / "b", other, renderer="egl", policy="other"),
    ]
    found = tables.tables(read_runs(folders))
    assert "Differences" not in found[-1].title
    for text in (tables.markdown(found), tables.latex(found)):
        assert "The runs also differ in: " in text and "egl" in text


def test_notes_about_missing_chains_go_with_the_tables(tmp_path):
    (run,) = read_runs([write_run(tmp_path / "a", chains([1, 2]), finished=False)])
    for text in (tables.markdown(tables.tables([run])), tables.latex(tables.tables([run]))):
        assert "2 chains so far" in text
