"""`rf-agent rollout`: what a policy is asked, and what is filmed."""

from __future__ import annotations

import fake_env
import gymnasium as gym
import numpy as np
import pytest

from rf_agent import cli
from rf_agent.environments import camera_images

ASKED: list[str] = []


class Listener:
    """Keeps what it is asked."""

    def reset(self):
        pass

    def act(self, observation):
        ASKED.append(observation["instruction"])
        return np.zeros(7, np.float32)


class Talking(fake_env.FakeEnv):
    """Says its instruction in `info` alone, whatever `reset` is asked for; sees depth beside colour."""

    task_of = None

    def __init__(self, render_mode=None):
        super().__init__(render_mode=render_mode, max_steps=2)
        spaces = {key: space for key, space in self.observation_space.spaces.items() if key != "instruction"}
        spaces["depth"] = gym.spaces.Box(0, 9, (20, 20, 1), np.float32)
        self.observation_space = gym.spaces.Dict(spaces)

    def _observe(self):
        seen = {key: value for key, value in super()._observe().items() if key != "instruction"}
        return {**seen, "depth": np.ones((20, 20, 1), np.float32)}


gym.register("fake/Talking-v0", Talking)


@pytest.mark.parametrize(("words", "asked"), [((), "go left"), (("--instruction", "go up slowly"), "go up slowly")])
def test_the_policy_is_asked_what_the_user_asks_also_where_the_environment_does_not_take_it(tmp_path, words, asked):
    ASKED.clear()
    video = tmp_path / "a.mp4"
    policy, env = f"{__name__}:Listener", "fake/Talking-v0"
    given = ["--episodes", "1", "--tasks", "go_left"] if not words else ["--episodes", "1"]
    with pytest.raises(SystemExit, match="0"):
        cli.main(["rollout", "--env", env, "--policy", policy, *given, *words, "--output", str(video)])
    assert ASKED == [asked] * 2 and video.exists()


def test_images_are_what_has_colours():
    colour, depth = np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4, 1), np.float32)
    observation = {"rgb": colour, "depth": depth, "first": colour.transpose(2, 0, 1), "float": colour.astype(float)}
    assert [image is colour for image in camera_images(observation)] == [True]
    assert camera_images(colour) == []
