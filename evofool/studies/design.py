"""`evofool run --design`: what does each factor of a design of runs do to what the runs come to?

The unit of replication is the seed. The main effect of a level is the mean difference to the factor's first level, the
reference, between runs that have the seed and all other factors in common. For each seed these differences are averaged
over the other factors, and the seeds give the interval of 95 % (Student's t, paired). The null is no difference. What
factors do to each other's effects is not estimated, and no allowance is made for how many effects are looked at.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

import evofool
from evofool.config.designs import Design, Trial, load_design
from evofool.config.files import Overrides
from evofool.errors import ConfigError, EvofoolError
from evofool.records import Facts
from evofool.runs.designs import run_trials
from evofool.store import files, schemas
from evofool.store.reader import Run
from evofool.store.remote.working_copy import named
from evofool.studies.shared.charts import Panel, dots
from evofool.studies.shared.statistics import mean_interval

__all__ = ["AGAIN", "FIGURES", "Designed", "effects", "run_design"]

FIGURES = {  # what effects are upon: columns of the table
    "median": "median confidence over classes that have an elite",
    "mean": "mean confidence over all classes, 0 without an elite",
    "median_log_odds": "median log-odds over classes that have an elite",
    "filled": "classes that have an elite",
    "classes_99": "classes of 0.99 or more",
    "classes_9999": "classes of 0.9999 or more",
    "evaluations": "images scored until the run ended",
}
FIRST = "median"  # of which the sentence is
NULL = "no difference"
COLUMNS = {  # of the table beside the factors, and the seed
    "run": pa.string(),
    "seed": pa.string(),  # seeds have up to 256 bits
    "run_id": pa.string(),
    "archive_hash": pa.string(),
    "target_fingerprint": pa.string(),
    "generations": pa.int64(),
    "evaluations": pa.int64(),
    "classes": pa.int64(),
    "filled": pa.int64(),
    "median": pa.float64(),
    "mean": pa.float64(),
    "median_log_odds": pa.float64(),
    "minimum": pa.float64(),
    "classes_99": pa.int64(),
    "classes_9999": pa.int64(),
    "top1_share": pa.float64(),
}
AGAIN = "the same command, which makes only the runs that are missing"


@dataclass(frozen=True)
class Designed:
    """What came of a design.

    Attributes:
        frame: one row for each run, in the order of the design; the columns are listed in docs/designs.md.
        effects: see `effects`.
        sentence: the answer.
        files: design.parquet, design.csv, effects.csv, design.svg, design.json.
    """

    frame: pd.DataFrame
    effects: list[Facts]
    sentence: str
    files: tuple[Path, ...]


def run_design(
    path: str | Path,
    overrides: Overrides = (),
    *,
    out: str | Path | None = None,
    tell: Callable[[str], None] = lambda text: None,
    **options: Any,
) -> Designed:
    """Make the runs of a design that are missing, or go on with them, over one pool; and sum up.

    Args:
        path: of the design's YAML file; see config/designs.py.
        overrides: of its configuration, in every run.
        out: the folder of runs and table; `storage.path`/NAME by default.
        tell: receives a sentence before each run.
        options: of `evofool.run`, e.g. `allow_code`.

    Raises:
        ConfigError: the file is no design, or one of its runs has no configuration: nothing is run then.
        EvofoolError: as `evofool.run`; finished runs, and commits of the others, are kept.
    """
    design = load_design(path, overrides, out=None if out is None else named(str(out)))
    if taken := [factor for factor in design.factors if factor in COLUMNS]:
        raise ConfigError(f"{path}: factors: {taken[0]} is a column of the table; give the factor another name.")
    trials = design.trials()
    if units := [trial.run_name for trial in trials if trial.config.target.readouts]:
        raise ConfigError(
            f"{path}: {units[0]} has target.readouts, whose units have no confidence to compare; leave them out."
        )
    rows: dict[str, Facts] = {}  # by run
    try:
        with contextlib.closing(run_trials(design, trials, tell=tell, **options)) as made:
            for trial, run, is_new in made:
                rows[trial.run_name] = _row(trial, run)
                if is_new or len(rows) == len(trials):
                    frame = _table(design, [rows[t.run_name] for t in trials if t.run_name in rows])
                    written = _write_table(design, frame)
        found = effects(frame, {factor: list(levels) for factor, levels in design.factors.items()})
        sentence = _sentence(found)
        return Designed(frame, found, sentence, (*written, *_write_answer(design, found, sentence, len(frame))))
    except EvofoolError as error:
        if rows:
            error.safe = "; ".join(filter(None, (error.safe, f"{len(rows)} of {len(trials)} runs in {design.folder}")))
        error.go_on = AGAIN if rows or error.go_on else None
        raise


def _row(trial: Trial, run: Run) -> Facts:
    """The row of a finished run."""
    elites, last = run.elites(pictures=False), run.history().iloc[-1]
    cells = run.provenance["cells"]
    return {
        **trial.levels,
        "run": run.path.name,
        "seed": str(trial.seed),
        "run_id": run.provenance["run_id"],
        "archive_hash": run.archive_hash,
        "target_fingerprint": run.provenance["target_fingerprint"],
        "generations": int(last["generation"]) + 1,
        "evaluations": int(last["evaluations"]),
        "classes": cells,
        "filled": int(last["filled"]),
        "median": float(last["median"]),
        "mean": float(elites["confidence"].sum()) / cells,
        "median_log_odds": float(elites["log_odds"].median()),
        "minimum": float(last["minimum"]),
        "classes_99": int(last["classes_99"]),
        "classes_9999": int(last["classes_9999"]),
        "top1_share": float(last["top1_share"]),
    }


def effects(runs: pd.DataFrame, factors: Mapping[str, Sequence[str]]) -> list[Facts]:
    """The main effect of every level upon every figure, against the first level of its factor.

    Args:
        runs: one row for each run: a column for each factor, `seed`, and the figures.
        factors: {factor: its levels}, the reference first.

    Returns:
        Rows (factor, level, against, figure, value, low, high, n, null, verdict): value is the mean over n seeds, low
        and high its interval of 95 %, None of a single seed; the verdict is "higher" or "lower" where the interval
        leaves 0 out, "no effect" where it does not, "one seed" without one.
    """
    found: list[Facts] = []
    for factor, (reference, *others) in factors.items():
        same = [name for name in (*factors, "seed") if name != factor]
        for level in others:
            of_level = {name: runs[runs[factor] == name].set_index(same) for name in (level, reference)}
            for figure in FIGURES:
                differences = of_level[level][figure].astype(float) - of_level[reference][figure].astype(float)
                # Runs that have no partner, as those of one_at_a_time at other factors' levels, are missing here.
                values = differences.dropna().groupby("seed", sort=False).mean().to_numpy()
                value, (low, high) = float(np.mean(values)), mean_interval(values)
                facts = {"factor": factor, "level": level, "against": reference, "figure": figure, "value": value}
                facts |= {"low": low, "high": high, "n": len(values), "null": NULL}
                found.append({**facts, "verdict": _verdict(low, high)})
    return found


def _verdict(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return "one seed"
    return "higher" if low > 0 else "lower" if high < 0 else "no effect"


def _table(design: Design, rows: list[Facts]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=[*design.factors, *COLUMNS])


def _write_table(design: Design, frame: pd.DataFrame) -> tuple[Path, Path]:
    """The rows so far, as Parquet and CSV."""
    fields = [*((factor, pa.string()) for factor in design.factors), *COLUMNS.items()]
    schema = pa.schema(fields, metadata={"schema_version": str(schemas.SCHEMA_VERSION)})
    table = pa.Table.from_pandas(frame, schema=schema, preserve_index=False)
    attrs = {"PANDAS_ATTRS": json.dumps({"evofool": {"design": design.name}})}
    table = table.replace_schema_metadata({**schema.metadata, **attrs})
    places = design.folder / "design.parquet", design.folder / "design.csv"
    files.put(places[0], schemas.encode(table))
    files.put(places[1], _csv(frame))
    return places


def _csv(frame: pd.DataFrame) -> bytes:
    text = io.StringIO()
    frame.to_csv(text, index=False, lineterminator="\n")
    return text.getvalue().encode()


def _write_answer(design: Design, found: list[Facts], sentence: str, runs: int) -> tuple[Path, ...]:
    """The effects as CSV, a picture, and all that is said as JSON."""
    facts = {
        "design": design.name,
        "sentence": sentence,
        "config": design.config,
        "overrides": design.overrides,
        "layout": design.layout,
        "factors": design.factors,
        "seeds": design.seeds,
        "n": runs,
        "null": NULL,
        "summary": found,
        "evofool": evofool.__version__,
    }
    contents = {
        "effects.csv": _csv(pd.DataFrame(found)),
        "design.svg": _picture(design, found).encode(),
        "design.json": (json.dumps(facts, indent=1, allow_nan=False) + "\n").encode(),
    }
    for name, data in contents.items():
        files.put(design.folder / name, data)
    return tuple(design.folder / name for name in contents)


def _picture(design: Design, found: list[Facts]) -> str:
    panels = [
        Panel(
            f"{title} ({figure})",
            [{**row, "label": f"{row['factor']}: {row['level']}"} for row in found if row["figure"] == figure],
        )
        for figure, title in FIGURES.items()
    ]
    return dots(f"{design.name}: differences to the first level, 95 % intervals over seeds", panels)


def _sentence(found: list[Facts]) -> str:
    rows = [row for row in found if row["figure"] == FIRST]
    most = max(rows, key=lambda row: abs(row["value"]))
    name = f"{most['factor']} {most['level']} against {most['against']}"
    if most["low"] is None:
        return (
            f"The largest difference in {FIRST} confidence is that of {name}, {most['value']:+.4g}; one seed gives no "
            "interval."
        )
    clear = [row for row in rows if row["verdict"] in ("higher", "lower")]
    if not clear:
        return (
            f"No effect on the {FIRST} confidence: the interval of each of {len(rows)} differences holds 0 "
            f"(the largest, {name}: {_figures(most)})."
        )
    most = max(clear, key=lambda row: abs(row["value"]))
    name = f"{most['factor']} {most['level']} against {most['against']}"
    return (
        f"Of {len(rows)} effects on the {FIRST} confidence {len(clear)} {'has' if len(clear) == 1 else 'have'} an "
        f"interval without 0 (null: {NULL}), the largest that of {name}: {_figures(most)}."
    )


def _figures(row: Facts) -> str:
    return f"{row['value']:+.4g}, 95 % interval {row['low']:+.4g} to {row['high']:+.4g}, n {row['n']} seeds"
