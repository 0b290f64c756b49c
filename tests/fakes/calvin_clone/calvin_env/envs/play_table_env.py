import sys

import cv2  # noqa: F401
import gym
import gym.utils.seeding
import hydra
import pybullet as p
import pybullet_utils.bullet_client as bullet_client

from calvin_env.utils.utils import commit


class PlayTableSimEnv(gym.Env):
    def __init__(
        self,
        robot_cfg,
        seed,
        use_vr,
        bullet_time_step,
        cameras,
        show_gui,
        scene_cfg,
        use_scene_info,
        use_egl,
        control_freq=30,
    ):
        self.cid, self.ownsPhysicsClient = -1, False
        if use_egl or use_vr or show_gui:
            sys.exit()
        self.use_scene_info = use_scene_info
        self.substeps = int(bullet_time_step // control_freq)
        self.p = bullet_client.BulletClient(p.DIRECT)
        self.cid, self.ownsPhysicsClient = self.p._client, True
        print("connected to", self.cid)
        self.p.setTimeStep(1 / bullet_time_step)
        self.np_random, _ = gym.utils.seeding.np_random(seed)
        self.robot = hydra.utils.instantiate(robot_cfg, cid=self.cid)
        self.scene = hydra.utils.instantiate(scene_cfg, p=self.p, cid=self.cid, np_random=self.np_random)
        self.load()
        self.cameras = [hydra.utils.instantiate(cameras[name], cid=self.cid, robot_id=0) for name in cameras]
        self.commit = commit()

    def __del__(self):
        self.close()

    def load(self):
        self.p.resetSimulation()
        self.p.setGravity(0, 0, -9.8)
        self.robot.load()
        self.scene.load()

    def close(self):
        print("disconnecting", self.cid)
        if self.ownsPhysicsClient:
            # whoever has the number now loses its client
            p.disconnect(physicsClientId=self.cid)

    def reset(self, robot_obs=None, scene_obs=None):
        self.scene.reset(scene_obs)
        self.robot.reset(robot_obs)
        self.p.stepSimulation()
        return self.get_obs()

    def step(self, action):
        self.robot.apply_action(action)
        for _ in range(self.substeps):
            self.p.stepSimulation()
        self.scene.step()
        return self.get_obs(), 0, False, self.get_info()

    def get_obs(self):
        return {"images": [camera.render() for camera in self.cameras], **self.get_state_obs()}

    def get_state_obs(self):
        return {"robot_obs": self.robot.get_observation()[0], "scene_obs": self.scene.get_obs()}

    def get_info(self):
        info = {"robot_info": self.robot.get_observation()[1]}
        return {**info, "scene_info": self.scene.get_info()} if self.use_scene_info else info


@hydra.main(config_path="../../conf", config_name="config")
def run(config):
    hydra.utils.instantiate(config.env).step([0, 0, 0, 0, 0, 0, 1])
