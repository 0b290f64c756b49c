"""The demonstrations that a diagnosis looks at, read although something may be wrong with them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rf_agent.demos.files import DemoError
from rf_agent.demos.readers import DemoReader, Record
from rf_agent.diagnosis.images import Format, read_images


@dataclass
class Episode:
    """A demonstration, and what is needed to begin it again."""

    name: str
    task: str
    instruction: str
    images: dict[str, NDArray[np.uint8]]
    """By camera: (F, H, W, 3), one for every `stride` actions."""
    formats: dict[str, Format]
    """What the images were before they were made uint8."""
    actions: NDArray[np.float32]
    """(T, D) that the demonstrator wanted."""
    executed: NDArray[np.float32]
    """(T, D) that were carried out: the actions, or what disturbances made of them."""
    stride: int = 1
    state: NDArray[np.float32] | None = None
    """(T, S), or None."""
    start: dict[str, Any] = field(default_factory=dict)
    """Options of the environment's reset that bring its start back, as far as they are known."""
    attributes: dict[str, Any] = field(default_factory=dict)

    @property
    def seed(self) -> int | None:
        """That of the environment's reset, where it is known."""
        seed = self.attributes.get("seed")
        return None if seed is None else int(seed)

    @property
    def begins_again(self) -> bool:
        """Whether a reset brings its start back: by its state, or by its seed, which in a chain is the whole's."""
        return bool(self.start) or (self.seed is not None and "chain" not in self.attributes)


def in_a_chain(attributes: Mapping[str, Any]) -> bool:
    """Whether a demonstration begins where the sub-task of a chain before it ended. A reset to its state is not quite
    the same: a block in the hand is not held as it was."""
    return "chain" in attributes and int(attributes.get("subtask", 0)) > 0


def choose_episodes(reader: DemoReader, count: int, tasks: Collection[str], seed: int = 0) -> list[Episode]:
    """Some successful demonstrations, spread over the tasks, in an order that depends on the seed. Those that begin in
    the middle of a chain are left out where there are others.

    Args:
        reader: of all.
        count: how many at most.
        tasks: those to choose from first, such as the ones that a policy was trained on; others follow.
        seed: of the choice.

    Raises:
        DemoError: there is none, or its images cannot be read.
    """
    shuffled = (reader.records[index] for index in np.random.default_rng(seed).permutation(len(reader.records)))
    usable = [record for record in shuffled if record.success and len(record.actions)]
    by_task: dict[str, list[Record]] = {}
    for record in [record for record in usable if not in_a_chain(record.attributes)] or usable:
        by_task.setdefault(record.task, []).append(record)
    if not by_task:
        raise DemoError(f"{reader.path} holds no demonstration that succeeded: give another file")
    known = [name for name in by_task if name in tasks]
    groups = [[by_task[name] for name in known], [by_task[name] for name in by_task if name not in tasks]]
    chosen: list[Record] = []
    for group in groups:
        for place in range(max(map(len, group), default=0)):
            chosen += [records[place] for records in group if place < len(records)]
    return [read_episode(reader, record) for record in chosen[:count]]


def read_episode(reader: DemoReader, record: Record) -> Episode:
    """A record with its images, whatever their number format."""
    demo = reader.demonstration(record)
    images, formats = {}, {}
    for camera, values in demo.images.items():
        try:
            images[camera], formats[camera] = read_images(values)
        except ValueError as error:
            raise DemoError(f"{reader.path}: {record.name}: camera {camera!r}: {error}; give another file") from error
    executed = demo.actions if demo.actions_executed is None else demo.actions_executed
    return Episode(
        record.name,
        record.task,
        record.instruction,
        images,
        formats,
        demo.actions,
        executed,
        reader.layout.frame_stride,
        demo.state,
        reader.start(record),
        dict(record.attributes),
    )


def state_scale(episodes: Sequence[Episode]) -> NDArray[np.float64] | None:
    """How much each entry of the state varies (S,), by which differences are judged; None without states."""
    states = [episode.state for episode in episodes if episode.state is not None]
    if len(states) < len(episodes):
        return None
    every = np.concatenate(states).astype(np.float64)
    return np.maximum(np.ptp(every, axis=0), 1e-3)
