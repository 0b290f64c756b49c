"""Demonstrations in memory, cut into chunks of observation steps of which every frame is encoded once.

At an *observation step* the policy sees the cameras. It happens every `n_action_steps` environment steps and
predicts a chunk of K actions. The policy's head reads windows of W steps. Neighbouring windows share all but
one step, so training draws a run of T consecutive steps, encodes each once and supervises all T - W + 1
windows in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rf_agent.demos.files import open_hdf5, reading
from rf_agent.demos.store import VIEWS, check_demos, demo_names, iterate_demos, read_env_args


@dataclass(frozen=True)
class Episode:
    """One demonstration of a `DemoSet`."""

    task: str
    instruction: str
    actions: NDArray[np.float32]  # (num_samples, 7)
    robot_obs: NDArray[np.float32]  # (num_samples, 15)
    first_frame: int  # row of the set's frames that holds sample 0
    frame_stride: int

    def observation_steps(self, n_action_steps: int, phase: int = 0) -> int:
        """Observation steps in the episode: the first at frame `phase`, then one every `n_action_steps` samples."""
        return -(-(len(self.actions) - phase * self.frame_stride) // n_action_steps)


@dataclass
class ChunkBatch:
    """B sequences of at most T steps. Padding (runs longer than what is left of the episode) is not encoded."""

    frames: Tensor  # (M,) rows of the frame array, one for each valid observation step
    robot_obs: Tensor  # (M, 15)
    valid: Tensor  # (B, T) bool, M of them true
    actions: Tensor  # (B, T, K, 7)
    mask: Tensor  # (B, T, K) bool: the action lies within the episode
    instructions: list[str]  # B


class DemoSet:
    """All demonstrations of some files, their frames resized once to the policy's resolution.

    Args:
        paths: HDF5 stores; every demonstration is checked before anything is loaded.
        image_size: side of the policy's images.
        n_action_steps: environment steps between two observation steps (E); a multiple of the files' frame stride.
        chunk_size: actions predicted at every observation step (K).
        resample: how frames are resized, as in `rf_agent.config.ImageConfig`.

    Attributes:
        frames: (F, V, S, S, 3) uint8.
        episodes: in an order that depends on their content alone.

    Raises:
        ValueError: for damaged files or bad demonstrations (file and demonstration are named), or a frame
            stride at which the policy's observation steps have no frames.
    """

    def __init__(
        self, paths: Sequence[Path], image_size: int, n_action_steps: int, chunk_size: int, resample: str = "bilinear"
    ):
        from rf_agent.preprocess import resize

        if not paths:
            raise ValueError("no demonstrations were given: name one or more HDF5 files with --demos")
        self.n_action_steps, self.chunk_size = n_action_steps, chunk_size
        total = 0
        for path in paths:
            check_demos(path)
            total += _count_frames(path, n_action_steps)
        self.frames = np.empty((total, len(VIEWS), image_size, image_size, 3), np.uint8)
        self.episodes: list[Episode] = []
        row = 0
        for path in paths:
            with open_hdf5(path) as file:
                stride = int(read_env_args(file).get("frame_stride", 1))
            for _, demo in iterate_demos(path):
                count = len(demo.frames[VIEWS[0]])
                for view, name in enumerate(VIEWS):
                    for index, image in enumerate(demo.frames[name]):
                        self.frames[row + index, view] = resize(image, image_size, resample)
                task, instruction = str(demo.attributes["task"]), str(demo.attributes["instruction"])
                states = demo.actions.astype(np.float32), demo.robot_obs.astype(np.float32)
                self.episodes.append(Episode(task, instruction, *states, row, stride))
                row += count

    def split(self, validation_fraction: float) -> tuple[list[int], list[int]]:
        """Episodes for training and for validation: every n-th is held out, across all tasks."""
        indices = list(range(len(self.episodes)))
        if validation_fraction <= 0:
            return indices, []
        period = max(2, round(1 / validation_fraction))
        return [i for i in indices if i % period != period - 1], indices[period - 1 :: period]

    def wordings(self, indices: Sequence[int]) -> dict[str, list[str]]:
        """The different instructions of each task among some episodes, sorted."""
        found: dict[str, set[str]] = {}
        for index in indices:
            found.setdefault(self.episodes[index].task, set()).add(self.episodes[index].instruction)
        return {task: sorted(texts) for task, texts in found.items()}

    def chunks(self, runs: Sequence[tuple[int, int, int]], length: int, instructions: Sequence[str]) -> ChunkBatch:
        """Collate sequences of observation steps.

        Args:
            runs: B triples (episode, phase, first observation step).
            length: T, steps of a sequence.
            instructions: B texts.
        """
        shape = (len(runs), length, self.chunk_size)
        valid = np.zeros(shape[:2], bool)
        actions, mask = np.zeros((*shape, 7), np.float32), np.zeros(shape, bool)
        rows, robot_obs = [], []
        for b, (index, phase, first) in enumerate(runs):
            episode = self.episodes[index]
            count = min(length, episode.observation_steps(self.n_action_steps, phase) - first)
            samples = phase * episode.frame_stride + (first + np.arange(count)) * self.n_action_steps
            rows.append(episode.first_frame + samples // episode.frame_stride)
            robot_obs.append(episode.robot_obs[samples])
            valid[b, :count] = True
            targets = samples[:, None] + np.arange(self.chunk_size)  # (count, K)
            inside = targets < len(episode.actions)
            mask[b, :count] = inside
            actions[b, :count] = episode.actions[np.minimum(targets, len(episode.actions) - 1)]
        return ChunkBatch(
            torch.from_numpy(np.concatenate(rows)),
            torch.from_numpy(np.concatenate(robot_obs)),
            torch.from_numpy(valid),
            torch.from_numpy(actions),
            torch.from_numpy(mask),
            list(instructions),
        )


class ChunkSampler:
    """Draws training sequences of observation steps, balanced over tasks.

    Args:
        demos: the set.
        indices: episodes to draw from.
        length: T, steps of a sequence.
        balance: a task is drawn in proportion to its number of steps to this power: 0 draws all tasks equally
            often, 1 all observation steps.
        mix_wordings: give each run any instruction of its task instead of its own.
    """

    def __init__(self, demos: DemoSet, indices: Sequence[int], length: int, balance: float, mix_wordings: bool):
        if not indices:
            raise ValueError("no episode is left to train on: collect more demonstrations or hold out fewer")
        self.demos, self.indices, self.length = demos, list(indices), length
        steps = np.array([demos.episodes[i].observation_steps(demos.n_action_steps) for i in self.indices], float)
        tasks = [demos.episodes[i].task for i in self.indices]
        totals = {task: sum(n for n, t in zip(steps, tasks, strict=True) if t == task) for task in set(tasks)}
        weights = steps * np.array([totals[task] ** (balance - 1.0) for task in tasks])
        self._probabilities = weights / weights.sum()
        self._wordings = demos.wordings(self.indices) if mix_wordings else None

    def draw(self, count: int, rng: np.random.Generator) -> ChunkBatch:
        """`count` runs; all randomness comes from `rng`."""
        runs, texts = [], []
        for choice in rng.choice(len(self.indices), size=count, p=self._probabilities):
            index = self.indices[choice]
            episode = self.demos.episodes[index]
            phases = max(1, min(self.demos.n_action_steps, len(episode.actions)) // episode.frame_stride)
            phase = int(rng.integers(phases))
            last = max(0, episode.observation_steps(self.demos.n_action_steps, phase) - self.length)
            # Drawn beyond both ends and clipped: otherwise the first and last steps would be seen the least.
            first = int(rng.integers(-(self.length // 2), last + self.length // 2 + 1))
            runs.append((index, phase, min(max(first, 0), last)))
            wordings = self._wordings[episode.task] if self._wordings else [episode.instruction]
            texts.append(wordings[int(rng.integers(len(wordings)))])
        return self.demos.chunks(runs, self.length, texts)


def whole_sequences(demos: DemoSet, indices: Sequence[int], length: int) -> list[tuple[int, int, int]]:
    """Runs that cover each episode once, for validation."""
    return [
        (index, 0, first)
        for index in indices
        for first in range(0, demos.episodes[index].observation_steps(demos.n_action_steps), length)
    ]


def window_indices(length: int, window: int) -> Tensor:
    """Positions of all windows in a sequence of `length` steps: (length - W + 1, W), W = min(window, length)."""
    width = min(window, length)
    return torch.arange(length - width + 1)[:, None] + torch.arange(width)


def _count_frames(path: Path, n_action_steps: int) -> int:
    with open_hdf5(path) as file:
        stride = int(read_env_args(file).get("frame_stride", 1))
        if n_action_steps % stride:
            raise ValueError(
                f"{path} holds a frame at every {stride} steps, but the policy observes every {n_action_steps}: "
                f"collect with --frame-stride {n_action_steps} (or a divisor), or change head.n_action_steps"
            )
        with reading(path):
            return sum(len(file["data"][name][f"obs/{VIEWS[0]}"]) for name in demo_names(file))
