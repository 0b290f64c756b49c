"""How well generated captions match those of people: BLEU, ROUGE-L and CIDEr, as COCO's evaluation has them.

The scorers are those of pycocoevalcap that need no Java. Its tokenizer does, so texts are split here, by the same
rules: lower case, "don't" as "do n't", without punctuation. METEOR and SPICE are Java programs and left out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from rf_agent.errors import UserError, require

WORD = re.compile(r"[a-z]+(?=n't\b)|n't\b|'(?:s|m|d|ll|re|ve)\b|\w+(?:[-.,/:]\w+)*")


def words(text: str) -> str:
    """A text as the metrics read it: its words in lower case, with a space between them."""
    return " ".join(WORD.findall(text.lower().replace("’", "'")))


def caption_scores(generated: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """`BLEU-1` to `BLEU-4` and `ROUGE-L` in [0, 1], and `CIDEr`, which is 10 where every caption is its only reference.

    CIDEr weighs words by how few of the images they are said of: it needs several images, and differs between sets.

    Args:
        generated: one caption for each image.
        references: those of people, one or more for each image.

    Raises:
        UserError: pycocoevalcap is not installed, or the numbers of captions differ.
    """
    if len(generated) != len(references) or not generated:
        raise UserError(f"{len(generated)} captions were generated for {len(references)} images: give one for each")
    check_installed()
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    said = {index: [words(text)] for index, text in enumerate(generated)}
    right = {index: [words(text) for text in texts] for index, texts in enumerate(references)}
    bleu, _ = Bleu(4).compute_score(right, said, verbose=0)
    rouge, _ = Rouge().compute_score(right, said)
    cider, _ = Cider().compute_score(right, said)
    scores = {f"BLEU-{n}": float(score) for n, score in enumerate(bleu, start=1)}
    return scores | {"ROUGE-L": float(rouge), "CIDEr": float(cider)}


def check_installed() -> None:
    """Raise UserError with the command that installs pycocoevalcap where it is missing."""
    require("pycocoevalcap.bleu.bleu", "scoring captions", "'roboflamingo-agent[vl]'")
