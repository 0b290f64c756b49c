"""Co-training with captions and questions (paper, Tables 5 and 6): a policy keeps what its language model could say.

One optimisation step of the reference is captions, questions and demonstrations, a batch of each, with the gradients of
`0.005 * captions + 0.5 * questions + demonstrations`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rf_agent.base_policy import BasePolicy
from rf_agent.demos.vision_language import PROMPTS, CaptionSet, ImageReader, Prompts, QuestionSet
from rf_agent.errors import UserError
from rf_agent.nn.losses import masked_mean, next_token_losses, token_accuracy
from rf_agent.policy import RoboFlamingoPolicy
from rf_agent.preprocess import normalise
from rf_agent.tokenizer import encode_pair, pad

Mean = Literal["targets", "positions"]
"""Over what a loss is averaged: over the tokens that are to be said, or over all positions, padding included."""


@dataclass(kw_only=True)
class CoTrainingConfig:
    """Captions and questions that a policy is trained on beside demonstrations; nothing is by default."""

    vl_images: Path | None = None
    """Folder of the images that captions and questions are about, such as COCO's train2014."""
    vl_captions: Path | None = None
    """Captions in COCO's layout (captions_train2014.json)."""
    vl_questions: Path | None = None
    """Questions in VQAv2's layout (v2_OpenEnded_mscoco_train2014_questions.json)."""
    vl_annotations: Path | None = None
    """Answers in VQAv2's layout (v2_mscoco_train2014_annotations.json)."""
    vl_prompts: Literal["reference", "openflamingo", "pretrain"] = "reference"
    """How captions and questions are put: as in the reference's co-training, as in OpenFlamingo's evaluation, or as in
    `rf-agent pretrain`."""
    vl_batch_size: int = 20
    """Captions, and questions, of a step."""
    vl_caption_weight: float = 0.005
    """Weight of captions relative to demonstrations."""
    vl_question_weight: float = 0.5
    """Weight of questions relative to demonstrations."""
    vl_question_mean: Mean = "targets"
    """Over what the loss of questions is averaged: the tokens of the answers (targets), or all positions of the batch
    (positions), as the reference does, which makes it several times smaller."""


class VLBatch(NamedTuple):
    """Images, and a text about each of them that is to be ended."""

    images: Tensor
    """(N, S, S, 3) uint8."""
    tokens: Tensor
    """(N, L) ids, right-padded."""
    mask: Tensor
    """(N, L) true for real tokens."""
    target: Tensor
    """(N, L) true for tokens that are to be said, the end of the text among them."""


VLParts = Mapping[str, tuple[VLBatch, float]]
"""Some rows of a step's `captions` and `questions`, each with its share of the step's."""


class VisionLanguageData:
    """Batches of captions or questions, drawn at random.

    Every image (captions) or question is equally likely, with one of its captions or answers. A draw depends on the
    generator's state alone. Images that cannot be decoded are skipped, see `reader.broken`.

    Args:
        samples: captions or questions.
        policy: whose tokenizer, resolution and longest prompt the batches are made for.
        prompts: how the texts are put.
    """

    def __init__(
        self, samples: CaptionSet | QuestionSet, policy: BasePolicy, prompts: Prompts = PROMPTS["reference"]
    ) -> None:
        self.samples, self.prompts = samples, prompts
        self.reader = ImageReader(samples.paths, policy.config.image)
        self._tokenizer, self._max_tokens = policy.tokenizer, policy.prompt_tokens

    def draw(self, count: int, rng: np.random.Generator) -> VLBatch:
        """A batch of `count` different images or questions, as far as there are so many.

        Raises:
            DemoError: no image can be decoded.
        """
        images, encoded = [], []
        for index in self._indices(count, rng):
            image = self.reader.read(index)
            while image is None:
                index = int(rng.integers(len(self.samples)))
                image = self.reader.read(index)
            given, wanted = self.samples.training_pair(index, rng, self.prompts)
            images.append(image)
            encoded.append(encode_pair(self._tokenizer, given, wanted, self._max_tokens))
        tokens, mask = pad([ids for ids, _ in encoded], self._tokenizer.pad_token_id)
        given_tokens = torch.tensor([length for _, length in encoded])
        target = mask & (torch.arange(tokens.shape[1]) >= given_tokens[:, None])
        return VLBatch(torch.from_numpy(np.stack(images)), tokens, mask, target)

    def _indices(self, count: int, rng: np.random.Generator) -> list[int]:
        size = len(self.samples)
        return rng.choice(size, count, replace=count > size, shuffle=False).tolist()


def vl_loss(policy: RoboFlamingoPolicy, batch: VLBatch, mean: Mean = "targets") -> tuple[Tensor, dict[str, Tensor]]:
    """Cross-entropy of the next tokens of a batch.

    Each image stands in the place of the policy's first view, and no other view is there.

    Returns:
        The loss, and detached scalars: `loss`, per token to be said, and `accuracy`, the share of texts of which every
        token was the most likely one.
    """
    device = policy.device
    tokens, target = batch.tokens.to(device), batch.target.to(device)
    pixels = normalise(batch.images.to(device), policy.config.image)[:, None]  # (N, 1, 3, S, S)
    logits = policy.vlm.logits(policy.vlm.image_media(pixels), tokens, images=1)  # (N, L, vocabulary)
    losses, counted = next_token_losses(logits, tokens), target[:, 1:]
    loss = masked_mean(losses, counted)
    metrics = {"loss": loss.detach(), "accuracy": token_accuracy(logits.detach(), tokens, target).float().mean()}
    if mean == "positions":
        loss = (losses * counted).mean()
    return loss, metrics


