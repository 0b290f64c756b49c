"""Images of a robot at work: both camera views beside the instruction, in a video, a GIF or a window."""

from __future__ import annotations

import os
import sys
import textwrap
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from rf_agent.environments import camera_images
from rf_agent.errors import UserError, require

STATIC, GRIPPER = 448, 224  # sides of the views in a frame; multiples of 16, as H.264 wants
INK, PAPER, GREY = (235, 235, 235), (24, 26, 30), (150, 155, 165)
COLOURS = {"running": GREY, "not scored": GREY, "success": (90, 200, 110), "failure": (230, 90, 80)}
GIF_EVERY = 3  # a GIF keeps every third frame: 10 of 30 a second


def compose(static: np.ndarray, gripper: np.ndarray, instruction: str, caption: str, outcome: str) -> np.ndarray:
    """One frame: the static view, and beside it the gripper's view over the instruction.

    Args:
        static: uint8 (H, W, 3), any size; one that is not square has bars beside it.
        gripper: uint8 (h, w, 3), likewise.
        instruction: what is asked of the robot.
        caption: a short line under it, such as the number of the episode.
        outcome: "running", "success", "failure" or "not scored".

    Returns:
        uint8 (448, 672, 3).
    """
    frame = Image.new("RGB", (STATIC + GRIPPER, STATIC), PAPER)
    for view, side, place in ((static, STATIC, (0, 0)), (gripper, GRIPPER, (STATIC, 0))):
        frame.paste(ImageOps.pad(Image.fromarray(view), (side, side), Image.Resampling.BICUBIC, PAPER), place)
    draw = ImageDraw.Draw(frame)
    left, top = STATIC + 16, GRIPPER + 18
    lines = textwrap.wrap(instruction, width=19)[:5]
    draw.multiline_text((left, top), "\n".join(lines), fill=INK, font=ImageFont.load_default(20), spacing=6)
    draw.text((left, STATIC - 56), caption, fill=GREY, font=ImageFont.load_default(14))
    draw.text((left, STATIC - 34), outcome, fill=COLOURS[outcome], font=ImageFont.load_default(16))
    return np.asarray(frame)


class Screen(Protocol):
    """Where frames go."""

    def add(self, frame: np.ndarray) -> None:
        """Show or keep a uint8 (H, W, 3) frame."""

    def close(self) -> None:
        """Finish; a video file appears only now."""


class Video:
    """A file of frames, `.mp4` (H.264) or `.gif` by its name, which appears whole when it is closed.

    Args:
        path: where the video goes; its folder is made.
        fps: frames a second that are added.

    Raises:
        UserError: another ending than .mp4 or .gif, or a folder that cannot be written to.
    """

    def __init__(self, path: Path, fps: int = 30) -> None:
        check_video_path(path)
        imageio = require("imageio.v2", "writing videos", "'imageio[ffmpeg]'")
        self.path = path
        self._partial = path.with_name(f".{path.stem}.partial{path.suffix}")
        self._every = GIF_EVERY if path.suffix.lower() == ".gif" else 1
        self._count = 0
        options: dict[str, Any] = (
            {"mode": "I", "duration": 1000 * GIF_EVERY / fps, "loop": 0}
            if self._every > 1
            else {"fps": fps, "macro_block_size": 16, "quality": 8}
        )
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._partial.touch()  # ffmpeg would say at the end alone that it cannot
            self._writer = imageio.get_writer(self._partial, **options)
        except OSError as error:
            raise UserError(f"cannot write the video {path}: {error.strerror or error}") from error

    def add(self, frame: np.ndarray) -> None:
        if self._count % self._every == 0:
            self._writer.append_data(frame)
        self._count += 1

    def close(self) -> None:
        self._writer.close()
        os.replace(self._partial, self.path)

    def discard(self) -> None:
        """Close without leaving a file."""
        self._writer.close()
        self._partial.unlink(missing_ok=True)


class Window:
    """Frames shown on the screen as they come, through matplotlib."""

    def __init__(self, title: str) -> None:
        import matplotlib.pyplot as plt

        self._plt = plt
        self._figure = plt.figure(title, figsize=((STATIC + GRIPPER) / 100, STATIC / 100))
        axes = self._figure.add_axes((0.0, 0.0, 1.0, 1.0))
        axes.set_axis_off()
        self._image = axes.imshow(np.zeros((STATIC, STATIC + GRIPPER, 3), np.uint8))

    def add(self, frame: np.ndarray) -> None:
        if self._plt.fignum_exists(self._figure.number):  # the user may have closed it: go on without
            self._image.set_data(frame)
            self._plt.pause(0.001)

    def close(self) -> None:
        self._plt.close(self._figure)


def can_open_window() -> bool:
    """Whether there is a display and a toolkit that matplotlib can draw on."""
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return False
    import matplotlib

    try:
        import matplotlib.pyplot as plt

        plt.close(plt.figure())
    except Exception:  # a display that refuses us, or a broken toolkit: each toolkit raises its own kind
        return False
    return matplotlib.get_backend().lower() not in ("agg", "pdf", "ps", "svg", "cairo", "template")


def check_video_path(path: Path) -> None:
    """Raise UserError for what is no name of a video."""
    if path.suffix.lower() not in (".mp4", ".gif"):
        raise UserError(f"cannot write a video to {str(path)!r}: its name must end in .mp4 or .gif")
    if path.is_dir():
        raise UserError(f"cannot write the video {path}: it is a folder; give the name of a file")


class Recorder:
    """Composes a frame of every step of the episodes of `env` and adds it to the screens.

    Args:
        env: an environment with `render_mode="rgb_array"`.
        screens: where the frames go.
        hold: frames for which the last image of an episode stays.
    """

    def __init__(self, env: Any, screens: list[Screen], hold: int = 24) -> None:
        self._env, self._screens, self._hold = env, screens, hold

    def add(self, observation: dict[str, np.ndarray], instruction: str, caption: str, outcome: str = "running") -> None:
        """One more step. An outcome other than "running" ends the episode."""
        try:
            static = self._env.render()
        except NotImplementedError:  # Gymnasium's, of environments that have no such method
            static = None
        if np.ndim(static) != 3:
            name = self._env.spec.id if self._env.spec else type(self._env.unwrapped).__name__
            raise UserError(f"{name} renders no image (rgb_array), so there is nothing to film: leave the video out")
        cameras = camera_images(observation)
        # The first camera mostly sees what is rendered anyway; the last one is that at the gripper, if there is any.
        frame = compose(static, cameras[-1] if cameras else static, instruction, caption, outcome)
        for _ in range(1 if outcome == "running" else self._hold):
            for screen in self._screens:
                screen.add(frame)
