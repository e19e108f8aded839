"""`evofool study compare`: runs side by side, grouped by what they asked for."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from evofool.config import fingerprint
from evofool.records import Facts
from evofool.store.reader import open_run
from evofool.store.remote.working_copy import named
from evofool.studies.shared.statistics import mann_whitney, median_interval

__all__ = ["compare", "summarise"]

LEVEL = 0.9999


def compare(paths: Sequence[str | Path]) -> pd.DataFrame:
    """One row for each run: its group and its final figures.

    Runs of one group have the same `name` in their configurations, and the same values of all semantic keys but the
    seed. `median_at` and `minimum_at` are the first generations at which the median and the minimum over classes reach
    0.9999; NaN where they never do. Runs without a commit are left out.
    """
    rows = []
    for path in paths:
        run = open_run(path)
        history = run.history()
        if history.empty:
            continue
        last = history.iloc[-1]
        rows.append(
            {
                "group": f"{run.config.name} ({fingerprint(run.config, without_seed=True)[:6]})",
                "run": named(str(path)),
                "seed": run.config.seed,
                "target_fingerprint": run.provenance["target_fingerprint"][:8],
                "generations": int(last["generation"]) + 1,
                "evaluations": int(last["evaluations"]),
                "median": float(last["median"]),
                "minimum": float(last["minimum"]),
                "classes_99": int(last["classes_99"]),
                "classes_9999": int(last["classes_9999"]),
                "top1_share": float(last["top1_share"]),
                "median_at": _first(history, "median"),
                "minimum_at": _first(history, "minimum"),
            }
        )
    return pd.DataFrame(rows)


def _first(history: pd.DataFrame, column: str) -> float:
    return float(history.loc[history[column] >= LEVEL, "generation"].min())  # NaN where there is none


def summarise(runs: pd.DataFrame) -> tuple[list[Facts], list[Facts]]:
    """Per group and figure the median over runs with a 95 % bootstrap interval; per pair of groups a p-value.

    Returns:
        Rows (group, runs, figure, median, low, high, never) where `never` counts runs that did not get there, which
        rank as infinity; and rows (first, second, figure, p) of the two-sided Mann-Whitney U test.
    """
    figures = ("median", "minimum", "classes_9999", "top1_share", "median_at", "minimum_at")
    groups = {
        name: {figure: frame[figure].fillna(np.inf).to_numpy(dtype=float) for figure in figures}
        for name, frame in runs.groupby("group", sort=False)
    }
    summary = []
    for name, group in groups.items():
        for figure, values in group.items():
            low, high = median_interval(values)
            summary.append(
                {
                    "group": name,
                    "runs": len(values),
                    "figure": figure,
                    "median": _number(np.median(values)),
                    "low": _number(low),
                    "high": _number(high),
                    "never": int(np.isinf(values).sum()),
                }
            )
    tests = [
        {"first": a, "second": b, "figure": figure, "p": mann_whitney(groups[a][figure], groups[b][figure])}
        for a, b in combinations(groups, 2)
        for figure in figures
    ]
    return summary, tests


def _number(value: float) -> float | None:
    return None if not np.isfinite(value) else float(value)
