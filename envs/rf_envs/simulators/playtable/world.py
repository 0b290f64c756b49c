"""The simulation: bodies, CALVIN's button and switch logic, observations, images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rf_envs import scenes
from rf_envs.random_scenes import scene_named
from rf_envs.simulators.base import CONTROL_FREQUENCY, PHYSICS_FREQUENCY
from rf_envs.simulators.playtable.assets import Assets
from rf_envs.simulators.playtable.bullet import connect
from rf_envs.simulators.playtable.cameras import GripperCamera, StaticCamera
from rf_envs.simulators.playtable.robot import Panda

SLIDE, DRAWER, BUTTON, SWITCH = "base__slide", "base__drawer", "base__button", "base__switch"
FRICTION_FORCE = 4.0
"""Force (N) that holds doors and switch where they are, and the spring of the button."""
LIGHT_COLORS = {"light_link": (1.0, 1.0, 0.0, 1.0), "led_link": (0.0, 1.0, 0.0, 1.0)}
LIGHT_OFF = (1.0, 1.0, 1.0, 1.0)


class Bodies:
    """Robot, blocks and table in one client, loaded in CALVIN's order so that body ids agree."""

    def __init__(self, client: Any, scene: scenes.Scene, folder: Path, variant: str) -> None:
        self.robot = Panda(client, folder / f"panda{variant}.urdf")
        self.blocks = {
            color: client.loadURDF(str(folder / f"block_{color}{variant}.urdf"), (index, 0, -1))
            for index, color in enumerate(scene.block_order)
        }
        self.table = client.loadURDF(str(folder / f"table{variant}.urdf"), useFixedBase=True)
        info = [client.getJointInfo(self.table, i) for i in range(client.getNumJoints(self.table))]
        self.joints = {joint[1].decode(): joint[0] for joint in info}
        self.links = {joint[12].decode(): joint[0] for joint in info} | {"base_link": -1}


