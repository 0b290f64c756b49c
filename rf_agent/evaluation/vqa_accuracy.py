"""VQAv2's accuracy of answers (arXiv:1505.00468, https://visualqa.org/evaluation.html)."""

from __future__ import annotations

import re
from collections.abc import Sequence

NUMBERS = {
    word: str(number)
    for number, word in enumerate(
        ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    )
} | {"none": "0"}
ARTICLES = {"a", "an", "the"}
CONTRACTIONS = {
    whole.replace("'", ""): whole
    for whole in (
        "ain't aren't can't could've couldn't didn't doesn't don't hadn't hasn't haven't he'd he's how'd how'll "
        "how's i'm i've isn't it'd it'll let's ma'am might've mightn't must've mustn't needn't not've o'clock "
        "oughtn't shan't she's should've shouldn't somebody'd somebody's someone's something's that'd that's "
        "there'd there's they'd they'll they're they've wasn't we've weren't what'll what're what's what've when's "
        "where'd where's where've who'd who'll who's who've why'd why'll why's won't would've wouldn't y'all you'd "
        "you'll you're you've"
    ).split()
}
"""Without and with the apostrophe."""
PUNCTUATION = re.compile(r"[;/\[\]\"{}()=+\\_\-<>@`?!,]")
"""Becomes a space; as in the published program `$`, `%` and `:` stay."""
SEPARATORS = re.compile(r"(?<=\d),(?=\d)")
STOPS = re.compile(r"\.(?!\d)")


def normalise_answer(text: str) -> str:
    """An answer as it is compared: lower case, numbers in digits, no articles, no punctuation but inside numbers.

    VQAv2's program normalises answers only where people disagree; here it is always done.

    >>> normalise_answer("The Two dogs, I dont know.")
    "2 dogs i don't know"
    """
    text = SEPARATORS.sub("", text.lower().replace("’", "'"))  # 1,000
    text = STOPS.sub("", PUNCTUATION.sub(" ", text))
    kept = [NUMBERS.get(word, word) for word in text.split() if word not in ARTICLES]
    return " ".join(CONTRACTIONS.get(word, word) for word in kept)


def answer_accuracy(given: str, answers: Sequence[str]) -> float:
    """Accuracy in [0, 1] of an answer: three people who say the same make it right.

    VQAv2 leaves out each person in turn, and averages min(1, equal answers of the others / 3). With fewer than four
    people all others must agree.

    Args:
        given: the answer.
        answers: of people, in VQAv2 ten.
    """
    said = normalise_answer(given)
    equal = [normalise_answer(answer) == said for answer in answers]
    needed = min(3, len(equal) - 1)
    if needed < 1:
        return float(all(equal))
    return sum(min(1.0, (sum(equal) - one) / needed) for one in equal) / len(equal)
