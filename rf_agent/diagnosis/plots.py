"""Pictures of a diagnosis: actions over time, and images of data and environment side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rf_agent.diagnosis.episodes import Episode
from rf_agent.diagnosis.images import as_size
from rf_agent.diagnosis.observations import CameraReport

if TYPE_CHECKING:
    from rf_agent.diagnosis.actions import Entry

MOST_EPISODES = 4
NAMES = ("x", "y", "z", "rotation x", "rotation y", "rotation z", "gripper")
"""Entries of CALVIN's actions."""


def entry_name(index: int, dim: int, gripper: int | None) -> str:
    """What an entry of an action is called."""
    if dim == 7 and gripper == 6:
        return NAMES[index]
    return "gripper" if index == gripper else f"entry {index}"


def plot_actions(
    path: Path,
    episodes: Sequence[Episode],
    predicted: Sequence[NDArray[np.float32]],
    entries: Sequence[Entry],
    gripper: int | None,
) -> Path:
    """Recorded and predicted actions: a row for each entry, episodes one after the other."""
    episodes, predicted = episodes[:MOST_EPISODES], predicted[:MOST_EPISODES]
    recorded = np.concatenate([episode.actions for episode in episodes])
    ends = np.cumsum([len(episode.actions) for episode in episodes])
    dim = recorded.shape[1]
    figure = _figure(11, 1.35 * dim + 0.9)
    for index, entry in enumerate(entries):
        axes = figure.add_subplot(dim, 1, index + 1)
        axes.plot(recorded[:, index], color="0.25", linewidth=1.4, label="recorded")
        axes.plot(np.concatenate(predicted)[:, index], color="tab:orange", linewidth=1.1, label="policy")
        for end in ends[:-1]:
            axes.axvline(end - 0.5, color="0.8", linewidth=0.8)
        what = "wrong" if entry.is_gripper else "error"
        errors = f"{what} {entry.error:.2f}, constant {entry.constant:.2f}, copy-last {entry.copy_last:.2f}"
        axes.set_title(f"{entry_name(index, dim, gripper)}: {errors}", fontsize=8, loc="left", pad=2)
        axes.tick_params(labelsize=7, labelbottom=index == dim - 1)
        axes.margins(x=0)
        if index == 0:
            axes.legend(fontsize=7, loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False)
            for begin, episode in zip([0, *ends[:-1]], episodes, strict=True):
                axes.annotate(episode.task, (begin, 1.28), xycoords=("data", "axes fraction"), fontsize=7, color="0.4")
    axes.set_xlabel("recorded step, episodes one after the other", fontsize=8)
    figure.subplots_adjust(0.06, 0.5 / figure.get_figheight(), 0.985, 1 - 0.55 / figure.get_figheight(), hspace=0.45)
    return _save(figure, path)


def plot_observations(path: Path, cameras: Sequence[CameraReport]) -> Path:
    """A row for each camera: the data's image, the environment's at the same step, and their difference."""
    rows = [camera for camera in cameras if camera.example is not None]
    figure = _figure(9, 3.1 * len(rows))
    for row, camera in enumerate(rows):
        assert camera.example is not None
        ours, theirs = camera.example
        apart = np.abs(ours.astype(np.int16) - as_size(theirs[None], *ours.shape[:2])[0]).astype(np.uint8)
        step = "at the same step" if camera.paired else "in another state"
        titles = (
            f"{camera.camera}: data",
            f"environment, {step}",
            f"difference, {camera.difference:.1f} grey levels on average",
        )
        for column, (image, title) in enumerate(zip((ours, theirs, apart), titles, strict=True)):
            axes = figure.add_subplot(len(rows), 3, 3 * row + column + 1)
            axes.imshow(image)
            axes.set_title(title, fontsize=9)
            axes.set_axis_off()
    figure.subplots_adjust(0.01, 0.01, 0.99, 1 - 0.3 / figure.get_figheight(), 0.03, 0.12)
    return _save(figure, path)


def _figure(width: float, height: float) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Any, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    return path
