"""Makes a folder laid out as a clone of calvin_env, for tests where the real one is not there.

The package in `calvin_clone/` has the real one's layout, names, imports and faults, but it is written here and its
world is our own table. Robot, furniture and scene settings are written by this module.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import yaml

from rf_envs.scenes import SCENES, Scene
from rf_envs.simulators.playtable.furniture import write_block, write_table
from rf_envs.simulators.playtable.robot import write_panda
from rf_envs.simulators.playtable.textures import write_textures


def make_clone(folder: Path, scenes: str = "AD") -> Path:
    """Make the clone in a new `folder`, with these scenes, and return it."""
    shutil.copytree(Path(__file__).parent / "calvin_clone", folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "conf/scene").mkdir()
    for name in ("blocks", "franka_panda", "plane"):
        (folder / "data" / name).mkdir(parents=True)
    write_panda(folder / "data/franka_panda").rename(folder / "data/franka_panda/panda_longer_finger.urdf")
    for letter in scenes:
        _write_scene(SCENES[letter], folder)
    return folder


def forget_calvin() -> None:
    """Take calvin_env out of `sys.modules`, so that another clone can be imported."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "calvin_env"]:
        del sys.modules[name]


def _write_scene(scene: Scene, folder: Path) -> None:
    data = folder / f"data/calvin_table_{scene.name}"
    data.mkdir()
    write_textures(data, set(scene.wood))
    table = {
        "file": str(write_table(scene, data).relative_to(folder / "data")),
        "joints": {"base__slide": {}, "base__drawer": {}},
        "buttons": {"base__button": {"effect": "led"}},
        "switches": {"base__switch": {"effect": "lightbulb"}},
    }
    blocks = {
        f"block_{color}": {"file": str(write_block(scene, color, data).relative_to(folder / "data"))}
        for color in scene.block_order
    }
    settings = {
        "_target_": "calvin_env.scene.play_table_scene.PlayTableScene",
        "_recursive_": False,
        "data_path": "${data_path}",
        "global_scaling": 1,
        "euler_obs": "${robot.euler_obs}",
        "robot_base_position": [-0.34, -0.46, 0.24],
        "surfaces": {name: [list(corner) for corner in corners] for name, corners in scene.surfaces.items()},
        "objects": {"fixed_objects": {"table": table}, "movable_objects": blocks},
    }
    (folder / f"conf/scene/calvin_scene_{scene.name}.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
