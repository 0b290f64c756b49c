"""What a small VLM learns from images of the table: to caption, to answer, and to say where objects are.

Positions are regressed from the very feature that the policy head will read, `policy.features(image, text)`,
and also for texts that are instructions: what the instruction is about has to be found in the image.

Two more heads read the whole scene from the vision tower's tokens and from the resampler's, and in the first part of
the run nothing else is learned: the tower learns to see, as CLIP's did before Flamingo was made of it. Without that the
loss stays flat for long, because what is seen reaches the feature only through gates and attention that know nothing
yet. Their errors also show where positions get lost. All these heads are thrown away afterwards.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from rf_agent.demos.augment import jitter_colors
from rf_agent.demos.grounding import POSITION_UNIT, TARGET_SIZE, TARGETS, SceneImageSet, as_tensor
from rf_agent.nn.heads import MLP, max_pool
from rf_agent.nn.losses import next_token_loss, position_loss, token_accuracy
from rf_agent.policy import RoboFlamingoPolicy
from rf_agent.preprocess import normalise
from rf_agent.tokenizer import IMAGE, encode, pad, prompt
from rf_agent.training.settings import LoopConfig

MAX_TOKENS = 64
HAND_WEIGHT = 0.5
"""Weight of the gripper's pose relative to the poses of all objects, when the scene is read from tokens."""


HAND = slice(TARGETS["gripper"].start, TARGET_SIZE)
"""Columns of a position target that say where the gripper is; they are the same for all objects of an image."""


