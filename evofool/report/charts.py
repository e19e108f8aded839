"""Charts of a page, as SVG: lines on shared axes, and trees. No script, no font to be fetched.

Colours and dashes are those of the page's style sheet (classes s0 to s7 and d0 to d7), so that they follow its light
and dark; lines differ by their dashes too, and are named at their ends, so that nothing is told by colour alone. All
text is escaped: names are anybody's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from xml.sax.saxutils import escape, quoteattr

from evofool.base.streams import printable

__all__ = ["STYLES", "Leaf", "Panel", "Series", "lines", "style_class", "tree"]

COLOURS = 8  # of the style sheet, and as many kinds of dashes
STYLES = COLOURS * COLOURS  # kinds of lines
PLOT, HIGH = 330, 200  # pixels of a panel's axes
LEFT, RIGHT, TOP, BOTTOM = 56, 132, 46, 46  # around them
COLUMNS = 2  # panels side by side
LINE = 14  # pixels of a line of text
NAME = 40  # characters
LEAVES_NAMED = 120  # with more leaves there is no room for their names


def style_class(style: int) -> str:
    """The classes of the style sheet that a kind of line has: a colour, and dashes."""
    return f"s{style % COLOURS} d{(style + style // COLOURS) % COLOURS}"


@dataclass(frozen=True)
class Series:
    """A line.

    Attributes:
        ys: a number for each x of the panel; NaN where there is none.
        style: of the style sheet, from 0.
    """

    label: str
    ys: Sequence[float]
    style: int = 0


@dataclass(frozen=True)
class Panel:
    """Axes with lines, and bands between two rows of numbers each, named."""

    title: str
    xs: Sequence[float]
    series: Sequence[Series]
    bands: Sequence[tuple[str, Sequence[float], Sequence[float]]] = field(default_factory=tuple)


def lines(name: str, panels: Sequence[Panel], x_label: str, y_label: str, top: float | None = None) -> str:
    """Panels side by side, all on the same axes, which begin at 0, or where there are negative numbers at the least.

    Args:
        name: what the chart is, in a sentence for those who do not see it.
        top: the end of the y axis; by default the greatest number.
    """
    right = max((max(p.xs, default=0) for p in panels), default=0) or 1
    drawn = [s.ys for p in panels for s in p.series]
    drawn += [ys for p in panels for _, *edges in p.bands for ys in edges]
    numbers = [y for ys in drawn for y in ys if math.isfinite(y)]
    low = min([0.0, *numbers])
    span = low, (top if top is not None else max(numbers, default=0)) or (1.0 if low == 0 else 0.0)
    wide, high = LEFT + PLOT + RIGHT, TOP + HIGH + BOTTOM
    columns = min(COLUMNS, len(panels))
    parts: list[str] = []
    for i, panel in enumerate(panels):
        x, y = i % columns * wide + LEFT, i // columns * high + TOP
        parts.append(f'<g transform="translate({x} {y})">')
        parts += _axes(panel, right, span, x_label, y_label)
        parts += _bands(panel, right, span)
        parts += _series(panel, right, span)
        parts.append("</g>")
    return _document(name, columns * wide, -(-len(panels) // columns) * high, parts)


def _axes(panel: Panel, right: float, span: tuple[float, float], x_label: str, y_label: str) -> Iterator[str]:
    yield _text(0, -24, panel.title, "title")
    for value in _ticks(*span):
        y = _height(value, span)
        yield f'<line class="grid" x1="0" y1="{y:.1f}" x2="{PLOT}" y2="{y:.1f}"/>'
        yield _text(-6, y + 4, _number(value), "tick end")
    for value in _ticks(0.0, right):
        x = PLOT * value / right
        yield f'<line class="axis" x1="{x:.1f}" y1="{HIGH}" x2="{x:.1f}" y2="{HIGH + 4}"/>'
        yield _text(x, HIGH + 16, _number(value), "tick middle")
    yield f'<path class="axis" d="M0 0V{HIGH}H{PLOT}"/>'
    yield _text(PLOT / 2, HIGH + 34, x_label, "tick middle")
    yield _text(-LEFT + 4, -8, y_label, "tick")


def _bands(panel: Panel, right: float, span: tuple[float, float]) -> Iterator[str]:
    for label, low, high in panel.bands:
        there = [(x, a, b) for x, a, b in zip(panel.xs, low, high) if math.isfinite(a) and math.isfinite(b)]
        if not there:
            continue
        forth = [_point(x, b, right, span) for x, _, b in there]
        back = [_point(x, a, right, span) for x, a, _ in reversed(there)]
        yield f'<path class="band" d="M{"L".join(forth + back)}Z"><title>{_words(label)}</title></path>'


def _series(panel: Panel, right: float, span: tuple[float, float]) -> Iterator[str]:
    ends: list[tuple[float, Series]] = []
    for series in panel.series:
        there = [(x, y) for x, y in zip(panel.xs, series.ys) if math.isfinite(y)]
        if not there:
            continue
        path = "L".join(_point(x, y, right, span) for x, y in there)
        title = f"{series.label}: {_number(there[-1][1])} at the end"
        yield f'<path class="line {style_class(series.style)}" d="M{path}"><title>{_words(title)}</title></path>'
        ends.append((_height(there[-1][1], span), series))
    ends.sort(key=lambda end: end[0])
    places = _apart([y for y, _ in ends])
    for place, (y, series) in zip(places, ends):
        style = style_class(series.style)
        yield f'<path class="line thin {style}" d="M{PLOT} {y:.1f}L{PLOT + 12} {place:.1f}H{PLOT + 22}"/>'
        yield _text(PLOT + 26, place + 4, _short(series.label, 17), "tick")


def _apart(places: Sequence[float]) -> list[float]:
    """Ascending places, moved so that they are a line of text apart."""
    found: list[float] = []
    for place in places:
        found.append(max(place, found[-1] + LINE) if found else place)
    below = max(0.0, (found[-1] if found else 0) - HIGH)
    return [place - below for place in found]


def _point(x: float, y: float, right: float, span: tuple[float, float]) -> str:
    return f"{PLOT * x / right:.1f} {_height(min(y, span[1]), span):.1f}"


def _height(y: float, span: tuple[float, float]) -> float:
    return HIGH * (1 - (y - span[0]) / (span[1] - span[0]))


def _ticks(low: float, top: float) -> list[float]:
    """Three to six round numbers from `low`, 0 or negative, to at most `top`."""
    size = 10 ** math.floor(math.log10((top - low) / 4))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if (top - low) / (size * factor) <= 5)
    return [i * step for i in range(math.ceil(low / step - 1e-9), math.floor(top / step + 1e-9) + 1)]


def _number(value: float) -> str:
    for size, letter in ((1e6, "M"), (1e4, "k")):
        if value >= size:
            return f"{value / (1e3 if letter == 'k' else size):.4g}{letter}"
    return f"{math.floor(value * 1e4) / 1e4:.4g}" if value < 1 else f"{value:.4g}"  # never rounded up to 1


@dataclass(frozen=True)
class Leaf:
    """What a leaf of a tree is, and where it leads.

    Attributes:
        link: of a page, such as "#e0-3".
    """

    label: str
    link: str


def tree(
    name: str,
    parents: Mapping[int, int | None],
    generations: Mapping[int, int],
    leaves: Mapping[int, Leaf],
    styles: Mapping[int, int],
) -> str:
    """Who descends from whom: generations from left to right, a line for each individual, in its style.

    Args:
        parents: the parent of every individual that a leaf descends from, and of the leaves; None of the first.
        generations: of these individuals.
        leaves: individuals that have a name; they may be parents as well.
        styles: of the style sheet, from 0; plain without.

    Individuals that only hand a line on, from one parent to one child of the same style, have no corner of their own.
    """
    children: dict[int, list[int]] = {one: [] for one in parents}
    for one, parent in parents.items():
        if parent is not None:
            children[parent].append(one)
    rows = _rows(parents, children, leaves)
    gap = 15.0 if len(leaves) <= LEAVES_NAMED else 3.0
    wide, right = 620.0, 170 if len(leaves) <= LEAVES_NAMED else 20
    last = max(generations.values(), default=0) or 1

    def at(one: int) -> tuple[float, float]:
        return 10 + (wide - 20) * generations[one] / last, 12 + gap * rows[one]

    def hands_on(one: int) -> bool:
        below = children[one]
        alike = len(below) == 1 and styles.get(below[0], 0) == styles.get(one, 0)
        return alike and one not in leaves

    paths: dict[int, list[str]] = {}
    for one, parent in parents.items():
        if not hands_on(one) and parent is not None:
            while (before := parents[parent]) is not None and hands_on(parent):
                parent = before
            (x1, y1), (x2, y2) = at(parent), at(one)
            turn = f"V{y2:.1f}" if abs(y1 - y2) > 0.05 else ""
            paths.setdefault(styles.get(one, 0), []).append(f"M{x1:.1f} {y1:.1f}{turn}H{x2:.1f}")
    parts = [f'<path class="branch {style_class(style)}" d="{"".join(d)}"/>' for style, d in sorted(paths.items())]
    for one, leaf in leaves.items():
        x, y = at(one)
        fill = f"leaf f{styles.get(one, 0) % COLOURS}"
        shape = f'<circle class="{fill}" cx="{x:.1f}" cy="{y:.1f}" r="{min(4, gap):.0f}"/>'
        text = _text(x + 7, y + 4, _short(leaf.label, 22), "tick") if len(leaves) <= LEAVES_NAMED else ""
        title = f"<title>{_words(leaf.label)}</title>"
        parts.append(f'<a href={quoteattr(leaf.link)} tabindex="-1">{title}{shape}{text}</a>')
    bottom = 12 + gap * (max(rows.values(), default=0) + 1)
    parts.append(f'<path class="axis" d="M10 {bottom:.1f}H{wide - 10:.1f}"/>')
    for value in _ticks(0.0, last):
        x = 10 + (wide - 20) * value / last
        parts.append(f'<line class="axis" x1="{x:.1f}" y1="{bottom:.1f}" x2="{x:.1f}" y2="{bottom + 4:.1f}"/>')
        parts.append(_text(x, bottom + 16, _number(value), "tick middle"))
    parts.append(_text(wide / 2, bottom + 32, "generation", "tick middle"))
    return _document(name, wide + right, bottom + 40, parts, role="group")


def _rows(
    parents: Mapping[int, int | None], children: Mapping[int, list[int]], leaves: Mapping[int, Leaf]
) -> dict[int, float]:
    """The row of every individual: a whole one of its own for each leaf, and in the middle of its children's else."""
    rows: dict[int, float] = {}
    next_row = 0
    stack = [one for one, parent in sorted(parents.items(), reverse=True) if parent is None]
    order: list[int] = []
    while stack:
        one = stack.pop()
        order.append(one)
        stack += sorted(children[one], reverse=True)
    for one in order:
        if one in leaves:
            rows[one] = next_row
            next_row += 1
    for one in reversed(order):
        if one not in rows:
            below = [rows[child] for child in children[one]]
            rows[one] = sum(below) / len(below)
    return rows


def _text(x: float, y: float, text: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{_words(text)}</text>'


def _words(text: str) -> str:
    """Text as SVG, in an isolate of its own: letters written from right to left turn nothing else around."""
    return f"\u2068{escape(printable(text))}\u2069"


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _document(name: str, wide: float, high: float, parts: Sequence[str], role: str = "img") -> str:
    head = f'<svg viewBox="0 0 {wide:.0f} {high:.0f}" width="{wide:.0f}" height="{high:.0f}" role="{role}"'
    return f"{head} aria-label={quoteattr(printable(name))}>{''.join(parts)}</svg>"
