"""A policy that Stable-Baselines3 trains, watched by its `EvalCallback`, then in our runner. Two minutes.

    python examples/sb3_train.py [--steps 5000]

PPO learns to press the button of the LED from the robot's state alone. It is evaluated on the episodes of
`rf-agent evaluate`, which plays it, too, and gives the same success rate:

    PYTHONPATH=examples rf-agent evaluate --env rf/PlayTableD-v0 --tasks turn_on_led --episodes-per-task 5 \\
        --policy sb3_train:load --output runs/sb3_train/evaluation

Needs `pip install -c constraints.txt -e '.[sb3]'`.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.wrappers import FilterObservation, FlattenObservation

from rf_agent.evaluation import evaluate_agent
from rf_agent.evaluation.benchmark_episodes import BenchmarkEpisodes, task_items

try:
    from stable_baselines3 import PPO
    from stable_baselines3.common.callbacks import EvalCallback
    from stable_baselines3.common.monitor import Monitor
except ImportError:
    raise SystemExit("this example needs Stable-Baselines3: pip install -c constraints.txt -e '.[sb3]'") from None

ENV, TASK = "rf/PlayTableD-v0", "turn_on_led"
OUTPUT = Path("runs/sb3_train")
NEVER = 1_000_000  # render_every of an agent that uses no image


class StatePolicy:
    """A model that knows the robot's state alone, as an agent of the whole observation."""

    render_every = NEVER

    def __init__(self, model: PPO) -> None:
        self.model = model

    def predict(self, observation: dict[str, np.ndarray], state=None, episode_start=None, deterministic=True):
        return self.model.predict(observation["robot_obs"], state, episode_start, deterministic)


def load(folder: Path = OUTPUT) -> StatePolicy:
    """The best model so far; `--policy sb3_train:load` calls this."""
    return StatePolicy(PPO.load(folder / "best_model", device="cpu"))


class Approach(gym.Wrapper):
    """Rewards motion to where the expert's hand solves the task: the environment's own reward comes too seldom."""

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        observation, _ = env.reset(seed=0)
        expert: Any = env.get_wrapper_attr("expert")()
        done = False
        while not done:
            observation, _, terminated, truncated, _ = env.step(expert.act())
            done = terminated or truncated
        self.goal = observation["robot_obs"][:3]

    def reset(self, **arguments: Any) -> tuple[Any, dict[str, Any]]:
        observation, info = self.env.reset(**arguments)
        self.distance = self._distance(observation)
        return observation, info

    def step(self, action: np.ndarray) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        before, self.distance = self.distance, self._distance(observation)
        return observation, 5 * float(reward) + (before - self.distance) / 0.02, terminated, truncated, info

    def _distance(self, observation: dict[str, np.ndarray]) -> float:
        return float(np.linalg.norm(observation["robot_obs"][:3] - self.goal))


def make(**options: Any) -> gym.Env:
    return gym.make(f"rf_envs:{ENV}", tasks=(TASK,), render_every=NEVER, **options)


def state_alone(env: gym.Env) -> gym.Env:
    """With observations (15,)."""
    return FlattenObservation(FilterObservation(env, ["robot_obs"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--episodes", type=int, default=5, help="of each evaluation")
    args = parser.parse_args()

    episodes = BenchmarkEpisodes(state_alone(make()), task_items([TASK], args.episodes, seed=0))
    callback = EvalCallback(
        Monitor(episodes),
        n_eval_episodes=args.episodes,
        eval_freq=min(1000, args.steps),
        best_model_save_path=str(args.output),
    )
    env = state_alone(Approach(make(max_steps=60)))
    model = PPO("MlpPolicy", env, n_steps=256, n_epochs=10, gamma=0.9, learning_rate=1e-3, seed=0, device="cpu")
    model.learn(args.steps, callback)

    results = evaluate_agent(load(args.output), ENV, tasks=[TASK], episodes_per_task=args.episodes, seed=0)
    print(f"EvalCallback's best mean reward: {callback.best_mean_reward:.2f}")
    print(f"success rate in our runner:      {results['success_rate']['1']['rate']:.2f}")


if __name__ == "__main__":
    main()
