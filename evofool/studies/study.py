"""What a study is, and the one way in which all are conducted.

A study asks one question of a run, of runs, of a network or of pictures. It gives groups of rows, which are stored as
they come in one table; a summary of the rows, with intervals; and from both a picture and a sentence. `conduct` does
the rest, and leaves three files that are read without torch or Ray: NAME.parquet, NAME.svg, NAME.json.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

import evofool
from evofool.base import registry
from evofool.base.places import as_path, as_url
from evofool.errors import ConfigError, EvofoolError, Stopped
from evofool.records import Facts
from evofool.store.reader import Run, open_run
from evofool.store.remote.working_copy import named
from evofool.studies.shared.tables import Key, StudyTable

__all__ = ["NoOptions", "Outcome", "Study", "Work", "conduct", "load_study"]

SUBJECTS = ("run", "runs", "network", "pictures", "paper")
ONE = ("run", "network", "paper")  # of which there is one
AGAIN = "the same command, which computes only what is missing"


@dataclass(frozen=True)
class NoOptions:
    """Of a study that has none of its own."""


@dataclass
class Work:
    """What a study makes its rows from.

    Attributes:
        subject: a Run for "run", a list of them for "runs", a spec as of target.spec for "network", a list of paths for
            "pictures", a name for "paper".
        options: of the study's own class.
        limit: how many of the subject's things (elites, pictures, runs) count; None for all. See `first`.
        pool, address, allow_code: as of `conduct`, for a study that evaluates.
        live: targets of this process, where a run was made with one.
        tell: takes a sentence of progress.
        stored: whose `in` tells whether a group is stored.
        wanted: the groups that were asked for so far, in order; the summary is of these.
        left_out: a sentence about each thing that could not be studied.
    """

    subject: Any
    options: Any
    limit: int | None = None
    pool: str | None = None
    address: str | None = None
    allow_code: bool = False
    live: Sequence[Any] = ()
    tell: Callable[[str], None] = lambda text: None
    stored: Any = ()
    wanted: dict[Key, None] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    shown_as: dict[tuple[str, str], dict[Any, Any]] = field(default_factory=dict)

    def first(self, things: Iterable[Any]) -> list[Any]:
        """The first things, as many as count."""
        return list(things)[: self.limit]

    def missing(self, groups: Iterable[Key]) -> list[Key]:
        """Say which groups the summary is to be of; those of them whose rows have still to be computed."""
        groups = list(groups)
        self.wanted.update(dict.fromkeys(groups))
        return [group for group in groups if group not in self.stored]

    def leave_out(self, sentence: str) -> None:
        """Say that a thing could not be studied, and why; the command ends with exit code 2 then."""
        self.left_out.append(sentence)
        self.tell(sentence)

    def show_as(self, column: str, by: str, names: dict[Any, Any]) -> None:
        """Have a column be shown as it is now, where stored rows may have it as it was: names by the values of `by`."""
        self.shown_as.setdefault((column, by), {}).update(names)


@dataclass(frozen=True)
class Study:
    """A study; its question stands in the table of the registry.

    Attributes:
        subject: "run", "runs", "network", "pictures" or "paper".
        schema: of the table, with schema_version in its metadata.
        keys: the columns that tell groups of rows apart; a group that is stored is not computed again.
        rows: yields whole groups, as a DataFrame or a Table of the schema, after asking `Work.missing` which are.
        summarise: the table's rows as tidy ones: dicts with `figure` (a name), `value`, `low` and `high` (the interval
            of 95 %; None where it has no meaning) and `n`, and before these whatever tells them apart.
        figure: summary and rows as a picture (SVG) and one sentence, the answer.
        options: a frozen dataclass; each field is Annotated[type, "a sentence"], where type is str, int, float, bool,
            str | None or tuple[str, ...] (an option that may be repeated).
        things: what --limit counts, in words.
        smoke: a --limit under which the study takes less than 20 seconds.
        reads: the columns that `summarise` and `figure` need; None for all. Tables that may be large say which.
        shown: columns to be printed, of the first rows.
        evaluates: whether networks score something, so that --pool, --address and --allow-code have a meaning.
        instead: from options, another study of the same subject that they ask for in place of this one, with a table
            of its own, and what is put behind the name of its files; None where they ask for this one.
    """

    subject: str
    schema: pa.Schema
    keys: tuple[str, ...]
    rows: Callable[[Work], Generator[pd.DataFrame | pa.Table]]
    summarise: Callable[[pd.DataFrame], list[Facts]]
    figure: Callable[[list[Facts], pd.DataFrame], tuple[str, str]]
    options: type = NoOptions
    things: str = "elites"
    smoke: int = 10
    reads: tuple[str, ...] | None = None
    shown: tuple[str, ...] = ()
    evaluates: bool = False
    instead: Callable[[Any], tuple[str, Study] | None] = lambda options: None

    def asked(self, options: Any) -> tuple[str, Study]:
        """The study that the options ask for, and what is put behind the name of its files: "" and this one mostly."""
        return self.instead(options) or ("", self)


@dataclass(frozen=True)
class Outcome:
    """What came of a study.

    Attributes:
        frame: the rows that the summary is of, with the columns that it needed.
        files: the table, the picture, the facts (JSON).
        left_out: a sentence about each thing that could not be studied.
    """

    question: str
    sentence: str
    summary: list[Facts]
    frame: pd.DataFrame
    files: tuple[Path, Path, Path]
    left_out: list[str]


def load_study(name: str) -> tuple[Study, str]:
    """A study and its question, by its name.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in registry.STUDIES:
        raise ConfigError(f"there is no study {name!r}; {registry.known(name, registry.STUDIES)}")
    question, place = registry.STUDIES[name]
    study: Study = registry.load(place)
    return study, question


