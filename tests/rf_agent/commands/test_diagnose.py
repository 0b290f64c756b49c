"""`rf-agent diagnose` from the command line, in an environment without a simulator."""

from __future__ import annotations

import json

import fake_env  # noqa: F401 (registers environments)
import pytest
from PIL import Image

from rf_agent import cli
from rf_agent.demos.collect import CollectConfig, collect


@pytest.fixture(scope="module")
def demos(tmp_path_factory):
    path = tmp_path_factory.mktemp("fake") / "demos.hdf5"
    tasks = ("go_left", "go_right")
    collect(CollectConfig(output=path, env=("fake_env:fake/Task-v0",), tasks=tasks, episodes_per_task=2, workers=1))
    return path


def run(*words) -> int:
    with pytest.raises(SystemExit) as stop:
        cli.main(["diagnose", *map(str, words)])
    return stop.value.code


def test_report_numbers_and_pictures(demos, tmp_path, capsys):
    words = ("--demos", demos, "--env", "fake_env:fake/Task-v0", "--output", tmp_path / "out", "--episodes", 3)
    assert run("--policy", "roboflamingo-tiny", *words) == 0
    text = capsys.readouterr().out
    places = [text.index(title) for title in ("Replay", "Actions", "Observations", "Language", "Checkpoint")]
    assert places == sorted(places) and text.index("Likeliest causes") > places[-1]
    assert "succeed in 3 of 3 episodes" in text
    content = json.loads((tmp_path / "out" / "diagnosis.json").read_text())
    kinds = [cause["kind"] for cause in content["causes"]]
    assert kinds[0] == "unknown_tasks"  # the policy was trained on other tasks than these
    assert len(content["actions"]["entries"]) == 7 and content["known_tasks"] == [0, 2]
    assert {camera["camera"] for camera in content["observations"]["cameras"]} == {"rgb_static", "rgb_gripper"}
    for name in ("actions.png", "observations.png"):
        with Image.open(tmp_path / "out" / name) as image:
            assert min(image.size) > 300


def test_errors_are_one_sentence(demos, tmp_path, capsys):
    assert run("--policy", "random", "--demos", tmp_path / "none.hdf5", "--env", "fake/Task-v0") == 1
    assert capsys.readouterr().err.startswith(f"rf-agent: {tmp_path / 'none.hdf5'} does not exist")
    assert run("--policy", "random", "--demos", demos, "--env", "fake/Task-v0", "--output", demos) == 1
    assert "a file: give a folder" in capsys.readouterr().err
    assert run("--policy", "random", "--demos", demos) == 2
