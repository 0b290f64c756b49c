"""The enriched instructions: more than fifty paraphrases of each task, with words and turns that nobody was taught.

They stand in `data/enriched_instructions.txt`, as templates under the tasks that they are for.
"""

from __future__ import annotations

import itertools
from importlib import resources

from rf_envs.benchmark.tasks import COLORS, TASKS
from rf_envs.language.instructions.words import CLOCK, OPPOSITE, SHADE


def _templates() -> dict[str, list[str]]:
    """Heading, such as "move_slider_{side}", to the sentences below it."""
    text = (resources.files("rf_envs") / "data" / "enriched_instructions.txt").read_text(encoding="utf-8")
    families: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.startswith("["):
            family = families.setdefault(line.strip("[]"), [])
        elif line and not line.startswith("#"):
            family.append(line)
    return families


def _enriched() -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for heading, sentences in _templates().items():
        for color, side in itertools.product(COLORS, OPPOSITE):
            words = {
                "color": color,
                "shade": SHADE[color],
                "side": side,
                "opposite": OPPOSITE[side],
                "clock": CLOCK[side],
            }
            found[heading.format(**words)] = tuple(sentence.format(**words) for sentence in sentences)
    return {task: found[task] for task in TASKS}


ENRICHED: dict[str, tuple[str, ...]] = _enriched()
"""Task to its enriched instructions; none is a training or evaluation instruction, or one of CALVIN's."""
