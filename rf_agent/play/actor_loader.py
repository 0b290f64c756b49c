"""The actors of a table by name, loaded while the table is used."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from rf_agent.evaluation.agents import SCRIPTED
from rf_agent.play.actors import Actor, load_actor


class ActorLoader:
    """Loads each actor once, those with a network in the background.

    Args:
        device: where policies compute.
    """

    def __init__(self, device: str) -> None:
        self._device = device
        self._executor = ThreadPoolExecutor(1)
        self._loads: dict[str, Future[Actor]] = {}

    def prepare(self, name: str, observation: Mapping[str, Any]) -> None:
        """Begin to load an actor, with an observation of its environment."""
        if name in self._loads:
            return
        if name in SCRIPTED:  # there at once
            self._loads[name] = Future()
            self._loads[name].set_result(load_actor(name))
        else:
            seen = {"instruction": "go"} | {key: np.array(value) for key, value in observation.items()}
            self._loads[name] = self._executor.submit(load_actor, name, self._device, seen)

    def loading(self, name: str) -> bool:
        """Whether it is on its way."""
        load = self._loads.get(name)
        return load is not None and not load.done()

    def get(self, name: str) -> Actor | None:
        """The actor, once it is loaded.

        Raises:
            Exception: whatever kept it from loading; it may be prepared again.
        """
        load = self._loads.get(name)
        if load is None or not load.done():
            return None
        if load.exception():
            del self._loads[name]
        return load.result()

    def close(self) -> None:
        """Load nothing more."""
        self._executor.shutdown(wait=False, cancel_futures=True)
