"""What of this package works on this machine, and what to install for the rest.

Everything is tried for real: tables draw images, and the images are looked at. That happens in other processes,
since a broken renderer can crash or hang the one it runs in.
"""

from __future__ import annotations

import ctypes.util
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rf_envs.errors import INSTALL_PYBULLET
from rf_envs.simulators.base import Simulator

TRIAL_SECONDS = 120.0
"""How long a table may take to draw its images."""
INSTALL_EGL = "install the GPU's driver, or Mesa's: apt-get install libegl1 libgl1-mesa-dri"


@dataclass(frozen=True)
class Finding:
    """Something that this package may use."""

    name: str
    state: str
    """"ok", "missing", or "broken": there, but it does not work."""
    detail: str
    remedy: str = ""
    """What to do about it; empty if it is ok."""


def diagnose(calvin_root: str | os.PathLike[str] | None = None) -> list[dict[str, str]]:
    """Try the embedded table, EGL and the real CALVIN, in some seconds.

    Args:
        calvin_root: a clone of `calvin_env`; None for CALVIN_ENV_ROOT or the installed package.

    Returns:
        A `Finding` each, as a dict. The first is that of the embedded table, "play table".
    """
    embedded = _drawn("play table", "pip install --force-reinstall --no-deps pybullet", "embedded")
    return [asdict(finding) for finding in (embedded, *_calvin(calvin_root))]


def _calvin(calvin_root: str | os.PathLike[str] | None) -> list[Finding]:
    from rf_envs.simulators.calvin import find_clone
    from rf_envs.simulators.calvin.clone import HOW_TO_GET, ROOT_VARIABLE

    egl = _egl()
    try:
        clone = find_clone(calvin_root)
    except ImportError:
        detail = f"not installed, and {ROOT_VARIABLE} is not set"
        return [egl, Finding("calvin_env", "missing", detail, HOW_TO_GET)]
    except FileNotFoundError as error:
        detail, _, remedy = str(error).partition("; ")
        return [egl, Finding("calvin_env", "broken", detail, remedy)]
    findings = [egl, Finding("calvin_env", "ok", str(clone))]
    for renderer, name in (("tiny", "TinyRenderer"), ("egl", "EGL")):
        if renderer == "tiny" or egl.state == "ok":
            remedy = f"the clone may be damaged or too new: {HOW_TO_GET}"
            findings.append(_drawn(f"CALVIN with {name}", remedy, "calvin", str(clone), renderer))
    return findings


def _egl() -> Finding:
    from rf_envs.simulators.calvin import probe_egl

    if importlib.util.find_spec("pybullet") is None:
        return Finding(
            "EGL", "missing", "the package 'pybullet', which draws with it, is not installed", INSTALL_PYBULLET
        )
    probe = probe_egl()
    if probe.works:
        return Finding("EGL", "ok", probe.detail + (", on the CPU" if probe.is_software else ""))
    there = ctypes.util.find_library("EGL") is not None
    detail = f"{probe.detail} (only the real CALVIN can use it)"
    return Finding("EGL", "broken" if there else "missing", detail, INSTALL_EGL)


def _drawn(name: str, remedy: str, kind: str, *arguments: str) -> Finding:
    """What comes of letting another process draw with the simulator `kind` of `_SIMULATORS`."""
    try:
        return Finding(name, "ok", _try_to_draw(kind, *arguments))
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        remedy = INSTALL_PYBULLET if package.startswith("pybullet") else f"pip install {package}"
        return Finding(name, "missing", f"the package {package!r} is not installed", remedy)
    except RuntimeError as error:
        return Finding(name, "broken", str(error), remedy)


def _try_to_draw(kind: str, *arguments: str) -> str:
    """Draw in another process; what it has to say.

    Raises:
        ModuleNotFoundError: a package is missing.
        RuntimeError: the process crashed, hung or failed; the message says which.
    """
    command = "import sys; from rf_envs import diagnosis; diagnosis.draw(*sys.argv[1:])"
    try:
        answer = subprocess.run(
            [sys.executable, "-c", command, kind, *arguments],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TRIAL_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"no image within {TRIAL_SECONDS:.0f} s") from error
    if answer.returncode < 0:
        raise RuntimeError(f"the process that drew crashed with signal {-answer.returncode}")
    try:
        said: dict[str, Any] = json.loads(answer.stdout.rpartition("\n" + _MARK)[2])
    except ValueError as error:
        last = answer.stderr.strip().rpartition("\n")[2]
        raise RuntimeError(last or f"the process that drew ended with code {answer.returncode}") from error
    if "missing" in said:
        raise ModuleNotFoundError(said["error"], name=said["missing"])
    if "error" in said:
        raise RuntimeError(said["error"])
    return said["detail"]


_MARK = "drew: "


def draw(kind: str, *arguments: str) -> None:
    """In the other process: draw, look at the images, and print a line of JSON after `_MARK`."""
    said: dict[str, Any] = {}
    try:
        said["detail"] = look(_SIMULATORS[kind](*arguments))
    except Exception as error:  # whatever it is, it is the finding
        cause = error.__cause__ if isinstance(error.__cause__, ImportError) else error
        if isinstance(cause, ModuleNotFoundError):
            said["missing"] = cause.name
        said["error"] = " ".join(str(error).split()) or type(error).__name__
    print(f"\n{_MARK}{json.dumps(said)}")


def _embedded() -> Simulator:
    from rf_envs.simulators.playtable import PlayTable

    return PlayTable("D")


def _real(root: str, renderer: str) -> Simulator:
    from rf_envs.simulators.calvin import CalvinTable

    return CalvinTable("D", root, renderer)


_SIMULATORS: dict[str, Callable[..., Simulator]] = {"embedded": _embedded, "calvin": _real}


def look(table: Simulator) -> str:
    """Draw with both cameras of a table in its neutral state and check what is on the images.

    Raises:
        RuntimeError: an image is empty, or a block is not on it.
    """
    for _ in range(2):  # the second time as in use: the first also loads what is drawn
        begun = time.perf_counter()
        static, gripper = table.render("static", 200), table.render("gripper", 84)
        seconds = time.perf_counter() - begun
    table.close()
    for name, image in (("static", static), ("gripper", gripper)):
        if image.std() < 5:
            raise RuntimeError(f"the image of the {name} camera is empty")
    hidden = [color for color in ("red", "blue", "pink") if _pixels_of(color, static) < 8]
    if hidden:
        raise RuntimeError(f"there is no {' and no '.join(hidden)} block on the image of the static camera")
    return f"draws both cameras in {1000 * seconds:.0f} ms"


def _pixels_of(color: str, image: NDArray[np.uint8]) -> int:
    """How many pixels of an image (H, W, 3) have a block's colour, in any light."""
    red, green, blue = np.moveaxis(image.astype(int), -1, 0)
    margin = 60
    if color == "pink":
        return int(np.count_nonzero((red > green + margin) & (blue > green + margin)))
    first, second = (red, blue) if color == "red" else (blue, red)
    return int(np.count_nonzero((first > green + margin) & (first > second + margin)))
