"""Imitation: a policy learns what the expert did, from sequences of steps of which every frame is encoded once."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from rf_agent import checkpoint
from rf_agent.config import RoboFlamingoConfig
from rf_agent.demos.augment import jitter_colors
from rf_agent.demos.windows import ChunkBatch, ChunkSampler, DemoSet, whole_sequences, window_indices
from rf_agent.errors import UserError
from rf_agent.model import WindowOutput
from rf_agent.nn.fusion import with_other_resamplers
from rf_agent.policy import RoboFlamingoPolicy
from rf_agent.preprocess import normalise
from rf_agent.presets import preset
from rf_agent.progress import Reporter, Silent
from rf_agent.training.loop import Loop
from rf_agent.training.optim import parameter_groups
from rf_agent.training.robot import check_files, described, fitted
from rf_agent.training.settings import LoopConfig, choose_device, command, prepare_output
from rf_agent.training.vision_cache import FOLDER, VisionCache, cache_key, has_room, kept_tokens

BETWEEN = ("perceiver.", "other_perceivers.", "gated_cross_attn_layers.")
"""Tensors of a vision-language model that belong neither to its vision tower nor to its language model."""


@dataclass(kw_only=True)
class TrainConfig(LoopConfig):
    """Train a policy by imitation of demonstrations."""

    demos: tuple[Path, ...]
    """Demonstration files (HDF5)."""
    preset: str = "roboflamingo-tiny"
    """Name of the policy's configuration."""
    override: tuple[str, ...] = ()
    """Changes to that configuration, as KEY=VALUE: head.type=gpt head.hidden=768 fusion=pre."""
    init: str | None = None
    """Checkpoint directory whose vision-language model (and head, if it has the same shape) is the start."""
    init_head: bool = True
    """Take the head from `init`, too; --no-init-head draws it anew, and may learn the actions of another robot."""
    action_normalization: str = "auto"
    """How actions become numbers in [-1, 1]: none, min_max or quantiles (1 % and 99 %) of the demonstrations; auto is
    none where the environment bounds its actions to [-1, 1], else min_max. A trained head keeps its own."""
    batch_size: int = 16
    """Sequences in a step."""
    sequence_length: int = 16
    """Observation steps of a sequence: each is encoded once, and all windows of the sequence are supervised."""
    vl_pretrained: bool = True
    """Take resampler and cross-attention from `init` too; --no-vl-pretrained draws them anew, so that vision tower and
    language model are pre-trained, but not together (the paper's "no VL pre-training", Fig. 3b)."""
    trainable: str = "default"
    """What learns: default (resampler, cross-attention, embeddings, head), freeze-emb (not the embeddings), head (no
    fine-tuning of the vision-language model), last-N (the last N cross-attention layers, embeddings, head), lora
    (default and adapters in the language model) or full. Without `init`, default is full: nothing is worth keeping."""
    lora_rank: int = 8
    """Rank of the adapters of --trainable lora."""
    train_vision: bool = False
    """The vision tower learns too (the paper freezes it)."""
    train_language: bool = False
    """The language model's own layers learn too (the paper freezes them)."""
    vlm_lr_scale: float = 0.3
    """Learning rate of the vision-language model as a factor of the head's."""
    balance: float = 0.5
    """A task is drawn in proportion to its data to this power: 0 all tasks equally often, 1 all observation steps."""
    mix_instructions: bool = True
    """Give a demonstration any instruction of its task instead of always the one it was recorded with, where the file
    says that a task's instructions mean the same (those of `rf-agent collect` do)."""
    color_jitter: float = 0.05
    """Strength of the random changes of light and colour, where frames are encoded anew at each step."""
    cache_vision: bool = True
    """Encode every frame only once when the vision tower is frozen (without color jitter then). The result stays in a
    folder `.vision_tokens` beside the run, where the next run on the same data and tower finds it; delete it when no
    further run needs it."""


@dataclass
class TrainReport:
    """The result of a training run."""

    output: Path
    """Checkpoint directory of the policy."""
    scalars: dict[str, float]
    """The last validation."""


