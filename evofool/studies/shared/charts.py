"""Charts as SVG: dots with intervals, heat maps, mosaics, contact sheets. 800 pixels wide, no script, no font fetched.

Every number is also written out, so that nothing is told by colour alone; all text is escaped, since names of classes
and of files are anybody's.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray

from evofool.base.png import encode_png
from evofool.base.streams import printable
from evofool.records import Facts

__all__ = ["Panel", "Tile", "contact_sheet", "document", "dots", "heat_maps", "mosaics", "stacked", "text"]

WIDTH, MARGIN, LINE = 800, 16, 22  # pixels
LABEL = 30  # characters
LABELS, NUMBERS = 264, 276  # pixels to the left and to the right of dots
MOST = 60  # lines of dots; a picture is to be looked at whole
LARGEST_CELL = 90.0  # pixels
TILES, TILE_GAP = 9, 10  # pictures side by side, pixels between them
CAPTION = 12  # characters below a picture
INK, FAINT, BLUE = "#1b1f24", "#c9ced6", "#1f5fa8"


@dataclass(frozen=True)
class Panel:
    """Dots under one heading, on one axis.

    Attributes:
        rows: dicts with label, value, low, high, n; a value may be None, and so may low and high.
        span: of the axis; by default from the least to the greatest number.
    """

    title: str
    rows: Sequence[Facts]
    span: tuple[float, float] | None = None


def dots(title: str, panels: Sequence[Panel]) -> str:
    """A dot for each row, with a bar for its interval, and value, interval and n in words to the right of it."""
    parts: list[str] = []
    y, room = 56.0, MOST
    for panel in panels:
        rows = panel.rows[: max(0, room)]
        room -= len(rows)
        if not rows:
            continue
        parts += [text(MARGIN, y, _short(panel.title, 100), weight="bold")]
        parts += _axis(panel, y + 10, len(rows))
        for i, row in enumerate(rows):
            parts += _dot(panel, row, y + 10 + LINE * (i + 0.75))
        y += LINE * (len(rows) + 2.6)
    left = sum(len(panel.rows) for panel in panels) - (MOST - room)
    if left:
        parts.append(text(MARGIN, y, f"{left} more are in the table."))
        y += LINE
    return document(title, y, parts)


@dataclass(frozen=True)
class Tile:
    """A picture of a contact sheet.

    Attributes:
        image: (height, width, 1 or 3) uint8; None where there is none.
        caption: lines below it.
    """

    image: NDArray[np.uint8] | None
    caption: Sequence[str]


def contact_sheet(title: str, groups: Mapping[str, Sequence[Tile]]) -> str:
    """Pictures side by side with captions, under a heading each group; small ones are enlarged without smoothing."""
    side = (WIDTH - 2 * MARGIN + TILE_GAP) / TILES - TILE_GAP
    parts: list[str] = []
    y = 56.0
    for heading, tiles in groups.items():
        parts.append(text(MARGIN, y, _short(heading, 100), weight="bold"))
        high = side + 8 + 15 * max((len(tile.caption) for tile in tiles), default=0)
        for i, tile in enumerate(tiles):
            parts += _tile(tile, MARGIN + i % TILES * (side + TILE_GAP), y + 12 + i // TILES * high, side)
        y += 12 + -(-len(tiles) // TILES) * high + 26
    return document(title, y - 20, parts)


def _tile(tile: Tile, x: float, y: float, side: float) -> Iterator[str]:
    if tile.image is not None:
        height, width = (side * length / max(tile.image.shape[:2]) for length in tile.image.shape[:2])
        sharp = ' style="image-rendering:pixelated"' if max(tile.image.shape[:2]) < side else ""
        place = f'x="{x + (side - width) / 2:.1f}" y="{y + (side - height) / 2:.1f}"'
        data = base64.b64encode(encode_png(tile.image)).decode()
        yield (f'<image {place} width="{width:.1f}" height="{height:.1f}"{sharp} href="data:image/png;base64,{data}"/>')
    yield f'<rect x="{x:.1f}" y="{y:.1f}" width="{side:.1f}" height="{side:.1f}" fill="none" stroke="{FAINT}"/>'
    for line, words in enumerate(tile.caption):
        fill = INK if line == 0 else "#59636e"
        yield text(x, y + side + 14 + 15 * line, _short(words, CAPTION), size=11, fill=fill)


def heat_maps(title: str, maps: Mapping[str, Mapping[tuple[str, str], float | None]], down: str, across: str) -> str:
    """Squares with a number from 0 to 1 in each, the darker the greater; one map below the other.

    Args:
        maps: by heading: numbers by row and column. A pair that is missing or None has no number.
        down, across: what rows and columns are.
    """
    parts: list[str] = []
    y = 56.0
    for heading, values in maps.items():
        rows, columns = (list(dict.fromkeys(pair[i] for pair in values)) for i in (0, 1))
        wide = min(LARGEST_CELL, (WIDTH - MARGIN - LABELS) / max(1, len(columns)))
        high = min(40.0, wide)
        parts += [text(MARGIN, y, _short(heading, 100), weight="bold")]
        parts += [text(MARGIN, y + LINE, f"{down}: rows; {across}: columns, by the numbers of the rows", size=12)]
        heads = [_numbered(column, rows, columns) for column in columns]
        heads = heads if wide > 30 else [head.strip("[]") for head in heads]  # or they would run into each other
        parts += [
            text(LABELS + wide * (j + 0.5), y + LINE * 2, head, anchor="middle", size=12)
            for j, head in enumerate(heads)
        ]
        top = y + LINE * 2 + 8
        for i, row in enumerate(rows):
            label = f"{_numbered(row, rows, columns)}  {_short(row, LABEL)}"
            parts.append(text(MARGIN, top + high * (i + 0.5) + 4, label, size=12))
            for j, column in enumerate(columns):
                parts += _square(LABELS + wide * j, top + high * i, wide, high, values.get((row, column)))
        y = top + high * len(rows) + LINE
        for name in rows if any(len(name) > LABEL for name in rows) else ():
            parts.append(text(MARGIN, y, f"{_numbered(name, rows, columns)}  {_short(name, 110)}", size=12))
            y += LINE * 0.8
        y += LINE * 0.6
    return document(title, y, parts)


def mosaics(title: str, pictures: Mapping[str, NDArray[np.floating]]) -> str:
    """Small pictures as squares, each under its name.

    Args:
        pictures: by name, (height, width, 1 or 3), from 0 to 255.
    """
    parts, side, columns = list[str](), 120.0, 6
    for i, (name, picture) in enumerate(pictures.items()):
        left, top = MARGIN + i % columns * (side + 10), 56 + i // columns * (side + LINE + 10)
        parts.append(text(left, top, _short(name, LABEL // 2), size=12))
        levels = np.broadcast_to(np.clip(np.round(picture), 0, 255).astype(int), (*picture.shape[:2], 3))
        step = side / max(picture.shape[:2])
        for y, x in np.ndindex(*picture.shape[:2]):
            fill = "#{:02x}{:02x}{:02x}".format(*levels[y, x])
            at = f'x="{left + x * step:.1f}" y="{top + 6 + y * step:.1f}"'
            parts.append(f'<rect {at} width="{step + 0.2:.1f}" height="{step + 0.2:.1f}" fill="{fill}"/>')
    rows = math.ceil(len(pictures) / columns)
    return document(title, 56 + rows * (side + LINE + 10), parts)


def stacked(title: str, charts: Sequence[str]) -> str:
    """Charts of this module below each other, as one."""
    y, parts = 0.0, list[str]()
    for chart in charts:
        parts.append(chart.replace("<svg ", f'<svg y="{y:.0f}" ', 1).rstrip())
        y += float(chart.partition('viewBox="0 0 ')[2].partition('"')[0].split()[1])
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y:.0f}" width="{WIDTH}" height="{y:.0f}"'
    return "\n".join([f'{head} role="img">', f"<title>{escape(printable(title))}</title>", *parts, "</svg>"]) + "\n"


def _numbered(name: str, rows: list[str], columns: list[str]) -> str:
    names = list(dict.fromkeys([*rows, *columns]))
    return f"[{names.index(name) + 1}]"


def _square(x: float, y: float, wide: float, high: float, value: float | None) -> Iterator[str]:
    shade = 0.0 if value is None else min(1.0, max(0.0, value))
    colour = "#ffffff" if value is None else "#{:02x}{:02x}{:02x}".format(*_blend(shade))
    yield f'<rect x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{high:.1f}" fill="{colour}" stroke="{FAINT}"/>'
    words = "–" if value is None else f"{math.floor(value * 1000) / 1000:.3f}"  # never rounded up to 1
    ink = "#ffffff" if shade > 0.62 else INK
    if wide >= 20:  # in narrower ones no number could be read
        size = 12 if wide >= 36 else 7
        yield text(x + wide / 2, y + high / 2 + size / 3, words, anchor="middle", size=size, fill=ink)


def _blend(shade: float) -> list[int]:
    light, dark = (247, 250, 253), (12, 52, 110)
    return [round(a + (b - a) * shade) for a, b in zip(light, dark)]


def _span(panel: Panel) -> tuple[float, float]:
    if panel.span:
        return panel.span
    numbers = [row[name] for row in panel.rows for name in ("value", "low", "high") if row.get(name) is not None]
    low, high = min(numbers, default=0.0), max(numbers, default=1.0)
    return (low, high) if low < high else (low - 0.5, high + 0.5)


def _axis(panel: Panel, y: float, rows: int) -> Iterator[str]:
    low, high = _span(panel)
    bottom = y + LINE * (rows + 0.35)
    for i in range(5):
        x = LABELS + (WIDTH - LABELS - NUMBERS) * i / 4
        yield f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{x:.1f}" y2="{bottom:.1f}" stroke="{FAINT}"/>'
        yield text(x, bottom + 13, _number(low + (high - low) * i / 4), anchor="middle", size=11)


def _dot(panel: Panel, row: Facts, y: float) -> Iterator[str]:
    least, most = _span(panel)

    def at(value: float) -> float:
        place = min(1.0, max(0.0, (value - least) / (most - least)))
        return LABELS + (WIDTH - LABELS - NUMBERS) * place

    yield text(MARGIN, y + 4, _short(str(row["label"]), LABEL + 4), size=13)
    value, low, high = row["value"], row.get("low"), row.get("high")
    words = "–" if value is None else _number(value)
    if low is not None and high is not None:
        for x1, y1, x2, y2 in ((low, 0, high, 0), (low, -4, low, 4), (high, -4, high, 4)):
            line = f'x1="{at(x1):.1f}" y1="{y + y1:.1f}" x2="{at(x2):.1f}" y2="{y + y2:.1f}"'
            yield f'<line {line} stroke="{BLUE}" stroke-width="2"/>'
        words += f" ({_number(low)} to {_number(high)})"
    if value is not None:
        yield f'<circle cx="{at(value):.1f}" cy="{y:.1f}" r="4.5" fill="{BLUE}"/>'
    yield text(WIDTH - NUMBERS + 14, y + 4, f"{words}, n {row['n']}", size=12)


def _number(value: float, digits: int = 3) -> str:
    """A number in a few digits; one below 1 is never shown as 1."""
    told = f"{value:.{digits}g}"
    return told if value >= 1 or float(told) < 1 else f"{math.floor(value * 10**digits) / 10**digits:.{digits}f}"


def text(
    x: float, y: float, words: str, *, anchor: str = "start", size: int = 14, weight: str = "normal", fill: str = INK
) -> str:
    """Words at a place."""
    style = f'text-anchor="{anchor}" font-size="{size}" font-weight="{weight}" fill="{fill}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(printable(words))}</text>'


def _short(words: str, most: int) -> str:
    return words if len(words) <= most else f"{words[: most // 2]}…{words[-(most // 2) + 1 :]}"


def document(title: str, height: float, parts: Sequence[str]) -> str:
    """A picture with a title; whoever calls leaves 50 pixels for that."""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}"'
    lines = [
        f'{head} height="{height:.0f}" role="img" font-family="system-ui, sans-serif">',
        f"<title>{escape(printable(title))}</title>",
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        text(MARGIN, 28, _short(title, 84), size=17, weight="bold"),
        *parts,
        "</svg>",
    ]
    return "\n".join(lines) + "\n"
