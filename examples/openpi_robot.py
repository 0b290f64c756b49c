"""A robot's loop with `openpi-client`, which knows nothing of this project; the robot is that of the play table.

    rf-agent serve --policy roboflamingo-tiny             # in one terminal
    python examples/openpi_robot.py --episodes 20         # in another one

With `pip install openpi-client typing_extensions` the loop is that of any robot that talks to an openpi server. That
needs numpy<2, so an environment of its own, and there this project for the table: `pip install -e .`, without the
newer NumPy of constraints.txt. Where it is not installed the same loop runs through our own `RemotePolicy`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np

TASKS = ("open_drawer", "close_drawer", "turn_on_led", "move_slider_left", "move_slider_right")

Act = Callable[[dict[str, Any], str, bool], np.ndarray]


def through_openpi(host: str, port: int) -> Act:
    """The client of openpi, which carries out chunks with its `ActionChunkBroker`."""
    from openpi_client.action_chunk_broker import ActionChunkBroker
    from openpi_client.websocket_client_policy import WebsocketClientPolicy

    client = WebsocketClientPolicy(host, port)
    broker = ActionChunkBroker(client, client.get_server_metadata()["n_action_steps"])

    def act(observation: dict[str, Any], instruction: str, start: bool) -> np.ndarray:
        if start:
            broker.reset()  # forgets the last chunk; the server hears of it by the key "reset"
        message = {
            "observation/image": observation["rgb_static"],
            "observation/wrist_image": observation["rgb_gripper"],
            "observation/state": observation["robot_obs"],
            "prompt": instruction,
            "reset": start,
        }
        return broker.infer(message)["actions"]

    return act


def through_ours(host: str, port: int) -> Act:
    """The client of this project: it acts as the policy in this process would."""
    from rf_agent.serving import RemotePolicy

    policy = RemotePolicy(f"ws://{host}:{port}")

    def act(observation: dict[str, Any], instruction: str, start: bool) -> np.ndarray:
        if start:
            policy.reset()
        return policy.act(observation)

    return act


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--episodes", type=int, default=5)
    parser.add_argument("--client", choices=("openpi", "ours", "auto"), default="auto")
    args = parser.parse_args()
    try:
        act = (through_ours if args.client == "ours" else through_openpi)(args.host, args.port)
    except ModuleNotFoundError as error:
        if args.client == "openpi" or (error.name or "").partition(".")[0] != "openpi_client":
            raise
        print("openpi-client is not installed: the client is that of this project")
        act = through_ours(args.host, args.port)

    env = gym.make("rf_envs:rf/PlayTableD-v0")
    successes = 0
    for episode in range(args.episodes):
        observation, info = env.reset(seed=episode, options={"task": TASKS[episode % len(TASKS)]})
        start, done = True, False
        while not done:
            action = act(observation, info["instruction"], start)
            observation, _, terminated, truncated, info = env.step(action)
            start, done = False, terminated or truncated
        successes += info["is_success"]
        print(f"{episode}  {info['task']}: {'success' if info['is_success'] else 'failure'}", flush=True)
    print(f"{successes} of {args.episodes}")


if __name__ == "__main__":
    main()
