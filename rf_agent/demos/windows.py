"""Demonstrations, cut into chunks of observation steps of which every frame is encoded once.

At an *observation step* the policy sees the cameras. It happens every `n_action_steps` environment steps and
predicts a chunk of K actions. The policy's head reads windows of W steps. Neighbouring windows share all but
one step, so training draws a sequence of T consecutive steps, encodes each once and supervises all T - W + 1
windows in it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rf_agent.demos.files import DemoError
from rf_agent.demos.frames import Frames
from rf_agent.demos.readers import DemoReader
from rf_agent.policy_config import PolicyConfig


@dataclass(frozen=True)
class Episode:
    """One demonstration of a `DemoSet`."""

    task: str
    instruction: str
    actions: NDArray[np.float32]  # (num_samples, D)
    state: NDArray[np.float32]  # (num_samples, S), NaN where it is not known; S is 0 where the policy reads none
    first_frame: int  # row of the set's frames that holds sample 0
    frame_stride: int
    paraphrased: bool  # another instruction of its task means the same
    source: str  # its file and its name there
    start: tuple[int, int] | None = None  # its reader, and its first sample in a recording that it was cut out of

    @property
    def end_frame(self) -> int:
        """Row of the set's frames after its last one."""
        return self.first_frame - (-len(self.actions) // self.frame_stride)

    def observation_steps(self, n_action_steps: int, phase: int = 0) -> int:
        """Observation steps in the episode: the first at frame `phase`, then one every `n_action_steps` samples."""
        return -(-(len(self.actions) - phase * self.frame_stride) // n_action_steps)


@dataclass
class ChunkBatch:
    """B sequences of at most T steps. Padding (sequences longer than what is left of the episode) is not encoded."""

    frames: Tensor  # (M,) rows of the frame array, one for each valid observation step
    state: Tensor  # (M, S), NaN where it is not known or left out (`head.state_dropout`)
    valid: Tensor  # (B, T) bool, M of them true
    actions: Tensor  # (B, T, K, D)
    mask: Tensor  # (B, T, K) bool: the action lies within the episode
    instructions: list[str]  # B
    sources: list[str] = field(default_factory=list)  # B, for people: which demonstration, and its first sample

    def part(self, rows: slice) -> ChunkBatch:
        """Some of its sequences."""
        ends = self.valid.sum(dim=1).cumsum(0)
        first = int(ends[rows.start - 1]) if rows.start else 0
        steps = slice(first, int(ends[rows.stop - 1]))
        return ChunkBatch(
            self.frames[steps],
            self.state[steps],
            self.valid[rows],
            self.actions[rows],
            self.mask[rows],
            self.instructions[rows],
            self.sources[rows],
        )


class DemoSet:
    """The demonstrations of some readers that succeeded, seen by a policy. Images stay where they are stored.

    Args:
        readers: of files or folders that were checked (`rf_agent.training.robot.open_all`).
        config: of the policy that sees them: its cameras, image size, state, and observation steps.

    Attributes:
        frames: the images at the policy's resolution.
        episodes: in an order that depends on the data alone.
        failures: demonstrations that did not succeed, which are left out.

    Raises:
        DemoError: an image at fewer steps than the policy observes, or no demonstration that succeeded.
    """

    def __init__(self, readers: Sequence[DemoReader], config: PolicyConfig):
        self.n_action_steps, self.chunk_size = config.head.n_action_steps, config.head.chunk_size
        self.state_dropout = config.head.state_dropout if config.head.proprioception else 0.0
        unknown = config.state.dim if config.head.state_optional else 0
        for reader in readers:
            _check_stride(reader, self.n_action_steps)
        self.frames = Frames(readers, config.views, config.image)
        self.episodes: list[Episode] = []
        self.failures = 0
        for number, (reader, (first, _)) in enumerate(zip(readers, self.frames.files(), strict=True)):
            for record in reader.records:
                if not record.success:
                    self.failures += 1
                    continue
                state = record.state if config.head.proprioception else None
                self.episodes.append(
                    Episode(
                        record.task,
                        record.instruction,
                        record.actions,
                        np.full((len(record.actions), unknown), np.nan, np.float32) if state is None else state,
                        first + record.first_frame,
                        reader.layout.frame_stride,
                        reader.layout.paraphrased,
                        f"{reader.path.name}: {record.name}",
                        _start(number, record.attributes),
                    )
                )
        if not self.episodes:
            raise DemoError(
                f"none of the demonstrations in {', '.join(str(reader.path) for reader in readers)} succeeded: record "
                "others"
            )

    def split(self, validation_fraction: float) -> tuple[list[int], list[int]]:
        """Episodes for training and for validation, which is spread evenly across all tasks.

        Episodes that share frames, as CALVIN's overlapping windows do, stay together, also where each was stored with
        frames of its own, and so do copies of a demonstration in several files: what is held out was never seen.
        """
        if validation_fraction <= 0:
            return list(range(len(self.episodes))), []
        training: list[int] = []
        held_out: list[int] = []
        for number, group in enumerate(self._groups(), start=1):
            before, now = (math.ceil(count * validation_fraction - 0.5 - 1e-9) for count in (number - 1, number))
            (held_out if now > before else training).extend(group)
        return sorted(training), sorted(held_out)

    def rows(self, indices: Sequence[int]) -> NDArray[np.int64]:
        """Rows of the frames of some episodes, in order, each once."""
        found = [
            np.arange(one.first_frame, one.end_frame, dtype=np.int64)
            for one in (self.episodes[index] for index in indices)
        ]
        return np.unique(np.concatenate(found)) if found else np.zeros(0, np.int64)

    def _groups(self) -> list[list[int]]:
        """Episodes that share frames, directly or through others, or are copies; sorted by the first of each group."""
        owner = list(range(len(self.episodes)))  # each one's neighbour in its group, or itself

        def root(index: int) -> int:
            while owner[index] != index:
                owner[index] = index = owner[owner[index]]
            return index

        longest, end = -1, -1
        for index in sorted(range(len(self.episodes)), key=lambda i: self.episodes[i].first_frame):
            episode = self.episodes[index]
            if episode.first_frame < end:
                owner[root(index)] = root(longest)
            if episode.end_frame > end:
                longest, end = index, episode.end_frame
        longest, cut_out = -1, [index for index, episode in enumerate(self.episodes) if episode.start]
        for index in sorted(cut_out, key=lambda i: self.episodes[i].start or ()):
            if longest >= 0 and _overlap(self.episodes[longest], self.episodes[index]):
                owner[root(index)] = root(longest)
            if longest < 0 or _end(self.episodes[index]) > _end(self.episodes[longest]):
                longest = index
        for index, copy in self._copies():
            owner[root(copy)] = root(index)
        groups: dict[int, list[int]] = {}
        for index in range(len(self.episodes)):
            groups.setdefault(root(index), []).append(index)
        return list(groups.values())

    def _copies(self) -> Iterator[tuple[int, int]]:
        """Pairs of an episode and a copy of it, as where a file and one that was packed of it are given."""
        alike: dict[tuple[str, ...], list[int]] = {}
        for index, episode in enumerate(self.episodes):
            numbers = hashlib.blake2b(episode.actions.tobytes() + episode.state.tobytes()).hexdigest()
            alike.setdefault((episode.task, episode.instruction, numbers), []).append(index)
        for group in alike.values():
            first: dict[bytes, int] = {}
            for index in group if len(group) > 1 else ():  # scripted demonstrations may have the same actions
                ends = np.array([self.episodes[index].first_frame, self.episodes[index].end_frame - 1])
                yield first.setdefault(self.frames.get(ends).tobytes(), index), index

    def instructions(self, indices: Sequence[int]) -> dict[str, list[str]]:
        """The different instructions of each task among the episodes whose instructions may be exchanged, sorted."""
        found: dict[str, set[str]] = {}
        for index in indices:
            if not self.episodes[index].paraphrased:
                continue
            found.setdefault(self.episodes[index].task, set()).add(self.episodes[index].instruction)
        return {task: sorted(texts) for task, texts in found.items()}

    def chunks(self, sequences: Sequence[tuple[int, int, int]], length: int, instructions: Sequence[str]) -> ChunkBatch:
        """Collate sequences of observation steps.

        Args:
            sequences: B triples (episode, phase, first observation step).
            length: T, steps of a sequence.
            instructions: B texts.
        """
        shape = (len(sequences), length, self.chunk_size)
        valid = np.zeros(shape[:2], bool)
        dim = self.episodes[0].actions.shape[1]
        actions, mask = np.zeros((*shape, dim), np.float32), np.zeros(shape, bool)
        rows, states, sources = [], [], []
        for b, (index, phase, first) in enumerate(sequences):
            episode = self.episodes[index]
            count = min(length, episode.observation_steps(self.n_action_steps, phase) - first)
            samples = phase * episode.frame_stride + (first + np.arange(count)) * self.n_action_steps
            sources.append(f"{episode.source}, from step {samples[0]}")
            rows.append(episode.first_frame + samples // episode.frame_stride)
            states.append(episode.state[samples])
            valid[b, :count] = True
            targets = samples[:, None] + np.arange(self.chunk_size)  # (count, K)
            inside = targets < len(episode.actions)
            mask[b, :count] = inside
            actions[b, :count] = episode.actions[np.minimum(targets, len(episode.actions) - 1)]
        return ChunkBatch(
            torch.from_numpy(np.concatenate(rows)),
            torch.from_numpy(np.concatenate(states)),
            torch.from_numpy(valid),
            torch.from_numpy(actions),
            torch.from_numpy(mask),
            list(instructions),
            sources,
        )


class ChunkSampler:
    """Draws training sequences of observation steps, balanced over tasks.

    Args:
        demos: the set.
        indices: episodes to draw from.
        length: T, steps of a sequence.
        balance: a task is drawn in proportion to its number of steps to this power: 0 draws all tasks equally
            often, 1 all observation steps.
        mix_instructions: give each sequence any instruction of its task instead of its own, where they mean the same.
        more_instructions: of tasks, in addition to those of the episodes.

    Raises:
        DemoError: more instructions for a task whose instructions do not mean the same, or that is not there.
    """

    def __init__(
        self,
        demos: DemoSet,
        indices: Sequence[int],
        length: int,
        balance: float,
        mix_instructions: bool,
        more_instructions: Mapping[str, Sequence[str]] | None = None,
    ):
        if not indices:
            raise ValueError("no episode is left to train on: collect more demonstrations or hold out fewer")
        self.demos, self.indices, self.length = demos, list(indices), length
        steps = np.array([demos.episodes[i].observation_steps(demos.n_action_steps) for i in self.indices], float)
        tasks = [demos.episodes[i].task for i in self.indices]
        # where each instruction is a task of its own, there are as many tasks as episodes
        _, task_of = np.unique(tasks, return_inverse=True)
        weights = steps * np.bincount(task_of, steps)[task_of] ** (balance - 1.0)
        self._probabilities = weights / weights.sum()
        if more_instructions and not mix_instructions:
            raise DemoError(
                "further instructions are drawn where instructions are mixed: leave out one of the options "
                "--instructions and --no-mix-instructions"
            )
        self._instructions = demos.instructions(self.indices) if mix_instructions else {}
        for task, texts in (more_instructions or {}).items():
            if task in self._instructions:
                self._instructions[task] = sorted({*self._instructions[task], *texts})
        if more_instructions and not set(more_instructions) & set(self._instructions):
            raise DemoError(
                "none of the further instructions is for a task of these demonstrations (whose instructions must be "
                "exchangeable): "
                f"they are for {', '.join(sorted(more_instructions)[:3])} ..., the demonstrations of "
                f"{', '.join(sorted(set(tasks))[:3])} ..."
            )

    def draw(self, count: int, rng: np.random.Generator) -> ChunkBatch:
        """`count` sequences; all randomness comes from `rng`."""
        sequences, texts = [], []
        for choice in rng.choice(len(self.indices), size=count, p=self._probabilities):
            index = self.indices[choice]
            episode = self.demos.episodes[index]
            phases = max(1, min(self.demos.n_action_steps, len(episode.actions)) // episode.frame_stride)
            phase = int(rng.integers(phases))
            last = max(0, episode.observation_steps(self.demos.n_action_steps, phase) - self.length)
            # Drawn beyond both ends and clipped: otherwise the first and last steps would be seen the least.
            first = int(rng.integers(-(self.length // 2), last + self.length // 2 + 1))
            sequences.append((index, phase, min(max(first, 0), last)))
            choices = [episode.instruction]
            if episode.paraphrased:
                choices = self._instructions.get(episode.task, choices)
            texts.append(choices[int(rng.integers(len(choices)))])
        batch = self.demos.chunks(sequences, self.length, texts)
        if self.demos.state_dropout:
            unknown = torch.from_numpy(rng.random(count) < self.demos.state_dropout)
            forget_states(batch, unknown)
        return batch


def forget_states(batch: ChunkBatch, sequences: Tensor) -> None:
    """Leave out the robot's state of some sequences: those that are true in (B,)."""
    batch.state[sequences.repeat_interleave(batch.valid.sum(dim=1))] = torch.nan


def whole_sequences(demos: DemoSet, indices: Sequence[int], length: int) -> list[tuple[int, int, int]]:
    """Sequences that cover each episode once, for validation."""
    return [
        (index, 0, first)
        for index in indices
        for first in range(0, demos.episodes[index].observation_steps(demos.n_action_steps), length)
    ]


def window_indices(length: int, window: int) -> Tensor:
    """Positions of all windows in a sequence of `length` steps: (length - W + 1, W), W = min(window, length)."""
    width = min(window, length)
    return torch.arange(length - width + 1)[:, None] + torch.arange(width)


def _check_stride(reader: DemoReader, n_action_steps: int) -> None:
    if n_action_steps % (stride := reader.layout.frame_stride):
        raise DemoError(
            f"{reader.path} holds a frame at every {stride} steps, but the policy observes every {n_action_steps}: "
            f"collect with --frame-stride {n_action_steps} (or a divisor), or change head.n_action_steps"
        )


def _start(reader: int, attributes: Mapping[str, Any]) -> tuple[int, int] | None:
    """Where an episode begins in a recording that it was cut out of, as the windows of CALVIN's data say."""
    start = attributes.get("start")
    return (reader, int(start)) if isinstance(start, int | np.integer) and "end" in attributes else None


def _end(episode: Episode) -> tuple[int, int]:
    assert episode.start is not None
    return episode.start[0], episode.start[1] + len(episode.actions)


def _overlap(one: Episode, other: Episode) -> bool:
    """Whether two windows of one reader, the first of which begins no later, have samples in common, as they say and
    as their actions show."""
    if one.start is None or other.start is None or not other.start < _end(one):
        return False
    first = other.start[1] - one.start[1]
    count = min(len(one.actions) - first, len(other.actions))
    return np.array_equal(one.actions[first : first + count], other.actions[:count])