def train(config: TrainConfig, reporter: Reporter | None = None) -> TrainReport:
    """Train a policy; writes `config.output / "policy"`, the curves and the checkpoint that `resume` goes on
    from.

    Raises:
        ValueError, FileNotFoundError, FileExistsError: bad data or settings, before anything is written.
    """
    reporter = reporter or Silent()
    prepare_output(config)
    device = choose_device(config)
    shape = preset(config.preset)
    start = None if config.init is None else RoboFlamingoPolicy.from_pretrained(config.init, "cpu")
    if start is not None:
        shape = dataclasses.replace(start.config, head=shape.head, loss=shape.loss)
    shape = shape.changed(config.override)
    layouts = check_files(config.demos)
    trained = start is not None and start.config.trained and config.init_head
    fixed = trained or any(change.startswith("views=") for change in config.override)
    shape = fitted(shape, layouts, trained, config.action_normalization, fixed)
    demos = DemoSet(layouts, shape)
    policy = _build(config, shape, start, demos).to(device)
    reporter.log(described(shape))
    if demos.failures:
        reporter.log(f"{demos.failures} demonstrations that did not succeed are left out")
    reporter.log(policy.trainable_summary())
    vlm, head = policy.vlm.parameters(), policy.head.parameters()
    groups = [
        *parameter_groups(vlm, config.learning_rate * config.vlm_lr_scale, config.weight_decay),
        *parameter_groups(head, config.learning_rate, config.weight_decay),
    ]
    imitation = Imitation(config, policy, demos)
    _begin(config, shape)  # everything that can be refused has been
    try:
        imitation.prepare(reporter)
        scalars = Loop(config, policy, imitation.loss, imitation.evaluate, reporter, groups).run()
    finally:
        imitation.close()
    policy.config.tasks = tuple(sorted({episode.task for episode in demos.episodes}))
    policy.config.trained = True
    report = TrainReport(config.output / "policy", scalars)
    policy.save_pretrained(report.output, card=_card(config, demos, scalars))
    return report


def _begin(config: TrainConfig, shape: RoboFlamingoConfig) -> None:
    """Keep the configuration that the run began with, or check that a resumed one has the same."""
    path = config.output / checkpoint.CONFIG
    if not config.resume:
        path.parent.mkdir(parents=True, exist_ok=True)
        shape.save(path)
    elif path.exists() and (begun := RoboFlamingoConfig.load(path)) != shape:
        parts = begun.to_dict(), shape.to_dict()
        key = next(key for key in parts[0] if parts[0][key] != parts[1][key])
        raise UserError(
            f"{config.output} began with {key} {parts[0][key]}, but now it is {parts[1][key]}: resume with the same "
            "demonstrations and settings, or start another --output"
        )


def _build(
    config: TrainConfig, shape: RoboFlamingoConfig, start: RoboFlamingoPolicy | None, demos: DemoSet
) -> RoboFlamingoPolicy:
    """The policy before its first step, with what shall learn switched on."""
    if start is None:
        corpus = [episode.instruction for episode in demos.episodes]
        policy = RoboFlamingoPolicy.from_config(shape, corpus, config.seed)
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            policy = RoboFlamingoPolicy(shape, start.tokenizer)
        weights = with_other_resamplers(checkpoint.unique_tensors(start.vlm), policy.vlm.fusion.resamplers)
        if not config.vl_pretrained:
            drawn = checkpoint.unique_tensors(policy.vlm)
            weights |= {name: tensor for name, tensor in drawn.items() if name.startswith(BETWEEN)}
        checkpoint.load_strictly(policy.vlm, weights, str(config.init))
        if config.init_head and _shapes(start.head) == _shapes(policy.head):
            checkpoint.load_strictly(policy.head, checkpoint.unique_tensors(start.head), str(config.init))
    # Without a pre-trained start there is nothing to keep frozen.
    which = "full" if start is None and config.trainable == "default" else config.trainable
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        policy.set_trainable(which, config.train_vision, config.train_language, config.lora_rank)
    if start is None and which != "full":
        raise UserError(
            f"--trainable {which} keeps parts of the model as they are, but without --init these are random: give the "
            "checkpoint to start from, or --trainable full"
        )
    return policy


def _shapes(module: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in module.state_dict().items()}


