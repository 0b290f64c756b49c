"""Tables without web and process for the tests of the play page, and how one plays at them."""

from __future__ import annotations

import json

import fake_env
import gymnasium as gym
import numpy as np

from rf_agent.play.messages import parse


class AskedEnv(fake_env.FakeEnv):
    """Takes another instruction without a reset, as the play table does, and has scenes and chains."""

    scenes = ("A", "B")

    def __init__(self, scene="A", **arguments):
        super().__init__(max_steps=100, **arguments)
        self.scene = scene

    def wordings(self):
        return {task: (task.replace("_", " "),) for task in self.tasks}

    def possible_tasks(self):
        return ("go_left",)

    def chain_start(self, index, scene):
        return {}, [("go_left", "go left"), ("go_right", "go right")]

    def ask(self, instruction, task=None):
        if len(instruction.encode()) > 256:
            raise ValueError("The instruction is too long.")
        task = task or self.task_of(instruction)
        self.queue, self.completed, self.steps = [task or "go_far"], 0, 0
        info = self._info(False) | {"instruction": instruction}
        return self._observe(), info if task else info | {"task": "", "not_scored": "nobody knows that"}


class ArmEnv(AskedEnv):
    """Has an arm at that position, a camera that looks along y, and a state that a reset brings back, at rest."""

    static_camera = {"look_from": (0, -4, 0), "look_at": (0, 0, 0), "up": (0, 0, 1), "field_of_view": 90.0}
    position_step = 0.1
    reset_options = ("task", "robot_obs", "scene_obs")

    def __init__(self, **arguments):
        super().__init__(**arguments)
        spaces = dict(self.observation_space.spaces, robot_obs=gym.spaces.Box(-9, 9, (15,), np.float32))
        self.observation_space = gym.spaces.Dict(spaces)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed, options=options)
        self.speed = 0.0
        if options and "robot_obs" in options:
            if not np.allclose(options["scene_obs"], 2 * options["robot_obs"][0]):
                raise ValueError("The scene does not fit the robot.")
            self.position = float(options["robot_obs"][0])
        return self._observe(), self._info(False)

    def step(self, action):
        self.speed = float(action[0])
        return super().step(action)

    @property
    def robot_obs(self):
        return np.array([self.position] + [0.0] * 13 + [1.0])

    @property
    def scene_obs(self):
        return np.full(24, 2 * self.position)

    def _observe(self):
        return super()._observe() | {"robot_obs": self.robot_obs.astype(np.float32)}


class BlindEnv(fake_env.FakeEnv):
    """Its observation is a dictionary without images."""

    def _observe(self):
        return {"robot_obs": np.zeros(15, np.float32)}


gym.register("fake/Asked-v0", AskedEnv)
gym.register("fake/AskedB-v0", AskedEnv, kwargs={"scene": "B"})
gym.register("fake/Blind-v0", BlindEnv)


class Clock:
    """Shows what it is set to."""

    now = 0.0

    def __call__(self):
        return self.now


def do(session, **command):
    """As a message of the page would."""
    session.handle(parse(json.dumps(command)))


def play(session, steps=200):
    """Step while time goes on; returns how often."""
    for count in range(steps):
        if not session.wants_step():
            return count
        session.step()
    return steps


def said(session, kind):
    """Messages for the page so far."""
    return [message for message in session.outbox if message["type"] == kind]


def load(session):
    """Wait until the policy is there."""
    session._loader._executor.submit(int).result()  # the one thread that loads has come to the end of its queue
