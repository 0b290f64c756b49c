"""Stages of a reproduction: commands of `rf-agent`, each with a folder for its result, that need earlier ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class Stage:
    """One command and where its result lies.

    Paths are relative to the folder of the reproduction, in which the command runs.
    """

    folder: str
    """Folder of the result, and name of the stage."""
    words: tuple[str, ...]
    """The command without `--output`: `train`, `--demos`, ..."""
    needs: tuple[Stage, ...] = ()
    """Stages whose results it reads."""
    file: str = ""
    """Name of the result within the folder where the command writes a file."""

    @property
    def kind(self) -> str:
        """The command's name."""
        return self.words[0]

    @property
    def output(self) -> str:
        """What `--output` is given."""
        return f"{self.folder}/{self.file}" if self.file else self.folder

    @cached_property
    def command(self) -> str:
        """As it is typed."""
        return " ".join(("rf-agent", *self.words, "--output", self.output))

    def all(self) -> Iterator[Stage]:
        """This stage after all that it needs, in an order in which they can run; some may come twice."""
        for stage in self.needs:
            yield from stage.all()
        yield self


def in_order(stages: tuple[Stage, ...] | list[Stage]) -> list[Stage]:
    """Each stage once, with all that they need, in an order in which they can run."""
    found: dict[str, Stage] = {}
    for stage in stages:
        for needed in stage.all():
            found.setdefault(needed.folder, needed)
    return list(found.values())
