"""Reproduce: what do the papers' experiments come to here?

Every experiment of shared/papers.py has the papers' value with its mark, ours with an interval and how many runs it is
of, and a verdict (shared/verdicts.py has the rule). A number that a table of docs/results has is read from it; else one
of an earlier call; what is missing is made within the budget, each run once.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import pandas as pd
import pyarrow as pa

import evofool
from evofool.base.registry import known
from evofool.errors import ConfigError
from evofool.records import Facts
from evofool.store.schemas import SCHEMA_VERSION
from evofool.studies.shared.charts import Panel, dots
from evofool.studies.shared.papers import EXPERIMENTS, PAPERS
from evofool.studies.shared.protocols import BUDGETS
from evofool.studies.shared.replicating import ALL, Laboratory, Measured, reading, stored, together
from evofool.studies.shared.verdicts import VERDICTS, Experiment, verdict
from evofool.studies.study import Study, Work

__all__ = ["REPRODUCE", "STUDY", "Options"]

RESULTS = "docs/results"
OURS = "reproduce.csv"  # of RESULTS: what earlier calls measured

REPRODUCE = pa.schema(
    [
        ("paper", pa.string()),
        ("experiment", pa.string()),
        ("source", pa.string()),  # a file and its sha256, or a budget and its plan; or why it was not measured
        ("unit", pa.string()),  # a seed, or "all"
        ("value", pa.float64()),  # null: not measured; infinite: never
        ("low", pa.float64()),  # of "all", where the study has an interval
        ("high", pa.float64()),
        ("n", pa.int64()),
        ("null", pa.float64()),  # the study's own, where it has one
        ("networks", pa.string()),  # fingerprints
        ("evaluations", pa.int64()),  # of each run; null where ours is of no runs
        ("command", pa.string()),
        ("measured", pa.string()),  # the day on which the number was made or read here
        ("evofool", pa.string()),
    ],
    metadata={"schema_version": str(SCHEMA_VERSION)},
)


@dataclass(frozen=True)
class Options:
    """How much may be made, and where it is."""

    budget: Annotated[
        str, "small: under 25 minutes on two cores; full: hours; none: only what was measured before is read."
    ] = "small"
    anew: Annotated[bool, "Measure everything, whatever docs/results has."] = False
    results: Annotated[str, "Folder of tables measured before."] = RESULTS
    runs: Annotated[str, "Folder for networks, runs and tables of studies, which are kept and gone on with."] = (
        "runs/reproduce"
    )


def _rows(work: Work) -> Generator[pd.DataFrame]:
    paper, options = work.subject, work.options
    if paper not in PAPERS:
        raise ConfigError(f"there is nothing to reproduce in {paper!r}; {known(paper, PAPERS)}")
    if options.budget not in BUDGETS:
        raise ConfigError(f"--budget: {options.budget!r} is not {', '.join(BUDGETS[:-1])} or {BUDGETS[-1]}.")
    if options.results != RESULTS and not Path(options.results).is_dir():
        raise ConfigError(f"--results: there is no folder {options.results}; leave it out, or say --anew.")
    experiments = work.first(each for each in EXPERIMENTS if each.paper == paper)
    laboratory = Laboratory(Path(options.runs), options.budget, work.pool, work.address, work.allow_code, work.tell)
    for number, experiment in enumerate(experiments, 1):
        found = None if options.anew else _before(experiment, Path(options.results))
        if found is None and (reason := _why_not(experiment, laboratory, options.results)):
            found = Measured(reason, [], [])
        source = found.source if found else laboratory.source(experiment)
        if work.missing([(paper, experiment.name, source)]):
            head = f"{number} of {len(experiments)}, {experiment.name}"
            if found is None:
                work.tell(f"{head}: {experiment.measure}")
                found = laboratory.measure(experiment)
            yield _frame(paper, experiment, found)
            work.tell(f"{head}: {found.source}")


def _before(experiment: Experiment, folder: Path) -> Measured | None:
    """What tables of docs/results have of an experiment: its own, or that of earlier calls."""
    if found := stored(experiment, folder):
        return found
    path = folder / OURS
    if not path.is_file():
        return None
    with reading(path):
        frame = pd.read_csv(path, dtype={"networks": str})
        rows = frame[(frame["paper"] == experiment.paper) & (frame["experiment"] == experiment.name)]
        rows = rows[rows["value"].notna()]
        if rows.empty:
            return None
        rows = rows[rows["source"] == rows["source"].iloc[-1]]
        first: Facts = {str(name): None if pd.isna(value) else value for name, value in rows.iloc[0].items()}
        return Measured(
            str(first["source"]),
            rows["value"].astype(float).tolist(),
            rows["unit"].tolist(),
            low=first["low"],
            high=first["high"],
            n=first["n"] and int(first["n"]),
            null=first["null"],
            networks=first["networks"] or "",
            evaluations=first["evaluations"] and int(first["evaluations"]),
            command=first["command"] or "",
        )


def _why_not(experiment: Experiment, laboratory: Laboratory, results: str) -> str:
    if laboratory.budget == "none" and not experiment.why_not:
        return f"not in {results}, and --budget none makes nothing"
    return laboratory.why_not(experiment)


def _frame(paper: str, experiment: Experiment, found: Measured) -> pd.DataFrame:
    """The rows of one experiment: one for each seed, or one; without a value where it was not measured."""
    facts = {
        "paper": paper,
        "experiment": experiment.name,
        "source": found.source,
        "low": found.low,
        "high": found.high,
        "n": found.n,
        "null": found.null,
        "networks": found.networks,
        "evaluations": found.evaluations,
        "command": found.command,
        "measured": datetime.now(UTC).date().isoformat(),
        "evofool": evofool.__version__,
    }
    pairs: list[tuple[str, float | None]] = [*zip(found.units, found.values)] or [("", None)]
    frame = pd.DataFrame([{**facts, "unit": unit, "value": value} for unit, value in pairs])
    numbers = ("value", "low", "high", "null")
    return frame.astype({**dict.fromkeys(numbers, "Float64"), **dict.fromkeys(("n", "evaluations"), "Int64")})


def summarise(frame: pd.DataFrame) -> list[Facts]:
    """Of each experiment: ours, the papers' value, the verdict, and the command."""
    by_name = {(each.paper, each.name): each for each in EXPERIMENTS}
    groups = frame.groupby(["paper", "experiment"], sort=False)
    return [_summary(by_name[key], rows) for key, rows in groups]


