"""How much a reproduction spends: data, steps and episodes, the same for all rows of a table."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rf_agent.errors import UserError
from rf_agent.files import write_json
from rf_agent.training.settings import check_precision

FILE = "recipe.json"
KEPT = 5
"""Policies that a run keeps on its way: one at each fifth, the paper's epochs."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The budget of a reproduction. All results in a folder have the same."""

    episodes_per_task: int = 6
    """Demonstrations of each task, from resets, in each of the four scenes."""
    chains_per_scene: int = 40
    """Training chains that are demonstrated in each scene."""
    images: int = 16_000
    """Images of random tables that vision-language models are pre-trained on."""
    pretrain_steps: int = 3000
    """Steps of its pre-training, of 32 images each."""
    steps: int = 3000
    """Steps of an imitation run."""
    batch_size: int = 8
    """Sequences of 16 observation steps in one of them. At equal cost small ones learn more: 2000 steps of 8 twice as
    much as 1000 steps of 16 (average length 0.63 against 0.30 over 60 chains)."""
    evaluation_chains: int = 100
    """Chains of the benchmark that a policy plays, from the first."""
    curve_chains: int = 25
    """The same for policies that a run kept on its way (Table 2, Figures 5, 6, 8 and 9)."""
    episodes_of_task: int = 3
    """Episodes of each task in Table 9."""
    vl_images: int = 2000
    """Images with captions and questions that are co-trained on."""
    mixed_precision: str = "auto"
    """Number format of pre-training and training, see `rf-agent train`."""

    @property
    def options(self) -> tuple[str, ...]:
        """What a command is given for this budget, where it is not the usual one: --steps 600, ..."""
        changed = (field for field in dataclasses.fields(Recipe) if getattr(self, field.name) != field.default)
        return tuple(
            word for field in changed for word in (f"--{field.name.replace('_', '-')}", str(getattr(self, field.name)))
        )

    def __post_init__(self) -> None:
        for field in dataclasses.fields(Recipe):  # not those of a subclass
            value = getattr(self, field.name)
            if isinstance(value, int) and value < 1:
                raise UserError(f"--{field.name.replace('_', '-')} is {value}: give 1 or more")
        if self.steps < KEPT:
            raise UserError(f"--steps is {self.steps}: give {KEPT} or more, as policies are kept at each fifth")
        check_precision(self.mixed_precision)


def claim(folder: Path, recipe: Recipe) -> None:
    """Make sure that what a folder holds is of this recipe, and say so in the folder.

    Raises:
        UserError: it is of another one; the differences are named.
    """
    check(folder, recipe)
    if not (folder / FILE).exists():
        write_json(folder / FILE, dataclasses.asdict(recipe))


def to_read(folder: Path, recipe: Recipe) -> Recipe:
    """The recipe by which a folder is read: where none is asked for, that of what it holds.

    Raises:
        UserError: the folder is of another one than was asked for.
    """
    there = _stored(folder)
    if recipe == Recipe() and there is not None and there.keys() <= dataclasses.asdict(recipe).keys():
        return Recipe(**there)
    check(folder, recipe)
    return recipe


def check(folder: Path, recipe: Recipe) -> None:
    """Make sure that what a folder holds, if anything, is of this recipe.

    Raises:
        UserError: it is of another one; the differences are named.
    """
    there, values = _stored(folder), dataclasses.asdict(recipe)
    if there is None:
        return
    differences = [
        f"--{name.replace('_', '-')} {there.get(name)} (now {values.get(name, 'no option')})"
        for name in dict.fromkeys((*there, *values))
        if there.get(name) != values.get(name)
    ]
    if differences:
        gone = any(name not in values for name in there)
        way_out = "choose another --output" if gone else "give the same, or choose another --output"
        raise UserError(f"{folder} holds results of another recipe, with {', '.join(differences)}: {way_out}")


def _stored(folder: Path) -> dict[str, Any] | None:
    """The options of what a folder holds; None of a new one."""
    path = folder / FILE
    if not path.exists():
        return None
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")).items())
    except (json.JSONDecodeError, UnicodeDecodeError, AttributeError) as error:
        raise UserError(f"{path} is damaged ({error}): choose another --output, or delete the folder") from error
