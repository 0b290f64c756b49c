"""Our policy in Stable-Baselines3's own evaluation, with one environment and with several.

    python examples/sb3_evaluate.py [--chains 10 --n-envs 4]

The chains are those of `rf-agent evaluate`, and the mean reward is its average length.
Needs `pip install -c constraints.txt -e '.[sb3]'`.
"""

import argparse
from functools import partial
from typing import Any

import gymnasium as gym

from rf_agent import load_policy
from rf_agent.evaluation.benchmark_episodes import BenchmarkEpisodes, chain_items, divide_episodes

try:
    from stable_baselines3.common.evaluation import evaluate_policy
    from stable_baselines3.common.monitor import Monitor
    from stable_baselines3.common.vec_env import DummyVecEnv
except ImportError:
    raise SystemExit("this example needs Stable-Baselines3: pip install -c constraints.txt -e '.[sb3]'") from None


def record(local: dict[str, Any], _: dict[str, Any]) -> None:
    """Print each episode as it ends."""
    if local["done"]:
        info = local["info"]
        print(f"  {info['episode_key']}: {info['completed']} of 5 tasks in {info['episode']['l']} steps")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="rf/PlayTableChainD-v0")
    parser.add_argument("--policy", default="roboflamingo-tiny", help="a bundled name or a checkpoint directory")
    parser.add_argument("--chains", type=int, default=4)
    parser.add_argument("--n-envs", type=int, default=2)
    parser.add_argument("--max-steps", type=int, default=360, help="of each task")
    args = parser.parse_args()

    policy: Any = load_policy(args.policy)
    items = chain_items(args.chains, seed=0)

    def make(part: list) -> Monitor:
        render_every = policy.config.head.replan_every  # the policy does not look at images in between
        env = gym.make(f"rf_envs:{args.env}", render_every=render_every, max_steps=args.max_steps)
        return Monitor(BenchmarkEpisodes(env, part))

    for n_envs in (1, args.n_envs):
        print(f"{n_envs} environment{'s' * (n_envs > 1)}:")
        envs = DummyVecEnv([partial(make, part) for part in divide_episodes(items, n_envs)])
        mean, deviation = evaluate_policy(policy, envs, n_eval_episodes=len(items), callback=record)
        envs.close()
        print(f"  mean reward, the average length: {mean:.2f} +- {deviation:.2f}")


if __name__ == "__main__":
    main()
