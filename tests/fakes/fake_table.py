"""A stand-in for the play table that costs nothing: what collection needs of an environment, and no more."""

from __future__ import annotations

import gymnasium as gym
import numpy as np

SIZE = 24
TASKS = ("go_left", "go_right")


class ActingExpert:
    """It does not say which tasks it can do."""

    def __init__(self, env):
        self._env = env

    def act(self):
        sign = -1.0 if self._env.task == "go_left" else 1.0
        return np.array([sign * 0.5, 0, 0, 0, 0, 0, -1.0], np.float32)


class FakeExpert(ActingExpert):
    tasks = TASKS


class FakeTable(gym.Env):
    """Move along x for a drawn number of steps; one episode in four fails."""

    scene, renderer, gripper_index = "D", "fake", 6
    noise_weights = (1, 1, 1, 0.5, 0.5, 0.5, 0)
    observation_space = gym.spaces.Dict(
        {
            "rgb_static": gym.spaces.Box(0, 255, (SIZE, SIZE, 3), np.uint8),
            "rgb_gripper": gym.spaces.Box(0, 255, (SIZE, SIZE, 3), np.uint8),
            "robot_obs": gym.spaces.Box(-10, 10, (15,), np.float32),
        }
    )
    action_space = gym.spaces.Box(-1, 1, (7,), np.float32)

    def __init__(self, longest=20):
        self.task, self.longest = TASKS[0], longest

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.task = (options or {}).get("task", TASKS[0])
        self.steps, self.length = 0, int(self.np_random.integers(10, self.longest))
        self.fails = self.np_random.random() < 0.25
        self.x = float(self.np_random.uniform(-0.2, 0.2))
        return self._observe(), self._info(False)

    def step(self, action):
        self.steps += 1
        self.x += 0.02 * float(action[0])
        done = self.steps == self.length
        return self._observe(), float(done), done, False, self._info(done and not self.fails)

    def expert(self):
        return FakeExpert(self)

    def randomize(self, seed):
        rng = np.random.default_rng(seed)
        self.x, self.y = rng.uniform(0, 1, 2)
        return self._observe()

    def describe(self):
        position = np.array([self.x, self.y, 0.5])
        return {
            "captions": [f"a block on the {'left' if self.x < 0.5 else 'right'}"],
            "questions": [("where is the block?", "left" if self.x < 0.5 else "right")],
            "objects": [
                {"text": "the block", "name": "block", "position": position, "yaw": 0.3},
                {"text": "push the block", "name": "block", "position": position, "yaw": 0.3},
                {"text": "the lamp", "name": "lamp", "position": np.zeros(3), "yaw": None},
            ],
            "gripper": {"position": np.zeros(3), "euler": np.array([np.pi, 0, 1.5]), "width": 0.04},
        }

    def _observe(self):
        image = np.zeros((SIZE, SIZE, 3), np.uint8)
        column = int(np.clip(self.x, 0, 0.999) * SIZE)
        row = int(np.clip(getattr(self, "y", 0.5), 0, 0.999) * SIZE)
        image[max(0, row - 2) : row + 3, max(0, column - 2) : column + 3] = 255
        robot_obs = np.zeros(15, np.float32)
        robot_obs[0] = self.x
        return {"rgb_static": image, "rgb_gripper": image.copy(), "robot_obs": robot_obs}

    def _info(self, success):
        return {
            "is_success": success,
            "task": self.task,
            "instruction": f"please {self.task.replace('_', ' ')}",
        }


class FakeChain(FakeTable):
    """Three tasks in a row, each from where the last one ended; one in four fails."""

    def reset(self, *, seed=None, options=None):
        self.chain = (options or {}).get("chain", 0)
        self.subtask = 0
        observation, info = super().reset(seed=seed, options={"task": TASKS[self.chain % 2]})
        self.x = 0.0
        return observation, info | self._chain_info()

    def step(self, action):
        observation, _, done, _, info = super().step(action)
        solved, failed = done and not self.fails, done and self.fails
        if solved:
            self.subtask += 1
            self.task = TASKS[(self.chain + self.subtask) % 2]
            self.steps, self.length = 0, int(self.np_random.integers(10, 20))
            self.fails = self.np_random.random() < 0.25
        over = self.subtask == 3
        return observation, float(solved), over, failed, self._info(over) | self._chain_info()

    def _chain_info(self):
        return {"chain": self.chain, "subtask": min(self.subtask, 2), "completed": self.subtask}


class OtherTable(FakeTable):
    scene = "E"


class Silent(FakeTable):
    def expert(self):
        return ActingExpert(self)


class Narrow(FakeTable):
    action_space = gym.spaces.Box(-1, 1, (3,), np.float32)


class TwoGoals(FakeTable):
    """One task with two goals, in observations whose arrays are used again and again."""

    def __init__(self):
        super().__init__()
        self.goal, self.buffers = "red", {}

    def reset(self, *, seed=None, options=None):
        self.goal = ("red", "blue")[(seed or 0) % 2]
        return super().reset(seed=seed, options=options)

    def _observe(self):
        for key, values in super()._observe().items():
            values.flat[0] = self.steps
            self.buffers.setdefault(key, values.copy())[...] = values
        return dict(self.buffers)

    def _info(self, success):
        return super()._info(success) | {"instruction": f"go to the {self.goal} one"}


class Paraphrased(FakeTable):
    """All instructions of a task mean the same."""

    paraphrased = True


class Hopeless(FakeTable):
    """Nobody solves `go_right`."""

    def reset(self, *, seed=None, options=None):
        observation, info = super().reset(seed=seed, options=options)
        self.fails = self.task == "go_right"
        return observation, info


gym.register("Hopeless-v0", entry_point=Hopeless)
gym.register("Paraphrased-v0", entry_point=Paraphrased)
gym.register("TwoGoals-v0", entry_point=TwoGoals)
gym.register("FakeTable-v0", entry_point=FakeTable)
gym.register("FakeChain-v0", entry_point=FakeChain)
gym.register("OtherTable-v0", entry_point=OtherTable)
gym.register("Narrow-v0", entry_point=Narrow)
gym.register("Silent-v0", entry_point=Silent)
