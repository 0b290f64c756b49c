"""The command line as a user meets it: outputs, sentences and exit codes."""

import errno
import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from rf_agent import cli
from rf_agent.commands import rollout
from rf_agent.evaluation.agents import trained_tasks

TASK, CHAIN = "fake_env:fake/Task-v0", "fake_env:fake/Chain-v0"
TASKS, CHAINS = (["evaluate", "--env", env, "--output", "x"] for env in (TASK, CHAIN))
DIAGNOSE = ["diagnose", "--demos", "a", "--env", TASK, "--policy", "random"]


def run(capfd, *words):
    with pytest.raises(SystemExit) as stop:
        cli.main([str(word) for word in words])
    out, err = capfd.readouterr()
    return stop.value.code, out, err


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_has_help(capfd, command):
    code, out, err = run(capfd, command, "--help")
    assert code == 0 and f"usage: rf-agent {command}" in out and not err


def test_help_needs_no_torch():
    code = "import sys\nfrom rf_agent import cli\ntry: cli.main(['--help'])\nfinally: assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert all(command in done.stdout for command in cli.COMMANDS)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["evalute"], 2, "did you mean 'evaluate'?"),
        (["evaluate"], 2, "--env and --output must be given"),
        (["inspect"], 2, "PATH must be given"),
        ([*TASKS, "--workers", "many"], 2, "--workers"),
        (["rollout", "--epsiodes", "3"], 2, "--epsiodes"),
        ([*TASKS, "--policy", "nobody"], 1, "there is no policy 'nobody'"),
        (["rollout", "--env", "fake_env:fake/Nope-v0", "--policy", "random"], 1, "fake/Nope-v0"),
        ([*TASKS, "--policy", "random", "--tasks", "fly"], 1, "unknown task 'fly'"),
        ([*TASKS, "--policy", "random", "--chains", "3"], 1, "--episodes-per-task"),
        ([*CHAINS, "--policy", "random", "--tasks", "go_left"], 1, "--chains"),
        ([*CHAINS, "--policy", "random", "--chains", "1001"], 1, "1000 chains"),
        ([*TASKS, "--policy", "random", "--workers", "0"], 1, "--workers is 0"),
        ([*TASKS, "--n-action-steps", "99"], 1, "--n-action-steps is 99, but the policy predicts"),
        ([*TASKS, "--repeat", "0"], 1, "--repeat is 0: give 1 or more"),
        ([*TASKS, "--ensemble", "nan"], 1, "--ensemble is nan"),
        ([*TASKS, "--ensemble", "0.1", "--repeat", "2"], 1, "--ensemble needs an observation at every step"),
        ([*TASKS, "--dtype", "int8"], 2, "--dtype"),
        ([*TASKS, "--policy", "expert", "--repeat", "2"], 1, "--policy expert has no network"),
        (["rollout", "--env", TASK, "--policy", "random", "--output", "x.avi"], 1, ".mp4 or .gif"),
        (["rollout", "--env", TASK, "--policy", "random", "--episodes", "0"], 1, "--episodes is 0"),
        ([*TASKS, "--policy", "."], 1, "no complete policy checkpoint: config.json is missing"),
        (["rollout", "--env", CHAIN, "--policy", "random", "--instruction", "go"], 1, "--instruction out"),
        (["rollout", "--env", TASK, "--policy", "random", "--chain", "1"], 1, "has no chains: leave --chain out"),
        (["rollout", "--env", TASK, "--policy", "random", "--seed", "-1"], 1, "--seed is -1"),
        (["rollout", "--env", TASK, "--policy", "random", "--instruction", " "], 1, "--instruction is empty"),
        (["rollout", "--env", CHAIN, "--policy", "random", "--chain", "999", "--episodes", "2"], 1, "0 to 999"),
        (["rollout", "--env", CHAIN, "--policy", "random", "--chain", "-1"], 1, "0 to 999"),
        ([*TASKS, "--policy", "random", "--seed", "-1"], 1, "--seed is -1"),
        ([*TASKS, "--policy", "random", "--video-episodes", "-1"], 1, "--video-episodes is -1"),
        ([*CHAINS, "--policy", "random", "--chains", "2", "--shard", "3/3"], 1, "has none of the 2 episodes"),
        (["grounding", "--policy", "random", "--seed", "-1"], 1, "--seed is -1"),
        (["train", "--demos", "missing.hdf5", "--output", "x", "--threads", "0"], 2, "threads is 0"),
        (["train", "--demos", "missing.hdf5", "--output", "x", "--workers", "-1"], 2, "workers is -1"),
        (["train", "--demos", "missing.hdf5", "--output", "x", "--seed", "-1"], 2, "seed is -1"),
        (["train", "--demos", "missing.hdf5", "--output", "x", "--gradient-checkpointing", "-2"], 2, "is -2"),
        (["collect", "--env", TASK, "--output", "x.hdf5", "--workers", "0"], 1, "workers is 0"),
        (["pretrain", "--env", TASK, "--output", "x"], 1, "cannot randomize"),
        (["pretrain", "--env", TASK, "--output", "x", "--resume"], 1, "to resume"),
        (["inspect", "."], 1, ". is a directory"),
        (["inspect", "missing.hdf5"], 1, "missing.hdf5"),
        (["train", "--demos", "missing.hdf5", "--output", "x"], 1, "missing.hdf5"),
        (["train", "--demos", "missing.hdf5", "--output", "x", "--preset", "huge"], 1, "huge"),
        (["train", "--demos", "a", "--output", "x", "--no-init-head"], 1, "--no-init-head has no effect where"),
        (["train", "--demos", "a", "--output", "x", "--lora-rank", "4"], 1, "where --trainable is not lora: leave it"),
        (["train", "--demos", "a", "--output", "x", "--vl-batch-size", "4"], 1, "where there are no --vl-images"),
        (["train", "--demos", "a", "--output", "x", "--scene-weight", "1"], 1, "where there are no --scene-images"),
        (["train", "--demos", "a", "--output", "x", "--evaluation-episodes", "4"], 1, "there is no --evaluation-env"),
        (["benchmark", "--policy", "random"], 1, "no network to measure"),
        (["benchmark", "--device", "cpu", "--sequence-length", "2"], 1, "shorter than the head's window: give 8"),
        (["benchmark", "--environments", "4"], 1, "--environments has no effect where a policy is measured"),
        (["benchmark", "train", "--dtype", "float16"], 1, "--dtype has no effect where train is measured"),
        (["benchmark", "--preset", "mid", "--steps", "3"], 1, "--steps has no effect where --preset is measured"),
        (["benchmark", "--dtype", "float32", "bfloat16"], 1, "give one; several are measured of a --preset"),
        (["benchmark", "--output", "."], 1, "is a directory: give the name of a file"),
        (["grounding", "--output", "."], 1, "is a directory: give the name of a file"),
        (["grounding", "--output", "../a.txt/x.json"], 1, "a.txt, which is a file: give another name"),
        (["grounding", "--output", "/proc/none/x.json"], 1, "cannot be written (No such file or directory): give"),
        ([*DIAGNOSE, "--output", "../a.txt/x"], 1, "a.txt, which is a file: give another name"),
        ([*DIAGNOSE, "--output", "../a.txt"], 1, "a.txt is a file: give a folder"),
        (["collect", "--env", TASK, "--output", "../a.txt/x.hdf5"], 1, "a.txt cannot be read or written (File exists)"),
        (["collect", "--env", TASK, "--output", "x.hdf5", "--noise", "nan"], 1, "noise is nan: give 0 or more"),
        (["pretrain", "--output", "x", "--image-size", "0"], 1, "images of 0 pixels"),
        (["reproduce", "table1", "--workers", "0"], 1, "--workers is 0: give 1 or more"),
        (["reproduce", "--list", "--page", "x.md"], 1, "give one of them"),
        (["report", ".", "--videos", "3"], 1, "--videos has no effect where no page (.html) is written"),
        (["inspect", "a.hdf5", "--tasks", "3"], 1, "--tasks has no effect where there is no --contact-sheet"),
        (["benchmark", "--sequence-length", "0"], 1, "--sequence-length is 0: give 1 or more"),
        ([*TASKS, "--policy", "random", "--timeout", "inf"], 1, "--timeout is inf: give a number of seconds"),
        (["rollout", "--policy", "nobody", "--output", "x.avi"], 1, ".mp4 or .gif"),
        (["train", "--demos", "a", "--output", "x", "--steps", "0"], 2, "rf-agent: steps is 0: give a number above"),
        (["doctor", "--output", "."], 1, "is a directory: give the name of a file"),
    ],
)  # fmt: skip
def test_a_mistake_is_answered_with_one_sentence(capfd, tmp_path, monkeypatch, words, code, said):
    (tmp_path / "a.txt").touch()
    tmp_path = tmp_path / "here"
    tmp_path.mkdir()
    monkeypatch.chdir(tmp_path)
    exit_code, _, err = run(capfd, *words)
    assert exit_code == code
    assert said in err
    assert err.startswith("rf-agent: ") and err.count("\n") == 1
    assert not list(tmp_path.iterdir())  # nothing half-written


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_terminal_without_every_sign_hears_the_same(encoding, tmp_path):
    def spoken(*words):
        environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-m", "rf_agent.cli", *words]
        done = subprocess.run(command, capture_output=True, env=environment, encoding=encoding)
        return done.returncode, done.stdout + done.stderr

    code, said = spoken("rollout", "--epsiodes", "3")
    assert code == 2 and "--epsiodes" in said
    words = ("--env", CHAIN, "--policy", "expert", "--episodes", "1", "--output", str(tmp_path / "a.gif"))
    code, said = spoken("rollout", *words)  # which marks what succeeded
    assert code == 0 and "5 in a row (go_left ?" in said, said


