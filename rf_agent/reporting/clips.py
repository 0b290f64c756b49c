"""Which recorded episodes a report shows, and how it holds them."""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from rf_agent.errors import UserError
from rf_agent.evaluation.metrics import Episode
from rf_agent.reporting.runs import Run

TYPES = {".mp4": "video/mp4"}


@dataclass(frozen=True, kw_only=True)
class Clip:
    """The video of an episode."""

    run: int
    """Number of its run in the report."""
    episode: Episode
    solved: bool
    path: Path


def choose_clips(runs: Sequence[Run], count: int, wanted: Sequence[str] = ()) -> list[Clip]:
    """Videos of the episodes `wanted`, then up to `count` others: failed ones first, taking turns between the runs.

    Args:
        wanted: keys of episodes such as "chain/17".

    Raises:
        UserError: a wanted episode has no video.
    """
    clips = [clip for number, run in enumerate(runs) for clip in _recorded(number, run)]
    for key in wanted:
        if not any(clip.episode.key == key for clip in clips):
            have = ", ".join(dict.fromkeys(clip.episode.key for clip in clips[:12])) or "none"
            raise UserError(
                f"--video-of names {key!r}, which has no video (recorded: {have}): "
                "record more with `rf-agent evaluate --video-episodes N`"
            )
    chosen = [clip for key in wanted for clip in clips if clip.episode.key == key]
    others = [clip for clip in clips if clip.episode.key not in wanted]
    turns: dict[tuple[int, bool], int] = {}
    order = []
    for clip in others:
        turn = turns[clip.run, clip.solved] = turns.get((clip.run, clip.solved), -1) + 1
        order.append((clip.solved, turn, clip.run))
    ranked = [clip for _, clip in sorted(zip(order, others, strict=True), key=lambda pair: pair[0])]
    return chosen + ranked[:count]


def _recorded(number: int, run: Run) -> list[Clip]:
    found = []
    for episode in run.episodes:
        names = [folder / "videos" / f"{episode.key.replace('/', '-')}.mp4" for folder in run.folders]
        path = next((name for name in names if name.is_file()), None)
        if path is not None:
            solved = not run.scored or episode.completed >= run.length
            found.append(Clip(run=number, episode=episode, solved=solved, path=path))
    return found


def embedded(clip: Clip) -> str:
    """The video as a data URI.

    Raises:
        UserError: its file cannot be read.
    """
    try:
        data = clip.path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read the video {clip.path} ({error.strerror or error}): give --videos 0") from error
    return f"data:{TYPES[clip.path.suffix]};base64,{base64.b64encode(data).decode('ascii')}"


def linked(clip: Clip, page: Path) -> str:
    """The video's place as seen from the page."""
    return quote(Path(os.path.relpath(clip.path.resolve(), page.resolve().parent)).as_posix())
