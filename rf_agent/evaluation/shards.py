"""Parts of an evaluation that different machines play."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from rf_agent.errors import UserError

T = TypeVar("T")


@dataclass(frozen=True)
class Shard:
    """Part `index` (from 1) of `count` parts. Its episodes are every `count`-th of all, which take turns of the tasks:
    where `count` and the number of tasks have a common divisor (2 and 34) a part has some tasks only, and its own rates
    are those of these. Merged reports have all."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """From `I/N`.

        Raises:
            UserError: it is none.
        """
        match = re.fullmatch(r"(\d+)/(\d+)", text)
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise UserError(f"the shard is {text!r}: write I/N with I from 1 to N, such as 1/3")
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def part(self, items: Sequence[T]) -> list[T]:
        """The items that belong to this part."""
        return list(items[self.index - 1 :: self.count])
