"""The environments on CALVIN's own simulator, the `calvin_env` package."""

from __future__ import annotations

import os
from functools import partial
from typing import Any

from rf_envs.chain import ChainEnv
from rf_envs.errors import check_choice, require_pybullet
from rf_envs.scenes import SCENES
from rf_envs.simulators.base import Simulator
from rf_envs.table import TableEnv


class CalvinEnv(TableEnv):
    """`TableEnv` on the real CALVIN: the same spaces, tasks, options and info.

    It needs a clone of https://github.com/mees/calvin_env, as it is, and nothing that this asks for.

    Args:
        scene: letter of CALVIN's scene, "A" to "D".
        calvin_root: the clone's folder; None for the one that the environment variable CALVIN_ENV_ROOT names, or
            that of an installed calvin_env.
        renderer: "tiny" (PyBullet's TinyRenderer, on the CPU), "egl" (OpenGL) or "auto", which is EGL where it works
            with a GPU. The images differ, and so do scores: `info["renderer"]` tells which was used.
        arguments: those of `TableEnv`, but for `simulator`.

    Raises:
        FileNotFoundError: the clone lacks something; the message names it.
        ImportError: there is no clone; the message says how to get one.

    Examples:
        >>> env = gym.make("rf_envs:rf/CalvinD-v0", calvin_root="calvin_env")
        >>> observation, info = env.reset(seed=0, options={"task": "open_drawer"})
        >>> info["renderer"]
        'tiny'
    """

    def __init__(
        self,
        scene: str = "D",
        calvin_root: str | os.PathLike[str] | None = None,
        renderer: str = "auto",
        **arguments: Any,
    ):
        # imported here so that registering the environments imports no simulator
        from rf_envs.simulators.calvin import RENDERERS, find_clone

        check_choice("scene", scene, SCENES)
        check_choice("renderer", renderer, RENDERERS)
        root = find_clone(calvin_root, scene)
        require_pybullet("calvin_env")
        super().__init__(scene=scene, simulator=partial(_calvin, root=root, renderer=renderer), **arguments)


class CalvinChainEnv(CalvinEnv, ChainEnv):
    """`ChainEnv` on the real CALVIN; its arguments are those of `CalvinEnv`."""


def _calvin(scene: str, root: os.PathLike[str], renderer: str) -> Simulator:
    from rf_envs.simulators.calvin import CalvinTable

    return CalvinTable(scene, root, renderer)
