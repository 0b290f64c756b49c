"""Plays with the package `openpi-client`, which needs an environment of its own. Runs under that interpreter.

    python openpi_peer.py PORT EPISODES.npz FOUND.npz [KEY]

The first file holds per episode `N/image`, `N/wrist_image` and `N/state` (T, ...) and `N/prompt`; the second gets
`N/actions` (T, D).
"""

import sys

import numpy as np
from openpi_client import action_chunk_broker, websocket_client_policy


def main(port, given, found, key=None):
    policy = websocket_client_policy.WebsocketClientPolicy("127.0.0.1", int(port), key)
    metadata = policy.get_server_metadata()
    broker = action_chunk_broker.ActionChunkBroker(policy, metadata["n_action_steps"])
    episodes, actions = np.load(given), {}
    for name in sorted({key.partition("/")[0] for key in episodes.files}):
        broker.reset()
        images, wrists = episodes[f"{name}/image"], episodes[f"{name}/wrist_image"]
        steps = []
        for step in range(len(images)):
            observation = {
                "observation/image": images[step],
                "observation/wrist_image": wrists[step],
                "observation/state": episodes[f"{name}/state"][step],
                "prompt": str(episodes[f"{name}/prompt"]),
                "reset": step == 0,
            }
            steps.append(broker.infer(observation)["actions"])
        actions[f"{name}/actions"] = np.stack(steps)
    np.savez(found, **actions)
    try:
        policy.infer({"prompt": "nothing to see"})
    except RuntimeError as error:
        print(error)


if __name__ == "__main__":
    main(*sys.argv[1:])
