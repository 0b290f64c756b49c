"""The examples run, in small."""

import importlib.util
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import fake_agents
import fake_env  # noqa: F401 (registers the environments)
import gymnasium as gym
import numpy as np
import pytest
import torch
from demo_files import make_store
from gymnasium.wrappers.vector import RecordEpisodeStatistics
from PIL import Image
from safetensors.torch import load_file

from rf_agent import RoboFlamingoPolicy, cli
from rf_agent.demos import read_demonstrations
from rf_agent.demos.pack import pack
from rf_agent.evaluation import evaluate_agent
from rf_agent.evaluation.benchmark_episodes import BenchmarkEpisodes, chain_items, divide_episodes
from rf_agent.reproduce.stages import in_order
from rf_agent.serving.server import PolicyServer

ROOT = Path(__file__).parents[1]
simulated = pytest.mark.skipif(importlib.util.find_spec("pybullet") is None, reason="PyBullet is not installed")


def run(folder, *words):
    """What a Python command prints that runs in `folder`."""
    paths = os.pathsep.join([str(ROOT), str(ROOT / "envs"), str(ROOT / "examples"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, *map(str, words)],
        env=os.environ | {"PYTHONPATH": paths},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def example(name):
    return ROOT / "examples" / f"{name}.py"


def test_custom_env_from_demonstrations_to_a_score(tmp_path):
    small = ["--demos", "12", "--steps", "3", "--episodes", "2", "--output", tmp_path]
    said = run(tmp_path, example("custom_env"), *small)
    assert "the policy:" in said and (tmp_path / "run" / "policy" / "model.safetensors").exists()


@simulated
def test_a_robots_loop_does_without_openpis_client(tmp_path):
    """By the path of its file, as users run it: a script that had the client's name would import itself."""
    with PolicyServer(RoboFlamingoPolicy.from_pretrained("roboflamingo-tiny"), port=0) as server:
        said = run(tmp_path, example("openpi_robot"), "--port", server.port, "--episodes", "1")
    assert "openpi-client is not installed" in said and "0  open_drawer: success\n1 of 1" in said


@pytest.mark.slow
def test_training_on_a_gpu_is_rehearsed_without_a_simulator(tmp_path):
    """On a packed file, from the bundled policy, on the CPU; a second start goes on."""
    demos = pack([make_store(tmp_path / "demos.hdf5", demos=3)], tmp_path / "packed.hdf5")
    script = (
        "import runpy, sys\n"
        "for name in ('gymnasium', 'pybullet', 'tyro', 'rf_envs'): sys.modules[name] = None\n"
        f"runpy.run_path({str(example('train_on_gpu'))!r}, run_name='__main__')\n"
    )
    words = ["-c", script, demos, tmp_path / "run", "--batch-size", "1", "--device", "cpu", "--workers", "0"]
    said = run(tmp_path, *words, "--steps", "2")
    assert "training on the CPU" in said and "going on" not in said
    before = load_file(tmp_path / "run" / "policy" / "model.safetensors")
    said = run(tmp_path, *words, "--steps", "3")
    assert "going on with the run" in said and said.splitlines()[-1] == f"Policy: {tmp_path / 'run' / 'policy'}"
    assert torch.load(tmp_path / "run" / "checkpoint.pt")["step"] == 3
    after = load_file(tmp_path / "run" / "policy" / "model.safetensors")
    moved = {name.split(".")[1] for name in after if not torch.equal(before[name], after[name])}
    assert "vision_encoder" in moved and len(moved) > 2


@pytest.mark.parametrize("world", ["PlayTable", "Calvin"])
def test_the_tiny_policys_recipe_is_made_of_commands_and_sees_its_scenes_alone(world):
    recipe = runpy.run_path(str(example("train_tiny")))["Recipe"](["A", "B", "C"], world, 0.001, "bf16")
    stages = in_order(recipe.stages())
    assert [stage.kind for stage in stages].count("train") == 3 and stages[-1].kind == "evaluate"
    for stage in stages:
        _, command, *words = stage.command.split()
        assert str(cli.parse(cli.command_module(command).Args, command, words).output) == stage.output
    assert f"rf/{world}ChainD-v0" in stages[-1].words
    computes = [stage for stage in stages if stage.kind in ("pretrain", "train")]
    assert all("--mixed-precision bf16" in stage.command for stage in computes)
    renders = [stage for stage in stages if stage.kind != "train"]  # by the same renderer, whatever the machine has
    assert all(("renderer=tiny" in stage.words) == (world == "Calvin") for stage in renders)
    assert not any("D-v0" in word for stage in stages[:-1] for word in stage.words)
    assert ("rf/PlayTableRandom-v0" in stages[0].words) == (world == "PlayTable")
    asked = [stage for stage in stages if f"{stages[0].output}/scene_images_PlayTableRandom-v0.hdf5" in stage.words]
    assert [stage.folder for stage in asked] == (["first", "second"] if world == "PlayTable" else [])


@simulated
@pytest.mark.slow
def test_the_tour_from_an_observation_to_a_trained_policy(tmp_path):
    small = ["--demos", "2", "--steps", "2", "--episodes", "1", "--max-steps", "60", "--output", tmp_path]
    said = run(tmp_path, example("tour"), *small)
    for color in ("red", "blue"):  # the colour word decides
        assert re.search(rf'"pick up the {color} block": success after \d+ steps; block_{color} moved most', said)
    outcomes = re.findall(r'"put the held block in the drawer": (\w+) after', said)
    assert outcomes == ["failure", "success"]  # of the policy, and of the expert
    assert [demo.task for demo in read_demonstrations(tmp_path / "demos-2.hdf5")] == ["place_in_drawer"] * 2
    trained = tmp_path / "run-2-demos-2-steps" / "policy"
    assert RoboFlamingoPolicy.from_pretrained(trained).config.tasks == ("place_in_drawer",)
    check_conclusion(said, 2, 2)
    for name in ("observation.png", "demos.png"):
        with Image.open(tmp_path / name) as image:
            assert image.width > 400 and len(set(image.convert("L").getdata())) > 50  # it shows something

    # other demonstrations are learned from anew, and the conclusion is about them
    again = ["--demos", "1", "--steps", "3", "--episodes", "1", "--max-steps", "3", "--output", tmp_path]
    check_conclusion(run(tmp_path, example("tour"), *again), 1, 3)
    other = tmp_path / "run-1-demos-3-steps" / "policy"
    weights = [load_file(folder / "model.safetensors")["head.actions.mlp.0.weight"] for folder in (trained, other)]
    assert not torch.equal(*weights)


def check_conclusion(said, demos, steps):
    """The last words are those of the scores."""
    scores = {
        found[:2]: int(found[2])
        for found in re.findall(r"(before|after) +(open_drawer|place_in_drawer) +([01]) of 1 \[", said)
    }
    assert len(scores) == 4
    teach = "teach" if scores["after", "place_in_drawer"] > scores["before", "place_in_drawer"] else "do not teach"
    forgets = "forgets" if scores["after", "open_drawer"] < scores["before", "open_drawer"] else "keeps"
    words = " ".join(said.split())
    assert (
        f"{demos} demonstrations in {steps} steps {teach} place_in_drawer, and the policy {forgets} open_drawer."
        in words
    )


@simulated
@pytest.mark.slow
def test_sb3_evaluates_with_one_environment_and_with_two(tmp_path):
    said = run(tmp_path, example("sb3_evaluate"), "--chains", "2", "--max-steps", "6")
    one, two = said.split("2 environments:\n")
    assert sorted(one.splitlines()[1:]) == sorted(two.splitlines())
    assert "  chain/1: 0 of 5 tasks in 6 steps\n" in one and "the average length: 0.00 +- 0.00" in two


@simulated
@pytest.mark.slow
def test_a_policy_that_sb3_trains_plays_in_our_runner(tmp_path):
    said = run(tmp_path, example("sb3_train"), "--steps", "256", "--episodes", "1", "--output", "runs/sb3_train")
    (best,) = [line.split()[-1] for line in said.splitlines() if line.startswith("EvalCallback's best mean reward:")]
    assert f"success rate in our runner:      {best}" in said
    words = ["--env", "rf/PlayTableD-v0", "--tasks", "turn_on_led", "--episodes-per-task", "1", "--workers", "1"]
    said = run(tmp_path, "-m", "rf_agent.cli", "evaluate", *words, "--policy", "sb3_train:load", "--output", "run")
    assert f"{int(float(best))}/1" in said


@simulated
@pytest.mark.slow
def test_the_vector_environment_has_the_runners_scores(tmp_path, monkeypatch):
    said = run(tmp_path, example("vector_env"), "--episodes", "1", "--mode", "async")
    monkeypatch.syspath_prepend(ROOT / "examples")
    from vector_env import TASKS

    expected = evaluate_agent("roboflamingo-tiny", "rf/PlayTableD-v0", tasks=TASKS, episodes_per_task=1)
    assert [f"{task}/0: success" in said for task in TASKS] == [
        bool(expected["tasks"][task]["success"]) for task in TASKS
    ]
    assert f"mean return {expected['return']['mean']:.2f} of 5 episodes" in said


@pytest.mark.parametrize("autoreset", ["NextStep", "SameStep"])
@pytest.mark.parametrize("mode", ["sync", "async"])
def test_the_vectorised_loop_plays_as_the_runner_does(monkeypatch, autoreset, mode):
    """Every chain's return and steps, with an agent whose memory must restart at the right step."""
    monkeypatch.syspath_prepend(ROOT / "examples")
    from vector_env import play

    items = chain_items(8, seed=3)
    parts = divide_episodes(items, 3)
    made = gym.make_vec(
        "fake_env:fake/Chain-v0",
        num_envs=3,
        vectorization_mode=mode,
        vector_kwargs={"autoreset_mode": autoreset},
        wrappers=[lambda env: BenchmarkEpisodes(env, items)],
    )
    made.set_attr("items", parts)
    envs = RecordEpisodeStatistics(made)
    played = play(fake_agents.Tiring(), envs, [len(part) for part in parts])
    envs.close()
    results = evaluate_agent(fake_agents.Tiring(), "fake_env:fake/Chain-v0", chains=8, seed=3)
    assert played == {f"chain/{entry['chain']}": (entry["completed"], entry["steps"]) for entry in results["sequences"]}
    assert np.mean([reward for reward, _ in played.values()]) == results["average_length"]["mean"]
