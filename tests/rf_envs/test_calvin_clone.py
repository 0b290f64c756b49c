"""Finding, importing and reading a clone of calvin_env, and choosing what draws; on a clone that we made ourselves."""

import importlib.util
import subprocess
import sys
import types
from pathlib import Path

import pytest
from make_calvin_clone import forget_calvin, make_clone

from rf_envs.simulators.calvin import egl
from rf_envs.simulators.calvin.clone import find_clone
from rf_envs.simulators.calvin.config import read_settings
from rf_envs.simulators.calvin.imports import import_calvin


@pytest.fixture
def clone(tmp_path, monkeypatch):
    monkeypatch.delenv("CALVIN_ENV_ROOT", raising=False)
    yield make_clone(tmp_path / "calvin_env")
    forget_calvin()


# Finding it


def test_an_argument_comes_before_the_environment_variable(clone, tmp_path, monkeypatch):
    other = make_clone(tmp_path / "other")
    monkeypatch.setenv("CALVIN_ENV_ROOT", str(other))
    assert find_clone() == other
    assert find_clone(clone) == find_clone(str(clone)) == clone


def test_an_installed_package_is_found_through_its_clone(clone, monkeypatch):
    monkeypatch.syspath_prepend(clone)
    assert find_clone() == clone


def test_without_calvin_the_error_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.delenv("CALVIN_ENV_ROOT", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"git clone https://github\.com/mees/calvin_env.*CALVIN_ENV_ROOT"):
        find_clone()


def test_a_clone_seen_from_its_parent_folder_is_not_an_installed_package(clone, monkeypatch):
    monkeypatch.syspath_prepend(clone.parent)
    with pytest.raises(ImportError, match="is not installed"):
        find_clone()


def test_a_wheel_lacks_settings_and_meshes(tmp_path, monkeypatch):
    monkeypatch.delenv("CALVIN_ENV_ROOT", raising=False)
    clone = make_clone(tmp_path / "calvin_env")
    site = tmp_path / "site-packages"
    site.mkdir()
    (clone / "calvin_env").rename(site / "calvin_env")
    monkeypatch.syspath_prepend(site)
    with pytest.raises(FileNotFoundError, match=r"the installed calvin_env.*lacks conf/env/play_table_env\.yaml"):
        find_clone()


def test_a_wrong_folder_is_refused_with_what_it_lacks(clone, tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"nowhere, named by calvin_root, is no folder.*git clone"):
        find_clone(tmp_path / "nowhere")
    monkeypatch.setenv("CALVIN_ENV_ROOT", str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match="named by the environment variable CALVIN_ENV_ROOT, is no folder"):
        find_clone()
    (clone / "data/plane").rmdir()
    (clone / "conf/env/play_table_env.yaml").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"lacks conf/env/play_table_env\.yaml, data/plane; expected calvin_env's clone"
    ):
        find_clone(clone)


def test_a_folder_beside_the_right_one_gets_a_hint(clone):
    for wrong in (clone.parent, clone / "calvin_env"):
        with pytest.raises(FileNotFoundError, match=f"did you mean {clone}\\?"):
            find_clone(wrong)


def test_a_scene_that_is_not_there_is_refused(clone):
    with pytest.raises(FileNotFoundError, match=r"lacks conf/scene/calvin_scene_B\.yaml, data/calvin_table_B;"):
        find_clone(clone, scene="B")


# Its settings


