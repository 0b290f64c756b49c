"""Plays with the package `openpi-client`, which needs an environment of its own. Runs under that interpreter.

    python openpi_peer.py recorded PORT EPISODES.npz FOUND.npz [KEY]
    python openpi_peer.py live PORT PIPE

`recorded`: the first file holds per episode `N/image`, `N/wrist_image` and `N/state` (T, ...) and `N/prompt`; the
second gets `N/actions` (T, D). `live`: the observations of an environment in another process come through the local
port PIPE, and every one is answered by its action.
"""

import sys
from multiprocessing.connection import Client

import numpy as np
from openpi_client import action_chunk_broker, msgpack_numpy, websocket_client_policy


def connect(port, key=None):
    policy = websocket_client_policy.WebsocketClientPolicy("127.0.0.1", int(port), key)
    steps = policy.get_server_metadata()["n_action_steps"]
    return policy, action_chunk_broker.ActionChunkBroker(policy, steps)


def recorded(port, given, found, key=None):
    policy, broker = connect(port, key)
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


def live(port, pipe):
    _, broker = connect(port)
    with Client(("127.0.0.1", int(pipe))) as environment:
        while True:
            try:
                observation = msgpack_numpy.unpackb(environment.recv_bytes())
            except EOFError:
                return
            if observation["reset"]:
                broker.reset()
            environment.send_bytes(msgpack_numpy.packb(broker.infer(observation)["actions"]))


if __name__ == "__main__":
    {"recorded": recorded, "live": live}[sys.argv[1]](*sys.argv[2:])
