"""A window that shows the rendered frames, for ``render_mode="human"``."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

logger = logging.getLogger(__name__)


class Window:
    """Shows frames with Matplotlib. Without a display it shows nothing and says so once."""

    def __init__(self, title: str):
        try:
            import matplotlib.pyplot as plt
        except ImportError as error:
            raise ImportError(
                "render_mode='human' draws with Matplotlib, which is not installed; pip install matplotlib, "
                "or use render_mode='rgb_array'."
            ) from error
        self._plt = plt
        self._title = title
        self._figure: Any = None
        self._image: Any = None
        self._closed = False

    def show(self, frame: np.ndarray) -> None:
        """Show an (h, w, 3) uint8 frame, unless the user has closed the window."""
        if self._closed:
            return
        if self._figure is None:
            self._open(frame)
        self._image.set_data(frame)
        self._figure.canvas.draw_idle()
        self._figure.canvas.flush_events()

    def _open(self, frame: np.ndarray) -> None:
        self._figure, axes = self._plt.subplots()  # of its own: two environments may have the same title
        if self._figure.canvas.manager is not None:
            self._figure.canvas.manager.set_window_title(self._title)
        axes.set(xticks=[], yticks=[])
        self._image = axes.imshow(frame)
        self._figure.canvas.mpl_connect("close_event", self._on_close)
        if self._figure.canvas.required_interactive_framework is None:
            logger.warning("There is no display: the window of render_mode='human' stays invisible.")
        else:
            self._figure.show()

    def _on_close(self, event: Any) -> None:
        self._closed = True

    def close(self) -> None:
        """Close the window; closing twice is allowed."""
        if self._figure is not None:
            self._plt.close(self._figure)
        self._figure, self._closed = None, True
