import numpy as np
import pybullet as p

from calvin_env.camera.static_camera import StaticCamera


class GripperCamera(StaticCamera):
    def __init__(self, fov, nearval, farval, width, height, cid, robot_id, **_):
        self.width, self.height, self.cid, self.robot = width, height, cid, robot_id
        self.projection = p.computeProjectionMatrixFOV(fov, 1, nearval, farval)

    def render(self):
        count = p.getNumJoints(self.robot, physicsClientId=self.cid)
        links = [p.getJointInfo(self.robot, i, physicsClientId=self.cid)[12] for i in range(count)]
        position, turn = p.getLinkState(self.robot, links.index(b"gripper_cam"), physicsClientId=self.cid)[:2]
        axes = np.reshape(p.getMatrixFromQuaternion(turn), (3, 3))
        self.view = p.computeViewMatrix(position, position + axes[:, 1], -axes[:, 2])
        return super().render()
