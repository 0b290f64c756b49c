"""The play table with another layout in each episode."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from rf_envs.random_scenes import PREFIX, scene_named
from rf_envs.scenes import Scene
from rf_envs.table import TableEnv, positive


class RandomTableEnv(TableEnv):
    """A `TableEnv` whose table is drawn at each reset: fixtures, sizes of the blocks and woods.

    `scene` names the present one, R and a number, and ``reset(options={"scene": "R7"})`` chooses it. With a
    ``scene_obs``, which says where things are in one scene, the scene stays as it is unless it is given, too.
    `randomize` keeps the scene, as building a table takes several times as long as an image of it; `draw_layout`
    changes it.

    Args:
        layouts: how many scenes there are to draw from: R0, R1, and so on.
        kwargs: as of `TableEnv`, without the scene.

    Examples:
        >>> env = gym.make("rf_envs:rf/PlayTableRandom-v0")
        >>> observation, info = env.reset(seed=0, options={"scene": "R7"})
        >>> env.unwrapped.scene
        'R7'
    """

    reset_options: ClassVar[tuple[str, ...]] = (*TableEnv.reset_options, "scene")
    scenes: ClassVar[tuple[str, ...]] = ()

    def __init__(self, layouts: int = 1000, **kwargs: Any):
        if "scene" in kwargs:
            raise ValueError("The scene is drawn; leave it out, or make rf/PlayTableA-v0 and the like for CALVIN's.")
        super().__init__(**kwargs)
        self._layouts = positive("layouts", layouts)
        self.scene = f"{PREFIX}0"

    @property
    def scene_options(self) -> dict[str, Any]:
        """Options with which a reset keeps the scene."""
        return {"scene": self.scene}

    def draw_layout(self, seed: int) -> None:
        """Set up the scene that a seed gives; `randomize` stays with it from then on."""
        self._change_to(self._draw(np.random.default_rng(seed)))

    def _draw(self, rng: np.random.Generator) -> str:
        return f"{PREFIX}{int(rng.integers(self._layouts))}"

    def _change_to(self, scene: str) -> None:
        if scene == self.scene:
            return
        if self._simulator is not None:
            self._simulator.close()
        self._simulator = self._state = None
        self.scene = scene

    def _prepare_scene(self, options: dict[str, Any]) -> None:
        if "scene" in options:
            self._change_to(options["scene"])
        elif "scene_obs" not in options:
            self._change_to(self._draw(self.np_random))

    def _scene_of(self, options: dict[str, Any]) -> Scene:
        return scene_named(options.get("scene", self.scene))
