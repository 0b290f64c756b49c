"""What there is to see of a table: its newest images, and the way that the policy plans to go."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rf_agent.play.path import predicted_path, project


class Sight:
    """The newest observation of an environment. Where the environment can, its images are drawn when somebody looks."""

    def __init__(self) -> None:
        self.observation: dict[str, Any] = {}
        self.unseen = 1
        """Steps since the views were last shown."""
        self.path: list[list[float]] | None = None
        """The plan in the static view, as shares of its edge: [right, down] for each point."""
        self._fresh = True
        self._plan: NDArray[np.float32] | None = None

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
        return [value for value in self.look(env).values() if np.ndim(value) == 3]

    def forget_plan(self) -> None:
        """Whoever planned it does not follow it any more."""
        self.path = self._plan = None

    def show_plan(self, plan: NDArray[np.float32] | None, env: Any) -> None:
        """Draw a plan (K, D), if it is a new one and the environment says where its static camera is."""
        if plan is self._plan:
            return
        self._plan, self.path = plan, None
        table, robot = env.unwrapped, self.observation.get("robot_obs")
        camera = getattr(table, "static_camera", None)
        if plan is not None and camera is not None and robot is not None:
            points = project(predicted_path(robot[:3], plan, table.position_step), camera)
            self.path = [[round(float(value), 4) for value in point] for point in points]
