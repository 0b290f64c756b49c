import numpy as np
import pybullet as p


class StaticCamera:
    def __init__(self, fov, nearval, farval, width, height, look_at, look_from, up_vector, cid, robot_id, **_):
        self.width, self.height, self.cid = width, height, cid
        self.view = p.computeViewMatrix(look_from, look_at, up_vector)
        self.projection = p.computeProjectionMatrixFOV(fov, 1, nearval, farval)

    def render(self):
        _, _, rgba, depth, _ = p.getCameraImage(
            self.width, self.height, self.view, self.projection, physicsClientId=self.cid
        )
        return np.reshape(rgba, (self.height, self.width, 4))[..., :3], depth
