"""Several processes train what one would, and a run that is killed ends where an uninterrupted one does."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from training_processes import Ranks
from vl_files import write_vl_files

from rf_agent.demos.scene_images import SceneImageConfig, collect_scene_images
from rf_agent.errors import UserError
from rf_agent.policy import RoboFlamingoPolicy
from rf_agent.training.loop import CHECKPOINT
from rf_agent.training.trainer import TrainConfig, train

SETTINGS = {
    "preset": "roboflamingo-test",
    "steps": 50,
    "batch_size": 6,
    "sequence_length": 6,
    "validation_fraction": 0.3,
    "evaluations": 2,
    "threads": 1,
    "device": "cpu",
}


def words(settings):
    return [word for name, value in settings.items() for word in (f"--{name.replace('_', '-')}", str(value))]


def launch(processes, *arguments):
    """`torchrun -m rf_agent.cli train`, as a user starts it (`accelerate launch` does so on GPUs only)."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command += ["-m", "rf_agent.cli", "train", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def finish(process):
    try:
        output, _ = process.communicate(timeout=500)
    finally:
        process.terminate()  # torchrun ends its processes, too
    assert process.returncode == 0, output
    return output


def difference(first, second):
    a, b = (RoboFlamingoPolicy.from_pretrained(path, "cpu").state_dict() for path in (first, second))
    assert a.keys() == b.keys()
    return max(float((a[name].float() - b[name].float()).abs().max()) for name in a)


@pytest.fixture(scope="module")
def settings(demos, tmp_path_factory):
    """All of a policy learns, at the rates of one that has learned before: where the whole of a random one learns at
    the rate of its head, a difference in the last bit grows."""
    output = tmp_path_factory.mktemp("start") / "run"
    start = train(TrainConfig(demos=(demos,), output=output, **SETTINGS | {"steps": 1, "learning_rate": 1e-12})).output
    return {**SETTINGS, "init": str(start), "trainable": "full"}


@pytest.fixture(scope="module")
def alone(demos, settings, tmp_path_factory):
    """The uninterrupted run of one process."""
    return train(TrainConfig(demos=(demos,), output=tmp_path_factory.mktemp("alone") / "run", **settings))


@pytest.mark.slow
@pytest.mark.parametrize("mode", [["--gradient-accumulation", 2], ["--fsdp"]], ids=["ddp", "fsdp"])
def test_two_processes_train_what_one_does(demos, settings, alone, tmp_path, mode):
    run = tmp_path / "run"
    output = finish(launch(2, "--demos", demos, "--output", run, *words(settings), *mode))
    assert "2 processes" in output
    assert output.count("Policy:") == 1  # the first process alone reports
    assert difference(alone.output, run / "policy") < (1e-4 if "--fsdp" in mode else 1e-5)
    loss = torch.load(run / CHECKPOINT, weights_only=True)["recent"][-1]
    expected = torch.load(alone.output.parent / CHECKPOINT, weights_only=True)["recent"][-1]
    assert loss == pytest.approx(expected, abs=1e-5)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    path = tmp_path_factory.mktemp("images") / "scene_images.hdf5"
    config = SceneImageConfig(output=path, env="fake_table:FakeTable-v0", count=40, image_size=32, workers=1)
    return collect_scene_images(config)


@pytest.mark.slow
def test_scene_images_are_divided_as_well(demos, settings, images, tmp_path):
    settings = {**settings, "scene_batch_size": 5, "scene_weight": 1.0}
    given = {**settings, "demos": (demos,), "scene_images": (images,)}
    whole = train(TrainConfig(output=tmp_path / "whole", **given))
    parts = train(TrainConfig(output=tmp_path / "parts", **given, gradient_accumulation=3))
    assert difference(whole.output, parts.output) < 1e-5
    without = train(TrainConfig(output=tmp_path / "without", **{**given, "scene_images": ()}))
    assert difference(whole.output, without.output) > 1e-3
    for mode, limit in ((("--gradient-accumulation", 2), 1e-5), (("--fsdp",), 1e-4)):
        run = tmp_path / mode[0]
        finish(launch(2, "--demos", demos, "--scene-images", images, "--output", run, *words(settings), *mode))
        assert difference(whole.output, run / "policy") < limit, mode


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_ten_kills_change_nothing(demos, images, tmp_path, processes):
    """With all that is drawn at random or read ahead: augmentation, workers, parts of a step, texts, scene images."""
    texts = {f"vl_{name}": path for name, path in write_vl_files(tmp_path / "texts").items()}
    settings = {**SETTINGS, **texts, "demos": (demos,), "steps": 90, "gradient_accumulation": 2, "workers": 1}
    settings |= {
        "scene_images": (images,),
        "scene_batch_size": 4,
        "vl_batch_size": 4,
        "random_shift": (3, 1),
        "color_jitter": 0.1,
        "checkpoint_minutes": 1e-6,
    }
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    Ranks(processes, {**settings, "output": whole}).finish()
    checkpoint, rng = parts / CHECKPOINT, np.random.default_rng()
    steps, kills = [0], 0
    while kills < 10:
        ranks = Ranks(processes, {**settings, "output": parts, "resume": checkpoint.exists()})
        # a moment after some of the next checkpoints, which are written at every step, or before the first of them
        for _ in range(rng.integers(4)):
            seen = written(checkpoint)
            while ranks.alive and written(checkpoint) == seen:
                time.sleep(0.002)
        time.sleep(float(rng.uniform(0, 0.1)))
        assert ranks.kill(), "the run ended by itself"
        kills += 1
        if checkpoint.exists():
            steps.append(torch.load(checkpoint, weights_only=True)["step"])  # never unreadable
    assert steps == sorted(steps) and 0 < steps[-1] < 90
    Ranks(processes, {**settings, "output": parts, "resume": True}).finish()
    assert difference(whole / "policy", parts / "policy") == 0.0
    first, second = (torch.load(run / CHECKPOINT, weights_only=True) for run in (whole, parts))
    assert first["recent"] == second["recent"]  # the loss of every one of the last steps


def written(path):
    """A number that is another one whenever the file has been replaced."""
    return path.stat().st_mtime_ns if path.exists() else 0


def test_a_number_of_processes_that_cannot_be_is_refused(demos, tmp_path):
    with pytest.raises(UserError, match="--fsdp divides the weights among processes, but there is one"):
        train(TrainConfig(demos=(demos,), output=tmp_path / "run", **SETTINGS, fsdp=True))
    with pytest.raises(UserError, match="need one of 8 or more"):
        train(TrainConfig(demos=(demos,), output=tmp_path / "run", **SETTINGS, gradient_accumulation=8))
    assert not (tmp_path / "run").exists()


def test_gradient_accumulation_changes_nothing(demos, settings, alone, tmp_path):
    report = train(TrainConfig(demos=(demos,), output=tmp_path / "run", **settings, gradient_accumulation=3))
    assert difference(alone.output, report.output) < 1e-5
