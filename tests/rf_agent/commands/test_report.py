"""`rf-agent report`: files by their ending, tables on the screen, and one sentence for what does not work."""

import json

import pytest
from fake_runs import chains, write_run

from rf_agent import cli


def report(capfd, *words):
    with pytest.raises(SystemExit) as stop:
        cli.main(["report", *map(str, words)])
    out, err = capfd.readouterr()
    return stop.value.code, out, err


@pytest.fixture
def folder(tmp_path):
    return write_run(tmp_path / "run", chains([5, 0, 3]))


@pytest.mark.parametrize(
    ("name", "begins"),
    [("x.html", "<!DOCTYPE html>"), ("x.md", "**Sub"), ("x.tex", "% needs"), ("x.csv", "run,measure"), ("x.json", "{")],
)
def test_the_ending_says_the_format(capfd, folder, tmp_path, name, begins):
    code, out, err = report(capfd, folder, "--output", tmp_path / "new" / name)
    assert (code, err) == (0, "") and out == f"1 evaluation, 3 episodes: {tmp_path / 'new' / name}\n"
    assert (tmp_path / "new" / name).read_text().startswith(begins)
    assert [file.name for file in (tmp_path / "new").iterdir()] == [name]


@pytest.mark.parametrize("form", ["markdown", "latex", "csv"])
def test_tables_go_to_the_screen(capfd, folder, form):
    code, out, err = report(capfd, folder, "--format", form)
    assert (code, err) == (0, "") and "some/policy" in out and "open" in out


def test_without_a_file_and_a_format_they_are_markdown(capfd, folder):
    assert report(capfd, folder) == report(capfd, folder, "--format", "markdown")


def test_json_of_one_run_is_its_results_and_of_several_a_list(capfd, folder, tmp_path):
    other = write_run(tmp_path / "other", chains([1]), policy="b")
    report(capfd, folder, "--output", tmp_path / "one.json")
    assert json.loads((tmp_path / "one.json").read_text()) == json.loads((folder / "results.json").read_text())
    report(capfd, folder, other, "--output", tmp_path / "two.json")
    assert [one["policy"] for one in json.loads((tmp_path / "two.json").read_text())] == ["some/policy", "b"]


def test_csv_says_beside_the_tables_what_else_differs(capfd, tmp_path):
    runs = [write_run(tmp_path / renderer, chains([1]), renderer=renderer) for renderer in ("egl", "tiny")]
    code, out, err = report(capfd, *runs, "--format", "csv")
    assert code == 0 and "note: The evaluations also differ in: renderer (egl, tiny)." in err
    assert "also differ" not in out


def test_shards_are_merged_or_what_is_missing_is_named(capfd, tmp_path):
    episodes = chains([5, 0, 3])
    first = write_run(tmp_path / "1", episodes[::2], shard="1/2", finished=False)
    code, out, err = report(capfd, first, "--format", "csv")
    assert code == 1 and "shard 2/2 is not given" in err and err.count("\n") == 1
    output = tmp_path / "x.html"
    code, _, err = report(capfd, first, "--output", output, "--allow-missing")
    assert code == 0 and "note: Shard 2/2 is not given" in err and "Shard 2/2 is not given" in output.read_text()
    second = write_run(tmp_path / "2", episodes[1::2], shard="2/2", finished=False)
    code, _, _ = report(capfd, first, second, "--output", tmp_path / "x.json", "--allow-missing")
    assert code == 0 and json.loads((tmp_path / "x.json").read_text())["average_length"]["mean"] == pytest.approx(8 / 3)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["{run}", "--output", "x.pdf"], "give a name that ends in .html"),
        (["{run}", "--format", "html"], "--format html needs a file: give --output"),
        (["{run}", "--output", "x.html", "--videos", "-1"], "--videos is -1"),
        (["{run}", "--output", "x.html", "--video-of", "chain/0"], "'chain/0', which has no video"),
        (["{run}", "--output", "{run}/results.json/x.html"], "cannot write to --output"),
        (["{run}/nowhere", "--format", "csv"], "there is no folder"),
        (["--format", "csv"], "name at least one folder"),
    ],
)
def test_what_does_not_work_is_said_in_a_sentence(capfd, folder, words, said):
    code, out, err = report(capfd, *(word.replace("{run}", str(folder)) for word in words))
    assert code == 1 and said in err and err.count("\n") == 1 and not out
