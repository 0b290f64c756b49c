"""Parts of an evaluation."""

import json

import pytest

from rf_agent import cli
from rf_agent.errors import UserError
from rf_agent.evaluation.episode import chain_items
from rf_agent.evaluation.runner import evaluate
from rf_agent.evaluation.shards import Shard

CHAIN = "fake_env:fake/Chain-v0"


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_every_item_is_in_one_part(count):
    items = list(range(20))
    parts = [Shard(index, count).part(items) for index in range(1, count + 1)]
    assert sorted(item for part in parts for item in part) == items
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("text", ["", "0/3", "4/3", "1", "1/0", "a/b", "-1/3", "1/3/5", "1.5/3"])
def test_what_is_no_part_is_refused(text):
    with pytest.raises(UserError, match="write I/N with I from 1 to N, such as 1/3"):
        Shard.parse(text)


def test_parts_play_what_the_whole_plays(tmp_path):
    items = chain_items(7, seed=0)
    whole = {e.key: e.attempts for e in evaluate(CHAIN, "random", items, tmp_path / "whole")[0]}
    parts = {}
    for index in (1, 2, 3):
        shard = Shard.parse(f"{index}/3")
        episodes, _ = evaluate(CHAIN, "random", shard.part(items), tmp_path / str(index), shard=str(shard))
        parts |= {e.key: e.attempts for e in episodes}
    assert parts == whole
    with pytest.raises(UserError, match="shard '1/3', but now shard is '2/3'"):
        evaluate(CHAIN, "random", items[1::3], tmp_path / "1", shard="2/3")


def test_a_shard_stays_one_of_the_same_tasks(tmp_path):
    """With other tasks the parts would be divided anew, and overlap."""
    words = ["evaluate", "--env", "fake_env:fake/Task-v0", "--policy", "random", "--workers", "1", "--timeout", "0"]
    words += ["--shard", "1/2", "--output", str(tmp_path)]

    def run(*more):
        with pytest.raises(SystemExit) as stop:
            cli.main([*words, *more])
        return stop.value.code

    assert run("--tasks", "go_left", "go_right", "--episodes-per-task", "1") == 0
    assert run("--tasks", "go_left", "go_right", "--episodes-per-task", "2") == 0
    before = (tmp_path / "episodes.jsonl").read_text()
    assert run("--tasks", "go_left", "go_right", "go_far", "--episodes-per-task", "2") == 1
    assert (tmp_path / "episodes.jsonl").read_text() == before


def test_the_command_plays_its_part_and_says_which(tmp_path, capfd):
    words = ["evaluate", "--env", CHAIN, "--policy", "random", "--chains", "5", "--workers", "1", "--timeout", "0"]
    with pytest.raises(SystemExit) as stop:
        cli.main([*words, "--shard", "2/2", "--output", str(tmp_path)])
    assert stop.value.code == 0, capfd.readouterr().err
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["shard"] == "2/2" and results["requested"] == {"chains": 5} and results["weights"] == "random"
    assert [entry["chain"] for entry in results["sequences"]] == [1, 3]
    header = json.loads((tmp_path / "episodes.jsonl").read_text().splitlines()[0])
    assert header["requested"] == {"chains": 5}  # a report on what is not finished says how much is to come
    with pytest.raises(SystemExit) as stop:
        cli.main([*words, "--shard", "3/2", "--output", str(tmp_path / "other")])
    assert stop.value.code == 1 and "the shard is '3/2'" in capfd.readouterr().err