class CoTraining:
    """The part of a step's loss that comes from captions and questions.

    Args:
        config: the data and their weights.
        policy: whose tokenizer and resolution the data are made for. It is not kept: the data go to other processes.

    Raises:
        UserError, FileNotFoundError: files are missing, or are not what they should be.
    """

    def __init__(self, config: CoTrainingConfig, policy: BasePolicy) -> None:
        self.config = config
        if config.vl_captions or config.vl_questions:
            fine_tuned(policy, "captions and questions")
        self.data = {
            name: VisionLanguageData(samples, policy, PROMPTS[config.vl_prompts])
            for name, samples in _samples(config).items()
        }

    def draw(self, rng: np.random.Generator) -> dict[str, VLBatch]:
        """A batch of `captions` and one of `questions`, of those that there are."""
        return {name: data.draw(self.config.vl_batch_size, rng) for name, data in self.data.items()}

    def divide(self, batches: Mapping[str, VLBatch], slices: Callable[[int], Sequence[slice]]) -> Sequence[VLParts]:
        """Divide the batches of a step, each by its own size.

        Args:
            batches: of the whole step.
            slices: of that many texts, one for each part of the step; none is empty, as processes that sum up their
                metrics must have the same ones.
        """
        parts: list[dict[str, tuple[VLBatch, float]]] = []
        for name, batch in batches.items():
            own = slices(len(batch.images))
            parts = parts or [{} for _ in own]
            for part, rows in zip(parts, own, strict=True):
                part[name] = VLBatch(*(tensor[rows] for tensor in batch)), self._share(name, batch, rows)
        return parts

    def _share(self, name: str, batch: VLBatch, rows: slice) -> float:
        """Share of what a batch's loss is averaged over that lies in some of its rows."""
        if name == "questions" and self.config.vl_question_mean == "positions":
            return (rows.stop - rows.start) / len(batch.images)
        return float(batch.target[rows, 1:].sum()) / max(1.0, float(batch.target[:, 1:].sum()))

    def loss(self, policy: BasePolicy, parts: VLParts) -> tuple[Tensor, dict[str, Tensor]]:
        """Weighted loss, to be added to that of demonstrations; and metrics such as `questions_accuracy`.

        The losses of all parts of a step sum to that of the step; see `divide`.
        """
        total = torch.zeros((), device=policy.device)
        if not isinstance(policy, RoboFlamingoPolicy):
            return total, {}
        metrics: dict[str, Tensor] = {}
        weights = {"captions": self.config.vl_caption_weight, "questions": self.config.vl_question_weight}
        for name, (batch, share) in parts.items():
            mean = self.config.vl_question_mean if name == "questions" else "targets"
            loss, scalars = vl_loss(policy, batch, mean)
            total = total + weights[name] * share * loss
            metrics |= {f"{name}_{key}": value for key, value in scalars.items()}
        return total, metrics

    def missing(self) -> dict[str, int]:
        """How many `captions` (images of them) and `questions` are left out because image files are missing."""
        return {name: data.samples.missing for name, data in self.data.items() if data.samples.missing}

    def skipped(self) -> int:
        """Images that could not be decoded so far, by this process."""
        return sum(len(data.reader.broken) for data in self.data.values())


def fine_tuned(policy: BasePolicy, what: str) -> RoboFlamingoPolicy:
    """The policy, where there is something that `what` can teach it. Raises UserError where there is not."""
    if not isinstance(policy, RoboFlamingoPolicy):
        raise UserError(f"{what} are for RoboFlamingo: a policy of type {policy.config.type!r} cannot read them")
    if not any(parameter.requires_grad for parameter in policy.vlm.parameters()):
        raise UserError(
            f"{what} are for fine-tuning, but nothing of the vision-language model learns: leave them out, or give "
            "another --trainable"
        )
    return policy


def _samples(config: CoTrainingConfig) -> dict[str, CaptionSet | QuestionSet]:
    """The data that a configuration names. Raises UserError when something belonging to it is not named."""
    captions, questions, annotations, images = (
        config.vl_captions,
        config.vl_questions,
        config.vl_annotations,
        config.vl_images,
    )
    if (questions is None) != (annotations is None):
        raise UserError("questions and their answers belong together: give both --vl-questions and --vl-annotations")
    if images is None:
        if captions is not None or questions is not None:
            raise UserError("captions and questions are about images: give their folder with --vl-images")
        return {}
    found: dict[str, CaptionSet | QuestionSet] = {}
    if captions is not None:
        found["captions"] = CaptionSet(captions, images)
    if questions is not None and annotations is not None:
        found["questions"] = QuestionSet(questions, annotations, images)
    if not found:
        raise UserError("--vl-images alone says nothing: give --vl-captions, or --vl-questions and --vl-annotations")
    if config.vl_batch_size < 1:
        raise UserError(f"--vl-batch-size is {config.vl_batch_size}: give 1 or more")
    for name in ("vl_caption_weight", "vl_question_weight"):
        if not 0 <= getattr(config, name) < math.inf:
            raise UserError(f"--{name.replace('_', '-')} is {getattr(config, name)}: give a number from 0 on")
    return found
