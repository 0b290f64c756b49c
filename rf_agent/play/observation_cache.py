"""The newest observation of an environment, with images that are drawn when somebody looks."""

from __future__ import annotations

from typing import Any

import numpy as np

from rf_agent.environments import camera_images


class ObservationCache:
    """Keeps an observation; where the environment can, draws its images only when they are asked for."""

    def __init__(self) -> None:
        self.observation: dict[str, Any] = {}
        self.unseen = 1
        """Steps since the views were last shown."""
        self._fresh = True

    def renew(self, observation: dict[str, Any]) -> None:
        """An observation with images of its own, as a reset gives."""
        self.observation, self._fresh = observation, True

    def step(self, observation: dict[str, Any], env: Any) -> None:
        """The observation after a step, whose images may be older."""
        self.observation, self._fresh = observation, not hasattr(env.unwrapped, "images")
        self.unseen += 1

    def look(self, env: Any) -> dict[str, Any]:
        """The observation with images of the present state."""
        if not self._fresh:
            self.renew(self.observation | env.unwrapped.images())
        return self.observation

    def views(self, env: Any) -> list[np.ndarray]:
        """The images of all cameras, of this very state."""
        return camera_images(self.look(env))
