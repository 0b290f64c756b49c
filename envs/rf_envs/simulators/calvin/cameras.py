"""CALVIN's own cameras, drawing when they are asked to."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rf_envs.simulators.base import CAMERAS
from rf_envs.simulators.calvin.imports import instantiate
from rf_envs.simulators.calvin.repairs import calls_go_to


class CalvinCameras:
    """The two cameras of `calvin_env`, looking at one environment or at another one that follows it.

    Args:
        env: the environment whose state is drawn.
        shown: the environment that the cameras look at; `env` itself, or one that is brought to its state first.
        settings: the cameras' settings, by name.
        gripper_module: the module of `GripperCamera`.
    """

    def __init__(self, env: Any, shown: Any, settings: dict[str, dict[str, Any]], gripper_module: ModuleType) -> None:
        self._env, self._shown, self._gripper_module = env, shown, gripper_module
        self._cameras = {
            name: instantiate(settings[name], cid=shown.cid, robot_id=shown.robot.robot_uid) for name in CAMERAS
        }

    def render(self, camera: str, size: int) -> NDArray[np.uint8]:
        """A fresh image (size, size, 3) of the `static` or `gripper` camera."""
        viewer = self._cameras[camera]
        viewer.width = viewer.height = size
        if self._shown is self._env:
            color, _ = viewer.render()
        else:
            _copy_state(self._env, self._shown)
            with calls_go_to(_LinksOf(self._env.p), self._gripper_module):
                color, _ = viewer.render()
        return np.array(color, dtype=np.uint8)


class _LinksOf:
    """PyBullet for which links are where `client` has them.

    After a step PyBullet tells where links were a substep ago. The camera on the hand shall be there too, as it is
    where the simulation itself is drawn.
    """

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        import pybullet

        return getattr(pybullet, name)

    def getLinkState(self, bodyUniqueId: int, linkIndex: int, **_: Any) -> Any:
        return self._client.getLinkState(bodyUniqueId, linkIndex)


def _copy_state(source: Any, target: Any) -> None:
    """Bring what one sees of `target` to the state of `source`: bodies have the same numbers in both."""
    for body in (source.robot.robot_uid, *(item.uid for item in source.scene.fixed_objects)):
        states = source.p.getJointStates(body, list(range(source.p.getNumJoints(body))))
        for index, state in enumerate(states):
            target.p.resetJointState(body, index, state[0])
    for item in source.scene.movable_objects:
        target.p.resetBasePositionAndOrientation(item.uid, *source.p.getBasePositionAndOrientation(item.uid))
    for light, copy in zip(source.scene.lights, target.scene.lights, strict=True):
        if copy.get_state() != light.get_state():
            copy.reset(light.get_state())
