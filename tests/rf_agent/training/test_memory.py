"""Data larger than memory: what is held grows with actions, not with images."""

import subprocess
import sys

import h5py
import numpy as np
import pytest
from demo_files import CALVIN

from rf_agent.demos.store import create_store

DEMOS, STEPS = 2000, 250

SCRIPT = """
import multiprocessing
from pathlib import Path
import torch
from rf_agent.memory import peak_memory
from rf_agent.training import Callback, TrainConfig, train

ahead = []

class Measure(Callback):
    def on_step(self, step, metrics):
        for child in multiprocessing.active_children():
            rollup = Path(f"/proc/{{child.pid}}/smaps_rollup")
            if rollup.exists():  # Linux
                (pss,) = (line.split()[1] for line in rollup.read_text().splitlines() if line.startswith("Pss:"))
                ahead.append(int(pss) // 1024)

train(TrainConfig(
    demos=(Path({demos!r}),), output=Path({output!r}), preset="roboflamingo-test", steps=3, batch_size=4,
    sequence_length=6, validation_fraction=0.0, device="cpu", threads=1, workers=1, random_shift=(2, 1),
), callbacks=[Measure()])
print("peak", peak_memory(torch.device("cpu")) // 2**20, max(ahead, default=0))
"""


@pytest.mark.slow
def test_half_a_million_frames_take_little_memory(tmp_path):
    path = tmp_path / "large.hdf5"
    create_store(path, CALVIN, {"env_id": "test"})
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (STEPS, 32, 32, 3), dtype=np.uint8)  # all demonstrations have the same: a small file
    with h5py.File(path, "r+") as file:
        for camera in CALVIN.cameras:
            chunks = (1, *images.shape[1:])
            file.create_dataset(f"data/demo_0/obs/{camera}", data=images, chunks=chunks, compression="gzip")
        for index in range(DEMOS):
            group = file.require_group(f"data/demo_{index}")
            actions = np.concatenate([rng.uniform(-1, 1, (STEPS, 6)), np.ones((STEPS, 1))], axis=1)
            group["actions"] = actions.astype(np.float32)
            group["obs/robot_obs"] = rng.normal(size=(STEPS, 15)).astype(np.float32)
            for camera in CALVIN.cameras if index else ():
                group[f"obs/{camera}"] = file[f"data/demo_0/obs/{camera}"]
            group.attrs.update(num_samples=STEPS, task=f"task {index % 34}", instruction="do it", seed=index)
            group.attrs.update(success=True, complete=True)
    script = SCRIPT.format(demos=str(path), output=str(tmp_path / "run"))
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path!r}\n{script}"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    # The images are 3000 MiB at the policy's size; Python and torch take about 350, most of it shared.
    itself, reader = map(int, done.stdout.split()[-2:])
    assert itself < 1000 and reader < 1000
