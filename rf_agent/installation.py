"""What this machine can do, and what to install for the rest.

What can be tried is tried: policies act, the GPU multiplies, a video is written. The environments say what they can do
themselves, through Gymnasium; this module works without them, and without Gymnasium.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rf_agent.errors import UserError
from rf_agent.workers import usable_cores

if TYPE_CHECKING:
    from rf_agent.policy_config import PolicyConfig

DEFAULT_ENV = "rf_envs:rf/PlayTableD-v0"
PLAY_TABLE, POLICY = "play table", "policy"
"""Names of the findings that everything by default rests on; a policy's is followed by its name."""


@dataclass(frozen=True)
class Finding:
    """Something that this project may use."""

    name: str
    state: str
    """"ok", "missing", or "broken": there, but it does not work."""
    detail: str
    remedy: str = ""
    """What to do about it; empty if it is ok."""


REQUIRED = {
    "torch": "policies",
    "transformers": "language models and vision towers",
    "tokenizers": "instructions",
    "safetensors": "checkpoints",
    "h5py": "demonstrations",
    "tyro": "commands",
    "rich": "tables and progress",
    "pillow": "images",
    "imageio": "videos",
    "matplotlib": "windows and plots",
    "jinja2": "reports",
    "pyyaml": "the real CALVIN, and its files of instructions",
    "websockets": "serving policies",
    "msgpack": "serving policies",
    "gymnasium": "environments",
    "pybullet": "simulators; not needed for training",
}
OPTIONAL = {
    "accelerate": "training (rf-agent train and pretrain)",
    "peft": "LoRA (--trainable lora)",
    "tensorboard": "training curves",
    "stable-baselines3": "its evaluation and vector environments",
    "moviepy": "Gymnasium's RecordVideo",
    "pyarrow": "LeRobot data sets",
    "av": "videos of LeRobot data sets, and packed demonstrations",
    "starlette": "the page of rf-agent play",
    "uvicorn": "the page of rf-agent play",
    "pycocoevalcap": "scores of captions (rf-agent evaluate-vl)",
    "ray": "evaluations on a cluster (--engine ray)",
}
"""Names for pip, and what the package is for."""
MODULES = {"pillow": "PIL", "pyyaml": "yaml"}
"""Packages whose module has another name."""
REINSTALL = "reinstall this project: pip install --force-reinstall -e ."


def diagnose(calvin_root: Path | None = None) -> dict[str, list[Finding]]:
    """Try everything, in some ten seconds.

    Args:
        calvin_root: a clone of `calvin_env`, where neither CALVIN_ENV_ROOT nor an installed package names it.

    Returns:
        Findings by group: environments, policies, devices, display, packages.
    """
    return {
        "environments": _guarded(PLAY_TABLE, lambda: environments(calvin_root)),
        "policies": _guarded(POLICY, policies),
        "devices": [processor(), *_guarded("GPU", gpus)],
        "display": [*_guarded("video", video), *_guarded("window", window)],
        "packages": list(packages()),
    }


def _guarded(name: str, look: Callable[[], Iterable[Finding]]) -> list[Finding]:
    """What `look` finds, or one finding of that name about why it could not look."""
    try:
        return list(look())
    except ModuleNotFoundError as error:
        package = next((package for package, module in MODULES.items() if module == error.name), error.name)
        remedy = f"pip install {package}" if package not in ("rf_agent", "rf_envs") else REINSTALL
        return [Finding(name, "missing", f"the package {error.name!r} is not installed", remedy)]
    except Exception as error:  # whatever it is, it is the finding
        return [Finding(name, "broken", _one_line(error), REINSTALL)]


def environments(calvin_root: Path | None = None) -> Iterable[Finding]:
    """What the environments' own `diagnose` says."""
    import gymnasium

    try:
        env = gymnasium.make(DEFAULT_ENV, disable_env_checker=True)
    except ModuleNotFoundError as error:  # Gymnasium's own, about the one that says what is missing
        raise error.__cause__ or error from None
    except ImportError as error:
        if importlib.util.find_spec("pybullet") is not None:
            raise
        detail, _, remedy = str(error).partition(": ")  # the environments say what is missing, then the ways out
        yield Finding(PLAY_TABLE, "missing", detail, remedy)
        return
    for finding in env.unwrapped.diagnose(calvin_root):  # type: ignore[attr-defined]
        yield Finding(**finding)


def policies() -> Iterable[Finding]:
    """Load each bundled policy and let it act."""
    from rf_agent.policies import load_policy
    from rf_agent.presets import BUNDLED, is_checkpoint

    found = sorted(path for path in BUNDLED.glob("*") if is_checkpoint(path))
    if not found:
        yield Finding(POLICY, "missing", "none is bundled with this installation", REINSTALL)
    for path in found:
        name = f"{POLICY} {path.name}"
        try:
            policy = load_policy(path)
            action = policy.act(_blank_observation(policy.config))
            if action.shape != (policy.config.action.dim,) or not np.isfinite(action).all():
                raise ValueError(f"its action is {action}")
        except Exception as error:  # whatever it is, it is the finding
            yield Finding(name, "broken", _one_line(error), "restore its files: git checkout rf_agent/bundled")
            continue
        count = sum(parameter.numel() for parameter in policy.parameters())
        yield Finding(name, "ok", f"acts; {count / 1e6:.1f} million parameters")