class Imitation:
    """The objective on random sequences of the demonstrations, and its value on held-out ones."""

    def __init__(self, config: TrainConfig, policy: RoboFlamingoPolicy, demos: DemoSet):
        self.config, self.policy, self.demos = config, policy, demos
        window = max(policy.head.window_size, policy.head.frames)
        if config.sequence_length < window:
            raise ValueError(
                f"sequence_length is {config.sequence_length}, shorter than the head's window: give {window} or more"
            )
        training, self.validation = demos.split(config.validation_fraction)
        self.sampler = ChunkSampler(demos, training, config.sequence_length, config.balance, config.mix_instructions)
        self._vision_learns = any(p.requires_grad for p in policy.vlm.vision_encoder.parameters())
        self._caches: list[VisionCache] = []
        # With a cache there is no color jitter and tokens are rounded, whether or not the disk has room for it.
        self._encodes_once = config.cache_vision and not self._vision_learns

    def prepare(self, reporter: Reporter) -> None:
        """Open the cache of vision tokens, if the tower stays as it is and the disk has room for them."""
        if not self._encodes_once:
            return
        tower, folder = self.policy.vlm.vision_encoder, self.config.output.parent / FOLDER
        shape = (self.demos.frames.shape[1], tower.tokens, tower.dim)
        size = 2 * len(self.demos.frames) * int(np.prod(shape))
        if not has_room(folder, size):
            gigabytes = f"{size / 2**30:.1f} GiB"
            reporter.log(f"the disk has no room to keep {gigabytes} of vision tokens: frames are encoded at every use")
            return
        for first, last in self.demos.files:  # each by itself, so that another run may use some of these files
            key = cache_key(self.demos.frames[first:last], tower, self.policy.config)
            self._caches.append(VisionCache(folder / key, (first, last), shape, lambda rows: self._encode(rows, 0.0)))
        kept = float(np.mean([cache.share for cache in self._caches]))
        found = f", {kept:.0%} of them from earlier runs" if kept else ""
        reporter.log(f"vision tokens of {len(self.demos.frames)} frames are kept in {folder}{found}")

    def loss(self, rng: np.random.Generator, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of a random batch of sequences."""
        # Running statistics of a convolutional tower come from pre-training: a few episodes are no sample.
        self.policy.vlm.vision_encoder.eval()
        batch = self.sampler.draw(self.config.batch_size, rng)
        with torch.set_grad_enabled(self._vision_learns):
            vision = self._vision(batch.frames, self.config.color_jitter)
        return chunk_loss(self.policy, vision, batch)

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Loss and errors on every observation step of the held-out episodes; empty if there are none."""
        sequences = whole_sequences(self.demos, self.validation, self.config.sequence_length)
        totals: dict[str, float] = {}
        weight = 0.0
        for first in range(0, len(sequences), self.config.batch_size):
            part = sequences[first : first + self.config.batch_size]
            texts = [self.demos.episodes[index].instruction for index, _, _ in part]
            batch = self.demos.chunks(part, self.config.sequence_length, texts)
            loss, metrics = chunk_loss(self.policy, self._vision(batch.frames, 0.0), batch)
            steps = float(batch.valid.sum())
            weight += steps
            for name, value in {"loss": loss, **metrics}.items():
                totals[name] = totals.get(name, 0.0) + steps * float(value)
        return {name: value / weight for name, value in totals.items()}

    def close(self) -> None:
        """Record which vision tokens are kept."""
        for cache in self._caches:
            cache.save()

    def _vision(self, frames: Tensor, jitter: float) -> Tensor:
        """Vision tokens (M, V, n, dv) of frames (M,)."""
        if self._caches:
            return kept_tokens(self._caches, frames.numpy()).to(self.policy.device).float()
        if self._encodes_once:
            return self._encode(frames, 0.0).half().float()
        return self._encode(frames, jitter)

    def _encode(self, frames: Tensor, jitter: float) -> Tensor:
        images = torch.from_numpy(self.demos.frames[frames.numpy()]).to(self.policy.device)
        return self.policy.encode_vision(jitter_colors(normalise(images, self.policy.config.image), jitter))


def chunk_loss(
    policy: RoboFlamingoPolicy, vision_tokens: Tensor, batch: ChunkBatch
) -> tuple[Tensor, dict[str, Tensor]]:
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
    kept = batch.valid[:, indices].all(dim=-1)  # (B, n)
    kept[:, 0] = True
    out = WindowOutput(*policy.head.window(features[:, indices][kept.to(device)]))  # (windows, W, K, ...)
    actions, mask = (x[:, indices][kept].to(device) for x in (batch.actions, batch.mask))
    return policy.imitation_loss(out, actions, mask)


def _card(config: TrainConfig, demos: DemoSet, scalars: dict[str, float]) -> str:
    tasks = sorted({episode.task for episode in demos.episodes})
    results = "\n".join(f"- {name}: {value:.4g}" for name, value in scalars.items()) or "- none held out"
    return (
        f"# {config.preset}\n\nA RoboFlamingo policy (arXiv:2311.01378) trained by imitation of "
        f"{len(demos.episodes)} demonstrations of {len(tasks)} tasks: {', '.join(tasks)}.\n\n"
        f"    {command('train', config)}\n\nOn held-out demonstrations:\n\n{results}\n\n"
        "Load it with `RoboFlamingoPolicy.from_pretrained(<this directory>)`.\n"
    )
