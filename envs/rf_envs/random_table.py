"""The play table with another layout in each episode."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from rf_envs.random_scenes import PREFIX, layout_number, scene_named
from rf_envs.scenes import Scene
from rf_envs.table import TableEnv


class RandomTableEnv(TableEnv):
    """A `TableEnv` whose table is drawn at each reset: fixtures, sizes of the blocks and woods.

    ``reset(options={"layout": 7})`` chooses the layout, and `scene` names it. With a ``scene_obs``, which says where
    things are on one layout, the layout stays as it is unless it is given, too. `randomize` keeps the layout, as
    building a table takes several times as long as an image of it; `draw_layout` changes it.

    Args:
        layouts: how many layouts there are to draw from, the first ones.
        kwargs: as of `TableEnv`, without the scene.

    Examples:
        >>> env = gym.make("rf_envs:rf/PlayTableRandom-v0")
        >>> observation, info = env.reset(seed=0, options={"layout": 7})
        >>> env.unwrapped.scene
        'R7'
    """

    reset_options: ClassVar[tuple[str, ...]] = (*TableEnv.reset_options, "layout")
    scenes: ClassVar[tuple[str, ...]] = ()

    def __init__(self, layouts: int = 1000, **kwargs: Any):
        if isinstance(layouts, bool) or not isinstance(layouts, int) or layouts < 1:
            raise ValueError(f"layouts is {layouts!r}; expected a whole number of at least 1.")
        if "scene" in kwargs:
            raise ValueError("The scene is drawn; leave it out, or make rf/PlayTableA-v0 and the like for CALVIN's.")
        super().__init__(**kwargs)
        self._layouts = layouts
        self.scene = f"{PREFIX}0"

    @property
    def scene_options(self) -> dict[str, Any]:
        """Options with which a reset keeps the layout."""
        return {"layout": layout_number(self.scene)}

    def draw_layout(self, seed: int) -> None:
        """Set up the layout that a seed gives; `randomize` stays with it from then on."""
        self._set_layout(int(np.random.default_rng(seed).integers(self._layouts)))

    def _set_layout(self, number: int) -> None:
        scene = f"{PREFIX}{number}"
        if scene == self.scene:
            return
        if self._simulator is not None:
            self._simulator.close()
        self._simulator = self._state = None
        self.scene = scene

    def _prepare_scene(self, options: dict[str, Any]) -> None:
        if "layout" in options:
            self._set_layout(int(options["layout"]))
        elif "scene_obs" not in options:
            self._set_layout(int(self.np_random.integers(self._layouts)))

    def _scene_of(self, options: dict[str, Any]) -> Scene:
        layout = options.get("layout")
        if layout is None:
            return super()._scene_of(options)
        if isinstance(layout, bool) or not isinstance(layout, (int, np.integer)) or layout < 0:
            raise ValueError(f"The layout is {layout!r}; expected a whole number of at least 0.")
        return scene_named(f"{PREFIX}{layout}")