def processor() -> Finding:
    """The processor, which is always there."""
    cores, usable = os.cpu_count() or 1, usable_cores()
    here = f"{cores} cores" if usable == cores else f"{usable} of {cores} cores, as many as this process may use"
    return Finding("CPU", "ok", f"{here}, {platform.machine()}, {platform.system()}")


def gpus() -> Iterable[Finding]:
    """Let each GPU that torch finds multiply two matrices."""
    import torch

    found = {f"cuda:{index}": f"GPU {index}" for index in range(torch.cuda.device_count())}
    if torch.backends.mps.is_available():
        found["mps"] = "GPU"
    if not found:
        built_for_gpus = torch.version.cuda or getattr(torch.version, "hip", None)
        what = "its driver" if built_for_gpus else "the build of torch for it, see pytorch.org"
        remedy = f"policies compute on the CPU; if there is a GPU, install {what}"
        yield Finding("GPU", "missing", f"torch {torch.__version__} finds none", remedy)
    for device, name in found.items():
        try:
            ones = torch.ones(64, 64, device=device)
            if float((ones @ ones)[0, 0]) != 64.0:
                raise RuntimeError(f"64 times 1 is {float((ones @ ones)[0, 0])} there")
        except (RuntimeError, AssertionError) as error:  # the latter from a torch that was built without CUDA
            remedy = "install the driver and the build of torch that fit it, see pytorch.org"
            yield Finding(name, "broken", _one_line(error), remedy)
            continue
        if device == "mps":
            yield Finding(name, "ok", "Apple's, --device mps")
        else:
            facts = torch.cuda.get_device_properties(device)
            yield Finding(name, "ok", f"{facts.name}, {facts.total_memory / 2**30:.0f} GiB, --device {device}")


def video() -> Iterable[Finding]:
    """Write a short video."""
    from rf_agent.evaluation.video import Video

    try:
        with tempfile.TemporaryDirectory() as folder:
            film = Video(Path(folder) / "trial.mp4")
            for level in (0, 255):
                film.add(np.full((64, 64, 3), level, np.uint8))
            film.close()
            size = film.path.stat().st_size
    except UserError as error:
        yield Finding("video", "missing", str(error), "pip install 'imageio[ffmpeg]'")
    except Exception as error:  # the encoder is another program, and breaks in its own ways
        remedy = "pip install --force-reinstall 'imageio[ffmpeg]'"
        yield Finding("video", "broken", _one_line(error), remedy)
    else:
        yield Finding("video", "ok", f"writes .mp4 ({size} bytes of trial)")


def window() -> Iterable[Finding]:
    """Whether `--render` and `render_mode="human"` can show something."""
    import matplotlib

    from rf_agent.evaluation.video import can_open_window

    if can_open_window():
        yield Finding("window", "ok", f"Matplotlib draws it with {matplotlib.get_backend()}")
    elif sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        remedy = "videos are written instead; to see a window, log in at the machine or with ssh -X"
        yield Finding("window", "missing", "there is no display", remedy)
    else:
        yield Finding("window", "missing", "Matplotlib has no toolkit to open it with", "pip install PyQt6")


def packages() -> Iterable[Finding]:
    """Python and the packages: those that are required are imported, the others looked for."""
    yield Finding("Python", "ok", platform.python_version())
    for name, purpose in (REQUIRED | OPTIONAL).items():
        module = MODULES.get(name, name.replace("-", "_"))
        try:
            if importlib.util.find_spec(module) is None:
                yield Finding(name, "missing", f"for {purpose}", _install(name))
                continue
            if name in REQUIRED and name != "pybullet":  # which prints; the play table has tried it
                importlib.import_module(module)
            yield Finding(name, "ok", importlib.metadata.version(name))
        except Exception as error:  # a compiled package breaks in its own ways
            yield Finding(name, "broken", _one_line(error), f"pip install --force-reinstall {name}")


def _install(package: str) -> str:
    """How to get a package that is missing."""
    if package == "pybullet" and sys.version_info >= (3, 12):  # no wheel
        return "use Python 3.11, or compile it: pip install 'roboflamingo-agent[pybullet]'"
    return f"pip install {package}"


def _blank_observation(config: PolicyConfig) -> dict[str, Any]:
    """An observation for a policy, with black images."""
    images = {view: np.zeros((200, 200, 3), np.uint8) for view in config.views}
    return {**images, config.state.key: np.zeros(config.state.dim, np.float32), "instruction": "wait"}


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
