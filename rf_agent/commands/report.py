"""`rf-agent report`: evaluations as a page, as tables for a paper, or shards merged into one result."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from rf_agent.errors import UserError
from rf_agent.files import write_json, write_text
from rf_agent.reporting import tables
from rf_agent.reporting.clips import choose_clips
from rf_agent.reporting.compare import differing_conditions
from rf_agent.reporting.runs import Run, read_runs
from rf_agent.unused import refuse_unused

Format = Literal["html", "json", "markdown", "latex", "csv"]
ENDINGS: dict[str, Format] = {
    ".html": "html",
    ".htm": "html",
    ".json": "json",
    ".md": "markdown",
    ".tex": "latex",
    ".csv": "csv",
}


@dataclass(kw_only=True)
class Args:
    """Show one or several evaluations; shards of one evaluation are merged."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Folders that `rf-agent evaluate` wrote, finished or not. The first is what the others are compared with."""
    output: Path | None = None
    """File to write; its ending (.html, .json, .md, .tex, .csv) says the format. Without it tables go to the screen."""
    format: Format | None = None
    """A page, the merged results.json, or tables for a paper; if not given by the ending of the output, and
    Markdown on the screen."""
    videos: int = 6
    """Recorded episodes that the page shows at most, failed ones first."""
    video_of: tuple[str, ...] = ()
    """Further episodes whose videos the page shows first, such as chain/17."""
    link_videos: bool = False
    """Leave the videos where they are and link to them, instead of putting them into the page."""
    allow_missing: bool = False
    """Merge shards even if some of them, or some of their episodes, are missing; the report says so."""


def run(args: Args) -> None:
    """Write the report and say where it is, or print the tables."""
    if args.videos < 0:
        raise UserError(f"--videos is {args.videos}: give 0 or more")
    form = _format(args)
    if form != "html":
        refuse_unused(args, ("videos", "video_of", "link_videos"), "no page (.html) is written")
    runs = read_runs(args.runs, args.allow_missing)
    for note in (note for run in runs for note in run.notes):
        print(f"note: {note}", file=sys.stderr)
    if form == "csv" and (unlike := differing_conditions(runs)):  # other formats have a place for it
        print(f"note: The evaluations also differ in: {'; '.join(unlike)}.", file=sys.stderr)
    if args.output is None:
        print(_text(form, runs), end="")
        return
    try:
        if form == "html":
            _write_page(args, args.output, runs)
        elif form == "json":
            results = [run.results() for run in runs]
            write_json(args.output, results[0] if len(results) == 1 else results)
        else:
            write_text(args.output, _text(form, runs))
    except OSError as error:
        raise UserError(f"cannot write to --output {args.output}: {error.strerror or error}") from error
    episodes = sum(len(run.episodes) for run in runs)
    print(f"{len(runs)} evaluation{'s' if len(runs) > 1 else ''}, {episodes} episodes: {args.output}")


def _format(args: Args) -> Format:
    if args.format is not None:
        if args.output is None and args.format in ("html", "json"):
            raise UserError(f"--format {args.format} needs a file: give --output")
        return args.format
    if args.output is None:
        return "markdown"
    form = ENDINGS.get(args.output.suffix.lower())
    if form is None:
        raise UserError(f"--output is {args.output}: give a name that ends in {', '.join(ENDINGS)}, or give --format")
    return form


def _text(form: Format, runs: list[Run]) -> str:
    if form == "csv":
        return tables.csv_text(runs)
    return (tables.latex if form == "latex" else tables.markdown)(tables.tables(runs))


def _write_page(args: Args, output: Path, runs: list[Run]) -> None:
    from rf_agent.reporting.page import write_page

    write_page(output, runs, choose_clips(runs, args.videos, args.video_of), args.link_videos)
