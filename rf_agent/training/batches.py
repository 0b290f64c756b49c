"""The batches of imitation: each is a function of the run's seed and the step, so a resumed run draws the same ones.

The sequences of a step are drawn for all processes together. A process loads its own share of them, so that two
processes train on what one would; what a loss compares within a batch (HULC's windows and instructions) it finds in
that share alone.
"""

from __future__ import annotations

import contextlib
import itertools
import signal
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from rf_agent.demos.augment import draw_colors, draw_offsets
from rf_agent.demos.windows import ChunkBatch, ChunkSampler, DemoSet, window_indices
from rf_agent.errors import UserError
from rf_agent.training.scene_cotraining import SceneBatch
from rf_agent.training.vl_cotraining import CoTraining, VLParts

COLOR_JITTER = 0.05
"""Strength of the change of colour where none is named and frames are encoded at each step anyway."""


@dataclass
class ImitationBatch:
    """Sequences of observation steps as they come to the model; M steps in all, see `ChunkBatch`."""

    chunks: ChunkBatch
    share: float = 1.0
    """Share of the whole step's supervised actions that lie in this batch."""
    images: Tensor | None = None
    """(M, V, S, S, 3) uint8, where frames are encoded at each step."""
    offsets: Tensor | None = None
    """(M, V, 2) shifts in pixels."""
    colors: Tensor | None = None
    """(M, V, 5) numbers for `jitter_colors`."""
    vision_tokens: Tensor | None = None
    """(M, V, n, dv) float16, where they are kept instead."""
    vision_language: VLParts = field(default_factory=dict)
    """Captions and questions to be learned in the same step, with their shares of the step's."""
    scene_batch: SceneBatch | None = None
    """Scene images to be learned in the same step."""
    skipped: int = 0
    """Images of theirs that could not be decoded so far."""


@dataclass(frozen=True)
class Augmentation:
    """How images are changed in training."""

    color_jitter: float | None = 0.0
    """Strength, see `jitter_colors`; None for `COLOR_JITTER` where frames are encoded at each step anyway."""
    random_shift: tuple[int, ...] = ()
    """Largest shift of each view in pixels of the policy's images; empty for none."""
    per_frame: bool = False
    """Whether each frame is changed by itself, as the reference implementation does, or a sequence as a whole."""

    def __bool__(self) -> bool:
        return bool(self.color_jitter) or any(self.random_shift)


@dataclass(frozen=True)
class Split:
    """Which part of a step's batch is loaded here."""

    processes: int = 1
    rank: int = 0
    micro_batches: int = 1
    """Parts that a process handles one after the other (gradient accumulation)."""

    def parts(self, count: int) -> list[slice]:
        """The sequences or texts of this process out of so many, a slice for each of its micro-batches; none is empty
        if there are as many as parts of the step."""
        bounds = np.linspace(0, count, self.processes * self.micro_batches + 1).round().astype(int).tolist()
        first = self.rank * self.micro_batches
        return [slice(*pair) for pair in itertools.pairwise(bounds)][first : first + self.micro_batches]


def supervised_windows(valid: Tensor, window: int) -> Tensor:
    """(B, n) true for windows without padding, and for the first one of each sequence, which may be short."""
    kept = valid[:, window_indices(valid.shape[1], window)].all(dim=-1)
    kept[:, 0] = True
    return kept


def supervised(chunks: ChunkBatch, window: int) -> float:
    """How many actions of the windows count in the loss."""
    kept = supervised_windows(chunks.valid, window)
    return float(chunks.mask[:, window_indices(chunks.valid.shape[1], window)][kept].sum())


