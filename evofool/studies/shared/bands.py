"""Lines over whole numbers, as SVG, and strips of small grey pictures below them.

As charts.py: 800 pixels wide, no script, nothing fetched; lines differ in their dashes and marks, not in colour alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evofool.records import Facts
from evofool.studies.shared.charts import BLUE, FAINT, LINE, MARGIN, WIDTH, document, text

__all__ = ["STYLES", "Bands", "bands", "polyline"]

LEFT, RIGHT, HEIGHT, INSET = 70, 24, 150, 22  # pixels around and of a panel, and to its first and last number
STYLES = (  # colour, dashes, mark, of one line after the other
    (BLUE, "", "disc"),
    ("#b4540a", "6 3", "ring"),
    ("#2f7d4f", "2 3", "square"),
    ("#7a3f98", "8 3 2 3", "cross"),
    ("#6b6f76", "1 4", "diamond"),
    ("#a01c3c", "12 4", "bar"),
)
APART = 5  # pixels between lines
LEVELS = 8  # of grey that a picture in a strip has
TALLEST = 60.0  # pixels, of a picture in a strip


@dataclass(frozen=True)
class Bands:
    """Lines on one pair of axes.

    Attributes:
        lines: by name: rows with x (a whole number), value, low and high; a value may be None, and so may low and high.
        span: of the upright axis; by default from the least to the greatest number.
    """

    title: str
    lines: Mapping[str, Sequence[Facts]]
    span: tuple[float, float] | None = None


def bands(
    title: str,
    panels: Sequence[Bands],
    across: str,
    strip: tuple[str, Mapping[int, NDArray[np.uint8]]] | None = None,
) -> str:
    """Panels below each other, with one legend. The interval of the first line is a band, that of others bars.

    Args:
        across: what the numbers of the horizontal axis are.
        strip: a heading, and grey pictures, (height, width) uint8, by number; drawn in LEVELS greys.
    """
    names = list(dict.fromkeys(name for panel in panels for name in panel.lines))
    xs = sorted({row["x"] for panel in panels for rows in panel.lines.values() for row in rows})
    parts, y = list(_legend(names)), 58.0 + LINE * math.ceil(len(names) / 3)
    for panel in panels:
        parts += [text(MARGIN, y + 6, panel.title, weight="bold")]
        parts += _panel(panel, names, xs, y + 18)
        y += HEIGHT + 3 * LINE
    parts.append(text(WIDTH / 2, y - 18, across, anchor="middle", size=12))
    if strip is not None and strip[1]:
        heading, pictures = strip
        parts.append(text(MARGIN, y + 14, heading, weight="bold"))
        side = min(TALLEST, (WIDTH - 2 * MARGIN) / len(pictures) - 6)
        for place, (x, picture) in enumerate(sorted(pictures.items())):
            left = MARGIN + place * (side + 6)
            parts += [*_picture(picture, left, y + 24, side)]
            parts.append(text(left + side / 2, y + 24 + side + 14, str(x), anchor="middle", size=11))
        y += side + 52
    return document(title, y, parts)


def _legend(names: Sequence[str]) -> Iterator[str]:
    for place, name in enumerate(names):
        x, y = MARGIN + (place % 3) * 260, 52 + LINE * (place // 3)
        yield from polyline(place, [(x, y), (x + 34, y)])
        yield _mark(place, x + 17, y)
        yield text(x + 42, y + 4, name, size=12)


def _panel(panel: Bands, names: list[str], xs: list[int], top: float) -> Iterator[str]:
    least, most = _span(panel)

    def at(x: float, value: float) -> tuple[float, float]:
        across = (x - xs[0]) / max(1, xs[-1] - xs[0]) if len(xs) > 1 else 0.5
        up = min(1.0, max(0.0, (value - least) / (most - least)))
        return LEFT + INSET + (WIDTH - LEFT - RIGHT - 2 * INSET) * across, top + HEIGHT * (1 - up)

    for i in range(5):
        value = least + (most - least) * i / 4
        _, y = at(xs[0], value)
        yield f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" stroke="{FAINT}"/>'
        yield text(LEFT - 8, y + 4, f"{value:.3g}", anchor="end", size=11)
    for x in xs:
        yield text(at(x, least)[0], top + HEIGHT + 15, str(x), anchor="middle", size=11)
    for name, rows in panel.lines.items():
        style = names.index(name)
        aside = APART * (style - (len(names) - 1) / 2)  # so that lines that agree are all seen
        known = [(row, at(row["x"], row["value"])) for row in rows if row["value"] is not None]
        points = [(x + aside, y) for _, (x, y) in known]
        ends = [
            (x + aside, at(0, row["low"])[1], at(0, row["high"])[1])
            for row, (x, _) in known
            if row.get("low") is not None and row.get("high") is not None
        ]
        if style == 0 and len(ends) > 1:
            edge = [(x, high) for x, _, high in ends] + [(x, low) for x, low, _ in reversed(ends)]
            places = " ".join(f"{x:.1f},{y:.1f}" for x, y in edge)
            yield f'<polygon points="{places}" fill="{STYLES[0][0]}" fill-opacity="0.13"/>'
        else:
            for across, low, high in ends:
                place = f'x1="{across:.1f}" y1="{low:.1f}" x2="{across:.1f}" y2="{high:.1f}"'
                yield f'<line {place} stroke="{STYLES[style % len(STYLES)][0]}"/>'
        yield from polyline(style, points)
        yield from (_mark(style, *point) for point in points)


def _span(panel: Bands) -> tuple[float, float]:
    if panel.span:
        return panel.span
    rows = [row for each in panel.lines.values() for row in each]
    numbers = [row[name] for row in rows for name in ("value", "low", "high") if row.get(name) is not None]
    low, high = min(numbers, default=0.0), max(numbers, default=1.0)
    return (low, high) if low < high else (low - 0.5, high + 0.5)


def polyline(style: int, points: Sequence[tuple[float, float]]) -> Iterator[str]:
    """A line from point to point, in one of STYLES."""
    colour, dashes, _ = STYLES[style % len(STYLES)]
    if len(points) > 1:
        places = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        look = f'fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dashes}"'
        yield f'<polyline points="{places}" {look}/>'


def _mark(style: int, x: float, y: float) -> str:
    colour, _, mark = STYLES[style % len(STYLES)]
    if mark in ("disc", "ring"):
        fill = colour if mark == "disc" else "#ffffff"
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{fill}" stroke="{colour}" stroke-width="1.5"/>'
    shapes = {
        "square": "M-4 -4h8v8h-8z",
        "diamond": "M0 -5l5 5l-5 5l-5 -5z",
        "cross": "M-4 -4l8 8M-4 4l8 -8",
        "bar": "M0 -5v10",
    }
    fill = colour if mark in ("square", "diamond") else "none"
    path = f'd="{shapes[mark]}" fill="{fill}" stroke="{colour}" stroke-width="2"'
    return f'<path transform="translate({x:.1f} {y:.1f})" {path}/>'


def _picture(picture: NDArray[np.uint8], left: float, top: float, side: float) -> Iterator[str]:
    """A picture as one path for each of LEVELS greys: pixels of one grey that are neighbours in a row are one step."""
    height, width = picture.shape
    greys = np.round(picture / 255 * (LEVELS - 1)).astype(int)
    scale = side / max(height, width)
    for level in np.unique(greys):
        steps = []
        for row in range(height):
            edges = np.flatnonzero(np.diff(np.concatenate([[0], greys[row] == level, [0]]).astype(int)))
            steps += [f"M{a} {row}h{b - a}v1h{a - b}z" for a, b in zip(edges[::2], edges[1::2])]
        grey = round(int(level) * 255 / (LEVELS - 1))
        place = f'transform="translate({left:.1f} {top:.1f}) scale({scale:.4f})"'
        yield f'<path {place} d="{"".join(steps)}" fill="#{grey:02x}{grey:02x}{grey:02x}"/>'
    yield f'<rect x="{left:.1f}" y="{top:.1f}" width="{side:.1f}" height="{side:.1f}" fill="none" stroke="{FAINT}"/>'
