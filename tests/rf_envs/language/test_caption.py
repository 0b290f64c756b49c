"""The instruction on rendered frames: readable, at the bottom, and never in an observation."""

import gymnasium as gym
import numpy as np
import pytest
from fake_simulator import FakeSimulator

from rf_envs.language import caption as caption_module
from rf_envs.language.caption import _typeset, captioned
from rf_envs.table import TableEnv

LONG = "push the red block to the left and then the blue one to the right before you open the drawer " * 2


def grey(size: int) -> np.ndarray:
    return np.full((size, size, 3), 128, dtype=np.uint8)


def strip_height(frame: np.ndarray, captioned_frame: np.ndarray) -> int:
    """Rows that differ; they must be the lowest ones."""
    rows = np.flatnonzero((frame != captioned_frame).any(axis=(1, 2)))
    assert len(rows) == 0 or rows[0] == len(frame) - len(rows)
    return len(rows)


@pytest.mark.parametrize("size", [96, 200, 480, 1000])
def test_the_text_stands_bright_on_a_dark_strip_at_the_bottom(size):
    frame = grey(size)
    result = captioned(frame, "open the drawer")
    height = strip_height(frame, result)
    assert 0.05 * size < height < 0.2 * size
    strip = result[-height:]
    assert np.median(strip) < 64 and strip.max() > 200
    # the letters start at the left and the strip goes all the way
    assert (strip[:, : size // 2] > 200).any() and (strip[:, -1] < 64).all()
    assert (frame == 128).all() and result.shape == frame.shape and result.dtype == np.uint8


@pytest.mark.parametrize("size", [96, 200, 480])
def test_long_texts_wrap_and_leave_most_of_the_frame_free(size):
    frame = grey(size)
    short, long = (strip_height(frame, captioned(frame, text)) for text in ("open the drawer", LONG))
    assert 2 * short < long <= 0.4 * size
    # nothing sticks out on the right
    assert captioned(frame, LONG)[:, -2:].max() <= 128


def test_texts_with_another_end_look_different_where_there_is_room_for_them():
    one, other = (captioned(grey(200), f"push the red block to the {side}") for side in ("left", "right"))
    assert (one != other).any()


def test_accents_and_other_scripts_are_written():
    # a font without these letters would draw the same box for each
    assert (captioned(grey(200), "ö") != captioned(grey(200), "ä")).any()
    assert (captioned(grey(200), "д") != captioned(grey(200), "ж")).any()


def test_a_word_without_spaces_is_broken():
    frame = grey(200)
    result = captioned(frame, "w" * 100)
    assert strip_height(frame, result) > 30
    assert result[:, -2:].max() <= 128


@pytest.mark.parametrize("text", ["", "   "])
def test_no_text_no_strip(text):
    assert (captioned(grey(96), text) == 128).all()


def test_frames_too_small_for_letters_stay_as_they_are():
    for size in (1, 8, 20):
        assert (captioned(grey(size), "open the drawer") == 128).all()


def test_an_unchanged_text_is_set_once(monkeypatch):
    set_texts = []
    monkeypatch.setattr(caption_module, "_typeset", lambda text, *size: set_texts.append(text) or _typeset(text, *size))
    caption_module._strip.cache_clear()
    for _ in range(50):
        captioned(grey(480), LONG)
    assert set_texts == [LONG]


@pytest.fixture
def make():
    """Makes environments that render on the fake simulator."""

    def make(**arguments) -> TableEnv:
        arguments = {"image_size": (64, 48), "render_size": 96, "render_mode": "rgb_array", **arguments}
        return TableEnv(simulator=lambda scene: FakeSimulator(), **arguments)

    return make


def test_render_writes_the_instruction_unless_told_not_to(make):
    frames = {}
    for caption in (True, False):
        env = make(caption=caption)
        env.reset(seed=0, options={"task": "open_drawer"})
        frames[caption] = env.render()
    assert frames[True].shape == frames[False].shape == (96, 96, 3)
    assert 0 < strip_height(frames[False], frames[True]) < 40
    assert (frames[True] == captioned(frames[False], "pull the drawer out")).all()


def test_the_caption_follows_the_instruction(make):
    env = make()
    env.reset(seed=0, options={"task": "open_drawer"})
    first = env.render()
    env.reset(seed=0, options={"task": "open_drawer", "instruction": "pull it"})
    assert (env.render() != first).any()


@pytest.mark.parametrize("mode", ["rgb_array", "human"])
def test_observations_never_carry_the_caption(make, mode, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "agg")
    import matplotlib

    matplotlib.use("agg")
    env = make(image_size=(96, 96), render_mode=mode)
    for observation in (env.reset(seed=0)[0], env.step(np.ones(7))[0]):
        env.render()
        for key in ("rgb_static", "rgb_gripper"):
            # the fake simulator paints its images in one color
            assert np.ptp(observation[key]) == 0
    env.close()


def test_the_window_shows_the_caption(make, monkeypatch):
    shown = []
    monkeypatch.setattr("rf_envs.table.Window.__init__", lambda self, title: None)
    monkeypatch.setattr("rf_envs.table.Window.show", lambda self, frame: shown.append(frame))
    monkeypatch.setattr("rf_envs.table.Window.close", lambda self: None)
    env = make(render_mode="human")
    env.reset(seed=0)
    assert np.ptp(shown[-1]) > 100
    env.close()


def test_gymnasiums_record_video_films_the_caption(tmp_path):
    pytest.importorskip("pybullet")
    pytest.importorskip("moviepy", reason="RecordVideo needs moviepy: pip install 'roboflamingo-agent[video]'")
    imageio = pytest.importorskip("imageio.v3")
    films = {}
    for caption in (True, False):
        env = gym.make(
            "rf_envs:rf/PlayTableD-v0",
            render_mode="rgb_array",
            render_size=160,
            image_size=(48, 48),
            caption=caption,
        )
        folder = tmp_path / str(caption)
        env = gym.wrappers.RecordVideo(env, str(folder), episode_trigger=lambda episode: True)
        env.reset(seed=0, options={"task": "open_drawer"})
        for _ in range(4):
            env.step(np.array([0, 0, 0.5, 0, 0, 0, 1], dtype=np.float32))
        env.close()
        (path,) = folder.glob("*.mp4")
        films[caption] = imageio.imread(path).astype(int)
    assert films[True].shape == films[False].shape == (5, 160, 160, 3)
    difference = np.abs(films[True] - films[False]).mean(axis=(2, 3))  # (frames, rows)
    strip = strip_height(grey(160), captioned(grey(160), "pull the drawer out"))
    # the film is compressed: what is not the strip is only nearly the same
    assert (difference[:, -strip:].mean(axis=1) > 30).all()
    assert (difference[:, : -strip - 8].mean(axis=1) < 3).all()