class StepBatches(Dataset[Any]):
    """Item i holds the batches of step i, as many as there are micro-batches.

    Args:
        demos: the set.
        sampler: draws the sequences of a step.
        batch_size: sequences of a step, over all processes.
        window: of the head, in observation steps.
        seed: of the run.
        split: what of it is loaded here.
        augmentation: of the images.
        loads_images: whether the model needs images at each step.
        cotraining: draws captions and questions; it may have none.
    """

    def __init__(
        self,
        demos: DemoSet,
        sampler: ChunkSampler,
        batch_size: int,
        window: int,
        seed: int,
        split: Split,
        augmentation: Augmentation,
        loads_images: bool,
        cotraining: CoTraining,
    ) -> None:
        self.demos, self.sampler, self.batch_size, self.window = demos, sampler, batch_size, window
        self.seed, self.split, self.augmentation, self.loads_images = seed, split, augmentation, loads_images
        self.cotraining = cotraining

    def __getitem__(self, step: int) -> list[ImitationBatch] | UserError:
        """The batches, or what is wrong with the data: raised in a worker, it would become a traceback."""
        try:
            return self.draw(step)
        except UserError as error:
            return error

    def draw(self, step: int) -> list[ImitationBatch]:
        """The batches of a step, one for each micro-batch."""
        rng = np.random.default_rng([self.seed, step])
        whole = self.sampler.draw(self.batch_size, rng)
        drawn = ImitationBatch(whole)
        counts = whole.valid.sum(dim=1).tolist()
        if self.loads_images and self.augmentation:
            blocks = [1] * sum(counts) if self.augmentation.per_frame else counts
            views = len(self.demos.frames.views)
            if any(self.augmentation.random_shift):
                drawn.offsets = torch.from_numpy(draw_offsets(blocks, self.augmentation.random_shift, rng))
            if self.augmentation.color_jitter:
                drawn.colors = torch.from_numpy(draw_colors(blocks, views, rng))
        total = supervised(whole, self.window)
        loaded = [self._load(_part(drawn, rows), total) for rows in self.split.parts(len(counts))]
        if self.cotraining.data:
            texts = self.cotraining.divide(self.cotraining.draw(rng), self.split.parts)
            for batch, own in zip(loaded, texts, strict=True):
                batch.vision_language, batch.skipped = own, self.cotraining.skipped()
        return loaded

    def _load(self, batch: ImitationBatch, total: float) -> ImitationBatch:
        share = supervised(batch.chunks, self.window) / max(total, 1.0)
        return replace(batch, share=share, images=self.images(batch.chunks))

    def images(self, chunks: ChunkBatch) -> Tensor | None:
        """(M, V, S, S, 3) of sequences, if the model needs images."""
        return torch.from_numpy(self.demos.frames.get(chunks.frames.numpy())) if self.loads_images else None

    def iterate(self, first_step: int, workers: int) -> Generator[list[ImitationBatch], None, None]:
        """The batches of one step after another, without end; closed, it leaves no process behind.

        Args:
            first_step: where to begin.
            workers: processes that read ahead; 0 reads when a batch is needed.
        """
        loader: DataLoader[Any] = DataLoader(
            self,
            batch_size=None,
            sampler=itertools.count(first_step),  # type: ignore[arg-type]
            num_workers=workers,
            persistent_workers=workers > 0,
            worker_init_fn=_begin_worker,
        )
        batches_of_steps: Any = iter(loader)
        try:
            while True:
                try:
                    batches = next(batches_of_steps)
                except Exception as error:
                    if workers and is_lost_worker(error):
                        raise lost_worker(error) from error
                    raise
                if isinstance(batches, UserError):
                    raise batches
                yield batches
        finally:
            # Left to the interpreter's end, as happens where a traceback holds on to them, they would be sent SIGTERM
            # and waited for without limit: see `_begin_worker`.
            if workers:
                batches_of_steps._shutdown_workers()


def is_lost_worker(error: BaseException) -> bool:
    """Whether an error says that a process which reads ahead is gone, instead of what went wrong in it."""
    text = str(error)
    if isinstance(error, RuntimeError):
        return text.startswith("DataLoader worker")
    # the batch that it was about to hand over
    return isinstance(error, (ConnectionError, EOFError, FileNotFoundError)) and "in DataLoader worker" not in text


@contextlib.contextmanager
def lost_workers_explained() -> Iterator[None]:
    """Within the block, a lost process is told as `lost_worker` does: torch may raise the error anywhere in a run."""
    try:
        yield
    except RuntimeError as error:
        if not is_lost_worker(error):
            raise
        raise lost_worker(error) from error


def lost_worker(error: BaseException) -> UserError:
    """The same for users."""
    return UserError(
        f"a process that reads images ahead was ended from outside ({' '.join(str(error).split()) or 'no message'}), "
        "as happens where memory runs out: start again with fewer --workers, with --resume where there is a checkpoint"
    )


def _part(batch: ImitationBatch, rows: slice) -> ImitationBatch:
    """Some sequences of a batch."""
    ends = np.concatenate([[0], batch.chunks.valid.sum(dim=1).cumsum(0).numpy()])
    steps = slice(int(ends[rows.start]), int(ends[rows.stop]))
    return ImitationBatch(
        batch.chunks.part(rows),
        offsets=None if batch.offsets is None else batch.offsets[steps],
        colors=None if batch.colors is None else batch.colors[steps],
    )


def validation_batches(
    demos: DemoSet, sequences: Sequence[tuple[int, int, int]], length: int, size: int, window: int, split: Split
) -> Iterator[tuple[ChunkBatch, float]]:
    """This process's part of the held-out sequences, with the number of supervised actions in each.

    All processes get equally many parts, as they must compute in step: one that has nothing left repeats a sequence,
    with number 0.
    """
    size = max(size, split.processes)
    for first in range(0, len(sequences), size):
        part = sequences[first : first + size]
        (own,) = replace(split, micro_batches=1).parts(len(part))
        chosen = part[own] or part[:1]
        texts = [demos.episodes[index].instruction for index, _, _ in chosen]
        chunks = demos.chunks(chosen, length, texts)
        yield chunks, supervised(chunks, window) if part[own] else 0.0


def _begin_worker(_: int) -> None:
    torch.set_num_threads(1)  # the processes themselves are what runs in parallel
    # Clusters send it to all processes of a run: the main one saves a checkpoint then, which a worker's death disturbs.
    # So it counts from the second time on: where a worker does not end by itself, the main process sends it, too. Two
    # that arrive at once are one for the operating system, so this may not be the only way to end.
    signal.signal(signal.SIGTERM, lambda number, frame: signal.signal(number, signal.SIG_DFL))
