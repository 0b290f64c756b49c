"""The files that a table's clients load: meshes, textures, and a URDF for each thing and use."""

from __future__ import annotations

import contextlib
import functools
import multiprocessing.util
import os
import shutil
import tempfile
import threading
import time
from pathlib import Path
from typing import TextIO
from xml.etree import ElementTree as xml

import numpy as np

from rf_envs import scenes
from rf_envs.random_scenes import scene_named
from rf_envs.simulators.playtable.furniture import add_inertial, write_block, write_table
from rf_envs.simulators.playtable.meshes import box, disc, write_obj
from rf_envs.simulators.playtable.robot import write_panda
from rf_envs.simulators.playtable.textures import write_textures

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_LOCK = threading.Lock()
PREFIX, LOCK = "play_table_", "in_use.lock"
SURE_SECONDS = 3600.0
"""Age from which a folder has been locked, if its process lives."""
MOVING_LINKS = ("button_link", "switch_link", "slide_link", "drawer_link", "led_link", "light_link")


class Assets:
    """A scene's files, in a folder that all tables of a process share and that is there while one of them is open.

    PyBullet keeps whatever it has read, by the file's name. So the folder always has the same name: new ones for every
    table would pile up in memory.
    """

    def __init__(self, scene: str) -> None:
        self._scene = scene_named(scene)
        self._process = os.getpid()
        self._users = 0
        remove_left_behind()
        self._folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        self._lock: TextIO | None = None
        # for tables that are never closed; unlike atexit it also runs at the end of a worker
        multiprocessing.util.Finalize(None, shutil.rmtree, (self._folder,), {"ignore_errors": True}, exitpriority=0)

    @classmethod
    def of(cls, scene: str) -> Assets:
        """This process's files of a scene, given its name."""
        with _LOCK:  # or two threads that ask at a time get one each
            return _of(scene, os.getpid())

    def acquire(self) -> Path:
        """The folder, written if need be; it stays until as many users have released it."""
        with _LOCK:  # a second thread waits until all of it is written
            if self._users == 0:
                self._folder.mkdir(mode=0o700, exist_ok=True)
                self._lock = _locked(self._folder)
                write_assets(self._scene, self._folder)
            self._users += 1
        return self._folder

    def release(self) -> None:
        """A user needs the folder no more. In a forked process this leaves the parent's folder alone."""
        with _LOCK:
            self._users -= 1
            if self._users == 0 and self._process == os.getpid():
                shutil.rmtree(self._folder, ignore_errors=True)
                if self._lock is not None:
                    self._lock.close()


@functools.cache
def remove_left_behind() -> None:
    """Remove this user's folders whose processes were killed before they could do so: nobody holds their locks."""
    if fcntl is None:
        return
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # held by a process, or not ours
            known = folder.stat()
            if known.st_uid != os.getuid() or time.time() - known.st_mtime < SURE_SECONDS:
                continue
            with open(folder / LOCK) as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)


def _locked(folder: Path) -> TextIO:
    """What says that a folder is in use, as long as it is open: also in forked processes."""
    file = open(folder / LOCK, "w")  # noqa: SIM115 (whoever uses the folder closes it)
    if fcntl is not None:
        with contextlib.suppress(OSError):  # a file system without locks: nobody can take it there
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return file


@functools.cache
def _of(scene: str, process: int) -> Assets:
    return Assets(scene)


def write_assets(scene: scenes.Scene, folder: Path) -> None:
    """Write meshes, textures and the variants of each URDF that the clients load."""
    write_textures(folder, set(scene.wood))
    panda, table = write_panda(folder), write_table(scene, folder)
    blocks = [write_block(scene, color, folder) for color in scene.block_order]
    for path in (panda, table, *blocks):
        _write_variant(path, "_physics", drop=("visual",))
        _write_variant(path, "_moving", drop=("visual", "collision") if path == table else ("collision",))
    _write_variant(table, "_fixtures", drop=("collision",), hide=("base_link", "plank_link"))
    _write_variant(table, "_still", drop=("collision",), hide=MOVING_LINKS)
    _write_room(folder)


def _write_variant(path: Path, suffix: str, drop: tuple[str, ...], hide: tuple[str, ...] = ()) -> None:
    tree = xml.parse(path)
    for link in tree.getroot().findall("link"):
        tags = (*drop, "visual") if link.get("name") in hide else drop
        for tag in tags:
            for element in link.findall(tag):
                link.remove(element)
    tree.write(path.with_stem(path.stem + suffix))


def _write_room(folder: Path) -> None:
    """Floor tiles, small enough to be clipped well by the renderer, and the robot's pedestal."""
    tiles = [
        box((x, y, -0.02), (x + 0.5, y + 0.5, 0.0), "floor")
        for x in np.arange(-2.5, 2.5, 0.5)
        for y in np.arange(-2.5, 2.5, 0.5)
    ]
    top_faces = [type(tile)(tile.corners, (tile.faces[1],), tile.material) for tile in tiles]
    write_obj(folder / "room_floor.obj", top_faces, "floor.png", shift=0.0)
    x, y, z = scenes.ROBOT_BASE
    write_obj(folder / "room_pedestal.obj", [disc((x - 0.05, y, 0), 0.13, z, sides=24)])
    robot = xml.Element("robot", name="room")
    link = xml.SubElement(robot, "link", name="base_link")
    add_inertial(link, 0.0)
    for mesh, color in (("room_floor.obj", "1 1 1 1"), ("room_pedestal.obj", "0.93 0.93 0.94 1")):
        visual = xml.SubElement(link, "visual")
        xml.SubElement(xml.SubElement(visual, "geometry"), "mesh", filename=mesh)
        material = xml.SubElement(visual, "material", name=mesh)
        xml.SubElement(material, "color", rgba=color)
    xml.ElementTree(robot).write(folder / "room.urdf")
