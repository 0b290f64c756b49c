"""Observations of the data beside those of the environment, in the same states where these could be brought back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rf_agent.demos.demonstration import Layout
from rf_agent.diagnosis.episodes import Episode
from rf_agent.diagnosis.images import (
    Correction,
    Format,
    as_size,
    corrections,
    difference,
    histogram_distance,
    matched_tones,
    read_images,
    same_geometry,
)
from rf_agent.diagnosis.replay import Replay

MOST_PAIRS = 24
"""Frames of an episode-spanning sample that are compared."""
TOLERANCE, VIDEO_TOLERANCE = 2.5, 6.0
"""Mean difference in grey levels up to which two images are the same: resizing brings about 1, videos 2 to 4."""


@dataclass
class CameraReport:
    """One camera in data and environment."""

    camera: str
    data: Format
    environment: Format
    frames: int
    paired: bool
    """Whether the frames show the same states; otherwise only what does not depend on the state is compared."""
    brightness: tuple[float, float] = (0.0, 0.0)
    """Mean grey level in data and environment."""
    histogram: float = 0.0
    """See `rf_agent.diagnosis.images.histogram_distance`."""
    difference: float = 0.0
    """Mean absolute difference in grey levels."""
    correction: Correction | None = None
    """What makes the data's image of the environment's."""
    corrected: float = 0.0
    """The difference that is left then."""
    matched: float = 0.0
    """The difference that is left when the tones are matched too."""
    edges: float = 0.0
    """Correlation of the edges after the correction."""
    greys: float = 0.0
    """Correlation of the brightness after the correction."""
    example: tuple[NDArray[np.uint8], NDArray[np.uint8]] | None = None
    """An image of the data and the environment's at the same step, for the picture."""

    tolerance: float = TOLERANCE
    """Difference up to which images are the same."""
    histogram_tolerance: float = TOLERANCE
    """Distance of the histograms up to which colours are the same."""

    @property
    def differs(self) -> bool:
        """Whether the images are not the same."""
        return self.difference > self.tolerance

    @property
    def same(self) -> bool:
        """Whether there is nothing to tell them apart by."""
        return not self.data.problem and not self.environment.problem and self.difference < 0.1

    @property
    def explained(self) -> float:
        """Share of the difference that the correction removes."""
        return 1 - self.corrected / self.difference if self.difference else 0.0

    @property
    def same_scene(self) -> bool:
        """Whether both show the same from the same place, whatever the colours."""
        return self.edges > 0.5 or self.greys > 0.8


@dataclass
class StateReport:
    """One entry of the robot's state where the environment leaves the range of the data."""

    entry: int
    data: tuple[float, float]
    environment: tuple[float, float]


@dataclass
class ObservationReport:
    """What was found."""

    cameras: list[CameraReport] = field(default_factory=list)
    states: list[StateReport] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    shown: list[dict[str, NDArray[Any]]] = field(default_factory=list)
    """By episode and camera: the environment's images of the steps that the environment was in the recorded state."""


