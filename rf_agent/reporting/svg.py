"""Plots as SVG that stands in an HTML page and takes its colours from the page's style sheet.

Charts are drawn 400 units wide, so that their words can be read on a phone, and grow with the page up to a limit.
Elements of run number i have the class `run-i`, whose CSS variable `--run` is its colour.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

COLOURS = 6
"""Runs that the style sheet has colours for; further ones begin again."""
WIDTH, LEFT, RIGHT = 400, 46, 14


@dataclass(frozen=True)
class Series:
    """Points of one run: values and the ends of their intervals."""

    name: str
    values: Sequence[float]
    intervals: Sequence[tuple[float, float]]


def element(tag: str, *children: str, **attributes: object) -> Markup:
    """An SVG element. Names are as in SVG, with `_` for `-` and a `_` after Python's own words."""
    words = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(_short(value))}"' for name, value in attributes.items()
    )
    return Markup(f"<{tag}{words}>{''.join(map(str, map(escape, children)))}</{tag}>")


def run_class(index: int) -> str:
    """The class of everything that shows run `index`."""
    return f"run-{index % COLOURS}"


def chain_curve(series: Sequence[Series], reference: Series | None, numbers: Sequence[int]) -> Markup:
    """Shares of chains that got 1, 2, ... sub-tasks far, with intervals.

    Args:
        series: one for each run.
        reference: shown as a dashed line.
        numbers: of the runs, which give the colours.
    """
    height, top, bottom = 260, 22, 40
    length = max(len(one.values) for one in series)
    gap = (WIDTH - LEFT - RIGHT) / length
    spread = min(9.0, 0.6 * gap / len(series))

    def across(place: int) -> float:
        return LEFT + gap * (place + 0.5)

    def down(rate: float) -> float:
        return top + (1 - rate) * (height - top - bottom)

    parts = _percent_grid(down)
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts += [_text(across(place), height - bottom + 18, str(place + 1)) for place in range(length)]
    parts.append(_text(middle, height - 4, "sub-tasks solved in a row"))
    if reference:
        points = " ".join(f"{across(i):.1f},{down(v):.1f}" for i, v in enumerate(reference.values))
        parts.append(element("polyline", points=points, class_="reference"))
    for index, one in enumerate(series):
        shift = (index - (len(series) - 1) / 2) * spread
        marks = []
        places = [(across(i) + shift, value, ends) for i, (value, ends) in enumerate(_zip(one))]
        marks.append(element("polyline", points=" ".join(f"{x:.1f},{down(v):.1f}" for x, v, _ in places)))
        for x, value, (low, high) in places:
            says = f"{one.name}: {100 * value:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"
            line = element("line", x1=x, x2=x, y1=down(low), y2=down(high), class_="whisker")
            dot = element("circle", cx=x, cy=down(value), r=3.5)
            marks.append(element("g", element("title", says), line, dot))
            if len(series) == 1:
                parts.append(_text(x + 7, down(value) - 6, f"{100 * value:.0f} %", anchor="start", class_="value"))
        parts.append(element("g", *marks, class_=f"series {run_class(numbers[index])}"))
    says = "; ".join(f"{one.name}: {', '.join(f'{100 * v:.0f} %' for v in one.values)}" for one in series)
    return _chart(f"Share of chains that got 1 to {length} sub-tasks far. {says}.", height, parts)


def step_bars(width: int, solved: Sequence[int], failed: Sequence[int]) -> Markup:
    """Histogram of the steps of attempts: solved ones above the axis, failed ones below it."""
    height, top, bottom = 220, 12, 40
    most_up, most_down = max([*solved, 1]), max([*failed, 0])
    scale = (height - top - bottom - 4) / (most_up + most_down)
    zero = top + most_up * scale
    bar = (WIDTH - LEFT - RIGHT) / len(solved)
    parts = []
    for counts, sign, kind in ((solved, -1, "solved"), (failed, 1, "failed")):
        for index, count in enumerate(counts):
            if not count:
                continue
            tall = max(1.0, count * scale)
            says = f"{index * width + 1} to {(index + 1) * width} steps: {count} {kind}"
            x, y = LEFT + index * bar + 0.5, zero - tall if sign < 0 else zero
            rect = element("rect", element("title", says), x=x, y=y, width=max(1.0, bar - 1), height=tall, rx=1)
            parts.append(element("g", rect, class_=kind))
    parts.append(element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=zero, y2=zero, class_="axis"))
    parts.append(_text(LEFT - 5, top + 8, str(most_up), anchor="end"))
    if most_down:
        parts.append(_text(LEFT - 5, zero + most_down * scale, str(most_down), anchor="end"))
    step = max(1, len(solved) // 6)
    for index in range(0, len(solved) + 1, step):
        parts.append(_text(LEFT + index * bar, height - bottom + 18, str(index * width)))
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, height - 4, "environment steps of an attempt"))
    says = f"Steps of attempts in bins of {width}: {sum(solved)} solved, {sum(failed)} failed."
    return _chart(says, height, parts)


def rate_bars(series: Sequence[tuple[int, float, tuple[float, float]]], says: str, paper: float | None) -> Markup:
    """Bars with intervals for a cell of a table, as wide as the cell: (number of the run, rate, interval).

    Args:
        says: the same in words, for those who cannot see it.
        paper: a rate that is marked for comparison.
    """
    row = 14 if len(series) == 1 else 10
    height = row * max(1, len(series))
    parts = [element("rect", x="0", y=0, width="100%", height=height, class_="track")]
    for place, (index, rate, (low, high)) in enumerate(series):
        middle = place * row + row / 2
        bar = element("rect", x="0", y=middle - row / 2 + 1, width=f"{100 * rate:.1f}%", height=row - 2, class_="bar")
        line = element("line", x1=f"{100 * low:.1f}%", x2=f"{100 * high:.1f}%", y1=middle, y2=middle, class_="whisker")
        parts.append(element("g", bar, line, class_=run_class(index)))
    if paper is not None:
        x = f"{min(99.5, 100 * paper):.1f}%"
        parts.append(element("line", x1=x, x2=x, y1=0, y2=height, class_="paper"))
    return element("svg", *parts, class_="bars", height=height, role="img", aria_label=says)


def _chart(says: str, height: int, parts: Sequence[Markup]) -> Markup:
    box = f"0 0 {WIDTH} {height}"
    return element("svg", *parts, class_="chart", viewBox=box, role="img", aria_label=says)


def _percent_grid(down) -> list[Markup]:
    parts = []
    for percent in (0, 25, 50, 75, 100):
        y = down(percent / 100)
        parts.append(element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, class_="axis" if percent == 0 else "grid"))
        parts.append(_text(LEFT - 5, y + 4, f"{percent} %" if percent == 100 else str(percent), anchor="end"))
    return parts


def _text(x: float, y: float, words: str, anchor: str = "middle", class_: str = "label") -> Markup:
    return element("text", words, x=x, y=y, text_anchor=anchor, class_=class_)


def _zip(one: Series) -> list[tuple[float, tuple[float, float]]]:
    return list(zip(one.values, one.intervals, strict=True))


def _short(value: object) -> str:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)
