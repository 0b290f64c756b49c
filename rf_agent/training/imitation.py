"""Imitation as an objective: random sequences of demonstrations in, loss and metrics out."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from rf_agent.base_policy import BasePolicy
from rf_agent.demos.augment import jitter_colors, shift
from rf_agent.demos.windows import ChunkBatch, ChunkSampler, DemoSet, whole_sequences, window_indices
from rf_agent.errors import UserError
from rf_agent.policy import RoboFlamingoPolicy
from rf_agent.preprocess import normalise
from rf_agent.progress import Reporter
from rf_agent.training.batches import (
    COLOR_JITTER,
    Augmentation,
    ImitationBatch,
    Split,
    StepBatches,
    supervised_windows,
    validation_batches,
)
from rf_agent.training.scene_cotraining import SceneCoTraining
from rf_agent.training.vision_cache import FOLDER, VisionCache, cache_key, has_room, kept_tokens
from rf_agent.training.vl_cotraining import CoTraining, CoTrainingConfig
from rf_agent.workers import usable_cores

MOST_WORKERS = 16
"""Processes that read images ahead where nobody says how many: each holds its own part of the data."""
HELD_SHARE, HELD_MOST = 0.25, 3 * 2**30
"""Share of the machine's memory, and most bytes, that images may take which are encoded at every step: training stays
below 4 GB however large the data are."""


class ImitationObjective(nn.Module):
    """What one optimisation step computes: the module that several processes share.

    Args:
        policy: what learns.
        vision_learns: whether gradients go into the vision tower.
        color_jitter: strength of the change of colour, for batches that have numbers for it.
        rounds: whether vision tokens are rounded to float16, as kept ones are.
        cotraining: computes the loss of captions and questions, where a batch has some.
        scene_cotraining: computes that of scene images, where a batch has some.
    """

    def __init__(
        self,
        policy: BasePolicy,
        vision_learns: bool,
        color_jitter: float,
        rounds: bool,
        cotraining: CoTraining,
        scene_cotraining: SceneCoTraining | None = None,
    ) -> None:
        super().__init__()
        self.policy, self.vision_learns, self.scene_cotraining = policy, vision_learns, scene_cotraining
        self.color_jitter, self.rounds, self.cotraining = color_jitter, rounds, cotraining

    def train(self, mode: bool = True) -> ImitationObjective:
        """Running statistics of a convolutional tower stay as pre-training left them, or as they were set before the
        first step: a batch of few episodes is no sample, and acts on one frame."""
        super().train(mode)
        self.policy.vision_encoder.eval()
        return self

    def forward(self, batch: ImitationBatch, progress: float = 0.0) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss and metrics of a batch; `progress` is the share of the run that is over, which nothing here needs."""
        loss, metrics = chunk_loss(self.policy, self._vision_tokens(batch), batch.chunks)
        if batch.vision_language:
            extra, more = self.cotraining.loss(self.policy, batch.vision_language)
            # the loop weighs a batch by its share of the actions, which is not that of the texts
            loss, metrics = loss + extra / max(batch.share, 1e-9), metrics | more
        if self.scene_cotraining is not None and batch.scene_batch is not None:
            extra, more = self.scene_cotraining(self.policy, batch.scene_batch)
            loss, metrics = loss + extra / max(batch.share, 1e-9), metrics | more
        return loss, metrics

    def _vision_tokens(self, batch: ImitationBatch) -> Tensor:
        device = self.policy.device
        if batch.vision_tokens is not None:
            return batch.vision_tokens.to(device).float()
        assert batch.images is not None
        pixels = normalise(batch.images.to(device, non_blocking=True), self.policy.config.image)
        if batch.offsets is not None:
            pixels = shift(pixels, batch.offsets.to(device))
        if batch.colors is not None:
            pixels = jitter_colors(pixels, self.color_jitter, batch.colors.to(device))
        with torch.set_grad_enabled(self.vision_learns and torch.is_grad_enabled()):
            tokens = self.policy.encode_vision(pixels)
        return tokens.half().float() if self.rounds else tokens