class PlayTable:
    """CALVIN's play table in PyBullet; see `rf_envs.simulators.base.Simulator` for the interface."""

    renderer = "tiny"

    def __init__(self, scene: str = "D") -> None:
        self.scene = scene
        self._scene = scene_named(scene)
        self._physics = _connect(self._scene)
        self._assets = Assets.of(scene)
        self._folder = self._assets.acquire()
        self._viewers: _Viewers | None = None
        self.reset()

    def reset(self, robot_obs: ArrayLike | None = None, scene_obs: ArrayLike | None = None) -> None:
        """Put robot (15,) and scene (24,) into a state; `None` means the neutral one.

        The world is built anew each time: only so do the same actions give the same bits afterwards.
        """
        self._load()
        if robot_obs is None:
            self._bodies.robot.reset()
        else:
            robot = np.asarray(robot_obs, dtype=float)
            self._bodies.robot.reset(robot[7:14], robot[6], robot[14])
        self._reset_scene(np.array(self._scene.neutral_scene_obs if scene_obs is None else scene_obs, dtype=float))
        self._physics.stepSimulation()

    def step(self, action: NDArray[np.float64]) -> None:
        """Apply one relative action (7,) in [-1, 1] for 1/30 s."""
        self._bodies.robot.apply(action)
        for _ in range(PHYSICS_FREQUENCY // CONTROL_FREQUENCY):
            self._physics.stepSimulation()
        self._update_logic()

    @property
    def robot_obs(self) -> NDArray[np.float64]:
        """`robot_obs` (15,)."""
        return self._bodies.robot.observation()

    @property
    def scene_obs(self) -> NDArray[np.float64]:
        """`scene_obs` (24,)."""
        p = self._physics
        joints = [self._joint(name) for name in (SLIDE, DRAWER, BUTTON, SWITCH)]
        poses = []
        for uid in self._bodies.blocks.values():
            position, quaternion = p.getBasePositionAndOrientation(uid)
            poses += [*position, *p.getEulerFromQuaternion(quaternion)]
        return np.array([*joints, self._lights["light_link"], self._lights["led_link"], *poses], dtype=float)

    def info(self) -> dict[str, Any]:
        """`robot_info` and `scene_info` in CALVIN's structure."""
        p, bodies = self._physics, self._bodies
        blocks = {}
        for color, uid in bodies.blocks.items():
            position, quaternion = p.getBasePositionAndOrientation(uid)
            linear, angular = p.getBaseVelocity(uid)
            blocks[f"block_{color}"] = {
                "current_pos": position,
                "current_orn": quaternion,
                "current_lin_vel": linear,
                "current_ang_vel": angular,
                "contacts": p.getContactPoints(bodyA=uid),
                "uid": uid,
            }
        table = {
            "uid": bodies.table,
            "links": dict(bodies.links),
            "contacts": p.getContactPoints(bodyA=bodies.table),
        }
        scene = {
            "fixed_objects": {"table": table},
            "movable_objects": blocks,
            "doors": {name: {"current_state": self._joint(name)} for name in (SLIDE, DRAWER)},
            "buttons": {BUTTON: {"joint_state": self._joint(BUTTON), "logical_state": self._lights["led_link"]}},
            "switches": {SWITCH: {"joint_state": self._joint(SWITCH), "logical_state": int(self._switch_is_up())}},
            "lights": {
                "lightbulb": {"logical_state": self._lights["light_link"]},
                "led": {"logical_state": self._lights["led_link"]},
            },
        }
        return {"robot_info": bodies.robot.info(), "scene_info": scene}

    def render(self, camera: str, size: int) -> NDArray[np.uint8]:
        """A fresh image (size, size, 3) of the `static` or `gripper` camera."""
        if self._viewers is None:
            self._viewers = _Viewers(self._scene, self._folder)
        return self._viewers.render(camera, size, self._physics, self._bodies, self._lights)

    def inverse_kinematics(self, position: ArrayLike, euler: ArrayLike) -> NDArray[np.float64]:
        """Arm joint angles (7,) for a tcp pose; the simulation's state is not touched."""
        viewers = self._viewers or _Viewers(self._scene, self._folder)
        self._viewers = viewers
        robot = viewers.spare_robot
        robot.reset()
        for _ in range(20):
            joints = robot.inverse_kinematics(position, euler)
            robot.reset(joints)
        return joints

    def close(self) -> None:
        """Release clients and files; closing twice is allowed."""
        if self._viewers is not None:
            self._viewers.close()
            self._viewers = None
        if self._physics is not None:
            self._physics.disconnect()
            self._physics = None
            self._assets.release()

    def _load(self) -> None:
        p = self._physics
        p.resetSimulation()
        # resetSimulation drops this setting, and without it contacts are found in an order that varies
        p.setPhysicsEngineParameter(deterministicOverlappingPairs=1)
        p.setTimeStep(1 / PHYSICS_FREQUENCY)
        p.setGravity(0, 0, -9.8)
        self._bodies = Bodies(p, self._scene, self._folder, "_physics")
        floor = p.createCollisionShape(p.GEOM_PLANE)
        p.createMultiBody(baseCollisionShapeIndex=floor)
        for name, joint in self._bodies.joints.items():
            if name == BUTTON:
                p.setJointMotorControl2(
                    self._bodies.table, joint, p.POSITION_CONTROL, targetPosition=0, force=FRICTION_FORCE
                )
            else:
                p.setJointMotorControl2(self._bodies.table, joint, p.VELOCITY_CONTROL, force=FRICTION_FORCE)
        self._lights = {"light_link": 0, "led_link": 0}
        self._button_was_down = False

    def _reset_scene(self, scene_obs: NDArray[np.float64]) -> None:
        p = self._physics
        for name, position in zip((SLIDE, DRAWER, BUTTON, SWITCH), scene_obs[:4], strict=True):
            p.resetJointState(self._bodies.table, self._bodies.joints[name], position)
        self._lights = {"light_link": int(scene_obs[4] > 0.5), "led_link": int(scene_obs[5] > 0.5)}
        for uid, pose in zip(self._bodies.blocks.values(), scene_obs[6:].reshape(3, 6), strict=True):
            p.resetBasePositionAndOrientation(uid, pose[:3].tolist(), p.getQuaternionFromEuler(pose[3:].tolist()))
        self._button_was_down = self._button_is_down()

    def _update_logic(self) -> None:
        """Pressing the button turns the LED over; the bulb follows the switch."""
        down = self._button_is_down()
        if down and not self._button_was_down:
            self._lights["led_link"] = 1 - self._lights["led_link"]
        self._button_was_down = down
        self._lights["light_link"] = int(self._switch_is_up())

    def _button_is_down(self) -> bool:
        return self._joint(BUTTON) > scenes.FIXTURE_HALF_STROKE * scenes.BUTTON_MAX

    def _switch_is_up(self) -> bool:
        return self._joint(SWITCH) > scenes.FIXTURE_HALF_STROKE * scenes.SWITCH_MAX

    def _joint(self, name: str) -> float:
        return float(self._physics.getJointState(self._bodies.table, self._bodies.joints[name])[0])


class _Viewers:
    """Clients that only draw: what never moves, what moves, and both together."""

    def __init__(self, scene: scenes.Scene, folder: Path) -> None:
        self._still = _connect(scene)
        self._still.loadURDF(str(folder / "table_still.urdf"), useFixedBase=True)
        self._still.loadURDF(str(folder / "room.urdf"), useFixedBase=True)
        # the table's moving parts are apart from the rest: they stand still for most of the time
        self._fixtures = _connect(scene)
        self._fixtures.loadURDF(str(folder / "table_fixtures.urdf"), useFixedBase=True)
        self._moving = _connect(scene)
        self._all = _connect(scene)
        self._followers = {
            "static": (self._moving, Bodies(self._moving, scene, folder, "_moving")),
            "gripper": (self._all, Bodies(self._all, scene, folder, "")),
        }
        self._all.loadURDF(str(folder / "room.urdf"), useFixedBase=True)
        self._shown: dict[str, tuple[tuple[float, ...], dict[str, int]]] = {}
        """Joint positions and lights of the table as each camera's client has them."""
        hand = self._followers["gripper"][1].robot
        self._static = StaticCamera(self._still, self._fixtures, self._moving)
        self._gripper = GripperCamera(self._all, hand.uid, hand.camera)

    @property
    def spare_robot(self) -> Panda:
        """A robot that may be posed at will: it follows the simulation again before it is drawn."""
        return self._followers["gripper"][1].robot

    def render(self, camera: str, size: int, source: Any, bodies: Bodies, lights: dict[str, int]) -> NDArray[np.uint8]:
        """Bring the camera's client to the state of `source` and draw it."""
        client, copies = self._followers[camera]
        for index, position in enumerate(_joint_positions(source, bodies.robot.uid)):
            client.resetJointState(copies.robot.uid, index, position)
        for color, uid in bodies.blocks.items():
            client.resetBasePositionAndOrientation(copies.blocks[color], *source.getBasePositionAndOrientation(uid))
        fixtures = (_joint_positions(source, bodies.table), lights.copy())
        if self._shown.get(camera) != fixtures:
            self._move_fixtures(camera, *fixtures)
            self._shown[camera] = fixtures
        return (self._static if camera == "static" else self._gripper).render(size)

    def _move_fixtures(self, camera: str, positions: tuple[float, ...], lights: dict[str, int]) -> None:
        copies = self._followers[camera][1]
        client, table = self._all, copies.table
        if camera == "static":
            client, table = self._fixtures, 0
            self._static.forget_fixtures()
        for index, position in enumerate(positions):
            client.resetJointState(table, index, position)
        for link, state in lights.items():
            rgba = LIGHT_COLORS[link] if state else LIGHT_OFF
            client.changeVisualShape(table, copies.links[link], rgbaColor=rgba)

    def close(self) -> None:
        for client in (self._still, self._fixtures, self._moving, self._all):
            client.disconnect()


def _connect(scene: scenes.Scene) -> Any:
    """Drawn scenes are many, each with files of its own: kept, they would pile up in memory."""
    return connect(keeps_files=scene.name in scenes.SCENES)


def _joint_positions(client: Any, body: int) -> tuple[float, ...]:
    return tuple(state[0] for state in client.getJointStates(body, list(range(client.getNumJoints(body)))))
