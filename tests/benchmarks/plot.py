"""The plot of `make bench`: confidence over the ten digits against evaluations, on one LeNet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from benchmarks.traces import GOAL

__all__ = ["draw"]

# Okabe and Ito's colours, told apart by people of any colour vision; line styles tell them apart in grey.
STYLES = (
    ("#0072B2", "-"),
    ("#009E73", "--"),
    ("#D55E00", "-."),
    ("#CC79A7", ":"),
    ("#E69F00", (0, (5, 1, 1, 1, 1, 1))),
)
SUREST = 1e-6  # of 1 - confidence: what is closer to 1 is drawn there
TICKS = (0.0, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999)


def _nines(confidence: Any) -> np.ndarray:
    """-log10(1 - confidence): each nine is a step."""
    return -np.log10(np.maximum(1 - np.asarray(confidence, dtype=np.float64), SUREST))


def draw(traces: list[dict[str, Any]], path: Path) -> None:
    """Median over seeds as a line, the range over seeds as a band; left the median digit, right the worst.

    Args:
        traces: of `traces.Trace`; runs over Ray are the same search again and left out.
    """
    groups: dict[str, list[dict[str, Any]]] = {}
    for trace in traces:
        if not trace["name"].endswith(", Ray"):
            groups.setdefault(trace["name"], []).append(trace)
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.4), sharex=True, sharey=True, layout="constrained")
    for axis, what in zip(axes, ("median", "minimum")):
        for (colour, style), (name, group) in zip(STYLES, groups.items()):
            _curve(axis, group, what, color=colour, linestyle=style, label=name)
        axis.axhline(_nines(GOAL), color="black", linewidth=0.8)
        axis.set_xscale("log")
        axis.set_title(f"{what} over the ten digits")
        axis.set_xlabel("evaluations")
        axis.grid(alpha=0.25)
    axes[0].set_yticks(_nines(TICKS), [f"{tick:g}" for tick in TICKS])
    axes[0].set_ylim(-0.05, -np.log10(SUREST) + 0.1)
    axes[0].set_ylabel("confidence of the elite (each nine a step)")
    seeds = len(next(iter(groups.values())))
    figure.legend(
        *axes[0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=2,
        frameon=False,
        title=f"line: median of {seeds} seed{'s' * (seeds > 1)}; band: their range; black line: {GOAL}",
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _curve(axis: Any, traces: list[dict[str, Any]], what: str, **style: Any) -> None:
    """One kind of search. A seed that stopped early, having reached the goal, stays where it was."""
    grid = np.unique(np.concatenate([trace["evaluations"] for trace in traces]))
    grid = grid[grid >= max(trace["evaluations"][0] for trace in traces)]
    rows = []
    for trace in traces:
        last = np.searchsorted(trace["evaluations"], grid, side="right") - 1
        rows.append(_nines(np.array(trace[what])[last]))
    axis.plot(grid, np.median(rows, axis=0), linewidth=1.8, **style)
    axis.fill_between(grid, np.min(rows, axis=0), np.max(rows, axis=0), color=style["color"], alpha=0.18, linewidth=0)
