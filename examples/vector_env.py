"""Our policy in one of Gymnasium's vector environments: a batch of observations in, a batch of actions out.

    python examples/vector_env.py [--num-envs 4 --episodes 8 --autoreset SameStep]

The episodes are those of `rf-agent evaluate`, so the numbers are the same, too, up to the rounding of batches. Needs
Gymnasium 1.1 or newer.
"""

import argparse
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.wrappers.vector import RecordEpisodeStatistics

from rf_agent import load_policy
from rf_agent.evaluation.benchmark_episodes import BenchmarkEpisodes, divide_episodes, task_items

TASKS = ("open_drawer", "move_slider_left", "turn_on_led", "push_red_block_left", "lift_red_block_table")


def play(policy: Any, envs: VectorEnv, counts: list[int]) -> dict[str, tuple[float, int]]:
    """Return and steps of the first episodes of each environment, as many as `counts` says, by `info["episode_key"]`.

    Taking a fixed number of each is what keeps the mean right: of the first that end, too many would be short ones.
    """
    mode = envs.metadata["autoreset_mode"]
    played: dict[str, tuple[float, int]] = {}
    left = np.array(counts)
    observations, _ = envs.reset()
    state, starts, ended = None, np.ones(envs.num_envs, dtype=bool), np.zeros(envs.num_envs, dtype=bool)
    while left.any():
        actions, state = policy.predict(observations, state, starts)  # or policy.reset(starts.nonzero()[0]), policy.act
        observations, _, terminated, truncated, infos = envs.step(actions)
        ended_before, ended = ended, terminated | truncated
        # An episode's first observation comes in place of the last one's final observation, or a step after it.
        starts = ended if mode is AutoresetMode.SAME_STEP else ended_before
        final = infos["final_info"] if mode is AutoresetMode.SAME_STEP and ended.any() else infos
        for i in np.flatnonzero(ended & (left > 0)):
            played[final["episode_key"][i]] = float(infos["episode"]["r"][i]), int(infos["episode"]["l"][i])
            left[i] -= 1
    return played


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="rf/PlayTableD-v0")
    parser.add_argument("--policy", default="roboflamingo-tiny", help="a bundled name or a checkpoint directory")
    parser.add_argument("--num-envs", type=int, default=2)
    parser.add_argument("--episodes", type=int, default=2, help="of each task")
    parser.add_argument("--mode", choices=("sync", "async"), default="sync", help="async: a process for each")
    parser.add_argument("--autoreset", choices=[mode.value for mode in AutoresetMode][:2], default="NextStep")
    args = parser.parse_args()

    policy = load_policy(args.policy)
    items = task_items(list(TASKS), args.episodes, seed=0)
    parts = divide_episodes(items, args.num_envs)
    envs: Any = gym.make_vec(
        f"rf_envs:{args.env}",
        num_envs=args.num_envs,
        vectorization_mode=args.mode,
        vector_kwargs={"autoreset_mode": args.autoreset},
        wrappers=[lambda env: BenchmarkEpisodes(env, items)],
        render_every=policy.config.head.replan_every,  # the policy does not look at images in between
    )
    envs.set_attr("items", parts)
    envs = RecordEpisodeStatistics(envs)
    played = play(policy, envs, [len(part) for part in parts])
    envs.close()

    for item in items:
        reward, steps = played[item.key]
        print(f"{item.key}: {'success' if reward else 'failure'} after {steps} steps")
    print(f"mean return {np.mean([reward for reward, _ in played.values()]):.2f} of {len(played)} episodes")


if __name__ == "__main__":
    main()
