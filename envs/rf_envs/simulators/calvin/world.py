"""CALVIN's table, behind the interface that all simulators share."""

from __future__ import annotations

import os
import weakref
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rf_envs.errors import check_choice
from rf_envs.scenes import SCENES
from rf_envs.simulators.calvin.cameras import CalvinCameras
from rf_envs.simulators.calvin.clone import find_clone
from rf_envs.simulators.calvin.config import read_settings
from rf_envs.simulators.calvin.egl import choose_renderer, load_egl
from rf_envs.simulators.calvin.imports import import_calvin, instantiate
from rf_envs.simulators.calvin.repairs import align_logic, calls_go_to, quiet, repaired
from rf_envs.simulators.playtable.bullet import connect

IK_ITERATIONS = 20
EGL_WARM_UP = 3
"""Images before EGL draws shadows, and so draws the same state alike."""


class CalvinTable:
    """The unmodified `calvin_env`; see `rf_envs.simulators.base.Simulator` for the interface.

    Several may live in one process, each with a physics client of its own; but only one that draws with EGL.

    Args:
        scene: letter of the scene.
        root: the clone of `calvin_env`; None for CALVIN_ENV_ROOT or the installed package.
        renderer: "tiny", "egl", or "auto" for EGL where it works.

    Raises:
        FileNotFoundError: the clone lacks something.
        ImportError: there is no clone, or no PyBullet.
        RuntimeError: EGL was asked for and does not work here or is in use in this process, or the process already
            uses another clone.
    """

    renderer: str

    def __init__(self, scene: str = "D", root: str | os.PathLike[str] | None = None, renderer: str = "auto") -> None:
        self.scene = check_choice("scene", scene, SCENES)
        clone = find_clone(root, scene)
        self.renderer = choose_renderer(renderer)
        self._package = import_calvin(clone)
        settings = read_settings(clone, scene)
        self._robot_settings = settings["env"]["robot_cfg"]
        self._spare: tuple[Any, Any] | None = None
        self._closing: list[weakref.finalize] = []
        make = repaired(self._package.environment, self._package.robot)
        self._env: Any = self._opened(make, settings["env"])
        shown = self._env
        if self.renderer == "egl":
            # loading a world anew leaks with EGL, so it draws a second world, which is loaded once
            shown = self._opened(make, settings["env"])
            load_egl(shown.p)
            shown.load()
        self._cameras: Any = CalvinCameras(self._env, shown, settings["cameras"], self._package.gripper_camera)
        self.reset()
        if self.renderer == "egl":
            with quiet():
                for _ in range(EGL_WARM_UP):
                    self.render("static", 32)

    def reset(self, robot_obs: ArrayLike | None = None, scene_obs: ArrayLike | None = None) -> None:
        """Put robot (15,) and scene (24,) into a state; `None` means the neutral one.

        The world is loaded anew each time: only so do the same actions give the same bits afterwards.
        """
        robot = None if robot_obs is None else np.array(robot_obs, dtype=float)
        scene = np.array(SCENES[self.scene].neutral_scene_obs if scene_obs is None else scene_obs, dtype=float)
        scene[4:6] = scene[4:6] > 0.5
        self._env.load()
        self._env.reset(robot, scene)
        align_logic(self._env, 1.0 if robot is None else robot[14])
        self._observation, self._info = self._env.get_state_obs(), self._env.get_info()

    def step(self, action: NDArray[np.float64]) -> None:
        """Apply one relative action (7,) in [-1, 1] for 1/30 s."""
        action = np.array(action, dtype=float)
        action[6] = 1.0 if action[6] > 0 else -1.0
        self._observation, _, _, self._info = self._env.step(action)

    @property
    def robot_obs(self) -> NDArray[np.float64]:
        """`robot_obs` (15,)."""
        return self._observation["robot_obs"].astype(float)

    @property
    def scene_obs(self) -> NDArray[np.float64]:
        """`scene_obs` (24,)."""
        return self._observation["scene_obs"].astype(float)

    def info(self) -> dict[str, Any]:
        """`robot_info` and `scene_info`, as `calvin_env` gives them."""
        return self._info

    def render(self, camera: str, size: int) -> NDArray[np.uint8]:
        """A fresh image (size, size, 3) of the `static` or `gripper` camera."""
        return self._cameras.render(camera, size)

    def inverse_kinematics(self, position: ArrayLike, euler: ArrayLike) -> NDArray[np.float64]:
        """Arm joint angles (7,) for a tcp pose; the simulation's state is not touched."""
        self._spare = self._spare or self._make_spare_robot()
        client, robot = self._spare
        target, angles = (np.asarray(value, dtype=float).tolist() for value in (position, euler))
        orientation = client.getQuaternionFromEuler(angles)
        robot.reset()
        for _ in range(IK_ITERATIONS):
            joints = robot.mixed_ik.get_ik(target, orientation)
            robot.reset(np.array([*target, *angles, 0.0, *joints, 1.0]))
        return joints

    def close(self) -> None:
        """Release the physics clients; closing twice is allowed."""
        for close in self._closing:
            close()
        # parts of calvin_env go on calling their client by its number, which may soon be another's
        self._env = self._cameras = None
        if self._spare is not None:
            self._spare[0].disconnect()
            self._spare = None

    def _opened(self, make: type, settings: dict[str, Any]) -> Any:
        """A new environment, which ends with this simulator."""
        with quiet():
            env = make(**settings)
        # also when it is dropped without being closed, and before the interpreter takes itself apart
        self._closing.append(weakref.finalize(self, env.close))
        return env

    def _make_spare_robot(self) -> tuple[Any, Any]:
        """A client with nothing but a robot, and that robot."""
        client = connect()
        robot = instantiate(self._robot_settings, cid=client._client)
        with quiet(), calls_go_to(client, self._package.robot):
            robot.load()
        return client, robot
