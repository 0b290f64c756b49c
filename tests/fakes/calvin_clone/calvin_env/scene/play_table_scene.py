import enum
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from omegaconf import OmegaConf
from omegaconf.errors import ConfigKeyError

State = enum.Enum("State", {"ON": 1, "OFF": 0})


class Joint:
    def __init__(self, p, uid, name):
        self.p, self.uid, self.name = p, uid, name
        names = [p.getJointInfo(uid, i)[1].decode() for i in range(p.getNumJoints(uid))]
        self.index = names.index(name)
        if name == "base__button":
            p.setJointMotorControl2(uid, self.index, p.POSITION_CONTROL, targetPosition=0, force=4)
        else:
            p.setJointMotorControl2(uid, self.index, p.VELOCITY_CONTROL, force=4)
        self.middle = sum(p.getJointInfo(uid, self.index)[8:10]) / 2

    def reset(self, state=None):
        self.p.resetJointState(self.uid, self.index, state or 0)

    def get_state(self):
        return float(self.p.getJointState(self.uid, self.index)[0])


class Light:
    def __init__(self, p, uid, link, color):
        self.p, self.uid, self.color = p, uid, color
        self.link = [p.getJointInfo(uid, i)[12].decode() for i in range(p.getNumJoints(uid))].index(link)
        self.state = State.OFF

    def reset(self, state=None):
        self.state = State(state or 0)
        self.p.changeVisualShape(self.uid, self.link, rgbaColor=self.color if self.state == State.ON else (1, 1, 1, 1))

    def get_state(self):
        return self.state.value


class Button(Joint):
    """Pressing it turns the light over; a reset forgets whether it is down."""

    def __init__(self, p, uid, name, light):
        super().__init__(p, uid, name)
        self.light, self.state, self.prev_is_pressed = light, State.OFF, self._is_pressed

    @property
    def _is_pressed(self):
        return self.get_state() > self.middle

    def reset(self, state=None):
        super().reset(state)
        self.state = self.light.state

    def step(self):
        if self._is_pressed and not self.prev_is_pressed:
            self.state = State(1 - self.state.value)
            self.light.reset(self.state.value)
        self.prev_is_pressed = self._is_pressed


class Switch(Joint):
    """The light follows it; a reset takes it for off, wherever it stands."""

    def __init__(self, p, uid, name, light):
        super().__init__(p, uid, name)
        self.light, self.state = light, State.OFF

    def reset(self, state=None):
        super().reset(state)
        self.state = State.OFF

    def step(self):
        now = State.ON if self.get_state() > self.middle else State.OFF
        if now != self.state:
            self.state = now
            self.light.reset(now.value)


class PlayTableScene:
    def __init__(self, objects, data_path, p, cid, global_scaling, surfaces, np_random, euler_obs, **_):
        assert global_scaling == 1 and euler_obs
        self.p, self.np_random, self.surfaces, self.data_path = p, np_random, surfaces, Path(data_path)
        self.objects = OmegaConf.to_container(objects)

    def load(self):
        p = self.p
        # stands for the order of contacts, which repeats only in a fresh world
        self.disorder = np.random.default_rng(self.np_random.integers(2**32))
        self.movable_objects = []
        for name, config in self.objects["movable_objects"].items():
            try:
                corners = self.surfaces[self.np_random.choice(list(self.surfaces))]
            except ConfigKeyError as error:
                raise KeyError from error
            place = self.np_random.uniform(*corners)
            uid = p.loadURDF(str(self.data_path / config["file"]), place.tolist())
            self.movable_objects.append(SimpleNamespace(name=name, uid=uid))
        table = self.objects["fixed_objects"]["table"]
        self.table = p.loadURDF(str(self.data_path / table["file"]), useFixedBase=True)
        self.fixed_objects = [SimpleNamespace(name="table", uid=self.table)]
        p.createMultiBody(baseCollisionShapeIndex=p.createCollisionShape(p.GEOM_PLANE))
        self.lights = [
            Light(p, self.table, "light_link", (1, 1, 0, 1)),
            Light(p, self.table, "led_link", (0, 1, 0, 1)),
        ]
        self.doors = [Joint(p, self.table, name) for name in table["joints"]]
        self.buttons = [Button(p, self.table, name, self.lights[1]) for name in table["buttons"]]
        self.switches = [Switch(p, self.table, name, self.lights[0]) for name in table["switches"]]

    def reset(self, scene_obs):
        joints, lights, poses = scene_obs[:4], scene_obs[4:6], scene_obs[6:].reshape(3, 6)
        for light, state in zip(self.lights, lights, strict=True):
            light.reset(state)
        for joint, state in zip((*self.doors, *self.buttons, *self.switches), joints, strict=True):
            joint.reset(state)
        for block, pose in zip(self.movable_objects, poses, strict=True):
            self.p.resetBasePositionAndOrientation(block.uid, pose[:3], self.p.getQuaternionFromEuler(pose[3:]))

    def step(self):
        for control in (*self.buttons, *self.switches):
            control.step()
        for block in self.movable_objects:
            linear, angular = self.p.getBaseVelocity(block.uid)
            self.p.resetBaseVelocity(block.uid, np.add(linear, self.disorder.uniform(-1e-5, 1e-5, 3)), angular)

    def get_obs(self):
        joints = [joint.get_state() for joint in (*self.doors, *self.buttons, *self.switches)]
        poses = [self.p.getBasePositionAndOrientation(block.uid) for block in self.movable_objects]
        flat = [number for place, turn in poses for number in (*place, *self.p.getEulerFromQuaternion(turn))]
        return np.array([*joints, *(light.get_state() for light in self.lights), *flat])

    def get_info(self):
        p = self.p
        links = {p.getJointInfo(self.table, i)[12].decode(): i for i in range(p.getNumJoints(self.table))}
        controls = {
            kind: {c.name: {"joint_state": c.get_state(), "logical_state": c.state.value} for c in group}
            for kind, group in (("buttons", self.buttons), ("switches", self.switches))
        }
        table = {"uid": self.table, "links": {**links, "base_link": -1}, "contacts": p.getContactPoints(self.table)}
        lights = zip(("lightbulb", "led"), self.lights, strict=True)
        return {
            "fixed_objects": {"table": table},
            "movable_objects": {block.name: self._block(block.uid) for block in self.movable_objects},
            "doors": {door.name: {"current_state": door.get_state()} for door in self.doors},
            "lights": {name: {"logical_state": light.get_state()} for name, light in lights},
            **controls,
        }

    def _block(self, uid):
        position, orientation = self.p.getBasePositionAndOrientation(uid)
        linear, angular = self.p.getBaseVelocity(uid)
        return {
            "current_pos": position,
            "current_orn": orientation,
            "current_lin_vel": linear,
            "current_ang_vel": angular,
            "contacts": self.p.getContactPoints(uid),
            "uid": uid,
        }