def compare_observations(
    episodes: Sequence[Episode],
    replays: Sequence[Replay],
    layout: Layout,
    reproduced: bool | None,
    tolerance: float = TOLERANCE,
) -> ObservationReport:
    """Compare what was recorded with what the environment showed while the recorded actions were carried out.

    Args:
        episodes: of the data.
        replays: one of each.
        layout: of the data.
        reproduced: whether the replays began in the recorded states; None if that cannot be told by the state.
        tolerance: mean difference in grey levels up to which two images are the same.
    """
    report = ObservationReport()
    cameras = [camera for camera in layout.cameras if all(replay.images.get(camera) for replay in replays)]
    for camera in [camera for camera in layout.cameras if camera not in cameras]:
        report.left_out.append(f"the environment shows no {camera}, so it is not compared")
    stride = layout.frame_stride
    known: list[dict[str, NDArray[np.uint8]]] = []
    formats: dict[str, Format] = {}
    for replay in replays:
        count = max(1, -(-replay.tracked // stride))
        raw = {camera: np.stack(replay.images[camera][:count]) for camera in cameras}
        report.shown.append(raw)
        read = {}
        for camera, values in raw.items():
            try:
                read[camera], form = read_images(values)
            except ValueError as error:
                report.left_out.append(f"{camera} of the environment: {error}")
                continue
            if camera not in formats or (formats[camera].lost and not form.lost):
                formats[camera] = form  # a dark image among others is just dark
        known.append(read)
    cameras = [camera for camera in cameras if all(camera in read for read in known)]
    pairs = [
        ({camera: episode.images[camera][: len(read[camera])] for camera in cameras}, read)
        for episode, read in zip(episodes, known, strict=True)
        if cameras
    ]
    paired = reproduced is not False
    if reproduced is None:
        paired = not any(_elsewhere(pairs, camera, cameras) for camera in cameras)
    for camera in cameras:
        data_format = common_format([episode.formats[camera] for episode in episodes])
        found = _compare(camera, cameras, pairs, data_format, formats[camera], paired, tolerance)
        report.cameras.append(found)
    if cameras and not all(camera.paired for camera in report.cameras):
        report.left_out.append(
            "the recorded starts could not be brought back in the environment, so averages are compared and not images "
            "of the same step"
        )
    report.states = _states(episodes, replays)
    return report


def common_format(formats: Sequence[Format]) -> Format:
    """That of all images: those of an episode that are all dark tell nothing if others are not."""
    return next((form for form in formats if not form.lost), formats[0])


Pairs = Sequence[tuple[dict[str, NDArray[np.uint8]], dict[str, NDArray[np.uint8]]]]


def _elsewhere(pairs: Pairs, camera: str, cameras: Sequence[str]) -> bool:
    """Whether images of the first frames differ in whatever way they are turned, as in other states."""
    ours, theirs = ({name: np.concatenate([p[side][name][:1] for p in pairs]) for name in cameras} for side in (0, 1))
    found = [same_geometry(ours[camera], _fit(c(theirs), ours[camera])) for c in corrections(camera, cameras)]
    return max(edges for edges, _ in found) < 0.5


def _fit(images: NDArray[np.uint8], like: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return as_size(images, *like.shape[1:3])


def _compare(
    camera: str,
    cameras: Sequence[str],
    pairs: Pairs,
    data: Format,
    environment: Format,
    paired: bool,
    tolerance: float,
) -> CameraReport:
    ours = {name: np.concatenate([recorded[name] for recorded, _ in pairs]) for name in cameras}
    theirs = {name: np.concatenate([shown[name] for _, shown in pairs]) for name in cameras}
    count = MOST_PAIRS if paired else 4 * MOST_PAIRS
    rows = np.unique(np.linspace(0, len(ours[camera]) - 1, count).astype(int))
    own, other = ours[camera][rows], {name: images[rows] for name, images in theirs.items()}
    plain = _fit(other[camera], own)
    report = CameraReport(camera, data, environment, len(rows), paired, tolerance=tolerance)
    report.example = own[len(own) // 2], plain[len(own) // 2]
    report.brightness = float(own.mean()), float(plain.mean())
    report.histogram = histogram_distance(own, plain)
    if data.lost or environment.lost:
        return report
    if not paired:  # the mean over many states is that of the camera's place
        first, second = own[: len(own) // 2], own[len(own) // 2 :]
        if len(first):  # what chance does between two halves, it does between data and environment
            report.histogram_tolerance += histogram_distance(first, second)
            report.tolerance += difference(*(half.mean(axis=0).astype(np.uint8) for half in (first, second)))
        own = own.mean(axis=0, keepdims=True).astype(np.uint8)
        other = {name: images.mean(axis=0, keepdims=True).astype(np.uint8) for name, images in other.items()}
        plain = _fit(other[camera], own)
    report.difference = difference(own, plain)
    tried = {c: difference(own, _fit(c(other), own)) for c in corrections(camera, cameras)}
    best = min(tried.values())
    # the simplest that does nearly as well as the best
    chosen = next(c for c, left in tried.items() if left <= 1.3 * best + 0.5)
    # averages are never the same, so that only what halves their difference counts
    helps = tried[chosen] <= (0.75 if paired else 0.5) * report.difference
    if not helps or (paired and not report.differs):
        chosen = Correction(camera)
    report.correction, report.corrected = chosen, tried[chosen]
    turned = _fit(chosen(other), own)
    report.matched = difference(own, matched_tones(turned, own))
    report.edges, report.greys = same_geometry(own, turned)
    return report


def _states(episodes: Sequence[Episode], replays: Sequence[Replay]) -> list[StateReport]:
    """The entries in which the environment leaves the data's range by more than a tenth of it."""
    theirs = [replay.state for replay in replays if replay.state is not None]
    ours = [episode.state for episode in episodes if episode.state is not None]
    if not theirs or not ours:
        return []
    a, b = np.concatenate(ours), np.concatenate(theirs)
    found = []
    for entry in range(a.shape[1]):
        low, high = float(a[:, entry].min()), float(a[:, entry].max())
        margin = 0.1 * (high - low) + 1e-3
        least, most = float(b[:, entry].min()), float(b[:, entry].max())
        if least < low - margin or most > high + margin:
            found.append(StateReport(entry, (low, high), (least, most)))
    return found
