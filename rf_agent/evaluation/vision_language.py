"""Captions and answers of a policy's language model, and their scores (paper, Tables 5 and 6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rf_agent.acting.generate import generate
from rf_agent.demos.vision_language import CaptionSet, ImageReader, Prompts, QuestionSet
from rf_agent.errors import UserError
from rf_agent.evaluation.caption_metrics import caption_scores
from rf_agent.evaluation.vqa_accuracy import answer_accuracy
from rf_agent.policy import RoboFlamingoPolicy
from rf_agent.progress import Reporter, Silent
from rf_agent.tokenizer import END_OF_CHUNK, IMAGE


@dataclass(frozen=True, kw_only=True)
class Said:
    """What a model said, by the number of the image or the question in its set; some images cannot be decoded."""

    texts: dict[int, str]
    skipped: int


def chosen(samples: CaptionSet | QuestionSet, count: int | None, seed: int) -> list[int]:
    """Which images or questions are evaluated: `count` random ones, in order; all of them without `count`."""
    order = np.random.default_rng(seed).permutation(len(samples))
    return sorted(order[:count].tolist())


def say(
    policy: RoboFlamingoPolicy,
    samples: CaptionSet | QuestionSet,
    indices: Sequence[int],
    prompts: Prompts,
    *,
    shots: int = 0,
    seed: int = 0,
    batch_size: int = 32,
    max_new_tokens: int = 32,
    reporter: Reporter | None = None,
) -> Said:
    """Captions of images, or answers to questions, by greedy decoding.

    Args:
        policy: the model.
        samples: captions or questions.
        indices: which of them.
        prompts: how they are put.
        shots: solved examples that stand before each, each with its image, drawn from the samples not in `indices`
            that are of other images.
        seed: of the examples.
        batch_size: images, or questions, at once.
        max_new_tokens: longest text.
        reporter: where progress goes.

    Raises:
        UserError: there are too few samples for the examples, or no image can be decoded.
    """
    reporter = reporter or Silent()
    pool = np.setdiff1d(np.arange(len(samples)), indices)
    if shots > len(pool):
        raise UserError(
            f"{shots} examples were asked for, but only {len(pool)} of {len(samples)} are left beside those that are "
            "evaluated: evaluate fewer"
        )
    reader = ImageReader(samples.paths, policy.config.image)
    texts: dict[int, str] = {}
    skipped = 0
    for first in range(0, len(indices), batch_size):
        rows, images, asked = [], [], []
        for index in indices[first : first + batch_size]:
            image = reader.read(index)
            if image is None:
                skipped += 1
                continue
            rng = np.random.default_rng([seed, index])
            examples, prompt = _examples(samples, pool, samples.paths[index], reader, prompts, shots, rng)
            rows.append(index)
            images.append(np.stack([*examples, image]))
            asked.append(f"{prompt}{IMAGE}{samples.prompt(index, prompts)}")
        if rows:
            texts |= zip(rows, generate(policy, np.stack(images), asked, max_new_tokens), strict=True)
        done = min(first + batch_size, len(indices))
        reporter.update(done / len(indices), f"{done}/{len(indices)}")
    if not texts:
        raise UserError(f"none of the {len(indices)} images that were chosen can be decoded: copy them again")
    return Said(texts=texts, skipped=skipped)


def _examples(
    samples: CaptionSet | QuestionSet,
    pool: NDArray[np.int64],
    evaluated: Path,
    reader: ImageReader,
    prompts: Prompts,
    shots: int,
    rng: np.random.Generator,
) -> tuple[list[NDArray[np.uint8]], str]:
    """Images of solved examples, and their text; none is of the image that is evaluated."""
    images: list[NDArray[np.uint8]] = []
    text = ""
    for index in rng.permutation(pool) if shots else ():
        if len(images) == shots:
            break
        if samples.paths[int(index)] == evaluated:
            continue
        if (image := reader.read(int(index))) is not None:
            images.append(image)
            text += f"{IMAGE}{''.join(samples.pair(int(index), rng, prompts))}{END_OF_CHUNK}"
    if len(images) < shots:
        raise UserError(f"too few other images can be decoded for {shots} examples: copy them again, or evaluate fewer")
    return images, text


def score_captions(samples: CaptionSet, said: Said) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Scores of captions, see `caption_scores`, and the captions in the format of COCO's results."""
    scores = caption_scores(list(said.texts.values()), [samples.captions[index] for index in said.texts])
    return scores, [{"image_id": samples.ids[index], "caption": text} for index, text in said.texts.items()]


def score_answers(samples: QuestionSet, said: Said) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Accuracy of answers in [0, 1], of all and by kind of answer, and the answers in the format of VQAv2's results."""
    right: dict[str, list[float]] = {}
    for index, text in said.texts.items():
        question = samples.questions[index]
        accuracy = answer_accuracy(text, question.answers)
        for kind in ("accuracy", f"accuracy, {question.kind}" if question.kind else ""):
            right.setdefault(kind, []).append(accuracy)
    scores = {kind: float(np.mean(values)) for kind, values in sorted(right.items()) if kind}
    results = [{"question_id": samples.questions[index].id, "answer": text} for index, text in said.texts.items()]
    return scores, results