def test_debug_shows_the_traceback():
    words = [sys.executable, "-m", "rf_agent.cli", "inspect", "--debug", "missing.hdf5"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" in done.stderr


def test_evaluate_tasks_writes_results(capfd, tmp_path):
    words = ["--env", TASK, "--policy", "expert", "--output", tmp_path, "--episodes-per-task", 2]
    code, out, _ = run(capfd, "evaluate", *words)
    assert code == 0 and "go_left" in out and "all: mean of 3" in out
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["tasks"] == {
        "go_far": {"success": 0, "total": 2},
        "go_left": {"success": 2, "total": 2},
        "go_right": {"success": 2, "total": 2},
    }
    assert results["success_rate"]["1"]["rate"] == pytest.approx(4 / 6)
    assert (results["env"], results["policy"], results["sequences"]) == (TASK, "expert", [])
    before = (tmp_path / "episodes.jsonl").read_text()
    assert run(capfd, "evaluate", *words)[0] == 0
    assert (tmp_path / "episodes.jsonl").read_text() == before  # nothing was left to play
    code, out, err = run(capfd, "evaluate", *words, "--video-episodes", 1)
    assert code == 0 and "those of an earlier run are not played again" in out + err
    assert not (tmp_path / "videos").exists()


def test_evaluate_chains_writes_results(capfd, tmp_path):
    words = ["--env", CHAIN, "--policy", "expert", "--chains", 3, "--workers", 1, "--output", tmp_path]
    code, out, _ = run(capfd, "evaluate", *words)
    assert code == 0 and "average length" in out and "5.00" in out
    results = json.loads((tmp_path / "results.json").read_text())
    assert set(results) >= {"env", "policy", "chains", "success_rate", "average_length", "tasks", "sequences"}
    assert set(results) >= {"renderer", "versions", "seconds"}
    assert list(results["success_rate"]) == ["1", "2", "3", "4", "5"]
    assert results["chains"] == 3 and results["average_length"] == {"mean": 5.0, "ci95": [5.0, 5.0]}
    assert [set(entry) for entry in results["sequences"]] == [{"chain", "completed", "steps"}] * 3


def test_evaluate_refuses_to_mix_policies(capfd, tmp_path):
    words = ["--env", TASK, "--episodes-per-task", 1, "--workers", 1, "--output", tmp_path, "--policy"]
    assert run(capfd, "evaluate", *words, "random")[0] == 0
    code, _, err = run(capfd, "evaluate", *words, "expert")
    assert code == 1 and "'random'" in err and "another --output" in err


def test_rollout_films_and_reports(capfd, tmp_path):
    video = tmp_path / "film.mp4"
    words = ["--env", TASK, "--policy", "expert", "--episodes", 2, "--output", video]
    code, out, _ = run(capfd, "rollout", *words)
    assert code == 0 and video.stat().st_size > 1000
    assert "1/2  go_left: success" in out and str(video) in out


def test_a_rollout_that_is_interrupted_leaves_a_film_of_what_was_played(capfd, tmp_path, monkeypatch):
    played = []

    def once(*arguments, **given):
        if played:
            raise KeyboardInterrupt
        played.append(play(*arguments, **given))
        return played[-1]

    play = rollout.play
    monkeypatch.setattr(rollout, "play", once)
    words = ["--env", TASK, "--policy", "expert", "--episodes", 2, "--output", tmp_path / "film.mp4"]
    code, out, err = run(capfd, "rollout", *words)
    assert code == 130 and "1/2  go_left: success" in out and "what had been finished is kept" in err
    assert [path.name for path in tmp_path.iterdir()] == ["film.mp4"]


def test_rollout_shows_the_chains_that_are_asked_for(capfd, tmp_path):
    words = ["--env", CHAIN, "--policy", "expert", "--output", tmp_path / "film.mp4"]
    shown = {}
    for more in ([], ["--episodes", 2], ["--chain", 1]):
        code, out, _ = run(capfd, "rollout", *words, *more)
        assert code == 0
        shown[len(more) and more[0]] = [line.split("  ", 1)[1] for line in out.splitlines() if "in a row" in line]
    first, second = shown["--episodes"]
    assert first != second and shown[0] == [first] and shown["--chain"] == [second]


@pytest.mark.parametrize(
    ("given", "env", "chain"),
    [
        ({}, "rf/PlayTableChainD-v0", 4),
        ({"chain": 7}, "rf/PlayTableChainD-v0", 7),
        ({"tasks": ("open_drawer",)}, "rf/PlayTableD-v0", None),
        ({"instruction": "open the drawer"}, "rf/PlayTableD-v0", None),
        ({"policy": "roboflamingo-tiny-17"}, "rf/PlayTableD-v0", None),
        ({"policy": "roboflamingo-tiny-17", "chain": 7}, "rf/PlayTableChainD-v0", 7),
        ({"policy": "expert"}, "rf/PlayTableChainD-v0", 4),
        ({"env": CHAIN}, CHAIN, None),
    ],
)
def test_rollout_shows_a_chain_unless_something_else_is_asked_for(given, env, chain, monkeypatch):
    asked, every = {}, trained_tasks("roboflamingo-tiny")
    monkeypatch.setattr(rollout, "pick_device", lambda policy, device: "cpu")
    monkeypatch.setattr(rollout, "load_agent", lambda *given: None)
    monkeypatch.setattr(rollout, "env_facts", lambda *given: SimpleNamespace(tasks=every))
    monkeypatch.setattr(rollout, "make_env", lambda *given, **options: None)
    monkeypatch.setattr(rollout, "_items", lambda args, facts, env: asked.update(env=args.env, chain=args.chain))
    with pytest.raises(TypeError):  # there is no item to play
        rollout.run(rollout.Args(**given))
    assert asked == {"env": env, "chain": chain}


def test_rollout_without_a_display_writes_a_video(capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    code, out, _ = run(capfd, "rollout", "--env", TASK, "--policy", "expert", "--episodes", 1, "--render")
    assert code == 0 and "no display" in out and (tmp_path / "rollout.mp4").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--instruction", "go right"], "1/1  go_right: success"),
        (["--instruction", "walk over there"], "1/1  not scored, "),
        (["--instruction", "walk over there", "--tasks", "go_right"], "1/1  go_right: success"),
    ],
)
def test_only_an_instruction_with_a_task_is_scored(capfd, tmp_path, words, said):
    common = ["--env", TASK, "--policy", "expert", "--episodes", 1, "--output", tmp_path / "film.mp4"]
    code, out, _ = run(capfd, "rollout", *common, *words)
    assert code == 0 and said in out
    if "not scored" in said:
        assert "is no known instruction" in out and "success" not in out and "failure" not in out


def test_a_full_disk_is_named():
    error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "run/policy")
    assert cli.sentence(error) == (
        "the disk is full (run/policy): make room and start again; train and pretrain go on with --resume"
    )
    assert cli.sentence(OSError(errno.ENOSPC, "x")).startswith("the disk is full: make room")
    assert cli.sentence(OSError(errno.EIO, "x")).startswith("OSError: ")
