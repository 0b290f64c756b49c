"""Frames and files of videos."""

import imageio.v2 as imageio
import numpy as np
import pytest

from rf_agent.errors import UserError
from rf_agent.evaluation.video import Video, compose

STATIC = np.zeros((200, 200, 3), np.uint8)
GRIPPER = np.full((84, 84, 3), 255, np.uint8)


def test_compose_puts_the_views_side_by_side():
    frame = compose(STATIC, GRIPPER, "push the red block to the left", "episode 1 of 2", "running")
    assert frame.shape == (448, 672, 3) and frame.dtype == np.uint8
    assert (frame[:, :448] == 0).all() and (frame[:224, 448:] == 255).all()


def test_views_that_are_not_square_are_not_squeezed():
    wide, tall = np.full((60, 120, 3), 255, np.uint8), np.full((120, 60, 3), 255, np.uint8)
    frame = compose(wide, tall, "", "", "running")
    bright = (frame == 255).all(axis=2)
    assert bright[:, :448].sum(axis=0).tolist() == [224] * 448  # half as high as wide, in the middle
    assert bright[224, :448].all() and not bright[[0, 447], :448].any()
    assert bright[:224, 448:].sum(axis=1).tolist() == [112] * 224


def test_compose_shows_instruction_and_outcome():
    def panel(instruction, outcome):
        return compose(STATIC, GRIPPER, instruction, "", outcome)[224:, 448:]

    assert (panel("open the drawer", "running") != panel("close the drawer", "running")).any()
    assert (panel("open the drawer", "success") != panel("open the drawer", "failure")).any()
    assert (panel("ouvre le tiroir, s'il te plaît " * 9, "running") != panel("", "running")).any()  # long, not ASCII


@pytest.mark.parametrize(("name", "count"), [("a.mp4", 9), ("a.gif", 3)])
def test_a_video_appears_when_it_is_closed(tmp_path, name, count):
    video = Video(tmp_path / "new" / name)
    for level in range(9):
        video.add(compose(STATIC + 20 * level, GRIPPER, "go", "", "running"))
        assert not video.path.exists()
    video.close()
    assert [path.name for path in video.path.parent.iterdir()] == [name]
    assert len(imageio.mimread(video.path)) == count


def test_a_discarded_video_leaves_nothing(tmp_path):
    video = Video(tmp_path / "a.mp4")
    video.add(compose(STATIC, GRIPPER, "go", "", "running"))
    video.discard()
    assert not list(tmp_path.iterdir())


def test_other_endings_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"must end in \.mp4 or \.gif"):
        Video(tmp_path / "a.avi")


@pytest.mark.parametrize("name", ["folder.mp4", "file/a.mp4"])
def test_what_cannot_be_written_is_said_at_once(tmp_path, name):
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write the video"):
        Video(tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.mp4"]