def conduct(
    name: str,
    subject: Sequence[str | Path | Run],
    options: Any = None,
    *,
    out: str | Path | None = None,
    limit: int | None = None,
    pool: str | None = None,
    address: str | None = None,
    allow_code: bool = False,
    live: Sequence[Any] = (),
    tell: Callable[[str], None] = lambda text: None,
) -> Outcome:
    """Ask a study's question: compute the groups of rows that are missing, sum up, and write the files.

    Args:
        name: as in the table of studies.
        subject: what it is asked of: runs, by directory or themselves, a network's spec, paths of pictures, or the name
            of a paper's experiments.
        options: of the study's own class; the defaults are taken without.
        out: the folder to write to, which is made; by default RUN/_studies of one run, else studies/NAME, of a
            paper studies/NAME/PAPER.
        limit: ask it of the first few of the subject's things only. Such rows have files of their own, with "-limitN"
            after the name, and are never mixed with others.
        pool: "inline" or "ray", in place of a run's own.
        address: of a Ray cluster.
        allow_code: whether python: targets, and activations of the user's own, may run their code.
        live: targets that exist in this process only, where a run was made with one.
        tell: receives a sentence about each step.

    Raises:
        ConfigError: no such study, subject or option, nothing to study, or a place that something else has.
        CorruptData: a stored table is damaged.
        Stopped: by an interrupt; the groups computed so far are stored.
    """
    study, question = load_study(name)
    options = options if options is not None else study.options()
    behind, study = study.asked(options)
    if limit is not None and limit < 1:
        raise ConfigError(f"--limit: {limit} leaves nothing to study; give 1 or more.")
    subjects = _opened(study, subject)
    one = subjects[0] if study.subject in ("run", "runs") and len(subjects) == 1 and out is None else None
    attrs: Facts = {"study": name} | ({"run_id": one.provenance["run_id"]} if one else {})
    stem = f"{name}{behind}" if limit is None else f"{name}{behind}-limit{limit}"
    if study.subject == "paper" and out is None:
        out = Path("studies") / name / str(subjects[0])
    table = StudyTable(_folder(name, one, out), stem, study.schema, study.keys, attrs, one and one.store.remote)
    work = Work(
        subjects[0] if study.subject in ONE else subjects,
        options,
        limit,
        pool,
        address,
        allow_code,
        live,
        tell,
        table,
    )
    _compute(study, work, table)
    table.merge()
    reads = None if study.reads is None else list(dict.fromkeys([*study.reads, *study.shown]))
    frame = table.read(list(work.wanted), reads)
    if frame.empty:
        raise ConfigError(f"{name}: there is nothing to study in {', '.join(_names(subjects)) or 'nothing'}.")
    for (column, by), names in work.shown_as.items():
        frame[column] = frame[by].map(names).fillna(frame[column])
    summary = [_plain(row) for row in study.summarise(frame)]
    svg, sentence = study.figure(summary, frame)
    facts = {
        "study": name,
        "question": question,
        "sentence": sentence,
        "n": len(frame),
        "limit": limit,
        "subject": _names(subjects),
        "options": {each.name: getattr(work.options, each.name) for each in fields(work.options)},
        "summary": summary,
        "left_out": work.left_out,
        "evofool": evofool.__version__,
    }
    text = json.dumps(facts, indent=1, default=lambda value: getattr(value, "spec", str(value)), allow_nan=False)
    if other := _other_call(table.path.with_suffix(".json"), json.loads(text)):
        tell(
            f"{table.path.with_suffix('.json')} and .svg were the answer for {other}; they are this call's now, and "
            f"{table.path.name} has the rows of both. --out keeps calls apart."
        )
    picture = table.put(f"{stem}.svg", svg.encode())
    record = table.put(f"{stem}.json", (text + "\n").encode())
    return Outcome(question, sentence, summary, frame, (table.path, picture, record), work.left_out)


