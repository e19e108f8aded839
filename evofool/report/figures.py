"""Figures of a run on matplotlib's Axes: what `Run.plot_NAME` draws. They need no network, and no Ray.

Each takes Axes to draw on, or makes some of its own, and returns them, so that labels can be changed, runs can share
one figure, and `ax.figure.savefig` writes it. What differs by colour differs by dashes, markers or shade as well.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evofool.base.streams import printable
from evofool.errors import ConfigError
from evofool.records import Facts
from evofool.report.html import picture
from evofool.report.sheet import strength
from evofool.report.trends import THRESHOLDS, goal_switches, trends
from evofool.store import ancestry
from evofool.store.reader import Run

__all__ = ["classes", "curves", "elites", "lineage", "switches"]

_LEVELS = (0.5, 0.9, 0.99, 0.9999)  # confidences that the curves have a line at
_DASHES = {"classes_90": ":", "classes_99": "--", "classes_9999": "-"}
_NAMED = 40  # classes, up to which an axis names them all
_NUMBERED = 15  # up to which a number fits into each square
_MOST_TEXT = 18  # characters of a class's name


def curves(run: Run, ax: Any, label: str | None) -> Any:
    frame, units = trends(run), bool(run.store.cells.units)
    ax, is_new = _axes(ax, 7.0, 4.2)
    dashes = ("-", "--", "-.", ":")[_labelled(ax) % 4]  # of each run on these Axes
    (line,) = ax.plot(frame["evaluations"], frame["q50"], dashes, label=label or _shown(run.config.run_name))
    if "q25" in frame:
        for low, high, alpha in (("q10", "q90", 0.15), ("q25", "q75", 0.25)):
            ax.fill_between(
                frame["evaluations"], frame[low], frame[high], color=line.get_color(), alpha=alpha, linewidth=0
            )
    if is_new:
        for level in () if units else _LEVELS:
            odds = math.log(level / (1 - level))
            ax.axhline(odds, color="0.7", linewidth=0.7, zorder=0)
            ax.annotate(f"{level:g}", (1.01, odds), xycoords=("axes fraction", "data"), va="center", fontsize="small")
        bands = "; bands: 25 to 75 %, 10 to 90 %" if "q25" in frame else ""
        what, told = ("units", "activation") if units else ("classes", "log-odds; right: confidence")
        ax.set(xlabel="evaluations", ylabel=told, title=f"Median over {what}{bands}")
        ax.xaxis.set_major_formatter(_thousands)
    _legend(ax)
    return ax


def classes(run: Run, ax: Any, label: str | None) -> Any:
    if run.store.cells.units:
        raise ConfigError(f"plot_classes: the cells of {run.path} are of units, which have no confidence; plot_curves.")
    frame = trends(run)
    ax, is_new = _axes(ax, 7.0, 4.2)
    marker = ("", "o", "s", "^")[_labelled(ax) // len(THRESHOLDS) % 4]  # of each run on these Axes
    color = None
    for name, least in reversed(THRESHOLDS.items()):
        if name in frame:
            text = f"{label or _shown(run.config.run_name)}, ≥ {least:g}"
            style = {"linestyle": _DASHES[name], "marker": marker, "markevery": 0.1, "drawstyle": "steps-post"}
            (line,) = ax.plot(frame["evaluations"], frame[name], color=color, label=text, **style)
            color = line.get_color()
    if is_new:
        ax.set(xlabel="evaluations", ylabel="classes", title="Classes by the confidence of their elite")
        ax.set_ylim(0, run.provenance["cells"] * 1.05)
        ax.xaxis.set_major_formatter(_thousands)
    _legend(ax)
    return ax


def elites(run: Run, ax: Any, columns: int, most: int) -> Any:
    if columns < 1 or most < 1:
        raise ConfigError("plot_elites: columns and most are 1 or more.")
    frame = run.elites(pictures=False)
    rows = frame.head(most).to_dict("records")
    captions = [f"{_shown(row['class_name'])}\n{strength(row)}" for row in rows]
    ax = _grid(ax, [picture(row) for row in rows], captions, min(columns, max(1, len(rows))))
    title = f"{len(frame)} elites" + (f", the first {most}" if len(frame) > most else "")
    ax.set_title(f"{title}, generation {run.status()['generation']}")
    return ax


def lineage(run: Run, class_: str | int, ax: Any, most: int) -> Any:
    if most < 2:
        raise ConfigError("plot_lineage: most is 2 or more.")
    row = run.elite(class_)
    people = run.lineage(row["individual_id"])
    known = {person["individual_id"]: person for person in people.to_dict("records")}
    tree = ancestry.first_parents({i: person["parent_ids"] for i, person in known.items()}, [row["individual_id"]])
    line: list[Facts] = [known[identity] for identity in reversed(ancestry.line(tree, row["individual_id"]))]
    shown = [line[i] for i in sorted({round(i) for i in np.linspace(0, len(line) - 1, min(most, len(line)))})]
    images = run.images([person["individual_id"] for person in shown])
    height, width = run.provenance["image_size"]
    blank = np.full((height, width, 1), 128, dtype=np.uint8)  # of a genome that is not kept
    captions = []
    for person in shown:
        others = len(person["classes"]) - 1
        names = _shown(person["classes"][0]) if person["classes"] else ""
        lost = "" if person["individual_id"] in images else "\nnot kept"
        captions.append(f"generation {person['generation']}\n{names}{f' + {others}' if others > 0 else ''}{lost}")
    ax = _grid(ax, [images.get(person["individual_id"], blank) for person in shown], captions, len(shown))
    of = f"{len(shown)} of {len(line)}" if len(shown) < len(line) else str(len(line))
    ax.set_title(f"The line to the elite of {_shown(row['class_name'])}: {of} individuals", parse_math=False)
    return ax


def switches(run: Run, ax: Any) -> Any:
    counts, share = goal_switches(run)
    names = [_shown(name) for name in run.provenance["class_names"]]
    side = 4.0 + 0.12 * min(_NAMED, len(names))
    ax, _ = _axes(ax, side + 1, side)
    image = ax.imshow(counts, cmap="Greys", vmin=0, vmax=max(1, counts.max()), interpolation="nearest")
    ax.figure.colorbar(image, ax=ax, label="placements", shrink=0.8)
    if len(names) <= _NAMED:
        ax.set_xticks(range(len(names)), names, rotation=90, parse_math=False)
        ax.set_yticks(range(len(names)), names, parse_math=False)
    if len(names) <= _NUMBERED:
        for (i, j), count in np.ndenumerate(counts):
            if count:
                color = "white" if count > counts.max() / 2 else "black"
                ax.text(j, i, f"{count:.0f}", ha="center", va="center", fontsize="small", color=color)
    title = "No placement has a parent" if math.isnan(share) else f"{share:.0%} of placements are goal switches"
    by = "" if len(names) <= _NAMED else ", by its place among the run's classes"
    ax.set(xlabel=f"class of the new elite{by}", ylabel=f"class of its parent{by}", title=title)
    return ax


def _grid(ax: Any, images: list[NDArray[np.uint8]], captions: list[str], columns: int) -> Any:
    """Pictures in rows of `columns`, each with a caption below it."""
    if not images:
        raise ConfigError("there are no elites to draw yet.")
    tall = images[0].shape[0] / images[0].shape[1]  # heights are in widths of a picture
    lines = max(caption.count("\n") + 1 for caption in captions)
    row_height = tall + 0.15 * lines + 0.1
    rows = math.ceil(len(images) / columns)
    ax, _ = _axes(ax, max(3.5, 1.1 * 1.1 * columns), 0.4 + 1.1 * row_height * rows)
    for i, (image, caption) in enumerate(zip(images, captions)):
        x, y = i % columns * 1.1, i // columns * row_height
        grey = {"cmap": "gray", "vmin": 0, "vmax": 255} if image.shape[2] == 1 else {}
        smooth = "antialiased" if image.shape[0] > 64 else "nearest"
        ax.imshow(image.squeeze(), extent=(x, x + 1, y + tall, y), interpolation=smooth, **grey)
        ax.text(x, y + tall + 0.05, caption, va="top", fontsize=7, parse_math=False)
    ax.set(xlim=(-0.02, columns * 1.1), ylim=(rows * row_height, -0.02), aspect="equal")
    ax.set_axis_off()
    return ax


def _axes(ax: Any, width: float, height: float) -> tuple[Any, bool]:
    """Axes to draw on, and whether they are new; their size is in inches."""
    if ax is not None:
        return ax, False
    try:
        from matplotlib import pyplot
    except ImportError:
        raise ConfigError("plots need the package matplotlib: pip install 'evofool[plots]'.") from None
    return pyplot.subplots(figsize=(width, height), layout="constrained")[1], True


def _labelled(ax: Any) -> int:
    return len(ax.get_legend_handles_labels()[1])


def _legend(ax: Any) -> None:
    for text in ax.legend(fontsize="small", frameon=False).get_texts():
        text.set_parse_math(False)


def _thousands(value: float, position: int) -> str:
    return f"{value:,.0f}"


def _shown(text: object) -> str:
    """A name, shortened, without characters that are not for reading."""
    name = printable(str(text))
    return name if len(name) <= _MOST_TEXT else f"{name[: _MOST_TEXT - 1]}…"