@dataclass(kw_only=True)
class PretrainConfig(LoopConfig):
    """Pre-train a small vision-language model on images of the table."""

    by_content = ("init",)

    images: tuple[Path, ...]
    """Files of scene images (HDF5)."""
    preset: str = "roboflamingo-tiny"
    """Name of the policy's configuration."""
    init: str | None = None
    """Checkpoint directory to go on from instead of random weights."""
    batch_size: int = 48
    """Images of a step."""
    validation_fraction: float = 0.05
    """Share of the images kept for validation, at least one image: where there are many, whole tables."""
    positions_per_image: int = 4
    """Positions asked for in each image of a step (most of the cost; one caption or question comes on top)."""
    language_weight: float = 0.1
    """Weight of captions and answers relative to positions."""
    scene_weight: float = 0.5
    """Weight of reading the whole scene from vision tokens and from media tokens, relative to positions."""
    instructions: bool = True
    """Ask where objects are by instructions and phrases, and put questions. --no-instructions asks by an object's name
    alone and learns captions (the paper's language models without instruction tuning, Table 2)."""
    vision_warmup: float = 0.3
    """Share of the run in which only tower and resampler learn, by reading the scene from their tokens."""
    color_jitter: float = 0.1
    """Strength of the random changes of light and colour."""
    evaluation_images: int = 256
    """Held-out images that are evaluated, at most."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.vision_warmup <= 1:
            raise ValueError(f"vision_warmup is {self.vision_warmup}: give a share, from 0 to 1")
        for name in ("color_jitter", "scene_weight"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}: give zero or more")


class SceneHead(nn.Module):
    """All tokens of an image to the positions and yaws of all objects, and to the gripper's pose and width.

    Args:
        tokens: number of tokens of an image (all views).
        dim: width of a token.
        objects: (names, 5) and hand: (HAND,), the average scene, which is the first guess.
    """

    objects: Tensor
    hand: Tensor

    def __init__(self, tokens: int, dim: int, objects: Tensor, hand: Tensor):
        super().__init__()
        # few numbers per token: every position in the image can say something, and the MLP stays small
        self.squeeze = nn.Linear(dim, 32)
        self.mlp = MLP(tokens * 32, (256,), objects.numel() + hand.numel())
        self.register_buffer("objects", objects)
        self.register_buffer("hand", hand)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """(N, ..., d) -> (N, names, 5), (N, HAND)."""
        read = self.mlp(F.gelu(self.squeeze(tokens.flatten(1, -2))).flatten(1))
        objects, hand = read.split([self.objects.numel(), self.hand.numel()], dim=1)
        return objects.unflatten(1, self.objects.shape) + self.objects, hand + self.hand


class PositionHead(nn.Module):
    """Feature (N, d) to a position target (N, TARGET_SIZE); `mean` makes the first guess the average position."""

    mean: Tensor

    def __init__(self, dim: int, mean: Tensor):
        super().__init__()
        self.mlp = MLP(dim, (256,), TARGET_SIZE)
        self.register_buffer("mean", mean)

    def forward(self, feature: Tensor) -> Tensor:
        """(N, d) -> (N, TARGET_SIZE)."""
        return self.mlp(feature) + self.mean


class PretrainObjective:
    """What is learned from images: the loss of a random batch, the evaluation on held-out ones."""

    def __init__(self, config: PretrainConfig, policy: RoboFlamingoPolicy, data: SceneImageSet):
        self.config, self.policy, self.data = config, policy, data
        if len(data) < 2:
            raise ValueError("one image is not enough to pre-train on: collect more")
        held_out = _held_out(data.blocks, config.validation_fraction)
        self.train = np.setdiff1d(np.arange(len(data)), held_out)
        self.validation = held_out[:: -(-len(held_out) // config.evaluation_images)]
        mean = mean_target(data)
        scene = torch.from_numpy(np.nan_to_num(_mean(data.scene)))
        policy.eval()
        with torch.no_grad():
            vision, media = self._see(self.train[:1], 0.0)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            heads = {
                "positions": PositionHead(policy.vlm.feature_dim, mean),
                "vision_scene": SceneHead(vision[..., 0].numel(), vision.shape[-1], scene, mean[HAND]),
                "media_scene": SceneHead(media[..., 0].numel(), media.shape[-1], scene, mean[HAND]),
            }
        self.model = nn.ModuleDict({"vlm": policy.vlm, **heads}).to(policy.device)
        self.grounding: dict[str, dict[str, float]] = {}
        self._tokens: dict[tuple[str, str], tuple[list[int], int]] = {}

    def loss(self, rng: np.random.Generator, progress: float) -> tuple[Tensor, dict[str, Any]]:
        """Loss of a random batch of images; what is learned depends on the share of the run that is over."""
        rows = rng.choice(self.train, self.config.batch_size, replace=len(self.train) < self.config.batch_size)
        vision, media = self._see(rows, self.config.color_jitter)
        scene, errors = self._scene(rows, vision, media)
        seen = {"scene_loss": scene.detach(), "vision_tokens_cm": errors[0], "media_tokens_cm": errors[1]}
        if progress < self.config.vision_warmup:
            return scene, seen
        names_alone = not self.config.instructions
        entries = self.data.draw_positions(rows, self.config.positions_per_image, rng, names_alone)
        predicted = self._places(media, entries)
        target, known = self._targets(entries)
        positions = position_loss(predicted, target, known)
        language = self._language(media, self._say(rows, rng, 1))[0]
        with torch.no_grad():
            error = _centimetres(predicted, target, "position").median()
        return positions + self.config.scene_weight * scene + self.config.language_weight * language, {
            **seen,
            "position_loss": positions.detach(),
            "language_loss": language.detach(),
            "position_cm": error,
        }

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Errors in cm and answer accuracy on the held-out images; fills `grounding`."""
        names = len(self.data.names)
        plain: list[list[float]] = [[] for _ in range(names)]
        asked: list[list[float]] = [[] for _ in range(names)]
        gripper, losses, right, scenes = [], [], [], []
        rng = np.random.default_rng(0)  # the same texts at every evaluation
        for start in range(0, len(self.validation), self.config.batch_size):
            rows = self.validation[start : start + self.config.batch_size]
            vision, media = self._see(rows, 0.0)
            scenes.append(self._scene(rows, vision, media)[1])
            for by_name, found in ((True, plain), (False, asked)):
                entries = self._ask(rows, by_name, rng)
                target, _ = self._targets(entries)
                predicted = self._places(media, entries)
                errors = _centimetres(predicted, target, "position").cpu().numpy()
                # Rows are padded by repetition to one length; an entry counts once.
                _, once = np.unique(entries.ravel(), return_index=True)
                for index in once:
                    found[self.data.positions.name[entries.ravel()[index]]].append(float(errors[index]))
                if by_name:
                    gripper += _centimetres(predicted, target, "gripper").tolist()
            said = self._say(rows, rng, 2)  # caption, answer, caption, answer, ...; some images have no questions
            image = [index for index, row in enumerate(rows) for _ in range(2 if self.data.questions[row] else 1)]
            loss, correct = self._language(media[image], said)
            losses.append(float(loss))
            right += correct[[bool(given) for given, _ in said]].tolist()
        self.grounding = {
            name: {"median": float(np.median(plain[i])), "mean": float(np.mean(plain[i]))}
            | ({"instruction": float(np.median(asked[i]))} if asked[i] else {})
            for i, name in enumerate(self.data.names)
            if plain[i]
        }
        medians = {f"{name.replace(' ', '_')}_cm": error["median"] for name, error in self.grounding.items()}
        instructed = [error["instruction"] for error in self.grounding.values() if "instruction" in error]
        return {
            **medians,
            "mean_cm": float(np.mean([error["mean"] for error in self.grounding.values()])),
            "instruction_cm": float(np.mean(instructed)) if instructed else float("nan"),
            "gripper_cm": float(np.median(gripper)),
            "vision_tokens_cm": float(np.mean([vision for vision, _ in scenes])),
            "media_tokens_cm": float(np.mean([media for _, media in scenes])),
            "answers": float(np.mean(right)) if right else float("nan"),
            "language_loss": float(np.mean(losses)),
        }

    def _see(self, rows: NDArray[np.int64], jitter: float) -> tuple[Tensor, Tensor]:
        """Vision tokens and media tokens of images, encoded once for all texts about them."""
        images = as_tensor(self.data.images, rows, self.policy.device)
        pixels = jitter_colors(normalise(images, self.policy.config.image), jitter)
        vision = self.policy.vlm.encode_vision(pixels)
        return vision, self.policy.vlm.media(vision)

    def _scene(self, rows: NDArray[np.int64], vision: Tensor, media: Tensor) -> tuple[Tensor, tuple[float, float]]:
        """Loss of reading the scene from vision and from media tokens, and the mean errors in cm."""
        target = torch.from_numpy(self.data.scene[rows]).to(media.device)  # (N, names, 5)
        known = ~target.isnan()
        hand = torch.from_numpy(self.data.hands[rows]).to(media.device)  # (N, HAND)
        loss, errors = media.new_zeros(()), []
        for name, tokens in (("vision_scene", vision), ("media_scene", media)):
            predicted, predicted_hand = self.model[name](tokens)
            loss = loss + position_loss(predicted, target.nan_to_num(), known)
            loss = loss + HAND_WEIGHT * position_loss(predicted_hand, hand, torch.ones_like(hand))
            off = (predicted.detach() - target)[..., :3].norm(dim=-1)[known[..., 0]]
            errors.append(100 * POSITION_UNIT * float(off.mean()))
        return loss, (errors[0], errors[1])

    def _places(self, media: Tensor, entries: NDArray[np.int64]) -> Tensor:
        """Predicted targets (N * R, TARGET_SIZE) of entries (N, R)."""
        texts = [self.data.texts[index] for index in self.data.positions.text[entries.ravel()]]
        return self.model["positions"](text_features(self.policy, media, texts))

    def _targets(self, entries: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        target = torch.from_numpy(self.data.positions.target[entries.ravel()]).to(self.policy.device)
        return target.nan_to_num(), ~target.isnan()

    def _ask(self, rows: NDArray[np.int64], by_name: bool, rng: np.random.Generator) -> NDArray[np.int64]:
        """Entries (N, R): each object of each image once, by its shortest text (its name) or another one."""
        positions, chosen = self.data.positions, []
        for row in rows:
            entries = self.data.entries(row)
            picked = []
            for name in np.unique(positions.name[entries]):
                same = entries[positions.name[entries] == name]
                is_name = self.data.is_name[same]
                if by_name:
                    picked.append(same[is_name][0])
                elif len(same) > 1:
                    others = same[~is_name]
                    picked.append(others[int(rng.integers(len(others)))])
            chosen.append(picked or [entries[0]])
        width = max(map(len, chosen))
        return np.stack([np.resize(picked, width) for picked in chosen])

    def _say(self, rows: NDArray[np.int64], rng: np.random.Generator, count: int) -> list[tuple[str, str]]:
        """For each image a caption and a question (count 2), or either (1), as (given, to be said).

        Without `instructions` either is always the caption.
        """
        said = []
        for row in rows:
            captions, questions = self.data.captions[row], self.data.questions[row]
            pair = [("", captions[int(rng.integers(len(captions)))])]
            if questions:  # images without any are for captions alone
                question, answer = questions[int(rng.integers(len(questions)))]
                pair.append((f"Question: {question} Short answer:", answer))
            said += pair if count == 2 else [pair[int(rng.integers(len(pair)) if self.config.instructions else 0)]]
        return said

    def _language(self, media: Tensor, said: Sequence[tuple[str, str]]) -> tuple[Tensor, Tensor]:
        """Loss of the next tokens of what is to be said, and (len(said),) where all of it was most likely."""
        encoded = [self._encode(given, wanted) for given, wanted in said]
        tokens, mask = pad([ids for ids, _ in encoded], self.policy.tokenizer.pad_token_id)
        given = torch.tensor([length for _, length in encoded])
        target = mask & (torch.arange(tokens.shape[1]) >= given[:, None])
        tokens, target = tokens.to(media.device), target.to(media.device)
        logits = self.policy.vlm.logits(media, tokens)
        return next_token_loss(logits, tokens, target), token_accuracy(logits.detach(), tokens, target)

    def _encode(self, given: str, wanted: str) -> tuple[list[int], int]:
        """Token ids, and how many of them are given."""
        key = (given, wanted)
        if key not in self._tokens:
            tokenizer = self.policy.tokenizer
            full = prompt(wanted, tokenizer.eos_token).removeprefix(IMAGE)
            (before,) = encode(tokenizer, [IMAGE + given], MAX_TOKENS)
            (after,) = encode(tokenizer, [full], MAX_TOKENS, begins=False)
            if len(self._tokens) > 100_000:
                self._tokens.clear()
            self._tokens[key] = ((before + after)[: 2 * MAX_TOKENS], len(before))
        return self._tokens[key]


def _held_out(blocks: NDArray[np.int64], fraction: float) -> NDArray[np.int64]:
    """Images for validation: whole blocks, whose tables then were never seen, or single images where blocks are few.

    Args:
        blocks: (N,) of each image.
        fraction: of them that is held out.
    """
    units = blocks if fraction * (blocks.max() + 1) >= 1 else np.arange(len(blocks))
    count = int(units.max()) + 1
    kept = max(1, min(count // 2, round(fraction * count)))
    # spread over all files, as each may be of another scene
    return np.flatnonzero(np.isin(units, np.linspace(0, count - 1, kept).round()))


def mean_target(data: SceneImageSet) -> Tensor:
    """The average position target (TARGET_SIZE,): a first guess."""
    return torch.from_numpy(np.nan_to_num(_mean(data.positions.target)))


def text_features(policy: RoboFlamingoPolicy, media: Tensor, texts: Sequence[str]) -> Tensor:
    """What the language model makes of texts about images, as a policy's head reads it.

    Args:
        media: (N, m, dv) tokens of images.
        texts: N * R of them, R consecutive ones for each image.

    Returns:
        (N * R, feature_dim).
    """
    tokens, mask = policy.tokenize(texts)
    return max_pool(policy.vlm.hidden(media, tokens), mask)


def _mean(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean over the first axis of what is there; NaN where nothing is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # "mean of empty slice": objects without a yaw
        return np.nanmean(values, axis=0).astype(np.float32)


def _centimetres(predicted: Tensor, target: Tensor, what: str) -> Tensor:
    """Distances (N,) between two sets of positions."""
    return 100 * POSITION_UNIT * (predicted.float() - target)[:, TARGETS[what]].norm(dim=1)
