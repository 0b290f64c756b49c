"""What stages cost on two CPU cores, roughly, so that one knows before one begins."""

from __future__ import annotations

from rf_agent.reproduce.recipe import Recipe
from rf_agent.reproduce.stages import Stage

TASKS = 34
SCENES = 4
DEMO = 0.4
"""Seconds to collect a demonstration."""
SUBTASKS = 4.7
"""Demonstrations that a training chain gives."""
IMAGE = 0.03
"""Seconds to render an image of both views."""
PRETRAIN_STEP = 0.35
TRAIN_SEQUENCE = 0.04
"""Seconds of a sequence of a step, with vision tokens kept."""
SLOWER = {"fc_hist": 3.0, "--train-vision": 2.3, "--vl-images": 2.5, "wide": 2.5, "rt1-tiny": 3.0}
"""How many times as long a step takes with these."""
CHAIN, EPISODE = 3.0, 1.0
"""Seconds to play a chain, or an episode of one task, with two workers."""
VL = {"captions": 60.0, "questions": 240.0}
"""Seconds to answer about the held-out images."""


def estimate(stage: Stage, recipe: Recipe) -> float:
    """Seconds that a stage takes."""
    if stage.kind == "collect":
        chains = SUBTASKS * recipe.chains_per_scene
        return DEMO * SCENES * (chains if "--chains" in stage.words else TASKS * recipe.episodes_per_task)
    if stage.kind == "collect-vl":
        return IMAGE * int(_value(stage, "--count"))
    slower = 1.0
    for word, factor in SLOWER.items():
        if any(word in given for given in (*stage.words, stage.folder)):
            slower *= factor
    if stage.kind == "pretrain":
        rendering = IMAGE * recipe.images if "--env" in stage.words else 0.0
        return rendering + slower * PRETRAIN_STEP * recipe.pretrain_steps
    if stage.kind == "train":
        return slower * TRAIN_SEQUENCE * recipe.batch_size * int(_value(stage, "--steps"))
    if stage.kind == "evaluate":
        if "--chains" in stage.words:
            return CHAIN * int(_value(stage, "--chains"))
        return EPISODE * TASKS * int(_value(stage, "--episodes-per-task"))
    return VL["captions" if "--captions" in stage.words else "questions"]


def _value(stage: Stage, option: str) -> str:
    return stage.words[stage.words.index(option) + 1]
