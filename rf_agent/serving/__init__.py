"""A policy for robots and simulators on other machines: a server in openpi's websocket protocol, and our client.

Nothing here imports torch or transformers: the client needs websockets, msgpack and NumPy alone, and the server is
handed a policy.
"""

from rf_agent.serving.client import RemoteError, RemotePolicy

__all__ = ["RemoteError", "RemotePolicy"]
