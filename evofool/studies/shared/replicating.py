"""Where the numbers beside those of the papers come from: tables measured before, runs, and other studies of these.

Runs and the tables of studies lie below one folder, so that whatever is there is not made again: a kill loses what one
run has not committed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from evofool.base.places import quoted
from evofool.base.registry import STUDIES
from evofool.config.designs import Design
from evofool.errors import ConfigError, first_line
from evofool.records import Facts
from evofool.runs.designs import run_trials
from evofool.store.reader import Run
from evofool.studies.shared.protocols import ANSWERS, MADE_BY, RUNS, Answer
from evofool.studies.shared.statistics import median_interval
from evofool.studies.shared.verdicts import Experiment, OfRuns, OfStudy
from evofool.studies.study import conduct, load_study
from evofool.targets.training.datasets import load_dataset
from evofool.targets.training.train import train_lenet

__all__ = ["ALL", "Laboratory", "Measured", "chosen", "reading", "row_of", "stored", "together"]

LEVEL = 0.9999
EARLY = 50  # generations
ALL = "all"  # the unit of what is of no single seed


@dataclass(frozen=True)
class Measured:
    """Ours for one experiment.

    Attributes:
        values: a number for each unit; infinite where a level was never reached, NaN where there is none.
        units: their names: seeds, or "all".
        low, high, n: of the study's row, where the number is its own.
        null: likewise.
        source: where it comes from: the file with the beginning of its sha256, or the budget with that of its plan; or
            why it was not measured.
        networks: fingerprints, as far as they are known.
        evaluations: of each run, at most.
        command: that makes it.
    """

    source: str
    values: list[float]
    units: list[str]
    low: float | None = None
    high: float | None = None
    n: int | None = None
    null: float | None = None
    networks: str = ""
    evaluations: int | None = None
    command: str = ""


def row_of(run: Run) -> Facts:
    """What a run came to.

    Returns:
        seed, run_id, archive_hash, target_fingerprint, generations, evaluations, classes; median, minimum and
        median_log_odds over classes, classes_99, classes_9999 and top1_share at the end; minimum and classes_9999 after
        50 generations; median_at and minimum_at, the first generation, counted from 1, at which they are 0.9999:
        infinite where they never are.
    """
    history, elites = run.history(), run.elites(pictures=False)
    last = history.iloc[-1]
    early = history[history["generation"] < EARLY].iloc[-1]
    reached = {
        f"{name}_at": float(history.loc[history[name] >= LEVEL, "generation"].min() + 1)
        for name in ("median", "minimum")
    }
    return {
        "seed": run.config.seed,
        "run_id": run.provenance["run_id"],
        "archive_hash": run.archive_hash,
        "target_fingerprint": run.provenance["target_fingerprint"],
        "generations": int(last["generation"]) + 1,
        "evaluations": int(last["evaluations"]),
        "classes": run.provenance["cells"],
        "median": float(last["median"]),
        "minimum": float(last["minimum"]),
        "median_log_odds": float(elites["log_odds"].median()),
        "classes_99": int(last["classes_99"]),
        "classes_9999": int(last["classes_9999"]),
        "top1_share": float(last["top1_share"]),
        f"minimum_at_{EARLY}": float(early["minimum"]),
        f"classes_9999_at_{EARLY}": int(early["classes_9999"]),
        **{name: np.inf if np.isnan(value) else value for name, value in reached.items()},
    }


def chosen(frame: pd.DataFrame, where: Mapping[str, str]) -> pd.DataFrame:
    """The rows whose columns match patterns, whole.

    Raises:
        ConfigError: the table lacks a column.
    """
    mask = pd.Series(True, index=frame.index)
    for column, pattern in where.items():
        if column not in frame:
            raise ConfigError(f"there is no column {column!r} in it")
        mask &= frame[column].astype(str).str.fullmatch(pattern)
    return frame[mask]


def stored(experiment: Experiment, folder: Path) -> Measured | None:
    """Ours, from the table of docs/results that has it; None where there is none, or no such rows.

    Raises:
        ConfigError: the file is no such table.
    """
    ours = experiment.ours
    if ours is None or not ours.table:
        return None
    path = folder / f"{ours.table}.csv"
    if not path.is_file():
        return None
    with reading(path):
        frame = pd.read_csv(path, dtype={"level": str})
        source = f"{path}, sha256 {hashlib.sha256(path.read_bytes()).hexdigest()[:12]}"
        if isinstance(ours, OfStudy):
            found = _of_summary(ours, chosen(frame, ours.of_table), source)
        else:
            less = chosen(frame, ours.where_less) if ours.less else None
            found = _by_seed(ours, chosen(frame, ours.where), less, source)
        return found and replace(found, command=MADE_BY[ours.table])


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """While a table of docs/results is read: what is wrong with it becomes a sentence (ConfigError)."""
    try:
        yield
    except (ConfigError, ValueError, LookupError, TypeError) as error:
        said = error.message if isinstance(error, ConfigError) else first_line(error)
        raise ConfigError(
            f"{path}: is no table as evofool writes it: {said.rstrip('.')}; --anew measures without it."
        ) from None


def _by_seed(ours: OfRuns, rows: pd.DataFrame, less: pd.DataFrame | None, source: str) -> Measured | None:
    values = rows.drop_duplicates("seed", keep="last").set_index("seed")[ours.column].astype(float)
    if less is not None:
        values = values - less.drop_duplicates("seed", keep="last").set_index("seed")[ours.column].astype(float)
    values = values.dropna()
    if values.empty:
        return None
    networks = sorted(set(rows["target_fingerprint"])) if "target_fingerprint" in rows else []
    units = [f"seed {seed}" for seed in values.index]
    evaluations = int(rows["evaluations"].max()) if "evaluations" in rows else None
    return Measured(source, values.tolist(), units, networks=" ".join(networks), evaluations=evaluations)


def _of_summary(ours: OfStudy, frame: pd.DataFrame, source: str, other: pd.DataFrame | None = None) -> Measured | None:
    """The row of a summary; its null from the same, or from another."""
    rows = _asked(frame, ours.where, ours.last)
    if rows.empty:
        return None
    row = rows.iloc[-1]
    null = None
    if ours.null:
        nulls = _asked(frame if other is None else other, ours.null, ours.last)
        if nulls.empty:
            raise ConfigError(f"no row has the null, {_said(ours.null)}")
        null = nulls["value"].iloc[-1]
    low, high = (None if pd.isna(row[name]) else float(row[name]) for name in ("low", "high"))
    networks = str(row.get("target_fingerprint") or row.get("to_fingerprint") or "")
    value = float(row["value"])
    return Measured(source, [value], [ALL], low, high, int(row["n"]), None if null is None else float(null), networks)


def _asked(frame: pd.DataFrame, where: Mapping[str, str], last: bool) -> pd.DataFrame:
    """The rows of a summary that have a value, of which there is one, or none, unless the last is asked for.

    Raises:
        ConfigError: there are several.
    """
    rows = chosen(frame, where)
    rows = rows[rows["value"].notna()]
    if len(rows) > 1 and not last:
        raise ConfigError(f"{len(rows)} rows, not one, have {_said(where)}")
    return rows


def _said(where: Mapping[str, str]) -> str:
    return ", ".join(f"{column} {pattern}" for column, pattern in where.items())


def together(values: list[float]) -> tuple[float | None, float | None, float | None]:
    """The median of numbers and its interval of 95 % by bootstrap; None of none, and no interval of one."""
    numbers = np.array([value for value in values if not np.isnan(value)])
    if not len(numbers):
        return None, None, None
    value = float(np.median(numbers))
    return (value, *median_interval(numbers)) if len(numbers) > 1 else (value, None, None)


@dataclass
class Laboratory:
    """Makes what is missing of runs and answers, each once.

    Attributes:
        folder: for networks, runs and tables.
        budget: "small" or "full".
        pool, address, allow_code, tell: as of `conduct`.
    """

    folder: Path
    budget: str
    pool: str | None
    address: str | None
    allow_code: bool
    tell: Callable[[str], None]
    _runs: dict[str, list[Run]] = field(default_factory=dict)
    _answers: dict[str, pd.DataFrame] = field(default_factory=dict)

    def source(self, experiment: Experiment) -> str:
        """The budget, and the beginning of a sha256 of all that decides what is made for an experiment."""
        ours = experiment.ours
        names = [ours.runs, ours.less] if isinstance(ours, OfRuns) else [ours.answer, ours.null_answer] if ours else []
        parts = [RUNS.get(name) or ANSWERS.get(name) for name in names]
        for answer in [part for part in parts if isinstance(part, Answer)]:
            parts += [RUNS[name] for name in answer.of if name in RUNS]
        said = json.dumps([self.budget, repr(ours), *map(repr, parts)])
        return f"--budget {self.budget}, plan {hashlib.sha256(said.encode()).hexdigest()[:12]}"

    def why_not(self, experiment: Experiment) -> str:
        """Why it cannot be measured here; "" if it can."""
        ours = experiment.ours
        if experiment.why_not:
            return experiment.why_not
        if isinstance(ours, OfStudy):
            answer = ANSWERS[ours.answer]
            if answer.study not in STUDIES:
                return f"there is no study {answer.study}"
            names = answer.of if isinstance(answer.of, tuple) else ()
        else:
            names = (ours.runs, ours.less) if ours else ()
        for needs in (RUNS[name].needs for name in names if name):
            if needs and not Path(needs[0]).is_file():
                return f"{needs[0]} is missing: {needs[1]}"
        return ""

    def measure(self, experiment: Experiment) -> Measured:
        """Ours for an experiment, from what there is and what is made now; without a value where a study has none."""
        ours, source = experiment.ours, self.source(experiment)
        if isinstance(ours, OfStudy):
            other = self._answer(ours.null_answer) if ours.null_answer else None
            found = _of_summary(ours, self._answer(ours.answer), source, other)
        else:
            assert ours is not None
            less = self._rows(ours.less) if ours.less else None
            found = _by_seed(ours, self._rows(ours.runs), less, source)
        command = f"evofool study reproduce {quoted(experiment.paper)} --budget {quoted(self.budget)}"
        return replace(found or Measured(source, [], []), command=command)

    def _rows(self, name: str) -> pd.DataFrame:
        return pd.DataFrame([row_of(run) for run in self._made(name)])

    def _made(self, name: str) -> list[Run]:
        """The runs of a name, those that are missing made first."""
        if name not in self._runs:
            runs = RUNS[name]
            given = {**runs.overrides, **runs.more.get(self.budget, {})}
            overrides = {key: self._filled(value) for key, value in given.items()}
            if self.pool:
                overrides["evaluation.pool"] = self.pool
            seeds = tuple(range(1, runs.seeds[self.budget] + 1))
            design = Design(name, runs.config, (overrides,), {}, seeds, "full_factorial", self.folder / name)
            options = {"address": self.address, "allow_code": self.allow_code, "progress": False}
            trials = design.trials()
            made = run_trials(design, trials, tell=lambda text: self.tell(f"{name}: {text}"), **options)
            self._runs[name] = [run for _, run, _ in made]
        return self._runs[name]

    def _answer(self, name: str) -> pd.DataFrame:
        """The summary of a study."""
        if name not in self._answers:
            answer = ANSWERS[name]
            study, _ = load_study(answer.study)
            given = {**answer.options, **answer.more.get(self.budget, {})}
            options = study.options(**{key: self._filled(value) for key, value in given.items()})
            subject: list[Any] = (
                [run for part in answer.of for run in self._made(part)]
                if isinstance(answer.of, tuple)
                else [self._filled(answer.of)]
            )
            self.tell(f"{answer.study} of {name}")
            outcome = conduct(
                answer.study,
                subject,
                options,
                out=self.folder / "studies" / f"{name}-{self.budget}",
                limit=answer.limit.get(self.budget),
                pool=self.pool,
                address=self.address,
                allow_code=self.allow_code,
                tell=self.tell,
            )
            self._answers[name] = pd.DataFrame(outcome.summary)
        return self._answers[name]

    def _filled(self, value: Any) -> Any:
        """A value with the names of files in the place of {1}, {2} and {folder}."""
        if isinstance(value, list | tuple):
            return type(value)(self._filled(each) for each in value)
        if not isinstance(value, str):
            return value
        for seed in (1, 2):
            if f"{{{seed}}}" in value:
                value = value.replace(f"{{{seed}}}", self._lenet(seed))
        return value.replace("{folder}", str(self.folder))

    def _lenet(self, seed: int) -> str:
        """The file of a LeNet, trained where it is missing."""
        path = self.folder / f"lenet-{seed}.safetensors"
        if not path.is_file():
            self.tell(f"{path}: training a LeNet")
            path.parent.mkdir(parents=True, exist_ok=True)
            train_lenet(load_dataset("mnist-5k", seed), seed, path, lambda line: None)
        return str(path)
