"""How far the weights move in a step: by the learning rate of its time, however large the gradient."""

import numpy as np
import pytest
import torch

from rf_agent.progress import Silent
from rf_agent.training.callbacks import Callback
from rf_agent.training.engine import make_accelerator
from rf_agent.training.loop import Loop
from rf_agent.training.settings import LoopConfig

RATE = 0.01


class Slope(torch.nn.Module):
    """One weight with a constant gradient, along which Adam moves by exactly the learning rate in every step."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, steepness, progress):
        return (steepness * self.weight).sum(), {}


class Path(Callback):
    def __init__(self, model):
        self.model, self.weights, self.norms = model, [0.0], []

    def on_step(self, step, metrics):
        self.weights.append(self.model.weight.item())
        self.norms.append(float(metrics["gradient_norm"]))


def walk(output, steepness=1.0, **changes):
    """How far the weight moves in each of 100 steps, in learning rates, and the norms of the gradients that are told.

    Args:
        steepness: of the third step; 1 in all others.
    """
    settings = {"steps": 100, "learning_rate": RATE, "warmup": 0.2, "min_lr_ratio": 0.2, "ema_decay": 0.0, "spike": 0}
    config = LoopConfig(output=output, device="cpu", threads=1, **settings | changes)

    def batches(step):
        while True:
            yield [(torch.tensor(steepness if step == 2 else 1.0), 1.0)]
            step += 1

    model = Slope()
    path = Path(model)
    Loop(config, model, batches, lambda _: {}, Silent(), make_accelerator(config), callbacks=[path]).run()
    return -np.diff(path.weights) / RATE, path.norms


def test_the_rate_rises_in_a_line_and_falls_along_a_cosine(tmp_path):
    moved, _ = walk(tmp_path)
    assert moved[1:21] == pytest.approx(np.arange(1, 21) / 20, rel=1e-3)
    quarters = [0.2 + 0.8 * share for share in (0.853553, 0.5, 0.146447)]  # of half a cosine from 1 down to 0.2
    assert moved[[40, 60, 80]] == pytest.approx(quarters, rel=1e-3)
    assert moved[99] == pytest.approx(0.2, abs=0.001)


def test_a_steep_batch_moves_the_weights_no_further_than_others(tmp_path):
    calm, _ = walk(tmp_path / "calm", clip=1.0)
    steep, norms = walk(tmp_path / "steep", steepness=1000.0, clip=1.0)
    assert steep == pytest.approx(calm, rel=1e-3)
    assert norms[:4] == pytest.approx([1, 1, 1000, 1])  # told as it was


def test_without_clipping_a_steep_batch_holds_the_weights_up(tmp_path):
    """Adam's mean of squares remembers it."""
    moved, _ = walk(tmp_path, steepness=1000.0, clip=1e9)
    calm, _ = walk(tmp_path / "calm", clip=1e9)
    assert moved[50] < 0.1 * calm[50]
