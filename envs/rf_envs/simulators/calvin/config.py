"""CALVIN's settings of a scene, put together from the clone's `conf/` folder without hydra."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_REFERENCE = re.compile(r"\$\{([\w.]+)\}")


def read_settings(root: Path, scene: str) -> dict[str, Any]:
    """Settings for the environment, robot, scene and cameras of the benchmark.

    The robot is the one with the longer fingers, as in CALVIN's data and evaluation.

    Args:
        root: the clone's folder.
        scene: letter of the scene.

    Returns:
        `env`, the arguments of `PlayTableSimEnv`, and `cameras`, by name; all references are resolved.
    """
    conf, data = root / "conf", root / "data"
    robot = {**_read(conf / "robot/panda.yaml"), **_read(conf / "robot/panda_longer_finger.yaml")}
    # PyBullet's search path is one for all clients of a process, so the file is named in full
    robot["filename"] = str(data / robot["filename"])
    settings = {
        "data_path": str(data),
        "use_vr": False,
        "cameras": {},
        "robot": {key: value for key, value in robot.items() if key != "defaults"},
        "scene": _read(conf / f"scene/calvin_scene_{scene}.yaml"),
        "env": _read(conf / "env/play_table_env.yaml"),
    }
    env = _resolve(settings["env"], settings)
    return {
        # images are drawn when they are asked for, not in every step, and by the renderer that egl.py chooses
        "env": {key: value for key, value in env.items() if not key.startswith("_")}
        | {"cameras": {}, "use_egl": False, "show_gui": False, "use_scene_info": True},
        "cameras": {name: _read(conf / f"cameras/cameras/{name}.yaml") for name in ("static", "gripper")},
    }


def _read(path: Path) -> dict[str, Any]:
    try:
        import yaml
    except ImportError as error:
        raise ImportError("reading CALVIN's settings needs PyYAML: pip install pyyaml") from error
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not valid YAML ({error}); restore the file in the clone of calvin_env.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no settings by name; restore the file in the clone of calvin_env.")
    return content


def _resolve(value: Any, settings: Mapping[str, Any]) -> Any:
    """`value` with every `${path.to.entry}` replaced by that entry of `settings`."""
    if isinstance(value, dict):
        return {key: _resolve(entry, settings) for key, entry in value.items()}
    if isinstance(value, list):
        return [_resolve(entry, settings) for entry in value]
    match = _REFERENCE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return value
    entry: Any = settings
    for key in match[1].split("."):
        if not isinstance(entry, Mapping) or key not in entry:
            raise ValueError(f"CALVIN's settings refer to {value}, which is in none of the files that are read.")
        entry = entry[key]
    return _resolve(entry, settings)
