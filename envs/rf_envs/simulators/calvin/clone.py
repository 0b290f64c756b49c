"""Where `calvin_env` is. Its wheel holds neither settings nor meshes, so it is always the folder of a clone."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

ROOT_VARIABLE = "CALVIN_ENV_ROOT"
HOW_TO_GET = (
    f"get it with `git clone https://github.com/mees/calvin_env` and name the clone's folder with calvin_root= or the "
    f"environment variable {ROOT_VARIABLE}"
)
_NEEDED = (
    "calvin_env/envs/play_table_env.py",
    "conf/env/play_table_env.yaml",
    "conf/robot/panda.yaml",
    "conf/robot/panda_longer_finger.yaml",
    "conf/cameras/cameras/static.yaml",
    "conf/cameras/cameras/gripper.yaml",
    "conf/scene/calvin_scene_{scene}.yaml",
    "data/calvin_table_{scene}",
    "data/blocks",
    "data/franka_panda",
    "data/plane",
)


def find_clone(root: str | os.PathLike[str] | None = None, scene: str = "D") -> Path:
    """The clone's folder: `root` if given, else the one CALVIN_ENV_ROOT names, else that of the installed package.

    Nothing is imported.

    Args:
        root: the folder that holds `calvin_env/`, `conf/` and `data/`.
        scene: letter of the scene that shall be there.

    Raises:
        FileNotFoundError: the folder lacks something; the message names it.
        ImportError: no folder is named and `calvin_env` is not installed.
    """
    if root is not None:
        return _checked(Path(root), "calvin_root", scene)
    if os.environ.get(ROOT_VARIABLE):
        return _checked(Path(os.environ[ROOT_VARIABLE]), f"the environment variable {ROOT_VARIABLE}", scene)
    spec = importlib.util.find_spec("calvin_env")
    # without an __init__.py it is no package but some folder of that name, such as the clone seen from its parent
    if spec is None or spec.origin is None:
        raise ImportError(f"calvin_env, CALVIN's simulator, is not installed: {HOW_TO_GET}.")
    return _checked(Path(spec.origin).parents[1], "the installed calvin_env (pip leaves out conf/ and data/)", scene)


def _checked(root: Path, source: str, scene: str) -> Path:
    root = root.expanduser().resolve()
    if not root.is_dir():
        raise FileNotFoundError(f"{root}, named by {source}, is no folder; expected calvin_env's clone: {HOW_TO_GET}.")
    missing = _missing(root, scene)
    if not missing:
        return root
    nearby = [folder for folder in (root / "calvin_env", root.parent) if not _missing(folder, scene)]
    hint = f"did you mean {nearby[0]}?" if nearby else f"expected calvin_env's clone: {HOW_TO_GET}."
    listed = ", ".join(missing[:4]) + (f" and {len(missing) - 4} more" if len(missing) > 4 else "")
    raise FileNotFoundError(f"{root}, named by {source}, lacks {listed}; {hint}")


def _missing(root: Path, scene: str) -> list[str]:
    return [path for path in (needed.format(scene=scene) for needed in _NEEDED) if not (root / path).exists()]
