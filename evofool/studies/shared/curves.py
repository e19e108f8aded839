"""How a share grows with what was spent, as SVG in the manner of charts.py: each line with its own dashes, and its name
below, so that none is told by colour alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from evofool.studies.shared.bands import polyline
from evofool.studies.shared.charts import FAINT, WIDTH, document, text

__all__ = ["Curve", "curves"]

HEIGHT = 420  # pixels, of the axes and what is written around them
LEFT, RIGHT, TOP, BOTTOM = 60, 20, 64, 52
LINE = 20  # of the legend


@dataclass(frozen=True)
class Curve:
    """Points, each x above 0 and not less than the last, y from 0 to 1, which holds until the next."""

    name: str
    points: Sequence[tuple[float, float]]


def curves(title: str, lines: Sequence[Curve], across: str, up: str) -> str:
    """Lines on one pair of axes, the upright one from 0 to 1, the other logarithmic; below them what each line is.

    Args:
        across, up: what the axes are.
    """
    xs = [x for line in lines for x, _ in line.points]
    low, high = (min(xs), max(xs)) if xs else (1.0, 10.0)
    low, high = (low, high) if low < high else (low / 2, high * 2)

    def place(x: float, y: float) -> tuple[float, float]:
        share = math.log(x / low) / math.log(high / low)
        return LEFT + (WIDTH - LEFT - RIGHT) * share, TOP + (HEIGHT - TOP - BOTTOM) * (1 - min(1.0, max(0.0, y)))

    parts = list(_axes(low, high, place))
    parts += [text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, across, anchor="middle", size=13)]
    parts += [text(8, TOP - 12, up, size=13)]
    for i, line in enumerate(lines):
        parts += polyline(i, [place(*point) for point in _corners(line)])
        y = HEIGHT + LINE * i + 4
        parts += [*polyline(i, [(LEFT, y), (LEFT + 46, y)]), text(LEFT + 56, y + 4, line.name, size=13)]
    return document(title, HEIGHT + LINE * len(lines) + 8, parts)


def _corners(line: Curve) -> Iterator[tuple[float, float]]:
    before: float | None = None
    for x, y in line.points:
        if before is not None:
            yield x, before
        yield x, y
        before = y


def _axes(low: float, high: float, place: Callable[[float, float], tuple[float, float]]) -> Iterator[str]:
    for i in range(5):
        (x1, y), (x2, _) = place(low, i / 4), place(high, i / 4)
        yield f'<line x1="{x1:.1f}" y1="{y:.1f}" x2="{x2:.1f}" y2="{y:.1f}" stroke="{FAINT}"/>'
        yield text(x1 - 6, y + 4, f"{i / 4:g}", anchor="end", size=13)
    for value in _ticks(low, high):
        (x, y1), (_, y2) = place(value, 0), place(value, 1)
        yield f'<line x1="{x:.1f}" y1="{y1:.1f}" x2="{x:.1f}" y2="{y2:.1f}" stroke="{FAINT}"/>'
        yield text(x, y1 + 16, f"{value:g}" if value < 1e6 else f"{value:.0e}", anchor="middle", size=13)


def _ticks(low: float, high: float) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    fine = (1,) if len(decades) > 4 else (1, 2, 5)
    return [tick for decade in decades for step in fine if low <= (tick := step * 10.0**decade) <= high]