def _other_call(record: Path, facts: Facts) -> str:
    """What a record is the answer for, if it is of another subject or other options; "" if not, or there is none."""
    try:
        stored = json.loads(record.read_bytes())
        if all(stored[key] == facts[key] for key in ("subject", "options")):
            return ""
        options = " ".join(f"{name}={value}" for name, value in stored["options"].items() if value)
        return ", ".join(map(str, [*stored["subject"], *([options] if options else [])]))
    except (OSError, ValueError, LookupError, TypeError, AttributeError):  # there is none, or it is no record
        return ""


def _compute(study: Study, work: Work, table: StudyTable) -> None:
    """Store the groups that are missing; what ends this early says what is stored, and how to go on."""
    done = 0
    try:
        with contextlib.closing(study.rows(work)) as groups:
            for rows in groups:
                keys = table.add(rows)
                work.wanted.update(dict.fromkeys(keys))
                done += len(keys)
    except (EvofoolError, KeyboardInterrupt) as error:
        if not done and isinstance(error, EvofoolError):
            raise
        failure = error if isinstance(error, EvofoolError) else Stopped("stopped by an interrupt.")
        failure.safe = f"{done} new groups of rows, in {table.parts}"
        failure.go_on = failure.go_on or AGAIN
        raise failure from failure.__cause__  # for Stopped there is none: the interrupt says nothing more


def _opened(study: Study, subject: Sequence[str | Path | Run]) -> list[Any]:
    """The subject as the study takes it; runs are opened, each once."""
    if study.subject in ("run", "runs"):
        runs = [run if isinstance(run, Run) else open_run(run) for run in subject]
        subject = list({str(run.path.resolve()): run for run in runs}.values())
    if not subject or (study.subject in ONE and len(subject) > 1):
        raise ConfigError(f"this study is of one {study.subject}; {len(subject)} were given.")
    return list(subject)


def _folder(name: str, run: Run | None, out: str | Path | None) -> Path:
    if out is not None:
        if as_url(out):
            raise ConfigError(f"--out: {out} is a URL; a study of several things is written to a folder.")
        return as_path(out)
    return run.path / "_studies" if run else Path("studies") / name


def _names(subjects: Sequence[Any]) -> list[str]:
    return [named(str(getattr(s, "path", getattr(s, "spec", s)))) for s in subjects]


def _plain(value: Any) -> Any:
    """A summary as JSON has it: numbers of numpy become Python's, those that are not finite None."""
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if hasattr(value, "item"):
        value = value.item()
    if value is pd.NA or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return value
