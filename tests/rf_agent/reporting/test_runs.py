"""What a report reads from the folders of evaluations, and shards that become the result of one run."""

import json
import subprocess

import pytest
from fake_runs import chains, write_run

from rf_agent import cli
from rf_agent.errors import UserError
from rf_agent.reporting.runs import read_runs

CHAIN, TASK, COUNT = "fake_env:fake/Chain-v0", "fake_env:fake/Task-v0", 7


def evaluate(output, env=CHAIN, *words):
    size = ["--chains", COUNT] if env == CHAIN else ["--episodes-per-task", 3, "--tasks", "go_left", "go_far"]
    given = ["evaluate", "--env", env, "--policy", "random", "--output", output, "--workers", 1, "--timeout", 0]
    with pytest.raises(SystemExit) as stop:
        cli.main([str(word) for word in [*given, *size, *words]])
    assert stop.value.code == 0
    return output


def shards(folder, count, env=CHAIN):
    return [evaluate(folder / f"shard{i}", env, "--shard", f"{i}/{count}") for i in range(1, count + 1)]


@pytest.mark.parametrize("env", [CHAIN, TASK])
def test_shards_become_the_very_result_of_one_run(tmp_path, env):
    whole = json.loads((evaluate(tmp_path / "whole", env) / "results.json").read_text())
    parts = shards(tmp_path, 3, env)
    (run,) = read_runs(parts[::-1])
    merged = json.loads(json.dumps(run.results()))
    seconds = sum(json.loads((part / "results.json").read_text())["seconds"] for part in parts)
    assert merged.pop("seconds") == pytest.approx(seconds, abs=0.1)
    whole.pop("seconds")
    assert merged == whole
    assert run.shards == ("1/3", "2/3", "3/3") and run.notes == ()


def test_a_finished_run_says_what_its_results_say(tmp_path):
    folder = evaluate(tmp_path / "run")
    (run,) = read_runs([folder])
    assert run.results() == json.loads((folder / "results.json").read_text())


def test_reading_changes_nothing(tmp_path):
    folder = write_run(tmp_path / "run", chains([5, 0]))
    journal = folder / "episodes.jsonl"
    journal.write_text(journal.read_text() + '{"key": "chain/2", "att')
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    read_runs([folder])
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


def test_a_missing_shard_is_named(tmp_path):
    first, _, third = shards(tmp_path, 3)
    with pytest.raises(UserError, match="shard 2/3 .*chains 1 and 4 are missing.*--allow-missing"):
        read_runs([first, third])
    (run,) = read_runs([first, third], allow_missing=True)
    assert [episode.chain for episode in run.episodes] == [0, 2, 3, 5, 6] and run.total == COUNT
    assert "chains 1 and 4 are missing" in run.notes[0]


def test_missing_chains_of_a_shard_are_named(tmp_path):
    parts = shards(tmp_path, 2)
    journal = parts[1] / "episodes.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(lines[:-1]) + lines[-1][:30])
    with pytest.raises(UserError, match="^chain 5 .* missing"):
        read_runs(parts)


def test_an_unfinished_shard_among_those_that_do_not_say_how_many_chains_there_are(tmp_path):
    one = write_run(tmp_path / "one", chains([5, 1, 2])[::2], finished=False, shard="1/2")
    two = write_run(tmp_path / "two", chains([5, 1, 2])[1:2], finished=False, shard="2/2")
    with pytest.raises(UserError, match="one, .*two have not finished"):
        read_runs([one, two])


def test_shards_that_overlap_are_refused_by_chain(tmp_path):
    episodes = chains([5, 1, 2, 3])
    one = write_run(tmp_path / "one", episodes[:3], shard="1/2")
    two = write_run(tmp_path / "two", episodes[1:], shard="2/2")
    with pytest.raises(UserError, match="one and .*two overlap, both hold chains 1 and 2"):
        read_runs([one, two])


def test_one_shard_twice_is_refused(tmp_path):
    one = write_run(tmp_path / "one", chains([5]), shard="1/2")
    two = write_run(tmp_path / "two", chains([5]), shard="1/2")
    with pytest.raises(UserError, match="both shard 1/2"):
        read_runs([one, two])
    with pytest.raises(UserError, match="given 2 times"):
        read_runs([one, one])


def test_shards_of_different_divisions_and_sizes_are_refused(tmp_path):
    episodes = chains([5, 1, 2, 3])
    one = write_run(tmp_path / "one", episodes[:1], shard="1/2")
    two = write_run(tmp_path / "two", episodes[1:2], shard="2/4")
    with pytest.raises(UserError, match="shards of 2 and of 4 .*1/2 in .*one"):
        read_runs([one, two])
    three = write_run(tmp_path / "three", episodes[1:3], shard="2/2")
    with pytest.raises(UserError, match="one is a shard of 1 chains but .*three of 2 chains"):
        read_runs([one, three])


