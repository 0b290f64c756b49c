"""Does the policy understand its instructions: its language model, its tokenizer, and the words it is asked in."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from rf_agent.diagnosis.actions import beginnings, predict, relative_error, shortened
from rf_agent.diagnosis.episodes import Episode
from rf_agent.policy import RoboFlamingoPolicy
from rf_agent.preprocess import pixels

MOST_TEXTS = 64


@dataclass
class LanguageReport:
    """What was found."""

    texts: int = 0
    """Different instructions of the data that were read."""
    loss: float | None = None
    """Mean loss of the language model on the next token of these instructions, without any image, in nats."""
    uniform: float = 0.0
    """That of a model which knows nothing: the logarithm of the number of tokens."""
    pieces: float = 0.0
    """Tokens a word."""
    unknown_tokens: int = 0
    """Tokens that stand for what the tokenizer does not know."""
    error: float | None = None
    """Relative error of the policy with the recorded instructions, on some steps."""
    exchanged_error: float | None = None
    """With instructions of other episodes."""
    environment_error: float | None = None
    """With the environment's wording of the same tasks."""
    new_words: dict[str, list[str]] = field(default_factory=dict)
    """Words of the environment's instructions that are in no instruction of the data, by instruction."""
    left_out: list[str] = field(default_factory=list)

    @property
    def relative_loss(self) -> float | None:
        """Loss over that of a model which knows nothing; well below 1 for one that has learned a language."""
        return None if self.loss is None or not self.uniform else self.loss / self.uniform


def words(text: str) -> set[str]:
    """The words of a text in lower case."""
    return set(re.findall(r"\w+", text.lower()))


def new_words(asked: Iterable[str], known: Iterable[str]) -> dict[str, list[str]]:
    """Words of each asked instruction that no known one has; only instructions with such words are named."""
    vocabulary = set().union(*map(words, known))
    found = {text: sorted(words(text) - vocabulary) for text in dict.fromkeys(asked) if text}
    return {text: new for text, new in found.items() if new}


def check_language(
    policy: RoboFlamingoPolicy,
    episodes: Sequence[Episode],
    instructions: Sequence[str],
    asked: Sequence[str],
    predicted: Sequence[NDArray[np.float32]],
    frames: int = 12,
    count: int = 4,
) -> LanguageReport:
    """Ask the policy's language model, and the policy with other instructions.

    Args:
        policy: see `rf_agent.diagnosis.actions.why_not`.
        episodes: what was recorded.
        instructions: all of the data.
        asked: what the environment asks for in the same episodes; empty if that is not known.
        predicted: what the policy does in the episodes; empty if it cannot be asked.
        frames: of an episode, as in `try_hypotheses`.
        count: episodes at most.
    """
    known = sorted(set(instructions))
    texts = known[:: max(1, len(known) // MOST_TEXTS)][:MOST_TEXTS]
    report = LanguageReport(texts=len(texts), uniform=math.log(len(policy.tokenizer)))
    report.new_words = new_words(asked, known)
    tokens, mask = policy.tokenize(texts)
    report.pieces = (int(mask.sum()) - 3 * len(texts)) / max(1, sum(len(text.split()) for text in texts))
    unknown = policy.tokenizer.unk_token_id
    report.unknown_tokens = 0 if unknown is None else int(((tokens == unknown) & mask).sum())
    report.loss = text_loss(policy, texts, episodes[0])
    if not predicted:
        return report
    chosen = shortened(episodes[:count], frames * max(1, policy.config.head.replan_every // episodes[0].stride))
    config = policy.config.action
    report.error = relative_error(beginnings(predicted, chosen), chosen, config)
    exchanged = [_other(episode, episodes) for episode in chosen]
    if all(exchanged):
        report.exchanged_error = relative_error(predict(policy, chosen, None, exchanged), chosen, config)
    else:
        report.left_out.append("the data hold one task alone, so that instructions cannot be exchanged")
    worded = list(asked[: len(chosen)])
    if len(worded) == len(chosen) and all(worded):
        report.environment_error = relative_error(predict(policy, chosen, None, worded), chosen, config)
    return report


def _other(episode: Episode, episodes: Sequence[Episode]) -> str:
    """An instruction of another task; empty if there is none."""
    others = (other for other in episodes if other.task != episode.task)
    return next((other.instruction for other in others if other.instruction != episode.instruction), "")


@torch.inference_mode()
def text_loss(policy: RoboFlamingoPolicy, texts: Sequence[str], episode: Episode) -> float:
    """Mean loss of the language model on the next token of texts without any image.

    Only the language model takes part: no cross-attention reaches text that no `<image>` stands before.

    Args:
        policy: whose language model.
        texts: instructions.
        episode: some episode; what its images show does not matter.
    """
    config = policy.config
    images = {view: episode.images[view][:1] for view in config.views}
    media = policy.vlm.media(policy.encode_vision(pixels(images, config.views, config.image, policy.device)))
    tokens, mask = policy.tokenize(texts)
    image = policy.vlm.image_token
    total, count = 0.0, 0
    for row, real in zip(tokens, mask, strict=True):
        own = row[real]
        own = own[own != image][None]  # (1, L)
        if own.shape[1] < 3:
            continue
        logits = policy.vlm.logits(media, own).float()  # (1, L, vocabulary)
        losses = F.cross_entropy(logits[0, :-2], own[0, 1:-1], reduction="none")  # the end of the text is not language
        total, count = total + float(losses.sum()), count + len(losses)
    return total / count if count else math.nan