def _summary(experiment: Experiment, rows: pd.DataFrame) -> Facts:
    first, values = rows.iloc[0], rows["value"].dropna().astype(float).tolist()
    value, low, high = together(values)
    n = len(values)
    if first["unit"] == ALL:
        low, high = (None if pd.isna(first[key]) else float(first[key]) for key in ("low", "high"))
        n = int(first["n"])
    null = experiment.null if pd.isna(first["null"]) else float(first["null"])
    return {
        "figure": experiment.name,
        "value": value,
        "low": low,
        "high": high,
        "n": n,
        "theirs": experiment.theirs,
        "mark": experiment.mark,
        "verdict": verdict(experiment, low, high, null) if values else "not run",
        "null": null,
        "evaluations": None if pd.isna(first["evaluations"]) else int(first["evaluations"]),
        "measure": experiment.measure,
        "command": first["command"] or first["source"],
    }


def _figure(summary: list[Facts], frame: pd.DataFrame) -> tuple[str, str]:
    panels = []
    for row in summary:
        if row["verdict"] != "not run":
            lines = [{**row, "label": f"ours: {row['verdict']}"}]
            if row["theirs"] is not None:
                lines.append({"label": f"theirs, {row['mark']}", "value": row["theirs"], "n": "-"})
            lines.append({"label": "null", "value": row["null"], "n": "-"})
            panels.append(Panel(f"{row['figure']}: {row['measure']}", lines))
    paper = frame["paper"].iloc[0]
    return dots(f"The papers' experiments, {paper}: ours with 95 % intervals", panels), _sentence(summary)


def _sentence(summary: list[Facts]) -> str:
    words = {word: [row for row in summary if row["verdict"] == word] for word in VERDICTS}
    counts = ", ".join(f"{len(rows)} {word}" for word, rows in words.items() if rows)
    against = "; ".join(
        f"{row['measure']}: {_told(row['value'])}"
        + ("" if row["low"] is None else f" (95 % interval {_told(row['low'])} to {_told(row['high'])})")
        + f", n {row['n']}, null {row['null']:.3g}"
        + ("" if row["theirs"] is None else f", where the paper has {row['theirs']:g} ({row['mark']})")
        for row in words["contradicts"]
    )
    return f"Of {len(summary)} experiments: {counts}." + (f" Contradicted: {against}." if against else "")


def _told(value: float | None) -> str:
    return "never" if value is None else f"{value:.4g}"


STUDY = Study(
    subject="paper",
    schema=REPRODUCE,
    keys=("paper", "experiment", "source"),
    rows=_rows,
    summarise=summarise,
    figure=_figure,
    options=Options,
    things="experiments",
    smoke=30,
    evaluates=True,
)
