"""The Franka Panda of `pybullet_data` with CALVIN's fingers, camera mount and control.

The arm is drawn with its collision meshes (a fifth of the triangles of its visual ones). The finger tips reach as far
and meet as CALVIN's do, so the tool centre point is the same and so is every pose in `robot_obs`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree as xml

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rf_envs.scenes import MAX_FINGER_JOINT, NEUTRAL_JOINTS, ROBOT_BASE
from rf_envs.simulators.base import MAX_RELATIVE_POSITION, MAX_RELATIVE_ROTATION

LOWER_LIMITS = np.array([-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973])
UPPER_LIMITS = np.array([2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973])
ARM_JOINTS = tuple(range(7))
ARM_FORCE = 200.0
ARM_VELOCITY = 2.0
CLOSING_FORCE = 200.0
OPENING_FORCE = 2.0

WHITE, GREY, DARK = (0.93, 0.93, 0.94, 1), (0.55, 0.57, 0.60, 1), (0.20, 0.21, 0.23, 1)
LINK_COLORS = {
    "panda_link3": WHITE,
    "panda_link5": WHITE,
    "panda_link6": GREY,
    "panda_link7": GREY,
    "panda_leftfinger": DARK,
    "panda_rightfinger": DARK,
}
FINGER_BOXES = (((0.0, 0.0165, 0.026), (0.018, 0.021, 0.052)), ((0.0, 0.0065, 0.0675), (0.018, 0.013, 0.061)))
"""Centre and size of a finger's two boxes in its own frame; the inner face is y = 0, the tip z = 0.098."""
FINGER_CONTACT = {
    "stiffness": "30000",
    "damping": "1000",
    "spinning_friction": "0.1",
    "lateral_friction": "1.0",
}
TCP_OFFSET = 0.14
"""From the hand's flange to the tool centre point (m)."""
CAMERA_MOUNT = ("-0.1 0 0", "1.3 0 -1.57")


def write_panda(folder: Path) -> Path:
    """Write the robot's URDF into `folder`; its meshes stay in `pybullet_data`."""
    import pybullet_data  # not above: without PyBullet, `connect` says what to install

    source = Path(pybullet_data.getDataPath()) / "franka_panda"
    tree = xml.parse(source / "panda.urdf")
    robot = tree.getroot()
    for link in robot.findall("link"):
        _restyle(link, str(link.get("name")))
    for mesh in robot.iter("mesh"):
        mesh.set("filename", str(mesh.get("filename")).replace("package:/", str(source)))
    _attach(robot, "gripper_cam", *CAMERA_MOUNT, mass="0.2")
    _attach(robot, "tcp", f"0 0 {TCP_OFFSET}", "0 0 0", mass="0.00001")
    path = folder / "panda.urdf"
    tree.write(path)
    return path


def _restyle(link: xml.Element, name: str) -> None:
    if name.endswith("finger"):
        _replace_finger(link, 1.0 if name == "panda_leftfinger" else -1.0)
    color = " ".join(map(str, LINK_COLORS.get(name, WHITE)))
    for visual in link.findall("visual"):
        for mesh in visual.iter("mesh"):
            mesh.set("filename", str(mesh.get("filename")).replace("/visual/", "/collision/"))
        for material in visual.findall("material"):
            visual.remove(material)
        material = xml.SubElement(visual, "material", name=f"{name}_color")
        xml.SubElement(material, "color", rgba=color)


def _replace_finger(link: xml.Element, side: float) -> None:
    for tag in ("visual", "collision", "contact"):
        for element in link.findall(tag):
            link.remove(element)
    contact = xml.SubElement(link, "contact")
    xml.SubElement(contact, "friction_anchor")
    for key, value in FINGER_CONTACT.items():
        xml.SubElement(contact, key, value=value)
    for tag in ("visual", "collision"):
        for (x, y, z), size in FINGER_BOXES:
            element = xml.SubElement(link, tag)
            xml.SubElement(element, "origin", xyz=f"{x} {side * y} {z}", rpy="0 0 0")
            shape = xml.SubElement(xml.SubElement(element, "geometry"), "box")
            shape.set("size", " ".join(map(str, size)))


def _attach(robot: xml.Element, name: str, xyz: str, rpy: str, mass: str) -> None:
    link = xml.SubElement(robot, "link", name=name)
    inertial = xml.SubElement(link, "inertial")
    xml.SubElement(inertial, "mass", value=mass)
    xml.SubElement(inertial, "inertia", ixx="0.1", ixy="0", ixz="0", iyy="0.1", iyz="0", izz="0.1")
    joint = xml.SubElement(robot, "joint", name=f"{name}_joint", type="fixed")
    xml.SubElement(joint, "parent", link="panda_hand")
    xml.SubElement(joint, "child", link=name)
    xml.SubElement(joint, "origin", xyz=xyz, rpy=rpy)


