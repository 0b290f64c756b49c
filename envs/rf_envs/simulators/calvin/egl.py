"""Which renderer draws: PyBullet's TinyRenderer, or OpenGL through EGL, as for CALVIN's published data.

A broken driver can crash or hang a process that loads the EGL plugin, so it is tried in another one first.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import subprocess
import sys
import weakref
from dataclasses import dataclass
from typing import Any

from rf_envs.errors import check_choice
from rf_envs.simulators.playtable.bullet import silence

RENDERERS = ("auto", "egl", "tiny")
PROBE_SECONDS = 60.0
"""How long trying EGL may take: a driver that needs longer hangs."""
_SOFTWARE = ("llvmpipe", "softpipe", "swrast", "swr")
_open_client: tuple[int, weakref.ref[Any]] | None = None
"""The process and the physics client that drew with EGL last. Several at once spoil each other's images."""
_PROBE = """
import sys
import pybullet as p
client = p.connect(p.DIRECT)
if p.loadPlugin(*sys.argv[1:], physicsClientId=client) < 0:
    sys.exit("PyBullet's EGL plugin does not load")
shape = p.createVisualShape(p.GEOM_BOX, halfExtents=[1, 1, 1], rgbaColor=[1, 0, 0, 1])
p.createMultiBody(baseVisualShapeIndex=shape)
view = p.computeViewMatrix([4, 4, 4], [0, 0, 0], [0, 0, 1])
pixels = p.getCameraImage(32, 32, view, p.computeProjectionMatrixFOV(60, 1, 0.1, 20))[2]
colors = bytes(memoryview(pixels)) if not isinstance(pixels, tuple) else bytes(pixels)
if len(set(colors)) < 3:
    sys.exit("EGL draws an empty image")
"""


@dataclass(frozen=True)
class EglProbe:
    """What came of trying EGL."""

    works: bool
    detail: str
    """The OpenGL renderer's name, or why there is none."""

    @property
    def is_software(self) -> bool:
        """Whether the drawing is done by the CPU."""
        return self.detail.lower().startswith(_SOFTWARE)


@functools.cache
def probe_egl() -> EglProbe:
    """Draw an image with EGL in another process. Tried once per process, in about a second."""
    search_path = os.pathsep.join(path for path in sys.path if path)
    try:
        answer = subprocess.run(
            [sys.executable, "-c", _PROBE, *_plugin()],
            env={**os.environ, "PYTHONPATH": search_path},
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PROBE_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return EglProbe(False, f"no image within {PROBE_SECONDS:.0f} s")
    except OSError as error:
        return EglProbe(False, f"Python could not be started to try it ({error})")
    if answer.returncode == 0:
        name = re.search(r"GL_RENDERER=(.+)", answer.stdout)
        return EglProbe(True, name[1].strip() if name else "unnamed")
    if answer.returncode < 0:
        return EglProbe(False, f"the driver crashed with signal {-answer.returncode}")
    lines = [line.strip() for line in (answer.stdout + answer.stderr).splitlines() if line.strip()]
    return EglProbe(False, lines[-1].rstrip(".") if lines else f"the process ended with code {answer.returncode}")


def choose_renderer(asked: str) -> str:
    """The renderer to use, "egl" or "tiny".

    For "auto" it is EGL where a GPU does the drawing, as for CALVIN's published data. OpenGL in software is slower
    than TinyRenderer, and its coarse depth buffer frays the edges of blocks, so it has to be asked for by name.

    Raises:
        ValueError: the name is none of `RENDERERS`.
        RuntimeError: EGL was asked for and does not work here.
    """
    check_choice("renderer", asked, RENDERERS)
    if asked == "tiny":
        return asked
    probe = probe_egl()
    if probe.works and (asked == "egl" or not probe.is_software):
        return "egl"
    if asked == "auto":
        return "tiny"
    raise RuntimeError(
        f"renderer='egl' does not work here: {probe.detail}. Install the driver of the GPU, or Mesa's (apt-get install "
        "libegl1 libgl1-mesa-dri), or use renderer='tiny', or 'auto', which takes EGL only where it works."
    )


def load_egl(client: Any) -> None:
    """Let a physics client draw with EGL everything that it loads from now on.

    Raises:
        RuntimeError: another client of this process does so already, the process comes from a fork of one that did, or
            the plugin does not load.
    """
    global _open_client
    if _open_client is not None:
        process, other = _open_client[0], _open_client[1]()
        if process != os.getpid():
            raise RuntimeError(
                "this process was forked from one that had drawn with EGL, and OpenGL does not survive that: start it "
                "with the 'spawn' context, or use renderer='tiny'."
            )
        if other is not None and other._client >= 0:
            raise RuntimeError(
                "this process already has an open CALVIN simulator that draws with EGL, and a second one would spoil "
                "its images: close the first, run each in a process of its own (Gymnasium's AsyncVectorEnv, "
                "Stable-Baselines3's SubprocVecEnv), or use renderer='tiny'."
            )
    with silence():
        plugin = client.loadPlugin(*_plugin())
    if plugin < 0:
        raise RuntimeError("PyBullet's EGL plugin does not load; use renderer='tiny'.")
    _open_client = os.getpid(), weakref.ref(client)


def _plugin() -> tuple[str, ...]:
    """The arguments of `loadPlugin`: the library that comes with PyBullet's wheel, or what is built in."""
    spec = importlib.util.find_spec("eglRenderer")
    return (spec.origin, "_eglRendererPlugin") if spec is not None and spec.origin else ("eglRendererPlugin",)
