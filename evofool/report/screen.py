"""How a run is doing, for a terminal: curves of dots, counters, and pictures of half blocks; or as plain lines."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from evofool.base.sheets import percent
from evofool.base.streams import printable
from evofool.records import Facts
from evofool.report.watch import PICTURE, QUANTILES, THRESHOLDS, Elite, Glance

__all__ = ["half_blocks", "lines", "screen"]

Numbers = NDArray[np.float64]

NARROW = 76  # columns, below which charts come one below the other
SHORT = 30  # lines, below which pictures are left out
LABEL = 10  # columns of a chart's axis
DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # of a character of Braille, by row and column
TICKS = (1e-6, 1e-5, 1e-4, 0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999)
POINTS = 8  # of the history, in plain lines


@dataclass(frozen=True)
class Series:
    """A curve: values over evaluations, drawn where `step` divides the column, so that it is known without colour."""

    name: str
    x: Numbers
    y: Numbers
    style: str
    step: int = 1


def half_blocks(image: NDArray[np.uint8], lines: int = 14) -> Text:
    """A picture as text: a character is two pixels, one above the other.

    Args:
        image: (height, width, 1 or 3) uint8; of one larger than `lines` every k-th pixel is shown.
    """
    step = max(1, round(len(image) / (2 * lines)))
    rows = image[: len(image) // (2 * step) * 2 * step : step, ::step].tolist()
    text = Text()
    for top, bottom in zip(rows[::2], rows[1::2]):
        for upper, lower in zip(top, bottom):
            colours = ["#{:02x}{:02x}{:02x}".format(*(p if len(p) == 3 else p * 3)) for p in (upper, lower)]
            text.append("▀", style=f"{colours[0]} on {colours[1]}")
        text.append("\n")
    return text


def screen(glance: Glance, width: int, height: int, *, colours: bool = True, said: str = "") -> RenderableType:
    """What a terminal of so many columns and lines shows.

    Args:
        colours: whether it has them; pictures need them.
        said: a line of its own, e.g. that a store does not answer.
    """
    parts: list[RenderableType] = [_title(glance), Text(_state(glance), no_wrap=True, overflow="ellipsis")]
    parts += [Text(printable(said), style="yellow")] if said else []
    if not glance.last:
        return Group(*parts)
    parts.append(Text() if glance.share is None else _bar(glance.share))
    counters, evaluators = _counters(glance), _evaluators(glance)
    is_wide = width >= NARROW
    below = max(len(counters), len(evaluators)) if is_wide else len(counters) + len(evaluators)
    shows_pictures = colours and height >= SHORT and any(elite.picture is not None for elite in glance.newest)
    few = glance.newest[: 3 if height >= SHORT else 1]
    newest = _pictures(glance.newest, width, glance.units) if shows_pictures else _names(few, glance.units)
    tall = max((len(e.picture) // 2 + 3 for e in glance.newest if e.picture is not None), default=1)
    notes = -(-len(said) // width) + bool(glance.note)
    rest = height - 6 - notes - below - (tall if shows_pictures else 3 if height >= SHORT else 1)
    wide = width // 2 - 3 if is_wide else width - 1
    if rest >= 7:
        charts = [
            chart(f"{_measure(glance)} of the cells", _confidences(glance), wide, rest - 2, plain=glance.units),
            *([] if glance.units else [chart("classes", _classes(glance), wide, rest - 2, top=glance.cells)]),
        ]
        parts += [_beside(charts) if is_wide else charts[0], Text()]
    tables = [_grid(counters), _grid(evaluators)]
    parts += [_beside(tables) if is_wide else Group(*tables), Text(), newest]
    return Group(
        *parts, *([Text(printable(glance.note), style="dim", no_wrap=True, overflow="ellipsis")] if glance.note else [])
    )


def lines(glance: Glance) -> list[str]:
    """How a run is doing as plain lines: for files, pipes, and programs that read aloud."""
    told = [_title(glance).plain, _state(glance)]
    if not glance.last:
        return told
    told += [f"{name}: {value}" for name, value in (*_counters(glance), *_evaluators(glance))]
    sure = [] if glance.units else [f">={t:g}" for t in THRESHOLDS]
    head = ["evaluations", *(f"{q:.0%}" for q in QUANTILES), *sure]
    picked = np.unique(np.linspace(0, len(glance.samples) - 1, min(POINTS, len(glance.samples))).round().astype(int))
    rows = [
        [
            _counted(row[0]),
            *(f"{v if glance.units else _confidence(v):.6f}" for v in row[1 : 1 + len(QUANTILES)]),
            *map(_counted, row[-3:] if not glance.units else ()),
        ]
        for row in glance.samples[picked]
    ]
    if rows:
        more = "" if glance.units else ", and classes at a confidence or above"
        told += [f"quantiles of {_measure(glance)} over the cells{more}:"]
        told += ["  ".join(f"{value:>11}" for value in row) for row in (head, *rows)]
    told += [f"new: {_told(elite, glance.units)}" for elite in glance.newest]
    return [*told, *([printable(glance.note)] if glance.note else [])]


# --------------------------------------------------------------------------------------------------------------- parts


def _title(glance: Glance) -> Text:
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(printable(glance.name), style="bold")
    text.append(
        f"  {glance.encoding}, {glance.cells} {'units' if glance.units else 'classes'} of {printable(glance.target)}"
    )
    return text


def _state(glance: Glance) -> str:
    """How far it is, and whether it goes on."""
    if not glance.last:
        return "nothing committed yet"
    limit, done = glance.limit, glance.last["generation"] + 1
    text = f"{done} generations of {limit}" if limit else f"{done} generations"
    if glance.ended:
        ended_at = str(glance.sessions[-1]["ended_at"]).replace("T", " ").replace("+00:00", " UTC")
        return f"{text}; the session ended at {ended_at}"
    text += f"; under way, last commit at {_clock(glance.committed)}"
    return f"{text}, about {_duration(glance.left)} left" if glance.left else text


def _clock(at: float) -> str:
    """When something was, by this machine's clock: with the date if that is not today's."""
    then = time.localtime(at)
    is_today = time.strftime("%x", then) == time.strftime("%x")
    return time.strftime("%H:%M:%S" if is_today else "%Y-%m-%d %H:%M:%S", then)


def _bar(share: float) -> RenderableType:
    grid = Table.grid(expand=True)  # a bar alone does not end its line
    grid.add_row(ProgressBar(100.0, 100 * share))
    return grid


def _counters(glance: Glance) -> list[tuple[str, str]]:
    last, samples = glance.last, glance.samples
    at_90 = _counted(samples[-1][-3]) if len(samples) else "?"
    if glance.units:
        return [
            *((f"{name} activation", _activation(last[name])) for name in ("median", "minimum")),
            ("units filled", f"{last['filled']} of {glance.cells}"),
            ("distinct elites", f"{last['unique_elites']}"),
            ("placements", f"{last['placements_total']}{_stale(last['stale'])}"),
        ]
    return [
        ("median confidence", f"{last['median']:.6f}"),
        ("minimum", f"{last['minimum']:.6f}"),
        ("classes filled", f"{last['filled']} of {glance.cells}"),
        (">= 0.9, 0.99, 0.9999", f"{at_90}, {last['classes_99']}, {last['classes_9999']}"),
        ("distinct elites", f"{last['unique_elites']}, top-1 {last['top1_share']:.0%}"),
        ("placements", f"{last['placements_total']}{_stale(last['stale'])}"),
    ]


def _measure(glance: Glance) -> str:
    return "activation" if glance.units else "confidence"


def _activation(value: float | None) -> str:
    return "none yet" if value is None else f"{value:.4g}"


def _stale(generations: int) -> str:
    return f", none for {generations} generations" if generations else ""


def _evaluators(glance: Glance) -> list[tuple[str, str]]:
    now, whole = glance.rates
    rows = [("evaluations", _counted(glance.last["evaluations"])), ("images a second", _rate(whole))]
    if not glance.ended:
        rows[1] = ("images a second", f"{_rate(now)} now, {_rate(whole)} all along")
        asked = f"{glance.asked} asked for"
        each = f"{glance.evaluators}, each {_rate(now / glance.evaluators)} a second" if glance.evaluators else ""
        rows.append(("evaluators", f"{each} ({asked})" if each else asked))
    for session in glance.sessions[-1:]:
        rows.append(("evaluators" if glance.ended else "session before", _session(session)))
        rows += [("node", _node(node)) for node in session.get("nodes", [])[:4]]
    return rows


def _session(session: Facts) -> str:
    evaluators, seconds = session.get("evaluators", 0), max(session.get("seconds", 0.0), 1e-9)
    rate = session.get("evaluations", 0) / seconds
    again = session.get("requeued_chunks", 0)
    text = f"{evaluators}, each {_rate(rate / max(1, evaluators))} a second"
    return f"{text}, {again} chunks scored again" if again else text


def _node(node: Facts) -> str:
    gpu = f" ({node['gpu']})" if node.get("gpu") else ""
    return printable(f"{node['host']}{gpu}: {node['chunks']} chunks")


def _pictures(elites: Iterable[Elite], width: int, units: bool) -> RenderableType:
    grid = Table.grid(padding=(0, 2))
    shown = [elite for elite in elites if elite.picture is not None][: max(1, (width + 2) // (PICTURE + 2))]
    cells = []
    for elite in shown:
        assert elite.picture is not None
        picture = half_blocks(elite.picture, len(elite.picture))
        picture.append(f"{_cut(printable(elite.names[0]), PICTURE)}\n", style="bold")
        more = f" +{len(elite.names) - 1}" if len(elite.names) > 1 else ""
        picture.append(_cut(f"{_strength(elite, units)}{more} g{elite.generation}", PICTURE))
        cells.append(picture)
    grid.add_row(*cells)
    return Group(Text("newest elites", style="bold"), grid)


def _names(elites: Sequence[Elite], units: bool) -> RenderableType:
    return Group(*(Text(_told(elite, units), no_wrap=True, overflow="ellipsis") for elite in elites))


def _strength(elite: Elite, units: bool) -> str:
    return _activation(elite.confidence) if units else percent(elite.confidence)


def _told(elite: Elite, units: bool) -> str:
    more = f" and {len(elite.names) - 1} more" if len(elite.names) > 1 else ""
    return f"{printable(elite.names[0])}{more}, {_strength(elite, units)}, generation {elite.generation}"


def _grid(rows: Iterable[tuple[str, str]]) -> Table:
    rows = list(rows)
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True, min_width=max(len(name) for name, _ in rows))
    grid.add_column(overflow="ellipsis", no_wrap=True)
    for name, value in rows:
        grid.add_row(name, Text(value))
    return grid


def _beside(parts: Sequence[RenderableType]) -> Table:
    grid = Table.grid(padding=(0, 3), expand=True)
    for _ in parts:
        grid.add_column(ratio=1)
    grid.add_row(*parts)
    return grid


# -------------------------------------------------------------------------------------------------------------- charts


def _confidences(glance: Glance) -> list[Series]:
    at, samples = glance.samples[:, 0], glance.samples
    # Each name stands for both curves of its style.
    outer = [Series(name, at, samples[:, i], "blue", 4) for name, i in (("10, 90 %", 1), ("", 5))]
    inner = [Series(name, at, samples[:, i], "cyan", 2) for name, i in (("25, 75 %", 2), ("", 4))]
    if glance.units:
        return [*outer, *inner, Series("median", glance.history["evaluations"], glance.history["median"], "bold")]
    median = np.clip(glance.history["median"], 1e-7, 1 - 1e-7)
    return [*outer, *inner, Series("median", glance.history["evaluations"], np.log(median / (1 - median)), "bold")]


def _classes(glance: Glance) -> list[Series]:
    at = glance.history["evaluations"]
    return [
        Series(">= 0.9", glance.samples[:, 0], glance.samples[:, -3], "blue", 4),
        Series(">= 0.99", at, glance.history["classes_99"], "cyan", 2),
        Series(">= 0.9999", at, glance.history["classes_9999"], "bold"),
    ]


def chart(
    name: str, series: Sequence[Series], width: int, height: int, top: int | None = None, *, plain: bool = False
) -> RenderableType:
    """Curves over evaluations, in dots of Braille, with a legend above and axes.

    Args:
        width, height: of the plot with its axes, in characters; the legend takes two lines more.
        top: the end of a plain axis from 0; without it values are log-odds, told as confidences.
        plain: whether values are to be told as they are, on an axis as long as they need.
    """
    values = np.concatenate([one.y for one in series])
    low, high = (0.0, float(top)) if top is not None else _range(values)
    end = max((float(one.x[-1]) for one in series if len(one.x)), default=1.0)
    columns, rows = max(8, width - LABEL), max(3, height - 1)
    dots = np.zeros((rows, columns), dtype=np.uint8)
    styles = np.zeros((rows, columns), dtype=np.int64)
    for number, one in enumerate(series):
        _trace(one, (low, high, end), dots, styles, number)
    ends = [(value, f"{value:.3g}") for value in (low, (low + high) / 2, high)]
    ticks = dict(_tick(value, low, high, rows) for value in (ends if plain else _ticks(low, high, top)))
    text = Text(no_wrap=True, overflow="crop")
    text.append(f"{name}\n", style="bold")
    for one in filter(lambda one: one.name, series):
        text.append("⠒⠒" if one.step == 1 else "⠂⠒" if one.step == 2 else "⠂⠐", style=one.style)
        text.append(f" {one.name}  ")
    for row in range(rows):
        text.append(f"\n{ticks.get(row, ''):>{LABEL - 2}} ", style="dim")
        text.append("┤" if row in ticks else "│", style="dim")
        line = "".join(chr(0x2800 + dot) if dot else " " for dot in dots[row].tolist())
        edges = [0, *(np.nonzero(np.diff(styles[row]))[0] + 1), columns]
        for start, stop in pairwise(edges):
            text.append(line[start:stop], style=series[styles[row, start]].style)
    told = f"{_counted(end)} evaluations"
    text.append(f"\n{'0':>{LABEL}}{told:>{columns}}", style="dim")
    return text


def _range(values: Numbers) -> tuple[float, float]:
    values = values[np.isfinite(values)]
    if not len(values):
        return -1.0, 1.0
    low, high = float(values.min()), float(values.max())
    return low - 0.3, max(high, low + 1.0) + 0.3


def _ticks(low: float, high: float, top: int | None) -> list[tuple[float, str]]:
    """Places on the axis and what is said there."""
    if top is not None:
        return [(float(v), str(v)) for v in sorted({0, top // 2, top})]
    at = [(float(np.log(t / (1 - t))), f"{t:.6f}".rstrip("0")) for t in TICKS]
    return [(value, told) for value, told in at if low <= value <= high]


def _tick(tick: tuple[float, str], low: float, high: float, rows: int) -> tuple[int, str]:
    value, told = tick
    return round((high - value) / (high - low) * (rows - 1)), told


def _trace(
    one: Series, scale: tuple[float, float, float], dots: NDArray[np.uint8], styles: NDArray[np.int64], number: int
) -> None:
    """Draw a curve into characters of 2 x 4 dots; where it is steep, its dots reach from column to column."""
    if not len(one.x):
        return
    low, high, end = scale
    fine, tall = 2 * dots.shape[1], 4 * dots.shape[0]
    columns = np.arange(fine)
    at = (columns + 1) / fine * end
    y = np.interp(at, one.x, one.y)
    levels = np.clip((high - y) / (high - low) * (tall - 1), 0, tall - 1).round().astype(int)
    known = at >= one.x[0]
    before = levels[0]
    for column in columns[known & (columns % one.step == 0)]:
        level = levels[column]
        first, last = sorted((before, level)) if one.step == 1 and column else (level, level)
        for row in range(first, last + 1):
            dots[row // 4, column // 2] |= DOTS[row % 4][column % 2]
            styles[row // 4, column // 2] = number
        before = level


# --------------------------------------------------------------------------------------------------------------- words


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _confidence(log_odds: float) -> float:
    return float(1 / (1 + np.exp(-log_odds)))


def _counted(value: float) -> str:
    """A whole number, with a gap between thousands."""
    return f"{int(value):,}".replace(",", " ") if value >= 1e5 else f"{int(value)}"


def _rate(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172800 else f"{seconds / 86400:.1f} days"