def test_references_between_the_settings_are_resolved(clone):
    settings = read_settings(clone, "A")
    env, robot = settings["env"], settings["env"]["robot_cfg"]
    assert robot["base_position"] == [-0.34, -0.46, 0.24] and env["scene_cfg"]["euler_obs"] is True
    assert Path(robot["filename"]) == clone / "data/franka_panda/panda_longer_finger.urdf"
    assert Path(env["scene_cfg"]["data_path"]) == clone / "data"
    assert (env["use_egl"], env["show_gui"], env["use_vr"], env["use_scene_info"]) == (False, False, False, True)
    assert "defaults" not in robot and set(settings["cameras"]) == {"static", "gripper"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "is not valid YAML"),
        ("- 1", "holds no settings by name"),
        ("base: ${scene.no.such}", r"refer to \$\{scene\.no\.such\}, which is in none"),
    ],
)
def test_spoilt_settings_are_refused(clone, text, message):
    (clone / "conf/robot/panda.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_settings(clone, "D")


# Importing it


def test_importing_leaves_the_modules_of_others_alone(clone, monkeypatch):
    theirs = types.ModuleType("cv2")
    monkeypatch.setitem(sys.modules, "cv2", theirs)
    for name in ("git", "hydra", "quaternion"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    modules, path = set(sys.modules), list(sys.path)
    package = import_calvin(clone)
    assert package.environment.__name__ == "PlayTableSimEnv"
    assert Path(sys.modules["calvin_env"].__file__).parents[1] == clone
    assert sys.modules["cv2"] is theirs and sys.path == path
    assert not {"git", "hydra", "quaternion"} & set(sys.modules)
    new = {name.partition(".")[0] for name in set(sys.modules) - modules}
    assert new <= {"calvin_env", "pybullet", "pybullet_utils"}


def test_what_a_stand_in_lacks_is_named(clone):
    environment = import_calvin(clone).environment
    with pytest.raises(AttributeError, match="cv2 has no 'imshow'.*a stand-in takes the place of cv2"):
        sys.modules[environment.__module__].cv2.imshow("view", None)


def test_a_second_clone_in_one_process_is_refused(clone, tmp_path):
    import_calvin(clone)
    other = make_clone(tmp_path / "other")
    with pytest.raises(RuntimeError, match=f"already imported calvin_env from {clone}, so it cannot use {other} too"):
        import_calvin(other)


def test_a_clone_that_needs_something_else_says_what_and_can_be_tried_again(clone):
    source = clone / "calvin_env/robot/robot.py"
    code = source.read_text()
    source.write_text("import no_such_package\n" + code)
    with pytest.raises(ImportError, match=f"{clone} cannot be imported: No module named 'no_such_package'"):
        import_calvin(clone)
    assert "calvin_env" not in sys.modules and "hydra" not in sys.modules
    source.write_text(code)
    import_calvin(clone)


def test_making_an_environment_imports_no_simulator(clone):
    code = (
        "import sys, gymnasium\n"
        "gymnasium.make('rf_envs:rf/CalvinChainA-v0', calvin_root=sys.argv[1])\n"
        "assert not {'pybullet', 'calvin_env'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code, clone], check=True, env={"PYTHONPATH": ":".join(sys.path)})


# What draws


def works(name):
    return egl.EglProbe(True, name)


@pytest.mark.parametrize(
    ("asked", "probe", "chosen"),
    [
        ("tiny", works("NVIDIA A100"), "tiny"),
        ("egl", works("NVIDIA A100"), "egl"),
        ("auto", works("NVIDIA A100"), "egl"),
        ("egl", works("llvmpipe (LLVM 15.0.6, 256 bits)"), "egl"),
        ("auto", works("llvmpipe (LLVM 15.0.6, 256 bits)"), "tiny"),
        ("auto", egl.EglProbe(False, "the driver crashed"), "tiny"),
    ],
)
def test_auto_takes_egl_where_a_gpu_draws(monkeypatch, asked, probe, chosen):
    monkeypatch.setattr(egl, "probe_egl", lambda: probe)
    assert egl.choose_renderer(asked) == chosen


def test_egl_that_does_not_work_is_an_error_with_the_reason(monkeypatch):
    monkeypatch.setattr(egl, "probe_egl", lambda: egl.EglProbe(False, "failed to EGL with glad."))
    with pytest.raises(RuntimeError, match=r"renderer='egl' does not work here: failed to EGL with glad\..*libegl1"):
        egl.choose_renderer("egl")
    with pytest.raises(ValueError, match="Unknown renderer 'elg'; did you mean 'egl'"):
        egl.choose_renderer("elg")


@pytest.mark.parametrize(
    ("script", "works", "detail"),
    [
        ("print('GL_RENDERER=Some GPU/PCIe')", True, "Some GPU/PCIe"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", False, "the driver crashed with signal 11"),
        ("print('GL chatter'); import sys; sys.exit('no EGL display')", False, "no EGL display"),
        ("import os; os._exit(3)", False, "the process ended with code 3"),
        ("import time; time.sleep(60)", False, "no image within 1 s"),
    ],
)
def test_a_broken_driver_only_breaks_the_process_that_tries_it(monkeypatch, script, works, detail):
    monkeypatch.setattr(egl, "_PROBE", script)
    monkeypatch.setattr(egl, "PROBE_SECONDS", 1.0 if "sleep" in script else 60.0)
    assert egl.probe_egl.__wrapped__() == egl.EglProbe(works, detail)


def test_egl_is_tried_for_real():
    """Whatever this machine has, there is an answer and no crash."""
    probe = egl.probe_egl()
    assert probe.detail and probe is egl.probe_egl()


class Client:
    """A physics client as far as the EGL plugin is concerned."""

    def __init__(self, number, plugin=1):
        self._client, self.plugin = number, plugin

    def loadPlugin(self, *_):
        return self.plugin


def test_one_client_of_a_process_draws_with_egl(monkeypatch):
    monkeypatch.setattr(egl, "_open_client", None)
    first, second = Client(0), Client(1)
    egl.load_egl(first)
    with pytest.raises(RuntimeError, match="close the first, run each in a process of its own .*Async.*Subproc"):
        egl.load_egl(second)
    first._client = -1  # what PyBullet's client does when it is closed
    egl.load_egl(second)
    del second  # or it is dropped
    egl.load_egl(Client(2))
    with pytest.raises(RuntimeError, match="plugin does not load"):
        egl.load_egl(Client(3, plugin=-1))


def test_a_fork_does_not_inherit_egl(monkeypatch):
    monkeypatch.setattr(egl, "_open_client", None)
    egl.load_egl(Client(0))
    monkeypatch.setattr(egl.os, "getpid", lambda: -1)
    with pytest.raises(RuntimeError, match="forked from one that had drawn with EGL.*'spawn' context"):
        egl.load_egl(Client(1))
