"""Workers that die or hang, and policies that give no action: what is lost, what is repeated, what is said."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from rf_agent.errors import UserError
from rf_agent.evaluation.episode import chain_items, task_items
from rf_agent.evaluation.runner import evaluate

TASK, CHAIN, TROUBLED = "fake_env:fake/Task-v0", "fake_env:fake/Chain-v0", "fake_env:fake/Troubled-v0"


def outcomes(episodes):
    return [(e.key, e.attempts, e.steps, e.seed, e.chain, e.reward) for e in episodes]


def journal(folder):
    return [json.loads(line)["key"] for line in (folder / "episodes.jsonl").read_text().splitlines()[1:]]


@pytest.mark.parametrize(("kind", "workers"), [("die", 2), ("die", 1), ("hang", 2)])
def test_an_episode_whose_worker_died_or_hung_is_played_again(tmp_path, kind, workers):
    items = task_items(["go_left", "go_right"], 3, seed=0)
    whole, _ = evaluate(TASK, "random", items, tmp_path / "whole")
    (tmp_path / "marks").mkdir()
    said = []
    episodes, _ = evaluate(
        TROUBLED,
        "random",
        items,
        tmp_path / "run",
        workers=workers,
        env_options={"marks": str(tmp_path / "marks"), "kind": kind},
        timeout=1.5 if kind == "hang" else 60,
        on_restart=said.append,
    )
    assert outcomes(episodes) == outcomes(whole)
    assert sorted(journal(tmp_path / "run")) == sorted(item.key for item in items)  # none lost, none twice
    assert len(list((tmp_path / "marks").iterdir())) == 1 and len(said) == 1
    if kind == "hang":
        assert "fake/Troubled-v0, go_right/" in said[0] and "has made no step for 1.5 s" in said[0]
        assert "fake_env.py" in said[0] and "in step" in said[0]


@pytest.mark.parametrize("kind", ["die", "hang"])
def test_what_dies_or_hangs_always_ends_the_evaluation_and_keeps_the_rest(tmp_path, kind):
    items = task_items(["go_left"], 4, seed=0) + task_items(["go_right"], 1, seed=0)
    (tmp_path / "marks").mkdir()
    options = {"marks": str(tmp_path / "marks"), "kind": kind, "times": 99}
    named = "a worker process died" if kind == "die" else "go_right/0, has made no step for 1 s"
    with pytest.raises(RuntimeError, match=f"{named}.*start the same command again, with"):
        evaluate(TROUBLED, "random", items, tmp_path, workers=2, env_options=options, timeout=1.0)
    assert len(list((tmp_path / "marks").iterdir())) == (3 if kind == "die" else 2)
    assert sorted(journal(tmp_path)) == [f"go_left/{index}" for index in range(4)]


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ("fake_agents:Broken", "go_right/0, step 2: the policy gave an action that is not finite"),
        ("fake_agents:Refusing", "go_right/0, step 2: the policy computes actions that are not finite"),
        ("fake_agents:WrongShape", r"go_right/0, step 2: the policy gave an action of shape \(1, 7\).*takes \(7,\)"),
    ],
)
@pytest.mark.parametrize("workers", [1, 2])
def test_what_is_no_action_is_named_with_episode_and_step(tmp_path, policy, said, workers):
    with pytest.raises(UserError, match=said):
        evaluate(TASK, policy, task_items(["go_right"], 1, seed=0), tmp_path, workers=workers, timeout=60)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no SIGKILL here")
def test_three_kills_and_a_worker_killed_by_hand_change_nothing(tmp_path):
    items = chain_items(60, seed=0)
    whole, _ = evaluate(CHAIN, "random", items, tmp_path / "whole")
    script = (
        f"import sys; sys.path[:0] = {sys.path!r}\n"
        "from pathlib import Path\n"
        "from rf_agent.evaluation.episode import chain_items\n"
        "from rf_agent.evaluation.runner import evaluate\n"
        "if __name__ == '__main__':\n"
        f"    evaluate({CHAIN!r}, 'random', chain_items(60, seed=0), Path({str(tmp_path / 'run')!r}), workers=2,\n"
        "        timeout=60, on_episode=lambda episode: __import__('time').sleep(0.05))\n"
    )
    path = tmp_path / "script.py"
    path.write_text(script)
    for count in (10, 25, 40):  # episodes after which the whole command is killed
        process = subprocess.Popen([sys.executable, str(path)])
        _wait_for(tmp_path / "run", count - 5)
        _kill_a_child(process.pid)  # a simulator alone, by hand
        _wait_for(tmp_path / "run", count)
        process.kill()
        process.wait()
    episodes, _ = evaluate(CHAIN, "random", items, tmp_path / "run", workers=2)
    assert outcomes(episodes) == outcomes(whole)
    assert sorted(journal(tmp_path / "run")) == sorted(item.key for item in items)


def _wait_for(folder, count):
    end = time.monotonic() + 120
    while time.monotonic() < end:
        if (folder / "episodes.jsonl").exists() and len(journal_lines(folder)) >= count:
            return
        time.sleep(0.01)
    raise AssertionError(f"{count} episodes did not come")


def journal_lines(folder):
    return (folder / "episodes.jsonl").read_text().splitlines()[1:]


def _kill_a_child(parent):
    children = subprocess.run(["pgrep", "-P", str(parent), "-f", "spawn_main"], capture_output=True, text=True)
    os.kill(int(children.stdout.split()[-1]), signal.SIGKILL)
