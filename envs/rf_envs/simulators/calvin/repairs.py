"""What of `calvin_env` breaks repeatability or a neighbour, mended from outside.

- `resetSimulation` drops the setting that makes the order of contacts repeatable.
- The robot's pedestal goes to PyBullet's first client, whichever that is.
- Closing prints, and once more when the object is collected, where it ends whoever has the client's number then.
- A reset leaves the button's and the switch's logic, and the last gripper action, as they were.
"""

from __future__ import annotations

import contextlib
import io
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np

from rf_envs.simulators.playtable.bullet import silence

_LOCK = threading.RLock()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what Python and C code print out of the terminal."""
    sink = io.StringIO()
    # `sys.stdout` belongs to all threads: two that replace it at a time would put each other's sink back
    with _LOCK, silence(), contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink):
        yield


@contextlib.contextmanager
def calls_go_to(client: Any, module: Any) -> Iterator[None]:
    """Let `module` call methods of `client` in place of PyBullet's functions, which take the first client there is."""
    with _LOCK:
        original, module.p = module.p, client
        try:
            yield
        finally:
            module.p = original


def repaired(environment: type, robot_module: Any) -> type:
    """`PlayTableSimEnv` with repeatable loading, a client that is all its own, and a quiet end."""

    class RepairedEnv(environment):  # type: ignore[misc, valid-type]
        def load(self) -> None:
            # blocks are put somewhere at random while loading; a reset with a scene_obs then moves them
            self.scene.np_random = np.random.default_rng(0)
            with calls_go_to(self.p, robot_module):
                super().load()
            self.p.setPhysicsEngineParameter(deterministicOverlappingPairs=1)

        def close(self) -> None:
            # also called on collection, maybe of an object that was never finished
            if getattr(self, "ownsPhysicsClient", False) and self.cid >= 0:
                self.ownsPhysicsClient = False
                with quiet():
                    self.p.disconnect()

    return RepairedEnv


def align_logic(env: Any, gripper_action: float) -> None:
    """After a reset: let button, switch and gripper remember what the new state implies.

    The button counts as pressed already if it is down, the lights' states stand until the next step, and the last
    gripper action is `gripper_action` (> 0 is open).
    """
    env.robot.gripper_action = 1 if gripper_action > 0 else -1
    for button in env.scene.buttons:
        button.prev_is_pressed = button._is_pressed
    for control in (*env.scene.buttons, *env.scene.switches):
        control.state = type(control.state)(control.light.get_state())
