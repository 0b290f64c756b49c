"""Several processes train what one would, and a run that is killed ends where an uninterrupted one does."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from demo_files import make_store

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
    output, _ = process.communicate(timeout=500)
    assert process.returncode == 0, output
    return output


def difference(first, second):
    a, b = (RoboFlamingoPolicy.from_pretrained(path, "cpu").state_dict() for path in (first, second))
    assert a.keys() == b.keys()
    return max(float((a[name].float() - b[name].float()).abs().max()) for name in a)


@pytest.fixture(scope="module")
def demos(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("demos") / "demos.hdf5")


@pytest.fixture(scope="module")
def alone(demos, tmp_path_factory):
    """The uninterrupted run of one process."""
    return train(TrainConfig(demos=(demos,), output=tmp_path_factory.mktemp("alone") / "run", **SETTINGS))


@pytest.mark.slow
@pytest.mark.parametrize("mode", [["--gradient-accumulation", 2], ["--fsdp"]], ids=["ddp", "fsdp"])
def test_two_processes_train_what_one_does(demos, alone, tmp_path, mode):
    run = tmp_path / "run"
    output = finish(launch(2, "--demos", demos, "--output", run, *words(SETTINGS), *mode))
    assert "2 processes" in output
    assert output.count("Policy:") == 1  # the first process alone reports
    assert difference(alone.output, run / "policy") < (1e-4 if "--fsdp" in mode else 1e-5)
    loss = torch.load(run / CHECKPOINT, weights_only=True)["recent"][-1]
    expected = torch.load(alone.output.parent / CHECKPOINT, weights_only=True)["recent"][-1]
    assert loss == pytest.approx(expected, abs=1e-5)


@pytest.mark.slow
def test_kills_of_two_processes_change_nothing(demos, tmp_path):
    settings = words({**SETTINGS, "checkpoint_minutes": 0.002})
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    finish(launch(2, "--demos", demos, "--output", whole, *settings))
    rng = np.random.default_rng()
    kills, started = int(os.environ.get("RF_KILLS", "2")), False
    for _ in range(kills):
        resume = ["--resume"] if started else []
        process = launch(2, "--demos", demos, "--output", parts, *settings, *resume)
        deadline = time.monotonic() + 200
        before = (parts / CHECKPOINT).stat().st_mtime_ns if started else 0
        while process.poll() is None and time.monotonic() < deadline:
            if (parts / CHECKPOINT).exists() and (parts / CHECKPOINT).stat().st_mtime_ns != before:
                break
            time.sleep(0.02)
        time.sleep(float(rng.uniform(0, 0.5)))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        started = (parts / CHECKPOINT).exists()
        if started:
            torch.load(parts / CHECKPOINT, weights_only=True)  # never unreadable
    finish(launch(2, "--demos", demos, "--output", parts, *settings, "--resume"))
    assert difference(whole / "policy", parts / "policy") == 0.0


def test_a_number_of_processes_that_cannot_be_is_refused(demos, tmp_path):
    with pytest.raises(UserError, match="--fsdp divides the weights among processes, but there is one"):
        train(TrainConfig(demos=(demos,), output=tmp_path / "run", **SETTINGS, fsdp=True))
    with pytest.raises(UserError, match="need one of 8 or more"):
        train(TrainConfig(demos=(demos,), output=tmp_path / "run", **SETTINGS, gradient_accumulation=8))
    assert not (tmp_path / "run").exists()


def test_gradient_accumulation_changes_nothing(demos, alone, tmp_path):
    settings = {**SETTINGS, "gradient_accumulation": 3}
    report = train(TrainConfig(demos=(demos,), output=tmp_path / "run", **settings))
    assert difference(alone.output, report.output) < 1e-5
