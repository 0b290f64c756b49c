"""How fast imitation trains, beside a trainer that computes every window by itself, as the reference does.

Both learn the same number of windows in a step, from the same model on the same images. The sliding-window trainer
runs all frames of each window through the whole network. Ours encodes every frame once, shares its feature among the
windows that hold it, and keeps what the frozen vision tower saw. Each side has a process of its own, so that its
memory can be told; they take turns, so that both meet the same machine.
"""

from __future__ import annotations

import multiprocessing
import statistics
import time
from dataclasses import dataclass
from typing import Any

import torch

from rf_agent.demos.windows import ChunkBatch, window_indices
from rf_agent.errors import UserError
from rf_agent.evaluation.agents import load_policy
from rf_agent.memory import peak_memory, reset_peak
from rf_agent.policy import RoboFlamingoPolicy
from rf_agent.preprocess import normalise
from rf_agent.training.imitation import chunk_loss

SIDES = {
    "sliding": "every window by itself",
    "first pass": "ours, every frame encoded for the first time",
    "kept": "ours, vision tokens kept",
}
INSTRUCTION = "push the red block to the left"
STEPS = 2  # of a measurement


@dataclass(frozen=True)
class TrainingSpeed:
    """One side of the comparison."""

    name: str
    windows_per_second: list[float]
    """Of each measurement."""
    frames_per_second: float
    """Median, a window's frames counted for every window: what a sliding-window trainer has to process."""
    peak_bytes: int
    """Most memory that training took on top of the loaded model."""


def compare(
    policy: str, device: str, repeats: int, sequences: int, length: int, threads: int | None = None
) -> list[TrainingSpeed]:
    """Measure all sides in turns.

    Args:
        policy: checkpoint directory or bundled name.
        device: where to compute.
        repeats: measurements of each side.
        sequences: of a step of ours.
        length: observation steps of a sequence.
        threads: CPU threads of each side; torch's choice if None.

    Raises:
        UserError: a sequence is shorter than the head's window; a side ended without a result, as when memory runs out.
    """
    window = load_policy(policy, "cpu").head.window_size
    _check_length(length, window)
    context = multiprocessing.get_context("spawn")
    workers, speeds = {}, {side: list[float]() for side in SIDES}
    try:
        for side in SIDES:
            ours, theirs = context.Pipe()
            process = context.Process(
                target=_serve, args=(theirs, side, policy, device, sequences, length, threads), daemon=True
            )
            process.start()
            theirs.close()
            workers[side] = process, ours
            _receive(side, ours)  # it has warmed up
        for _ in range(repeats):
            for side, (_, pipe) in workers.items():
                pipe.send("measure")
                speeds[side].append(_receive(side, pipe))
        peaks = {}
        for side, (_, pipe) in workers.items():
            pipe.send("memory")
            peaks[side] = int(_receive(side, pipe))
    finally:
        for process, pipe in workers.values():
            pipe.close()
            process.join(timeout=10)
            process.kill()
    return [
        TrainingSpeed(SIDES[side], values, window * statistics.median(values), peaks[side])
        for side, values in speeds.items()
    ]


def _check_length(length: int, window: int) -> None:
    if length < window:
        raise UserError(f"--sequence-length is {length}, shorter than the head's window: give {window} or more")


def _receive(side: str, pipe: Any) -> Any:
    try:
        return pipe.recv()
    except EOFError as error:
        raise UserError(
            f"the measurement of {SIDES[side]!r} ended early: it may need more memory than there is"
        ) from error


def _serve(pipe: Any, side: str, policy: str, device: str, sequences: int, length: int, threads: int | None) -> None:
    """One side, in its process: measures when it is told to."""
    if threads is not None:
        torch.set_num_threads(threads)
    trainer = Trainer(side, load_policy(policy, device), sequences, length)
    before = reset_peak(trainer.model.device)
    trainer.step()
    pipe.send("ready")
    while True:
        try:
            request = pipe.recv()
        except EOFError:
            return
        if request == "memory":
            pipe.send(max(0, peak_memory(trainer.model.device) - before))
            continue
        pipe.send(trainer.measure() / trainer.window)


class Trainer:
    """Loss, gradients and update of what imitation trains, on random images.

    Args:
        side: one of `SIDES`.
        policy: what learns; it is changed.
        sequences: of a step.
        length: observation steps of a sequence.

    Raises:
        UserError: a sequence is shorter than the head's window.
    """

    def __init__(self, side: str, policy: RoboFlamingoPolicy, sequences: int, length: int) -> None:
        self.side, self.model = side, policy.train()
        self.model.set_trainable()
        self.model.vision_encoder.eval()
        parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(parameters, lr=1e-6)
        config, self.window = self.model.config, self.model.head.window_size
        _check_length(length, self.window)
        self.windows = sequences * (length - self.window + 1)
        generator = torch.Generator().manual_seed(0)
        steps, size = sequences * length, config.image.size
        shape = (steps, len(config.views), size, size, 3)
        self.images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
        reads = config.state.dim if config.head.proprioception else 0
        actions = torch.rand(sequences, length, config.head.chunk_size, config.action.dim, generator=generator) * 2 - 1
        self.batch = ChunkBatch(
            torch.arange(steps),
            torch.zeros(steps, reads),
            torch.ones(sequences, length, dtype=torch.bool),
            actions,
            torch.ones(actions.shape[:3], dtype=torch.bool),
            [INSTRUCTION] * sequences,
        )
        # Random ones for "kept": what counts is their size, and encoding would count as memory of the training.
        kept = steps, len(config.views), self.model.vision_encoder.tokens, self.model.vision_encoder.dim
        self.tokens = torch.randn(kept, generator=generator).half().to(policy.device) if side == "kept" else None

    def _encode(self, images: Any) -> Any:
        with torch.no_grad():
            return torch.cat(
                [
                    self.model.encode_vision(normalise(part.to(self.model.device), self.model.config.image))
                    for part in images.split(32)
                ]
            )

    def measure(self) -> float:
        """Frames of all windows that are learned in a second."""
        begun = time.perf_counter()
        for _ in range(STEPS):
            self.step()
        return STEPS * self.windows * self.window / (time.perf_counter() - begun)

    def step(self) -> None:
        """One optimisation step."""
        if self.side == "sliding":
            loss = self._sliding()
        else:
            tokens = self._encode(self.images) if self.tokens is None else self.tokens.float()
            loss = chunk_loss(self.model, tokens, self.batch)[0]
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        float(loss.detach())  # waits for a GPU

    def _sliding(self) -> Any:
        batch, model = self.batch, self.model
        sequences, length = batch.valid.shape
        indices = window_indices(length, self.window)  # (n, W)
        rows = batch.frames.view(sequences, length)[:, indices].flatten(0, 1)  # (windows, W)
        pixels = normalise(self.images[rows].to(model.device), model.config.image)
        tokens, mask = model.tokenize([INSTRUCTION] * len(rows))
        values = {
            "pixels": pixels,
            "tokens": tokens,
            "token_mask": mask,
            "actions": batch.actions[:, indices].flatten(0, 1).to(model.device),
            "mask": batch.mask[:, indices].flatten(0, 1).to(model.device),
        }
        if model.config.head.proprioception:
            values[model.config.state.key] = batch.state[rows].to(model.device)
        return model(values)[0]