class Panda:
    """The robot in one physics client: CALVIN's relative end-effector control and its observations."""

    def __init__(self, client: Any, urdf: Path) -> None:
        p = self._p = client
        self.uid = p.loadURDF(str(urdf), ROBOT_BASE, useFixedBase=True)
        links = {p.getJointInfo(self.uid, i)[12].decode(): i for i in range(p.getNumJoints(self.uid))}
        self.tcp, self.camera = links["tcp"], links["gripper_cam"]
        self.fingers = (links["panda_leftfinger"], links["panda_rightfinger"])
        gear = p.createConstraint(
            self.uid,
            self.fingers[0],
            self.uid,
            self.fingers[1],
            p.JOINT_GEAR,
            (1, 0, 0),
            (0, 0, 0),
            (0, 0, 0),
        )
        p.changeConstraint(gear, gearRatio=-1, erp=0.1, maxForce=50)
        self.gripper_action = 1.0
        self.target_position = np.zeros(3)
        self.target_euler = np.zeros(3)

    def reset(self, joints: ArrayLike = NEUTRAL_JOINTS, width: float = 2 * MAX_FINGER_JOINT, gripper_action=1.0):
        """Put the arm (rad) and the fingers (opening width, m) into place; motors hold them there."""
        p = self._p
        for index, angle in zip(ARM_JOINTS, np.asarray(joints, dtype=float), strict=True):
            p.resetJointState(self.uid, index, angle)
        for index in self.fingers:
            p.resetJointState(self.uid, index, width / 2)
        self._drive(np.asarray(joints, dtype=float), width / 2, CLOSING_FORCE)
        position, quaternion = self.tcp_pose()
        self.target_position = np.array(position)
        self.target_euler = np.array(p.getEulerFromQuaternion(quaternion))
        self.gripper_action = float(gripper_action)

    def apply(self, action: NDArray[np.float64]) -> None:
        """Move the accumulated target by a relative action (7,) in [-1, 1] and drive the motors towards it."""
        self.target_position = self.target_position + action[:3] * MAX_RELATIVE_POSITION
        self.target_euler = self.target_euler + action[3:6] * MAX_RELATIVE_ROTATION
        self.gripper_action = 1.0 if action[6] > 0 else -1.0
        opening = self.gripper_action > 0
        self._drive(
            self.inverse_kinematics(self.target_position, self.target_euler),
            MAX_FINGER_JOINT if opening else 0.0,
            OPENING_FORCE if opening else CLOSING_FORCE,
        )

    def inverse_kinematics(self, position: ArrayLike, euler: ArrayLike) -> NDArray[np.float64]:
        """Arm joints (7,) for a tcp pose, near the neutral posture, clipped to the joint limits."""
        joints = self._p.calculateInverseKinematics(
            self.uid,
            self.tcp,
            list(np.asarray(position, dtype=float)),
            self._p.getQuaternionFromEuler(list(np.asarray(euler, dtype=float))),
            lowerLimits=[-7.0] * 9,
            upperLimits=[7.0] * 9,
            jointRanges=[7.0] * 9,
            restPoses=[*NEUTRAL_JOINTS, MAX_FINGER_JOINT, MAX_FINGER_JOINT],
        )
        return np.clip(joints[:7], LOWER_LIMITS, UPPER_LIMITS)

    def _drive(self, joints: NDArray[np.float64], finger: float, finger_force: float) -> None:
        p = self._p
        # one by one: the call for several joints has no limit on their speed
        for index in ARM_JOINTS:
            p.setJointMotorControl2(
                self.uid,
                index,
                p.POSITION_CONTROL,
                targetPosition=joints[index],
                force=ARM_FORCE,
                maxVelocity=ARM_VELOCITY,
            )
        for index in self.fingers:
            p.setJointMotorControl2(
                self.uid,
                index,
                p.POSITION_CONTROL,
                targetPosition=finger,
                force=finger_force,
                maxVelocity=1.0,
            )

    def tcp_pose(self):
        """Position (m) and quaternion (xyzw) of the tool centre point in the world."""
        return self._p.getLinkState(self.uid, self.tcp)[:2]

    def joint_positions(self) -> tuple[list[float], list[float]]:
        """Arm angles (7) and finger positions (2)."""
        states = self._p.getJointStates(self.uid, [*ARM_JOINTS, *self.fingers])
        positions = [state[0] for state in states]
        return positions[:7], positions[7:]

    def observation(self) -> NDArray[np.float64]:
        """`robot_obs` (15,)."""
        position, quaternion = self.tcp_pose()
        arm, fingers = self.joint_positions()
        euler = self._p.getEulerFromQuaternion(quaternion)
        return np.array([*position, *euler, sum(fingers), *arm, self.gripper_action])

    def info(self) -> dict[str, Any]:
        """CALVIN's `robot_info`."""
        position, quaternion = self.tcp_pose()
        arm, fingers = self.joint_positions()
        return {
            "tcp_pos": position,
            "tcp_orn": self._p.getEulerFromQuaternion(quaternion),
            "gripper_opening_width": sum(fingers),
            "arm_joint_states": arm,
            "gripper_action": int(self.gripper_action),
            "uid": self.uid,
            "contacts": self._p.getContactPoints(bodyA=self.uid),
        }
