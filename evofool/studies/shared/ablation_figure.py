"""The picture of ablations: curves of what is lost, maps over pictures, and what genes are worth; and the sentence."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evofool.base.png import decode_png
from evofool.records import Facts
from evofool.studies.shared.ablation_findings import ELITE, HEAD, OF_ALL, curves
from evofool.studies.shared.changes import MAPPED
from evofool.studies.shared.charts import MARGIN, WIDTH, document, text
from evofool.studies.shared.losses import FEW, resampling

__all__ = ["figure"]

TITLE = "What the confidence rests on: log-odds lost when parts of elites are taken away"
PLOT, PLOT_WIDE = 150, 330  # pixels of a plot of curves
POINTS = np.linspace(0, 1, 21)  # shares removed at which curves are pooled
THIN = 60  # curves of single elites in a plot, at most
MAPS, MAP, MAPS_A_LINE = 12, 112, 6  # pictures; pixels of one
LEVELS = {1: 24, 3: 4}  # of each channel of a picture in a map, grey or colour; each colour is one path
STEPS = (0.01, 0.1, 1.0, 10.0)  # log-odds between which genes are counted
INK, FAINT, GREY, BLUE, RED = "#1b1f24", "#c9ced6", "#8b939e", "#1f5fa8", "#d9480f"
PLOTS = {"motif": ("copies", " (dashed: equal area at random)"), "tiles": ("tiles in random order", "")}


def figure(summary: list[Facts], frame: pd.DataFrame, elites: pd.DataFrame) -> tuple[str, str]:
    """The picture as SVG, and the sentence.

    Args:
        summary, frame: of the study.
        elites: `curves.of_elites` of the frame.
    """
    parts: list[str] = []
    y, pooled = 52.0, curves(frame)
    fills = list(dict.fromkeys(frame["fill"]))
    pooled = pooled.sort_values("fill", key=lambda column: column.map(fills.index), kind="stable")
    for head in dict.fromkeys(zip(*(frame[name] for name in HEAD))):
        mine = _of(frame, head)
        parts.append(text(MARGIN, y, f"{head[0]}, {head[2]}: {len(mine[ELITE].drop_duplicates())} elites", size=15))
        y += 12
        for change in PLOTS:
            y = _plots(parts, y, change, _of(pooled, head))
        y = _maps(parts, y, mine)
        y = _genes(parts, y, mine)
        y += 14
    return document(TITLE, y, parts), _sentence(summary)


def _of(frame: pd.DataFrame, head: Sequence[str]) -> pd.DataFrame:
    return frame[(frame[HEAD] == list(head)).all(axis=1)]


def _plots(parts: list[str], y: float, change: str, pooled: pd.DataFrame) -> float:
    """Curves of one kind of change, a plot for each filling; the y below."""
    both = pooled[pooled["change"].isin([change, *(["random"] if change == "motif" else [])])]
    if both.empty:
        return y
    low, high = (float(each) for each in np.quantile(both["loss"], [0.02, 0.98]))
    low, high = min(0.0, low), max(1e-6, high)
    for number, (fill, rows) in enumerate(both.groupby("fill", sort=False)):
        left = MARGIN + 44 + (number % 2) * (PLOT_WIDE + 54)
        top = y + 26 + (number // 2) * (PLOT + 64)
        parts += _plot(rows, change, str(fill), left, top, (low, high))
    return y + 74 + PLOT + (both["fill"].nunique() - 1) // 2 * (PLOT + 64)


def _plot(
    rows: pd.DataFrame, change: str, fill: str, left: float, top: float, span: tuple[float, float]
) -> Iterator[str]:
    low, high = span

    def at(shares: NDArray[np.float64], losses: NDArray[np.float64]) -> str:
        heights = np.clip((losses - low) / (high - low), 0, 1)
        return " ".join(f"{left + PLOT_WIDE * x:.1f},{top + PLOT * (1 - h):.1f}" for x, h in zip(shares, heights))

    for i in range(5):
        value = low + (high - low) * i / 4
        height = top + PLOT * (1 - i / 4)
        yield f'<line x1="{left}" y1="{height:.1f}" x2="{left + PLOT_WIDE}" y2="{height:.1f}" stroke="{FAINT}"/>'
        yield text(left - 6, height + 4, f"{value:.3g}", anchor="end", size=11)
        yield text(left + PLOT_WIDE * i / 4, top + PLOT + 14, f"{i / 4:.0%}", anchor="middle", size=11)
    lines = {
        name: [_through(each) for _, each in part.groupby(ELITE, sort=False)]
        for name, part in rows.groupby("change", sort=True)
    }
    for line in lines[change][:THIN]:
        yield f'<polyline points="{at(POINTS, line)}" fill="none" stroke="{GREY}" stroke-width="0.7"/>'
    elites = rows[rows["change"] == change][ELITE].drop_duplicates()
    drawn = resampling(elites)
    for name, dash, colour in ((change, "", BLUE), ("random", "6 4", INK)):
        if name not in lines:
            continue
        facts = [drawn.facts(values) for values in np.stack(lines[name]).T]
        medians, lows, highs = (
            np.array([fact[key] if fact[key] is not None else np.nan for fact in facts])
            for key in ("value", "low", "high")
        )
        if not dash and np.isfinite(lows).all():
            ring = f"{at(POINTS, lows)} {at(POINTS[::-1], highs[::-1])}"
            yield f'<polygon points="{ring}" fill="{colour}" fill-opacity="0.18" stroke="none"/>'
        style = f'stroke="{colour}" stroke-width="2.4" stroke-dasharray="{dash or "none"}"'
        yield f'<polyline points="{at(POINTS, medians)}" fill="none" {style}/>'
    own, other = PLOTS[change]
    words = f"{own} become {fill}{other}"
    yield text(left - 40, top - 10, words, size=12)
    yield text(
        left + PLOT_WIDE / 2,
        top + PLOT + 30,
        f"share removed; log-odds lost, median of {len(elites)}",
        anchor="middle",
        size=11,
    )


def _through(curve: pd.DataFrame) -> NDArray[np.float64]:
    """A curve at POINTS; it begins without loss."""
    return np.interp(POINTS, np.append(0.0, curve["share"]), np.append(0.0, curve["loss"]))


def _maps(parts: list[str], y: float, frame: pd.DataFrame) -> float:
    """Pictures with a disc on each tile, as large as what is lost without it; the y below."""
    tiles = frame[frame["change"] == "tile"]
    if tiles.empty:
        return y
    grid = int(tiles["grid"].where(tiles["grid"] <= MAPPED).max())
    fill = tiles["fill"].iloc[0]
    tiles = tiles[(tiles["grid"] == grid) & (tiles["fill"] == fill)]
    small = frame[frame["thumbnail"].notna()].drop_duplicates(ELITE).set_index(ELITE)["thumbnail"]
    words = f"Where it rests: discs are as large as what is lost without a tile of {grid} x {grid} (filled with {fill})"
    parts.append(text(MARGIN, y + 8, words, size=13))
    y += 20
    shown = list(tiles.groupby(ELITE, sort=False))[:MAPS]
    for number, (elite, rows) in enumerate(shown):
        left = MARGIN + (number % MAPS_A_LINE) * (MAP + 18)
        top = y + (number // MAPS_A_LINE) * (MAP + 38)
        parts += _picture(decode_png(small[elite], "thumbnail"), left, top)
        losses = rows.sort_values("tile")["loss"].to_numpy(dtype=float)
        parts += _discs(losses, grid, left, top)
        name = str(elite[-1])
        parts.append(text(left, top + MAP + 13, name if len(name) <= 17 else f"{name[:16]}…", size=11))
        parts.append(text(left, top + MAP + 26, f"at most {np.nanmax(losses):.3g}", size=11))
    return y + math.ceil(len(shown) / MAPS_A_LINE) * (MAP + 38) + 6


def _picture(image: NDArray[np.uint8], left: float, top: float) -> Iterator[str]:
    """A small picture, of a few colours, each one path; faded, so that discs are seen on it."""
    height, width, _ = image.shape
    pixels = image.reshape(height * width, -1).astype(np.float64)
    levels = 256 / LEVELS[pixels.shape[1]]
    colours, of = np.unique(np.floor(pixels / levels), axis=0, return_inverse=True)
    side = MAP / max(height, width)
    yield f'<g shape-rendering="crispEdges" transform="translate({left:.1f} {top:.1f}) scale({side:.4f})">'
    of = of.reshape(height, width)
    for number, colour in enumerate(colours):
        light = [round(255 - 0.7 * (255 - min(255.0, (each + 0.5) * levels))) for each in colour]
        red, green, blue = light * 3 if len(light) == 1 else light
        moves = "".join(f"M{right} {down}h{wide}v1h-{wide}z" for down, right, wide in _runs(of == number))
        yield f'<path d="{moves}" fill="#{red:02x}{green:02x}{blue:02x}"/>'
    yield "</g>"


def _runs(mask: NDArray[np.bool_]) -> Iterator[tuple[int, int, int]]:
    """(row, column, length) of what lies side by side in a mask."""
    for down, row in enumerate(mask):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], row.astype(np.int8), [0]])))
        yield from ((down, int(begin), int(end - begin)) for begin, end in edges.reshape(-1, 2))


def _discs(losses: NDArray[np.float64], grid: int, left: float, top: float) -> Iterator[str]:
    most, side = max(float(np.nanmax(losses)), 1e-9), MAP / grid
    for tile, loss in enumerate(losses):
        if loss > 0.02 * most:
            x, y = left + side * (tile % grid + 0.5), top + side * (tile // grid + 0.5)
            radius = side / 2 * math.sqrt(loss / most)
            style = f'fill="{RED}" fill-opacity="0.65" stroke="{INK}" stroke-width="0.8"'
            yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" {style}/>'
    yield f'<rect x="{left}" y="{top:.1f}" width="{MAP}" height="{MAP}" fill="none" stroke="{GREY}"/>'


def _genes(parts: list[str], y: float, frame: pd.DataFrame) -> float:
    """How many genes change the log-odds by how much; the y below."""
    genes = frame[frame["change"].isin(OF_ALL)]
    if genes.empty:
        return y
    scrambled = genes["scrambled"].astype(bool)
    words = (
        "Genes knocked out, by how much the log-odds change; dashed: the same differences of pixels at random places"
    )
    parts.append(text(MARGIN, y + 8, words, size=13))
    top, high, wide = y + 30, 90.0, 104.0
    names = ["no pixel changes", *_between()]
    for i, name in enumerate(names):
        left = MARGIN + 8 + (wide + 20) * i
        for place, flag in enumerate((False, True)):
            part = genes[scrambled == flag]
            share = float((_bins(part) == i).mean())
            x, tall = left + place * 50, high * share
            style = f'fill="{BLUE}"' if not flag else f'fill="#ffffff" stroke="{INK}" stroke-dasharray="4 2"'
            parts.append(f'<rect x="{x:.1f}" y="{top + high - tall:.1f}" width="46" height="{tall:.1f}" {style}/>')
            parts.append(text(x + 23, top + high - tall - 3, f"{share:.0%}", anchor="middle", size=11))
        parts.append(text(left + 48, top + high + 14, name, anchor="middle", size=12))
    parts.append(f'<line x1="{MARGIN}" y1="{top + high}" x2="{WIDTH - MARGIN}" y2="{top + high}" stroke="{INK}"/>')
    return top + high + 34


def _between() -> list[str]:
    return [
        f"under {STEPS[0]:g}",
        *(f"{a:g} to {b:g}" for a, b in itertools.pairwise(STEPS)),
        f"{STEPS[-1]:g} and more",
    ]


def _bins(genes: pd.DataFrame) -> NDArray[np.int64]:
    found: NDArray[np.int64] = 1 + np.digitize(genes["loss"].abs().to_numpy(dtype=float), STEPS)
    return np.where(genes["pixels_changed"].to_numpy() == 0, 0, found)


def _sentence(summary: list[Facts]) -> str:
    told = []
    for head in dict.fromkeys((row["target"], row["target_fingerprint"], row["encoding"]) for row in summary):
        rows = [row for row in summary if (row["target"], row["target_fingerprint"], row["encoding"]) == head]
        clauses = [*_repetition(rows), *_regions(rows), *_genes_told(rows)]
        told.append(f"On {head[0]}, {head[2]}: {'; '.join(clauses)}.")
    return " ".join(told)


def _found(rows: list[Facts], change: str, name: str) -> list[Facts]:
    return [row for row in rows if (row["change"], row["figure"]) == (change, name)]


def _repetition(rows: list[Facts]) -> Iterator[str]:
    shares = _found(rows, "motif", "with_repetition")
    if not shares:
        return
    n, repeating = shares[0]["n"], round(shares[0]["value"] * shares[0]["n"])
    if not repeating:
        yield f"nothing repeats in any of {n} elites, so whether copies add up is n/a"
        return
    copies = _found(rows, "motif", "copies")[0]["value"]
    yield f"{repeating} of {n} elites repeat something, {copies:g} times in the median"
    yield f"the first copies erased cost {_forms(rows, 'motif')}; equal areas at random cost {_forms(rows, 'random')}"


def _regions(rows: list[Facts]) -> Iterator[str]:
    if _found(rows, "tiles", "form"):
        yield f"the first tiles erased cost {_forms(rows, 'tiles')}"


def _forms(rows: list[Facts], change: str) -> str:
    """The slope at the begin over the mean slope for each filling, with its verdict; the first in full."""
    told: list[str] = []
    for row in _found(rows, change, "form"):
        value = "n/a, as too little is lost in all" if row["value"] is None else f"{row['value']:.2g}"
        if told:
            told.append(f"with {row['fill']} {value}, {row['verdict']}")
            continue
        interval = f"under {FEW}" if row["low"] is None else f"95 % interval {row['low']:.2g} to {row['high']:.2g}"
        unit = "" if row["value"] is None else " times as much as with a sum"
        told.append(f"{value}{unit} ({interval}, n {row['n']}), {row['verdict']}")
    return told[0] + (f" ({'; '.join(told[1:])})" if told[1:] else "")


def _genes_told(rows: list[Facts]) -> Iterator[str]:
    for row in _found(rows, "genes", "redundant"):
        [gap] = _found(rows, "genes", "redundant_more_than_scrambled")
        interval = "" if row["low"] is None else f", 95 % interval {row['low']:.0%} to {row['high']:.0%}"
        null = "" if gap["value"] is None else f", {gap['value']:+.1%} from the same differences at random places"
        yield f"{row['value']:.0%} of genes change the log-odds by under 0.1 (n {row['n']}{interval}{null})"
