"""`rf-agent doctor`: what works is tried, what is missing has a remedy, and nothing stops it."""

from __future__ import annotations

import json
import shutil
import sys
from importlib.metadata import version

import gymnasium as gym
import pytest
import torch

from rf_agent import cli, installation, presets

OK = {"name": "play table", "state": "ok", "detail": "draws", "remedy": ""}


class Healthy(gym.Env):
    """An environment that says that all is well, in no time, and remembers where calvin_env was said to be."""

    asked: list = []

    @classmethod
    def diagnose(cls, calvin_root=None):
        cls.asked.append(calvin_root)
        return [OK, {"name": "calvin_env", "state": "missing", "detail": "not here", "remedy": "clone it"}]


gym.register("fake/Healthy-v0", Healthy)


@pytest.fixture
def healthy(monkeypatch):
    monkeypatch.setattr(installation, "DEFAULT_ENV", "fake/Healthy-v0")


def doctor(capfd, *words):
    with pytest.raises(SystemExit) as stop:
        cli.main(["doctor", *map(str, words)])
    out, err = capfd.readouterr()
    return stop.value.code, out, err


def found(group) -> dict[str, installation.Finding]:
    return {finding.name: finding for finding in group}


@pytest.mark.slow
def test_this_machine(capfd, tmp_path, monkeypatch):
    """The tests run where the default works."""
    monkeypatch.delenv("CALVIN_ENV_ROOT", raising=False)
    code, out, err = doctor(capfd, "--output", tmp_path / "doctor.json")
    assert code == 0 and not err
    content = json.loads((tmp_path / "doctor.json").read_text())
    assert content["works"] is True and content["versions"]["python"]
    groups = {name: {row["name"]: row for row in rows} for name, rows in content["findings"].items()}
    assert set(groups) == {"environments", "policies", "devices", "display", "packages"}
    for row in (row for group in groups.values() for row in group.values()):
        assert row["state"] in ("ok", "missing", "broken") and row["name"] in out
        # what is not ok comes with what to do about it, also for the reader
        assert (row["state"] == "ok") == (row["remedy"] == "") and row["remedy"] in out
    assert groups["environments"]["play table"]["state"] == "ok"
    assert groups["policies"]["policy roboflamingo-tiny"]["state"] == "ok"
    assert groups["packages"]["torch"] == {"name": "torch", "state": "ok", "detail": version("torch"), "remedy": ""}
    assert groups["display"]["video"]["state"] == "ok"


def test_what_is_optional_is_no_failure(capfd, healthy, tmp_path):
    code, out, err = doctor(capfd, "--calvin-root", tmp_path)
    assert code == 0 and not err
    assert "calvin_env: clone it" in out and Healthy.asked[-1] == tmp_path


def test_without_gymnasium_it_still_works_and_says_so(capfd, monkeypatch):
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    code, out, err = doctor(capfd)
    assert code == 1 and "roboflamingo-tiny" in out
    assert "play table: pip install gymnasium" in out
    assert err == "rf-agent: play table does not work here: the package 'gymnasium' is not installed\n"


def test_environments_that_cannot_be_imported_are_named(capfd, monkeypatch):
    monkeypatch.setattr(installation, "DEFAULT_ENV", "no_such_package:rf/PlayTableD-v0")
    code, _, err = doctor(capfd)
    assert code == 1 and "the package 'no_such_package' is not installed" in err and err.count("\n") == 1


def test_a_play_table_that_does_not_draw_is_a_failure(capfd, tmp_path, healthy, monkeypatch):
    broken = OK | {"state": "broken", "detail": "crashed with signal 11", "remedy": "reinstall it"}
    monkeypatch.setattr(Healthy, "diagnose", lambda self, calvin_root: [broken])
    code, out, err = doctor(capfd, "--output", tmp_path / "doctor.json")
    assert code == 1 and err == "rf-agent: play table does not work here: crashed with signal 11\n"
    assert "play table: reinstall it" in out
    assert json.loads((tmp_path / "doctor.json").read_text())["works"] is False


def test_a_damaged_policy_is_a_failure(capfd, tmp_path, healthy, monkeypatch):
    shutil.copytree(presets.BUNDLED / "roboflamingo-tiny", tmp_path / "bundled/mine")
    (tmp_path / "bundled/mine/model.safetensors").write_bytes(b"half a file")
    monkeypatch.setattr(presets, "BUNDLED", tmp_path / "bundled")
    code, out, err = doctor(capfd)
    assert code == 1 and "policy mine does not work here" in err and "restore its files" in out


def test_a_gpu_that_cannot_be_used_is_broken(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)

    def fail(*arguments, **options):
        raise RuntimeError("CUDA error: the driver\nis older than the library")

    monkeypatch.setattr(torch, "ones", fail)
    gpu = found(installation.gpus())["GPU 0"]
    assert gpu.state == "broken" and gpu.detail == "CUDA error: the driver is older than the library"
    assert "driver" in gpu.remedy


def test_a_machine_without_a_gpu_computes_on_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", None)
    gpu = found(installation.gpus())["GPU"]
    assert gpu.state == "missing" and "CPU" in gpu.remedy and "build of torch" in gpu.remedy


def test_without_a_display_there_is_no_window(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    (window,) = installation.window()
    assert (window.state, window.detail) == ("missing", "there is no display")


def test_an_encoder_that_is_missing_is_broken(monkeypatch):
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", "/no/such/ffmpeg")
    (video,) = installation.video()
    assert video.state == "broken" and "imageio[ffmpeg]" in video.remedy


def test_packages_that_are_absent_or_broken_are_told_apart(monkeypatch, tmp_path):
    (tmp_path / "h5py.py").write_text("raise ImportError('libhdf5.so: cannot open shared object file')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "h5py", raising=False)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    packages = found(installation.packages())
    assert packages["h5py"].state == "broken" and "libhdf5" in packages["h5py"].detail
    assert packages["tensorboard"].state == "missing" and packages["tensorboard"].remedy == "pip install tensorboard"
    assert packages["torch"].state == "ok"


def test_without_pybullet_the_play_table_is_missing_with_the_ways_out(monkeypatch):
    def refuse(*arguments, **options):
        raise ImportError("the play table needs PyBullet, which is not installed: use another Python")

    monkeypatch.setattr(gym, "make", refuse)
    monkeypatch.setitem(sys.modules, "pybullet", None)
    (table,) = installation.environments()
    assert (table.state, table.remedy) == ("missing", "use another Python")
    assert table.detail == "the play table needs PyBullet, which is not installed"
    assert found(installation.packages())["pybullet"].state == "missing"
