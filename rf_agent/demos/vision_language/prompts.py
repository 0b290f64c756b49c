"""How captions, questions and answers become text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Pair(NamedTuple):
    """A text about one image (without `<image>`), cut where the model's part begins."""

    given: str
    """What the model is told; it ends without a space."""
    wanted: str
    """What it is to say, with the space that it begins with, if any."""


@dataclass(frozen=True)
class Prompts:
    """A way to put them.

    Attributes:
        caption: holds `{caption}` at its end.
        question: holds `{question}`, and `{answer}` at its end.
    """

    caption: str
    question: str

    def about_image(self, caption: str = "") -> Pair:
        """The text of a caption."""
        return _cut(self.caption.removesuffix("{caption}"), caption)

    def about_question(self, question: str, answer: str = "") -> Pair:
        """The text of a question with its answer."""
        return _cut(self.question.removesuffix("{answer}").replace("{question}", question.strip()), answer)


PROMPTS: dict[str, Prompts] = {
    "reference": Prompts("A photo of {caption}", "Question:{question} Short answer:{answer}"),
    "openflamingo": Prompts("Output:{caption}", "Question:{question} Short answer:{answer}"),
    "pretrain": Prompts("{caption}", "Question: {question} Short answer: {answer}"),
}
"""By name: RoboFlamingo's co-training, OpenFlamingo's evaluation, and what `rf-agent pretrain` teaches small models."""


def _cut(before: str, wanted: str) -> Pair:
    """Spaces belong to the word after them, as language models' tokens have it."""
    given = before.rstrip()
    return Pair(given, before[len(given) :] + wanted.strip())
