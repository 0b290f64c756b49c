"""Your own robot: demonstrations by a script, training, evaluation. Under five minutes on two cores.

    pip install -c constraints.txt -e '.[train]'
    python examples/custom_env.py [--output runs/reach]

The environment below is none of this project's: two cameras of other names, actions of two numbers in metres a second,
no gripper. A policy learns to move to the disc that the instruction names. The commands know such environments too:

    PYTHONPATH=examples rf-agent rollout --env custom_env:Reach-v0 --policy runs/reach/run/policy
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from rf_agent import RoboFlamingoPolicy
from rf_agent.checkpoint_files import CHECKPOINT
from rf_agent.demos import Demonstration, write_demonstrations
from rf_agent.progress import RichReporter
from rf_agent.training.trainer import TrainConfig, train

COLORS = {"red": (230, 40, 40), "blue": (40, 80, 230)}
SIDE = 32  # pixels
FPS, MAX_SPEED, TOUCH = 10, 0.5, 0.08  # Hz, m/s, m


class Reach(gym.Env):
    """A pointer over a square of 1 m with two discs: touch the one that is asked for, and not the other."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": FPS}
    observation_space = gym.spaces.Dict(
        {
            "top": gym.spaces.Box(0, 255, (SIDE, SIDE, 3), np.uint8),
            "wrist": gym.spaces.Box(0, 255, (SIDE, SIDE, 3), np.uint8),
        }
    )
    action_space = gym.spaces.Box(-MAX_SPEED, MAX_SPEED, (2,), np.float32)

    def __init__(self, render_mode: str | None = None, **_: Any) -> None:
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        while True:
            red, blue, pointer = self.np_random.uniform(0.1, 0.9, (3, 2))
            if min(np.linalg.norm(d) for d in (red - blue, red - pointer, blue - pointer)) > 0.25:
                break
        self.discs, self.pointer = {"red": red, "blue": blue}, pointer
        self.target = (options or {}).get("task") or str(self.np_random.choice(list(COLORS)))
        self.steps = 0
        return self._observe(), self._info(False)

    def step(self, action):
        velocity = np.clip(action, self.action_space.low, self.action_space.high)
        self.pointer, self.steps = np.clip(self.pointer + velocity / FPS, 0, 1), self.steps + 1
        touched = [color for color, disc in self.discs.items() if np.linalg.norm(disc - self.pointer) < TOUCH]
        success = touched == [self.target]
        return self._observe(), float(success), bool(touched), self.steps == 60, self._info(success)

    def render(self):
        return self._draw(np.full(2, 0.5), 1.0)

    def _observe(self):
        return {"top": self._draw(np.full(2, 0.5), 1.0), "wrist": self._draw(self.pointer, 0.4)}

    def _draw(self, middle, width):
        """The square as a camera sees that is `width` metres wide and stands over `middle`."""
        columns = (np.arange(SIDE) + 0.5) / SIDE - 0.5
        grid = width * np.stack(np.meshgrid(columns, columns), -1) + middle
        image = np.full((SIDE, SIDE, 3), 200, np.uint8)
        for color, disc in self.discs.items():
            image[np.linalg.norm(grid - disc, axis=-1) < TOUCH] = COLORS[color]
        image[np.linalg.norm(grid - self.pointer, axis=-1) < 0.03] = 0
        return image

    def _info(self, success):
        return {"task": self.target, "instruction": f"move to the {self.target} disc", "is_success": success}


gym.register("Reach-v0", Reach)


def demonstrate(table: Reach, seed: int) -> Demonstration:
    """Straight to the disc, around the other one; disturbed, so that the way back is shown too."""
    observation, info = table.reset(seed=seed)
    images: dict[str, list[np.ndarray]] = {"top": [], "wrist": []}
    actions, done = [], False
    while not done:
        velocity = 2.0 * (table.discs[table.target] - table.pointer)
        for color, disc in table.discs.items():
            away = table.pointer - disc
            distance = np.linalg.norm(away)
            if color != table.target and distance < 0.2:
                velocity += 6 * (0.2 - distance) * away / distance
        velocity *= min(1.0, MAX_SPEED / np.linalg.norm(velocity))
        for camera in images:
            images[camera].append(observation[camera])
        actions.append(velocity)
        noise = table.np_random.normal(0, 0.15, 2)
        observation, _, terminated, truncated, info = table.step(velocity + noise)
        done = terminated or truncated
    stacked = {camera: np.stack(frames) for camera, frames in images.items()}
    return Demonstration(stacked, np.stack(actions), info["instruction"], info["task"], success=info["is_success"])


def evaluate(env: gym.Env, act: Callable[[dict[str, Any], bool], np.ndarray] | None, episodes: int) -> float:
    """Share of the episodes in which `act` touches the right disc; `act` is None for random actions."""
    successes = 0
    for seed in range(10_000, 10_000 + episodes):
        observation, info = env.reset(seed=seed)
        env.action_space.seed(seed)
        done, start = False, True
        while not done:
            given = observation | {"instruction": info["instruction"]}
            action = env.action_space.sample() if act is None else act(given, start)
            observation, _, terminated, truncated, info = env.step(action)
            done, start = terminated or truncated, False
        successes += info["is_success"]
    return successes / episodes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("runs/reach"))
    parser.add_argument("--demos", type=int, default=2500)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--episodes", type=int, default=100)
    args = parser.parse_args()
    if min(args.demos, args.steps, args.episodes) < 1:
        parser.error("--demos, --steps and --episodes are numbers from 1 on")

    env = gym.make("Reach-v0")
    demos = [demo for demo in (demonstrate(Reach(), seed) for seed in range(args.demos)) if demo.success]
    file = write_demonstrations(args.output / "demos.hdf5", demos, fps=FPS, overwrite=True)
    print(f"{len(demos)} demonstrations: {file}")

    config = TrainConfig(
        demos=(file,),
        output=args.output / "run",
        preset="roboflamingo-test",  # the smallest there is, a little wider
        override=(
            "vision.model.hidden_sizes=[32,64]",
            "resampler.latents=8",
            "head.hidden=64",
            "head.mlp=[64]",
            "head.window=1",
            "head.n_action_steps=1",
            "head.chunk_size=2",
        ),
        steps=args.steps,
        batch_size=128,
        sequence_length=1,
        learning_rate=2e-3,
        ema_decay=0.99,
        resume=(args.output / "run" / CHECKPOINT).exists(),
    )
    with RichReporter("train") as reporter:
        report = train(config, reporter)

    policy = RoboFlamingoPolicy.from_pretrained(report.output)

    def act(observation, start):
        if start:
            policy.reset()
        return policy.act(observation)

    print(f"random actions: {evaluate(env, None, args.episodes):.0%} of {args.episodes} episodes")
    print(f"the policy:     {evaluate(env, act, args.episodes):.0%} of {args.episodes} episodes")


if __name__ == "__main__":
    main()
