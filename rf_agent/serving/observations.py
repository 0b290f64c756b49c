"""What a served policy says of itself, and how the messages of robots become its observations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rf_agent.config import INSTRUCTION_BYTES
from rf_agent.instructions import instructions

PROTOCOL = 1
"""Of the keys below; it grows when a client would have to change."""
RESET = "reset"
OPENPI_CAMERAS = ("observation/image", "observation/wrist_image")
OPENPI_STATE = "observation/state"
MAX_SIDE = 4096
"""Most pixels of a side of an image."""
NUMBER = (int, float, np.integer, np.floating)


def server_metadata(config: Any, name: str) -> dict[str, Any]:
    """The metadata that a client gets when it connects.

    Args:
        config: the policy's `RoboFlamingoConfig`.
        name: what the policy is called.
    """
    head, state = config.head, None
    if head.proprioception:
        state = {"key": config.state.key, "dim": config.state.dim} | ({"optional": True} if head.state_optional else {})
    return {
        "protocol": PROTOCOL,
        "policy": name,
        # any size is taken; the policy makes it this one
        "cameras": {view: [config.image.size, config.image.size, 3] for view in config.views},
        "state": state,
        "instruction": "instruction",
        "action_dim": config.action.dim,
        # in environment steps: a policy that repeats its actions sends each as often
        "chunk_size": head.chunk_size * head.repeat,
        "n_action_steps": head.replan_every,
        "fps": config.fps,
    }


@dataclass(frozen=True)
class ObservationReader:
    """Messages to observations of one policy. A message may use the policy's own names or openpi's.

    Args:
        cameras: the policy's cameras, in its order.
        state: key of the robot's state, or None if the policy reads none.
        state_dim: its entries.
        state_optional: whether a message may come without it.
    """

    cameras: tuple[str, ...]
    state: str | None = None
    state_dim: int = 0
    state_optional: bool = False

    @classmethod
    def of(cls, metadata: dict[str, Any]) -> ObservationReader:
        """For the policy that the metadata describe."""
        state = metadata["state"]
        cameras = tuple(metadata["cameras"])
        if not state:
            return cls(cameras)
        return cls(cameras, state["key"], state["dim"], state.get("optional", False))

    def read(self, message: Any) -> tuple[dict[str, Any] | None, bool]:
        """The observation, which is None in a message that only resets, and whether history restarts.

        Keys that the policy has no use for are left out.

        Raises:
            ValueError: the message is no observation of this policy; the text says what is wrong with it.
        """
        if not isinstance(message, dict):
            raise ValueError(f"a message of type {type(message).__name__} was sent; send a map with an observation")
        restart = message.get(RESET, False)
        if not isinstance(restart, bool | np.bool_):
            raise ValueError(f"reset is of type {type(restart).__name__}; give true or false")
        if restart and len(message) == 1:
            return None, True
        observation: dict[str, Any] = {}
        for index, camera in enumerate(self.cameras):
            key, value = self._find(message, camera, OPENPI_CAMERAS[index : index + 1])
            observation[camera] = check_image(key, value)
        sent = not self.state_optional or not {self.state, OPENPI_STATE}.isdisjoint(message)
        if self.state is not None and sent:
            key, value = self._find(message, self.state, (OPENPI_STATE,))
            observation[self.state] = check_state(key, value, self.state_dim)
        key, value = self._find(message, "instruction", ("prompt",))
        observation["instruction"] = check_instruction(key, value)
        return observation, bool(restart)

    def _find(self, message: dict[Any, Any], key: str, others: tuple[str, ...]) -> tuple[str, Any]:
        """The key under which a value was sent, and the value."""
        found = [name for name in (key, *others) if name in message]
        if len(found) == 1:
            return found[0], message[found[0]]
        if found:
            raise ValueError(f"the observation has both {found[0]!r} and {found[1]!r}; send one of them")
        names = " or ".join(map(repr, (key, *others)))
        given = ", ".join(sorted(repr(name)[:40] for name in message if name != RESET)[:20]) or "nothing"
        raise ValueError(f"the observation has no {names} (it has {given}); add it")


def check_image(key: str, value: Any) -> np.ndarray:
    """An image uint8 (H, W, 3). Raises ValueError for anything else."""
    if not isinstance(value, np.ndarray):
        raise ValueError(f"{key} is of type {type(value).__name__}; send an array uint8 (H, W, 3)")
    fits = value.ndim == 3 and value.shape[2] == 3 and all(1 <= side <= MAX_SIDE for side in value.shape[:2])
    if value.dtype != np.uint8 or not fits:
        raise ValueError(
            f"{key} has dtype {value.dtype} and shape {value.shape}; send uint8 (H, W, 3), at most {MAX_SIDE} a side"
        )
    return value


def check_state(key: str, value: Any, size: int) -> np.ndarray:
    """A finite state float32 (size,). Raises ValueError for anything else."""
    if not isinstance(value, np.ndarray | list):
        raise ValueError(f"{key} is of type {type(value).__name__}; send an array of {size} numbers")
    if isinstance(value, list) and not (len(value) == size and all(isinstance(n, NUMBER) for n in value)):
        # NumPy would give every entry the room of the longest one
        raise ValueError(f"{key} is a list of {len(value)} entries; send {size} numbers")
    numbers = np.asarray(value)
    if numbers.dtype.kind not in "fiu" or numbers.shape != (size,):
        raise ValueError(f"{key} has dtype {numbers.dtype} and shape {numbers.shape}; send {size} numbers")
    with np.errstate(over="ignore"):
        numbers = numbers.astype(np.float32)
    if not np.isfinite(numbers).all():
        raise ValueError(f"{key} has values that are not finite (NaN, infinite or too large); send finite numbers")
    return numbers


def check_instruction(key: str, value: Any) -> str:
    """An instruction as text: given as such, or as an array or list that `rf_agent.instructions` reads.

    Raises:
        ValueError: anything else. Nothing is read of an array that is too large: that would hold up all clients.
    """
    if isinstance(value, np.ndarray):
        entries = value.size
    elif isinstance(value, list):
        entries = len(value)
    elif isinstance(value, str | bytes):
        entries = 1
    else:
        raise ValueError(f"{key} is of type {type(value).__name__}; send text, or its bytes as uint8")
    if entries > INSTRUCTION_BYTES:
        raise ValueError(f"{key} has {entries} entries, but {INSTRUCTION_BYTES} is the most; send text")
    if isinstance(value, list) and not all(isinstance(text, str | bytes) for text in value):
        raise ValueError(f"{key} is a list of other things than text; send text")
    return instructions(value, 1)[0]
