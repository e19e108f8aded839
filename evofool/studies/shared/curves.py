"""Curves as SVG, in the manner of charts.py: each with its own dashes and its name at its end, so that none is told by
colour alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from evofool.base.streams import printable

__all__ = ["Curve", "curves"]

WIDTH, HEIGHT = 800, 420  # pixels
LEFT, RIGHT, TOP, BOTTOM = 60, 20, 48, 52
LINE = 20  # of the legend
INK, FAINT = "#1b1f24", "#c9ced6"
COLOURS = ("#1f5fa8", "#b03a2e", "#2b7a3d", "#6b4fa0", "#8a6d1b", "#3d3d3d")
DASHES = ("", "8 4", "2 3", "10 3 2 3", "14 4", "4 4")


@dataclass(frozen=True)
class Curve:
    """A line from point to point, each x not less than the last; held level between them where `steps`."""

    name: str
    points: Sequence[tuple[float, float]]
    steps: bool = False


def curves(title: str, lines: Sequence[Curve], across: str, up: str, *, top: float = 1.0, log: bool = True) -> str:
    """Lines on one pair of axes, the upright one from 0 to `top`, and below them what each line is.

    Args:
        across, up: what the axes are.
        log: whether the axis across is logarithmic; then each x is above 0.
    """
    xs = [x for line in lines for x, _ in line.points]
    low, high = (min(xs), max(xs)) if xs else (1.0, 10.0)
    low, high = (low, high) if low < high else (low / 2 if log else low - 1, high * 2 if log else high + 1)
    wide, tall = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def place(x: float, y: float) -> tuple[float, float]:
        share = math.log(x / low) / math.log(high / low) if log else (x - low) / (high - low)
        return LEFT + wide * share, TOP + tall * (1 - min(1.0, max(0.0, y / top)))

    parts = list(_axes(low, high, top, log, place))
    parts += [_text(LEFT + wide / 2, HEIGHT - 10, across, anchor="middle"), _text(8, TOP - 8, up)]
    for i, line in enumerate(lines):
        style = f'stroke="{COLOURS[i % 6]}" stroke-width="2.2" stroke-dasharray="{DASHES[i % 6]}" fill="none"'
        if line.points:
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in _corners(line)))
            parts.append(f'<polyline points="{path}" {style}/>')
        y = HEIGHT + LINE * i + 4
        parts += [f'<line x1="{LEFT}" y1="{y}" x2="{LEFT + 46}" y2="{y}" {style}/>', _text(LEFT + 56, y + 4, line.name)]
    bottom = HEIGHT + LINE * len(lines) + 8
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom}" width="{WIDTH}" height="{bottom}"'
    return "\n".join(
        [
            f'{head} role="img" font-family="system-ui, sans-serif">',
            f"<title>{escape(printable(title))}</title>",
            '<rect width="100%" height="100%" fill="#ffffff"/>',
            _text(16, 24, title, size=17, weight="bold"),
            *parts,
            "</svg>\n",
        ]
    )


def _corners(line: Curve) -> Iterator[tuple[float, float]]:
    before: float | None = None
    for x, y in line.points:
        if line.steps and before is not None:
            yield x, before
        yield x, y
        before = y


def _axes(low: float, high: float, top: float, log: bool, place) -> Iterator[str]:  # type: ignore[no-untyped-def]
    for i in range(5):
        value = top * i / 4
        (x1, y), (x2, _) = place(low, value), place(high, value)
        yield f'<line x1="{x1:.1f}" y1="{y:.1f}" x2="{x2:.1f}" y2="{y:.1f}" stroke="{FAINT}"/>'
        yield _text(x1 - 6, y + 4, f"{value:g}", anchor="end")
    for value in _ticks(low, high, log):
        (x, y1), (_, y2) = place(value, 0), place(value, top)
        yield f'<line x1="{x:.1f}" y1="{y1:.1f}" x2="{x:.1f}" y2="{y2:.1f}" stroke="{FAINT}"/>'
        yield _text(x, y1 + 16, f"{value:g}" if value < 1e6 else f"{value:.0e}", anchor="middle")


def _ticks(low: float, high: float, log: bool) -> list[float]:
    if not log:
        return [low + (high - low) * i / 4 for i in range(5)]
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    fine = (1,) if len(decades) > 4 else (1, 2, 5)
    return [tick for decade in decades for step in fine if low <= (tick := step * 10.0**decade) <= high]


def _text(x: float, y: float, text: str, *, anchor: str = "start", size: int = 13, weight: str = "normal") -> str:
    style = f'text-anchor="{anchor}" font-size="{size}" font-weight="{weight}" fill="{INK}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(printable(text))}</text>'