def test_shards_of_the_same_weights_in_another_place_belong_together(tmp_path):
    episodes = chains([5, 1])
    one = write_run(tmp_path / "one", episodes[:1], shard="1/2", policy="here/policy", finished=False)
    two = write_run(tmp_path / "two", episodes[1:], shard="2/2", policy="there/policy", finished=False)
    other = write_run(tmp_path / "other", episodes[1:], shard="2/2", weights="fedcba", finished=False)
    assert len(read_runs([one, two], allow_missing=True)) == 1
    assert len(read_runs([one, other], allow_missing=True)) == 2


def test_shards_that_were_played_otherwise_are_told_by_what_differs(tmp_path):
    episodes = chains([5, 1])
    one = write_run(tmp_path / "one", episodes[:1], shard="1/2", renderer="egl")
    two = write_run(tmp_path / "two", episodes[1:], shard="2/2", renderer="tiny")
    with pytest.raises(UserError, match="one and .*two are shards of different evaluations, with renderer egl"):
        read_runs([one, two])
    assert len(read_runs([one, two], allow_missing=True)) == 2


def test_a_run_that_has_not_finished_is_shown_with_what_there_is(tmp_path):
    folder = write_run(tmp_path / "run", chains([5, 0, 3]), finished=False)
    (run,) = read_runs([folder])
    assert len(run.episodes) == 3 and "has not finished: 3 chains so far" in run.notes[0]
    results = json.loads((write_run(tmp_path / "other", chains([1] * 9)) / "results.json").read_text())
    (folder / "results.json").write_text(json.dumps(results))
    (run,) = read_runs([folder])
    assert run.total == 9 and "3 of 9 chains so far" in run.notes[0]


def test_a_cut_line_and_damaged_lines_are_left_out_and_named(tmp_path):
    folder = write_run(tmp_path / "run", chains([5, 0, 3, 2]))
    lines = (folder / "episodes.jsonl").read_text().splitlines()
    lines[2] = "\0\0\0"
    (folder / "episodes.jsonl").write_text("\n".join(lines)[:-9])
    (run,) = read_runs([folder])
    assert [episode.chain for episode in run.episodes] == [0, 2]
    text = " ".join(run.notes)
    assert "1 line of" in text and "(line 3)" in text and "is cut off" in text and "2 of 4 chains so far" in text


def test_folders_of_earlier_versions_are_read(tmp_path):
    folder = write_run(tmp_path / "run", chains([2, 5]))
    lines = [json.loads(line) for line in (folder / "episodes.jsonl").read_text().splitlines()]
    for line in lines[1:]:
        line["attempts"] = [{"task": one["task"], "success": one["success"]} for one in line["attempts"]]
        for name in ("reward", "policy_seconds", "render_seconds"):
            del line[name]
    (folder / "episodes.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    results = json.loads((folder / "results.json").read_text())
    for name in ("requested", "shard", "weights", "return"):
        del results[name]
    (folder / "results.json").write_text(json.dumps(results))
    (run,) = read_runs([folder])
    assert run.notes == () and run.total == 2 and not run.rewarded
    assert {name: run.results()[name] for name in results} == results


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "holds no episodes.jsonl"),
        ("", "is empty"),
        ("hello\n", "is not a readable list of episodes"),
        ('{"settings": {"env": "x"}}\n', "holds no finished episode"),
        ('{"settings": {"shard": "4/3"}}\n{}\n', "holds no finished episode"),
    ],
)
def test_what_is_no_evaluation_is_refused_in_a_sentence(tmp_path, content, said):
    if content is not None:
        (tmp_path / "episodes.jsonl").write_text(content)
    with pytest.raises(UserError, match=f"{said}.*`rf-agent evaluate`"):
        read_runs([tmp_path])


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="there is no folder .*nowhere"):
        read_runs([tmp_path / "nowhere"])


def test_an_impossible_shard_is_refused(tmp_path):
    folder = write_run(tmp_path / "run", chains([1]), shard="4/3")
    with pytest.raises(UserError, match="4/3"):
        read_runs([folder])


def test_names_tell_runs_apart(tmp_path):
    names = ("a/policy", "some/where/mine", "expert", "expert", "runs/b/policy/")
    folders = [write_run(tmp_path / f"r{i}", chains([1]), policy=name) for i, name in enumerate(names)]
    labels = ["a/policy", "mine", "expert (r2)", "expert (r3)", "b/policy"]
    assert [run.label for run in read_runs(folders)] == labels


def test_episodes_that_the_last_command_did_not_ask_for_are_left_out(tmp_path):
    folder = write_run(tmp_path / "run", chains([5, 5]))
    journal = folder / "episodes.jsonl"
    more = write_run(tmp_path / "more", chains([5, 5, 0])) / "episodes.jsonl"
    journal.write_text(more.read_text())
    (run,) = read_runs([folder])
    assert len(run.episodes) == 2 and "1 episodes that its last finished command did not ask for" in run.notes[0]


def test_a_folder_that_is_being_written_is_read(tmp_path):
    """A second process may append at any time; what is whole counts."""
    folder = write_run(tmp_path / "run", chains([5]), finished=False)
    subprocess.run(["tee", "-a", folder / "episodes.jsonl"], input=b'{"key"', check=True, capture_output=True)
    (run,) = read_runs([folder])
    assert len(run.episodes) == 1
