"""Our policy in Stable-Baselines3's own evaluation; needs `pip install '.[sb3]'`."""

import argparse
from typing import Any

import gymnasium as gym

from rf_agent import RoboFlamingoPolicy

try:
    from stable_baselines3.common.evaluation import evaluate_policy
    from stable_baselines3.common.monitor import Monitor
except ImportError:
    raise SystemExit("this example needs Stable-Baselines3: pip install -c constraints.txt '.[sb3]'") from None

TASKS = ("open_drawer", "move_slider_left", "turn_on_led", "push_red_block_left", "lift_red_block_table")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--env", default="rf/PlayTableD-v0")
    parser.add_argument("--policy", default="roboflamingo-tiny", help="a bundled name or a checkpoint directory")
    parser.add_argument("--episodes", type=int, default=10)
    args = parser.parse_args()

    policy: Any = RoboFlamingoPolicy.from_pretrained(args.policy)
    env = Monitor(gym.make(f"rf_envs:{args.env}", tasks=TASKS, render_every=policy.config.head.replan_every))
    env.reset(seed=0)
    successes = []

    def record(local: dict, _: dict) -> None:
        if local["done"]:
            successes.append(local["info"]["is_success"])
            print(f"{local['info']['task']}: {'success' if successes[-1] else 'failure'}")

    mean, deviation = evaluate_policy(policy, env, n_eval_episodes=args.episodes, callback=record)
    print(f"mean reward {mean:.2f} +- {deviation:.2f}, success {sum(successes)}/{len(successes)}")


if __name__ == "__main__":
    main()
