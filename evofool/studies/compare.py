"""`evofool study compare`: runs side by side, grouped by what they asked for."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Generator, Iterable, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from evofool.config import fingerprint
from evofool.errors import ConfigError
from evofool.records import Facts
from evofool.store.reader import Run, open_run
from evofool.store.remote.working_copy import named
from evofool.store.schemas import SCHEMA_VERSION
from evofool.studies.shared.charts import Panel, dots
from evofool.studies.shared.statistics import mann_whitney, median_interval
from evofool.studies.shared.tables import refuse_units
from evofool.studies.study import Study, Work

__all__ = ["STUDY", "compare", "summarise"]

LEVEL = 0.9999
FIGURES = {
    "median": "median confidence over classes",
    "minimum": "smallest confidence of a class",
    "classes_9999": f"classes of {LEVEL} or more",
    "top1_share": "share of classes that are the network's answer",
    "median_at": f"generation at which the median reaches {LEVEL}",
    "minimum_at": f"generation at which every class has {LEVEL}",
}
SHARES = ("median", "minimum", "top1_share")  # of these the axis is from 0 to 1

COMPARE = pa.schema(
    [
        ("run_id", pa.string()),
        ("archive_hash", pa.string()),
        ("group", pa.string()),
        ("run", pa.string()),
        ("seed", pa.int64()),
        ("target_fingerprint", pa.string()),
        ("generations", pa.int32()),
        ("evaluations", pa.int64()),
        ("median", pa.float64()),
        ("minimum", pa.float64()),
        ("classes_99", pa.int32()),
        ("classes_9999", pa.int32()),
        ("top1_share", pa.float64()),
        ("median_at", pa.float64()),
        ("minimum_at", pa.float64()),
    ],
    metadata={"schema_version": str(SCHEMA_VERSION)},
)


def compare(paths: Sequence[str | Path]) -> pd.DataFrame:
    """One row for each run: its group and its final figures.

    Runs of one group have the same `name` in their configurations, and the same values of all semantic keys but the
    seed. `median_at` and `minimum_at` are the first generations at which the median and the minimum over classes reach
    0.9999; NaN where they never do. Runs without a commit are left out.
    """
    frame = pd.DataFrame([row for path in paths if (row := _row(open_run(path)))])
    return frame if frame.empty else frame.assign(group=frame["group"].map(_shown(frame["group"])))


def _group(run: Run) -> str:
    """What runs of one group have in common: the name in their configurations, and the semantic keys but the seed."""
    return f"{run.config.name} ({fingerprint(run.config, without_seed=True)[:6]})"


def _shown(groups: Iterable[str]) -> dict[str, str]:
    """Groups as people call them: without {seed}, and without the fingerprint unless two have the same name."""
    names = {group: re.sub(r"[-_.]?\{seed\}", "", group.rpartition(" (")[0]).strip("-_.") or group for group in groups}
    counts = Counter(names.values())
    return {group: name if counts[name] == 1 else f"{name} {group.rpartition(' ')[2]}" for group, name in names.items()}


def _row(run: Run) -> Facts | None:
    """The row of a run; None without a commit."""
    refuse_units(run)
    status, history = run.status(), run.history()
    if status["generation"] is None:
        return None
    history = history[history["generation"] <= status["generation"]]  # the run may have gone on meanwhile
    last = history.iloc[-1]
    return {
        "run_id": run.provenance["run_id"],
        "archive_hash": status["archive_hash"],
        "group": _group(run),
        "run": named(str(run.path)),
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


def _first(history: pd.DataFrame, column: str) -> float:
    return float(history.loc[history[column] >= LEVEL, "generation"].min())  # NaN where there is none


def _rows(work: Work) -> Generator[pd.DataFrame]:
    for run in work.first(work.subject):
        work.show_as("run", "run_id", {run.provenance["run_id"]: named(str(run.path))})
        if run.archive_hash and work.missing([(run.provenance["run_id"], run.archive_hash)]) and (row := _row(run)):
            yield pd.DataFrame([row])
    groups = {run.provenance["run_id"]: _group(run) for run in work.first(work.subject)}
    shown = _shown(groups.values())
    work.show_as("group", "run_id", {run: shown[group] for run, group in groups.items()})
    if not work.wanted:
        raise ConfigError("none of these runs has a commit yet.")


def summarise(runs: pd.DataFrame) -> list[Facts]:
    """Per group and figure the median over runs with its 95 % bootstrap interval; per pair of groups a p-value.

    Returns:
        Rows (group, figure, value, low, high, n, never), where n is the runs and `never` how many of them did not get
        there, which rank as infinity; None stands for infinity. And rows (group, against, figure, value, n), whose
        figure is "p_" and a figure's name and whose value is the p-value of the two-sided Mann-Whitney U test.
    """
    groups = {
        name: {figure: frame[figure].fillna(np.inf).to_numpy(dtype=float) for figure in FIGURES}
        for name, frame in runs.groupby("group", sort=False)
    }
    summary: list[Facts] = []
    for name, group in groups.items():
        for figure, values in group.items():
            low, high = median_interval(values) if len(values) > 1 else (np.inf, np.inf)  # of one run there is none
            facts = {"group": name, "figure": figure, "value": _number(np.median(values))}
            facts |= {"low": _number(low), "high": _number(high)}
            summary.append({**facts, "n": len(values), "never": int(np.isinf(values).sum())})
    for a, b in combinations(groups, 2):
        for figure in FIGURES:
            first, second = groups[a][figure], groups[b][figure]
            facts = {"group": a, "against": b, "figure": f"p_{figure}", "value": mann_whitney(first, second)}
            summary.append({**facts, "low": None, "high": None, "n": len(first) + len(second)})
    return summary


def _number(value: float) -> float | None:
    return None if not np.isfinite(value) else float(value)


def _figure(summary: list[Facts], runs: pd.DataFrame) -> tuple[str, str]:
    panels = []
    for name, title in FIGURES.items():
        rows = [{**row, "label": row["group"]} for row in summary if row["figure"] == name]
        if any(row["value"] is not None for row in rows):
            panels.append(Panel(f"{title} ({name})", rows, (0, 1) if name in SHARES else None))
    return dots("Runs side by side: medians over runs, 95 % intervals", panels), _sentence(summary)


def _sentence(summary: list[Facts]) -> str:
    medians = [row for row in summary if row["figure"] == "median"]
    if len(medians) == 1:
        return f"One group, of {_runs(medians[0])}, whose median confidence is {_confidence(medians[0])}."
    best = max(medians, key=lambda row: row["value"])
    tests = [row for row in summary if row["figure"] == "p_median" and best["group"] in (row["group"], row["against"])]
    greatest = max(row["value"] for row in tests)
    return (
        f"The highest median confidence, {_confidence(best)}, is that of {best['group']}; against the other groups "
        f"Mann-Whitney's p is at most {greatest:.2g}; it has {_runs(best)}."
    )


def _confidence(row: Facts) -> str:
    """In six decimals, and never rounded up to 1."""
    return f"{math.floor(row['value'] * 1e6) / 1e6:.6f}"


def _runs(row: Facts) -> str:
    return f"{row['n']} run{'s' if row['n'] > 1 else ''}"


STUDY = Study(
    subject="runs",
    schema=COMPARE,
    keys=("run_id", "archive_hash"),
    rows=_rows,
    summarise=summarise,
    figure=_figure,
    things="runs",
    shown=("run", "seed", "generations", "median", "minimum", "classes_9999", "median_at", "minimum_at"),
)
