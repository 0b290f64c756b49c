import functools
from types import SimpleNamespace

import numpy as np
import pybullet as p
from scipy.spatial.transform import Rotation  # noqa: F401

from rf_envs.simulators.playtable.robot import Panda


class Client:
    """PyBullet's functions for one client."""

    def __init__(self, cid):
        self.cid = cid

    def __getattr__(self, name):
        value = getattr(p, name)
        return functools.partial(value, physicsClientId=self.cid) if callable(value) else value


class Robot:
    def __init__(self, filename, base_position, cid, euler_obs, **_):
        assert euler_obs and base_position == [-0.34, -0.46, 0.24]
        self.filename, self.cid = filename, cid
        self.robot_uid, self.gripper_action = None, 1

    def load(self):
        client = Client(self.cid)
        self.panda = Panda(client, self.filename)
        self.robot_uid = self.panda.uid
        # the pedestal goes to the first client, whichever that is
        shape = p.createVisualShape(p.GEOM_CYLINDER, radius=0.13, length=0.24)
        p.createMultiBody(baseVisualShapeIndex=shape, basePosition=(-0.39, -0.46, 0.12))

        def get_ik(position, quaternion):
            return self.panda.inverse_kinematics(position, p.getEulerFromQuaternion(quaternion))

        self.mixed_ik = SimpleNamespace(get_ik=get_ik)
        self.reset()

    def reset(self, robot_state=None):
        # forgets to set gripper_action
        if robot_state is None:
            self.panda.reset()
        else:
            self.panda.reset(robot_state[7:14], robot_state[6])

    def apply_action(self, action):
        self.gripper_action = action[6]
        assert self.gripper_action in (-1, 1)
        self.panda.apply(np.asarray(action))

    def get_observation(self):
        info = {**self.panda.info(), "gripper_action": self.gripper_action}
        return np.array([*self.panda.observation()[:14], self.gripper_action]), info
