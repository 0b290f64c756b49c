"""What the environments say about the machine: tried for real, and whatever breaks is named."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from fake_simulator import FakeSimulator
from make_calvin_clone import make_clone

from rf_envs import diagnosis
from rf_envs.simulators.calvin.egl import EglProbe
from rf_envs.simulators.playtable import PlayTable


@pytest.fixture(autouse=True)
def no_clone(monkeypatch):
    monkeypatch.delenv("CALVIN_ENV_ROOT", raising=False)


@pytest.fixture
def no_egl(monkeypatch):
    """Not tried: it takes seconds, and depends on the machine."""
    monkeypatch.setattr("rf_envs.simulators.calvin.probe_egl", lambda: EglProbe(False, "no driver"))


@pytest.fixture
def broken_pybullet(monkeypatch, tmp_path, no_egl):
    """Puts a pybullet before the real one, for processes that are started from here on."""

    def write(code: str) -> None:
        (tmp_path / "pybullet.py").write_text(code)
        monkeypatch.syspath_prepend(tmp_path)

    return write


def by_name(findings: list[dict[str, str]]) -> dict[str, dict[str, str]]:
    return {finding["name"]: finding for finding in findings}


def test_an_environment_diagnoses_without_a_reset(no_egl):
    env = gym.make("rf_envs:rf/PlayTableD-v0")
    table, egl, calvin = env.unwrapped.diagnose()
    env.close()
    assert (table["name"], table["state"], table["remedy"]) == ("play table", "ok", "")
    assert "both cameras" in table["detail"]
    assert egl["state"] in ("missing", "broken") and "no driver" in egl["detail"] and "apt-get" in egl["remedy"]
    assert calvin["state"] == "missing" and "git clone" in calvin["remedy"]


def test_a_clone_is_found_and_draws(tmp_path, no_egl):
    clone = make_clone(tmp_path / "calvin_env", "D")
    findings = by_name(diagnosis.diagnose(clone))
    assert findings["calvin_env"] == {"name": "calvin_env", "state": "ok", "detail": str(clone), "remedy": ""}
    assert findings["CALVIN with TinyRenderer"]["state"] == "ok"
    assert "CALVIN with EGL" not in findings


def test_a_clone_that_cannot_be_imported_is_broken(tmp_path, no_egl):
    clone = make_clone(tmp_path / "calvin_env", "D")
    (clone / "calvin_env/envs/play_table_env.py").write_text("raise RuntimeError('a bad day')")
    finding = by_name(diagnosis.diagnose(clone))["CALVIN with TinyRenderer"]
    assert finding["state"] == "broken" and "a bad day" in finding["detail"] and "git clone" in finding["remedy"]


def test_a_wrong_folder_is_named(tmp_path, no_egl):
    finding = by_name(diagnosis.diagnose(tmp_path))["calvin_env"]
    assert finding["state"] == "broken" and str(tmp_path) in finding["detail"] and "git clone" in finding["remedy"]


@pytest.mark.parametrize(
    ("code", "state", "detail", "remedy"),
    [
        ("import os; os.kill(os.getpid(), 11)", "broken", "crashed with signal 11", "reinstall"),
        ("import os; os._exit(3)", "broken", "ended with code 3", "reinstall"),
        ("raise OSError('no such wheel')", "broken", "no such wheel", "reinstall"),
        ("import no_such_library", "missing", "'no_such_library' is not installed", "pip install no_such_library"),
        ("raise ModuleNotFoundError('none', name='pybullet')", "missing", "'pybullet' is not", "pip install pybullet"),
    ],
)
def test_a_broken_pybullet_is_survived(broken_pybullet, code, state, detail, remedy):
    broken_pybullet(code)
    finding = diagnosis.diagnose()[0]
    assert (finding["name"], finding["state"]) == ("play table", state)
    assert detail in finding["detail"] and remedy in finding["remedy"]


def test_a_renderer_that_hangs_is_given_up(broken_pybullet, monkeypatch):
    broken_pybullet("import time; time.sleep(60)")
    monkeypatch.setattr(diagnosis, "TRIAL_SECONDS", 2.0)
    finding = diagnosis.diagnose()[0]
    assert finding["state"] == "broken" and "no image within 2 s" in finding["detail"]


def test_an_empty_image_is_noticed():
    with pytest.raises(RuntimeError, match="the image of the static camera is empty"):
        diagnosis.look(FakeSimulator())


def test_a_block_that_is_not_drawn_is_noticed():
    class WithoutBlue(PlayTable):
        def render(self, camera, size):
            image = super().render(camera, size)
            image[..., 2] = np.minimum(image[..., 2], image[..., 0])
            return image

    with pytest.raises(RuntimeError, match="no blue block"):
        diagnosis.look(WithoutBlue())
