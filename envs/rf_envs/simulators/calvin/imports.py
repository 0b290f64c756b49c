"""Importing `calvin_env` as it is, without what it imports but the simulation does not need.

It asks for old gym, GitPython, numpy-quaternion, OpenCV, hydra, OmegaConf and SciPy. Stand-ins answer while it is
imported, whether or not the real packages are there, so that it behaves the same everywhere (the real GitPython, for
one, fails outside a git repository). Afterwards `sys.modules` is as before, but for `calvin_env` itself.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import gymnasium
import gymnasium.utils.seeding

from rf_envs.errors import INSTALL_PYBULLET
from rf_envs.simulators.playtable.bullet import silence

_MODULES = (
    "calvin_env.envs.play_table_env",
    "calvin_env.robot.robot",
    "calvin_env.camera.gripper_camera",
    "calvin_env.camera.static_camera",
    "calvin_env.scene.play_table_scene",
)


@dataclass(frozen=True)
class CalvinPackage:
    """What the simulation uses of the imported package."""

    environment: type
    """`PlayTableSimEnv`."""
    robot: ModuleType
    """The module of `Robot`."""
    gripper_camera: ModuleType
    """The module of `GripperCamera`."""


def import_calvin(root: Path) -> CalvinPackage:
    """Import `calvin_env` from a clone.

    Raises:
        ImportError: PyBullet is missing, or the clone needs something else that is.
        RuntimeError: this process has already imported `calvin_env` from another folder.
    """
    loaded = sys.modules.get("calvin_env")
    if loaded is not None and root / "calvin_env" not in [Path(path).resolve() for path in loaded.__path__]:
        raise RuntimeError(
            f"this process has already imported calvin_env from {Path(next(iter(loaded.__path__))).parent}, so it "
            f"cannot use {root} too; use one clone, or a process for each."
        )
    # before the stand-ins are there, which are for calvin_env alone
    with silence():
        try:
            import pybullet  # noqa: F401
            import pybullet_utils.bullet_client  # noqa: F401
        except ImportError as error:
            raise ImportError(f"calvin_env needs PyBullet: {INSTALL_PYBULLET}") from error
    before = set(sys.modules)
    try:
        with _stand_ins(), _first_on_path(root), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            environment, robot, gripper_camera, *_ = [importlib.import_module(name) for name in _MODULES]
    except ImportError as error:
        for name in set(sys.modules) - before:
            if name.partition(".")[0] == "calvin_env":
                del sys.modules[name]
        raise ImportError(f"the calvin_env in {root} cannot be imported: {error}.") from error
    return CalvinPackage(environment.PlayTableSimEnv, robot, gripper_camera)


def instantiate(config: Mapping[str, Any], **arguments: Any) -> Any:
    """Call what the `_target_` of a configuration names with its other entries: all of hydra that CALVIN needs."""
    module, _, name = config["_target_"].rpartition(".")
    entries = {key: value for key, value in config.items() if not key.startswith("_")}
    return getattr(importlib.import_module(module), name)(**{**entries, **arguments})


class _StandIn(ModuleType):
    """A module with only the given attributes; any other is an error that says so."""

    def __init__(self, name: str, **attributes: Any) -> None:
        super().__init__(name)
        self.__dict__.update(attributes)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"{self.__name__} has no {name!r}: while calvin_env is imported, a stand-in takes the place of "
            f"{self.__name__}, with only what the simulation uses"
        )


@contextlib.contextmanager
def _stand_ins() -> Iterator[None]:
    modules = _make_stand_ins()
    replaced = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name, module in replaced.items():
            if module is None:
                sys.modules.pop(name, None)
            else:
                sys.modules[name] = module


def _make_stand_ins() -> dict[str, ModuleType]:
    transform = _StandIn("scipy.spatial.transform", Rotation=None)
    spatial = _StandIn("scipy.spatial", transform=transform)
    errors = _StandIn("omegaconf.errors", ConfigKeyError=KeyError)
    container = SimpleNamespace(to_container=copy.deepcopy)
    return {
        "gym": gymnasium,
        "gym.utils": gymnasium.utils,
        "gym.utils.seeding": gymnasium.utils.seeding,
        "git": _StandIn("git", Repo=_NoRepository),
        "quaternion": _StandIn("quaternion"),
        "cv2": _StandIn("cv2"),
        "hydra": _StandIn("hydra", main=_undecorated, utils=SimpleNamespace(instantiate=instantiate)),
        "omegaconf": _StandIn("omegaconf", OmegaConf=container, errors=errors),
        "omegaconf.errors": errors,
        "scipy": _StandIn("scipy", spatial=spatial),
        "scipy.spatial": spatial,
        "scipy.spatial.transform": transform,
    }


class _NoRepository:
    """GitPython's `Repo` where there is nothing to tell; `calvin_env` puts its commit into the log."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.head = SimpleNamespace(object=SimpleNamespace(hexsha="unknown"))
        self.index = SimpleNamespace(diff=lambda _: [])


def _undecorated(**_: Any) -> Callable[[Any], Any]:
    return lambda function: function


@contextlib.contextmanager
def _first_on_path(folder: Path) -> Iterator[None]:
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(str(folder))