class Imitation:
    """The batches of an imitation run, and its value on held-out demonstrations.

    Args:
        policy: what learns, with its trained parts chosen.
        demos: the data.
        batch_size: sequences of a step, over all processes.
        sequence_length: observation steps of a sequence.
        balance, mix_instructions, more_instructions: see `ChunkSampler`.
        validation_fraction: share of the episodes that are held out.
        seed: of the run.
        split: what of each step is computed here.
        augmentation: of images, where they are encoded anew at each step.
        cache_vision: whether frames are encoded once, if the vision tower is frozen and nothing changes images.
        workers: processes that read images ahead; if None half the cores but one, at most `MOST_WORKERS`.
        cotraining: captions and questions that are learned in the same steps.
        scene_cotraining: scene images that are.
    """

    def __init__(
        self,
        policy: BasePolicy,
        demos: DemoSet,
        *,
        batch_size: int,
        sequence_length: int,
        balance: float = 0.5,
        mix_instructions: bool = True,
        more_instructions: Mapping[str, Sequence[str]] | None = None,
        validation_fraction: float = 0.05,
        seed: int = 0,
        split: Split | None = None,
        augmentation: Augmentation | None = None,
        cache_vision: bool = True,
        workers: int | None = None,
        cotraining: CoTraining | None = None,
        scene_cotraining: SceneCoTraining | None = None,
    ) -> None:
        self.policy, self.demos = policy, demos
        self.batch_size, self.length = batch_size, sequence_length
        self.split = split or Split()
        if augmentation is None:
            augmentation = Augmentation()
        self.window = policy.head.window_size
        needed = max(self.window, policy.head.frames)
        if sequence_length < needed:
            raise ValueError(
                f"sequence_length is {sequence_length}, shorter than the head's window: give {needed} or more"
            )
        training, self.validation = demos.split(validation_fraction)
        sampler = ChunkSampler(demos, training, sequence_length, balance, mix_instructions, more_instructions)
        vision_learns = any(parameter.requires_grad for parameter in policy.vision_encoder.parameters())
        self.encodes_once = cache_vision and not vision_learns and not augmentation
        if self.encodes_once and augmentation.per_frame:
            raise UserError(
                "--augment-per-frame changes nothing where frames are encoded once: give --random-shift or "
                "--color-jitter, too"
            )
        if augmentation.color_jitter is None:
            augmentation = replace(augmentation, color_jitter=0.0 if self.encodes_once else COLOR_JITTER)
        color_jitter = augmentation.color_jitter or 0.0
        if scene_cotraining is not None:
            scene_cotraining.encodes_once = self.encodes_once
        texts = cotraining or CoTraining(CoTrainingConfig(), policy)
        self.objective = ImitationObjective(
            policy, vision_learns, color_jitter, self.encodes_once, texts, scene_cotraining
        )
        self.batches = StepBatches(
            demos, sampler, batch_size, self.window, seed, self.split, augmentation, not self.encodes_once, texts
        )
        self._local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # processes that share this machine
        free = usable_cores() // (2 * self._local) - 1
        self.workers = min(max(0, free), MOST_WORKERS) if workers is None else workers
        self.skipped = 0  # images of captions and questions that a process which reads could not decode
        self.encoding = 0.0  # seconds in which frames were encoded to be kept
        self._caches: list[VisionCache] = []

    def prepare(self, output: Path, reporter: Reporter) -> None:
        """Find or begin the caches of vision tokens beside the run, or choose where images are held.

        A cache that does not fit the disk is left out: those images are then encoded at each step.
        """
        tower, frames = self.policy.vision_encoder, self.demos.frames
        shape = len(frames.views), tower.tokens, tower.dim
        size = 2 * len(frames) * int(np.prod(shape))
        folder = output.parent / FOLDER
        keys: list[str] = []
        if self.encodes_once:
            keys = [
                cache_key(frames.fingerprint(index), tower, self.policy.config) for index in range(len(frames.files()))
            ]
        if keys and not has_room([folder / key for key in keys], size):
            reporter.log(
                f"the disk has no room for {size / 2**30:.1f} GiB of vision tokens in {folder}: frames are encoded at "
                "each step, which takes longer"
            )
            self.batches.loads_images = True
        if self.batches.loads_images:
            memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
            if self.workers == 0 and self._local * frames.nbytes < min(HELD_SHARE * memory, HELD_MOST):
                frames.hold()
            return
        scenes = self.objective.scene_cotraining
        if scenes is not None and isinstance(self.policy, RoboFlamingoPolicy):
            if not scenes.keep_tokens(folder, self.policy):
                reporter.log(
                    f"the disk has no room for the vision tokens of {len(scenes.data)} scene images in {folder}: they "
                    "are encoded at each step, which takes longer"
                )
        for key, rows in zip(keys, frames.files(), strict=True):
            self._caches.append(VisionCache(folder / key, rows, shape, self._encode))
        kept = sum(cache.share * (cache.rows[1] - cache.rows[0]) for cache in self._caches) / len(frames)
        found = f", {kept:.0%} of them from earlier runs" if kept else ""
        reporter.log(f"vision tokens of {len(frames)} frames are kept in {folder}{found}")

    def iterate(self, first_step: int) -> Generator[list[tuple[ImitationBatch, float]], None, None]:
        """For each step from one on, its batches here and their shares of it."""
        reads_images = self.batches.loads_images or bool(self.batches.cotraining.data)
        with contextlib.closing(self.batches.iterate(first_step, self.workers if reads_images else 0)) as steps:
            for step, parts in enumerate(steps, first_step):
                self.skipped = max(self.skipped, *(part.skipped for part in parts))
                self._add_scenes(step, parts)
                yield [(self._with_tokens(part), part.share) for part in parts]

    @torch.no_grad()
    def evaluate(self, objective: nn.Module) -> dict[str, float]:
        """Loss and errors on every observation step of the held-out episodes; empty if there are none.

        Args:
            objective: `self.objective`, as the processes call it.
        """
        sequences = whole_sequences(self.demos, self.validation, self.length)
        totals: dict[str, Tensor] = {}
        weight = 0.0
        for chunks, count in validation_batches(
            self.demos, sequences, self.length, self.batch_size, self.window, self.split
        ):
            batch = self._with_tokens(ImitationBatch(chunks, images=self.batches.images(chunks)))
            loss, metrics = objective(batch)
            weight += count
            for name, value in {"loss": loss, **metrics}.items():
                totals[name] = totals.get(name, torch.zeros_like(value)) + count * value
        if not totals:
            return {}
        every = torch.stack([*totals.values(), torch.tensor(weight, device=self.policy.device)]).double()
        if self.split.processes > 1:
            torch.distributed.all_reduce(every)
        *sums, weight = every.tolist()
        return {name: value / weight for name, value in zip(totals, sums, strict=True)}

    def close(self) -> None:
        """Record which vision tokens are kept."""
        for cache in self._caches:
            cache.close()
        if self.objective.scene_cotraining is not None:
            self.objective.scene_cotraining.close()

    def _add_scenes(self, step: int, parts: Sequence[ImitationBatch]) -> None:
        """Their images are in memory: drawn here, they need not go to the processes that read others."""
        cotraining = self.objective.scene_cotraining
        if cotraining is None:
            return
        for number, part in enumerate(parts, self.split.rank * len(parts)):
            part.scene_batch = cotraining.draw(step, number, self.split.processes * len(parts))

    def _with_tokens(self, batch: ImitationBatch) -> ImitationBatch:
        if self._caches:
            batch.vision_tokens = kept_tokens(self._caches, batch.chunks.frames.numpy())
        return batch

    def _encode(self, frames: Tensor) -> Tensor:
        images = torch.from_numpy(self.demos.frames.get(frames.numpy()))
        began = time.monotonic()
        pixels = normalise(images.to(self.policy.device), self.policy.config.image)
        tokens = self.policy.encode_vision(pixels).cpu()
        self.encoding += time.monotonic() - began
        return tokens


def chunk_loss(policy: BasePolicy, vision_tokens: Tensor, batch: ChunkBatch) -> tuple[Tensor, dict[str, Tensor]]:
    """Imitation loss over all windows of some sequences; each step's feature is computed once and shared by its
    windows.

    Args:
        vision_tokens: (M, V, n, dv), one for each valid observation step.
        batch: the sequences; windows that reach into their padding are left out, unless a sequence is shorter than a
            window.
    """
    device = vision_tokens.device
    tokens, token_mask = policy.tokenize(batch.instructions)  # (B, L)
    valid, state = batch.valid.to(device), batch.state.to(device)
    features = policy.sequence_features(vision_tokens, valid, tokens, token_mask, state)  # (B, T, f)
    indices = window_indices(valid.shape[1], policy.head.window_size)  # (n, W)
    kept = supervised_windows(batch.valid, policy.head.window_size)  # (B, n)
    windows = features[:, indices][kept.to(device)]  # (windows, W, f)
    actions, mask = (x[:, indices][kept].to(device) for x in (batch.actions, batch.mask))
    return policy.imitation_loss(windows, actions, mask)
