"""Following a run by its commits alone: its curves, counters, evaluators and newest elites. Each commit is read once.

Nothing is written, no lock is taken, and neither torch nor Ray is loaded, so that a run does not notice. Quantiles over
cells come from the placements; where `storage.history` dropped some, from the first generation that has them all.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from evofool.encoding import exchange
from evofool.errors import ConfigError, CorruptData, IncompatibleRun
from evofool.records import Facts
from evofool.report import trends
from evofool.store import files, schemas
from evofool.store.reader import encoding_of, read_steadily
from evofool.store.remote.working_copy import locate, named
from evofool.store.run import RunStore

__all__ = ["QUANTILES", "THRESHOLDS", "Elite", "Follower", "Glance"]

QUANTILES, THRESHOLDS = tuple(trends.QUANTILES.values()), tuple(trends.THRESHOLDS.values())
SAMPLES = 400  # generations whose quantiles are taken of what is read at once
RECENT = 60.0  # seconds over which the throughput is told
PICTURE = 20  # pixels, which are columns of a terminal
FINER = 3  # times as fine is a picture drawn before it is averaged
LARGEST = 16.0  # log-odds that count; those of 0.9999999
_SURE = ("log_odds", "confidence")
_HISTORY = ("generation", "evaluations", "median", "classes_99", "classes_9999", "seconds")


@dataclass(frozen=True)
class Elite:
    """One of the newest elites.

    Attributes:
        names: of the cells it holds.
        picture: (height, width, 3) uint8, small; None where it cannot be drawn.
    """

    individual_id: int
    names: tuple[str, ...]
    confidence: float  # the highest of them; of units the activation
    generation: int
    picture: NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class Glance:
    """How a run is doing after a commit.

    Attributes:
        last: the newest row of the history; empty before the first commit.
        history: {column: (generations,)} of `_HISTORY`.
        samples: (n, 1 + QUANTILES + THRESHOLDS) evaluations; log-odds at the quantiles; cells at the thresholds. Of
            units activations, and no cells.
        rates: images a second: of the last minute, and of the session.
        left: seconds until a limit of the search is reached, at this rate; None where there is none.
        share: of the way there, from 0 to 1.
        limit: generations after which the search stops, if it has such a limit.
        asked: evaluators that the configuration asks for.
        evaluators: that were at work at the last commit; 0 where that is not known.
        sessions: those that have ended, as in run.json.
        ended: whether the last commit is of a session that has ended.
        committed: when the last commit was written, by the clock of the file system.
        note: why there is something missing, in a sentence.
    """

    name: str
    path: str
    target: str
    encoding: str
    cells: int
    units: bool = False  # whether cells are of units, which have activations in place of confidences
    commits: int = 0
    last: Facts = field(default_factory=dict)
    history: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    samples: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 1 + len(QUANTILES) + len(THRESHOLDS))))
    rates: tuple[float, float] = (0.0, 0.0)
    left: float | None = None
    share: float | None = None
    limit: int | None = None
    asked: str = ""
    evaluators: int = 0
    sessions: tuple[Facts, ...] = ()
    ended: bool = False
    committed: float = 0.0
    newest: tuple[Elite, ...] = ()
    note: str = ""


class Follower:
    """A run that is read as it grows.

    Args:
        path: the run directory, or the working copy of a URL.
        pictures: how many of the newest elites are told and drawn.

    Raises:
        RunNotFound: it is not a run.
        CorruptData: run.json, config.yaml or a commit is damaged, or of another version.
    """

    def __init__(self, path: Path, pictures: int = 8) -> None:
        self.path, self.pictures = path, pictures
        self._open()

    def _open(self) -> None:
        self._as_described = _stamp(self.path)
        self.store = RunStore(self.path)
        self._read, self._generation = 0, -1  # commits; the last generation of them
        cells = len(self.store.cells)
        self._odds, self._confidence = np.full(cells, np.nan), np.zeros(cells, dtype=np.float32)
        self._holders = np.full(cells, -1, dtype=np.int64)
        self._history: dict[str, NDArray[np.float64]] = {name: np.empty(0) for name in _HISTORY}
        self._last: Facts = {}
        self._samples: list[list[float]] = []
        self._pictures: dict[int, NDArray[np.uint8] | None] = {}
        self._note = ""

    def catch_up(self) -> bool:
        """Read what was committed since; whether there was anything new.

        Raises:
            CorruptData: a file is damaged, or missing.
            StorageError: a file, or the object store, cannot be read.
        """
        if self.store.remote:
            locate(self.store.remote.url)
        is_new = self._as_described != _stamp(self.path)
        if is_new:  # a session ended, or began with another configuration; or another run is here now
            run_id, at = self.store.provenance["run_id"], _stamp(self.path)
            store = RunStore(self.path)
            if store.provenance["run_id"] == run_id and len(store.log.commits) >= self._read:
                self.store, self._as_described = store, at
            else:
                self._open()
        log = self.store.log
        if len(log.commits) > self._read or log.commit_path(len(log.commits)).exists():
            read_steadily(self.store, self._take)
            is_new = True
        return is_new

    def _take(self, store: RunStore) -> None:
        """Read the tables of the commits that were not read yet."""
        history, placements = self._new(store, "history"), self._new(store, "placements")
        known = history["generation"].to_numpy() > self._generation if len(history) else np.empty(0, bool)
        history = history.filter(pa.array(known))
        if len(history):
            columns = {name: history[name].to_numpy().astype(np.float64) for name in _HISTORY}
            self._history = {name: np.concatenate([self._history[name], new]) for name, new in columns.items()}
            self._last = history.slice(len(history) - 1).to_pylist()[0]
            self._place(placements, columns["generation"], columns["evaluations"], store.log.whole_from)
            self._generation = int(columns["generation"][-1])
        self._read = len(store.log.commits)
        self._draw(store)

    def _new(self, store: RunStore, table: str) -> pa.Table:
        """The rows of a table that the new commits bring; of a compaction nothing where all of it was read before."""
        commits = store.log.commits
        parts = [
            _rows(store, name, number, facts)
            for name, number, facts in store.log.live_files()
            if name == table
            and number >= self._read
            and not (commits[number].compacts and commits[number].generation <= self._generation)
        ]
        return pa.concat_tables(parts) if parts else store.schema(table).empty_table()

    def _place(
        self, rows: pa.Table, generations: NDArray[np.float64], evaluations: NDArray[np.float64], whole_from: int
    ) -> None:
        """Follow the placements of some generations, and sample the quantiles on the way."""
        at, cells, ids = (rows[name].to_numpy() for name in ("generation", "cell", "individual_id"))
        units = bool(self.store.cells.units)
        odds, confidence = (rows[name].to_numpy() for name in (("objective",) * 2 if units else _SURE))
        wanted = min(SAMPLES, len(generations))
        new = slice(np.searchsorted(at, self._generation, side="right"), None)  # those of a compaction may be known
        sampled = np.unique(np.linspace(len(generations) - 1, 0, wanted, endpoint=wanted > 1).round().astype(int))
        ends = np.searchsorted(at[new], generations[sampled], side="right")
        columns, held = (odds[new], confidence[new], ids[new]), (self._odds, self._confidence, self._holders)
        for index, _ in zip(sampled, trends.held_at(ends, cells[new], columns, held)):
            filled = self._odds[self._holders >= 0]
            if generations[index] >= whole_from and len(filled):
                quantiles = np.quantile(filled if units else np.clip(filled, -LARGEST, LARGEST), QUANTILES)
                counts = [not units and np.count_nonzero(self._confidence >= threshold) for threshold in THRESHOLDS]
                self._samples.append([float(value) for value in (evaluations[index], *quantiles, *counts)])

    # ------------------------------------------------------------------------------------------------ the newest elites

    def _newest(self) -> list[int]:
        """Ids of the newest individuals that hold a cell, newest first."""
        ids = np.unique(self._holders[self._holders >= 0])[::-1]  # ids grow with generations
        return [int(identity) for identity in ids[: self.pictures]]

    def _draw(self, store: RunStore) -> None:
        """Draw the newest elites that were not drawn yet."""
        newest = self._newest()
        missing = [identity for identity in newest if identity not in self._pictures]
        self._pictures = {identity: self._pictures[identity] for identity in newest if identity in self._pictures}
        if not missing:
            return
        height, width = store.provenance["image_size"]
        tall = max(2, round(PICTURE * height / width / 2) * 2)  # a line of text is two pixels
        try:
            encoding = encoding_of(store)
        except (ConfigError, IncompatibleRun):
            self._note = "pictures need activations of your own: see `evofool show RUN CLASS --allow-code`"
            return
        for identity, blob in _genomes(store, missing).items():
            genome = encoding.to_json(encoding.from_bytes([blob]), 0)
            image = exchange.render(genome, (tall * FINER, PICTURE * FINER))
            small = image.reshape(tall, FINER, PICTURE, FINER, -1).mean(axis=(1, 3)).round().astype(np.uint8)
            self._pictures[identity] = np.repeat(small, 3, axis=2) if small.shape[2] == 1 else small

    def _elites(self) -> tuple[Elite, ...]:
        cells, facts = self.store.cells, self.store.provenance
        names = [facts["class_names"][column] for column in cells.columns]
        if cells.bins > 1:
            names = [f"{name}, bin {bin_}" for name, bin_ in zip(names, cells.bin_indices)]
        elites = []
        for identity in self._newest():
            held = np.nonzero(self._holders == identity)[0]
            held = held[np.argsort(-self._confidence[held], kind="stable")]
            told = tuple(names[cell] for cell in held)
            best = float(self._confidence[held[0]])
            elites.append(Elite(identity, told, best, identity >> 24, self._pictures.get(identity)))
        return tuple(elites)

    # ---------------------------------------------------------------------------------------------------- what is shown

    def glance(self) -> Glance:
        """How the run is doing after the commits read so far."""
        facts, config = self.store.provenance, self.store.config
        asked = str(config.evaluation.evaluators) if config.evaluation.pool == "ray" else "1"
        head = {
            "name": config.run_name,
            "path": named(str(self.path)),
            "target": facts["target"],
            "encoding": facts["encoding"],
            "cells": facts["cells"],
            "units": bool(self.store.cells.units),
            "asked": asked,
            "sessions": tuple(facts["sessions"]),
        }
        if not self._last:
            return Glance(**head)
        now, whole, per_second = self._rates()
        share, left = self._way(now, per_second)
        newest = self.store.log.commit_path(self._read - 1)
        with files.guard(newest, "read"):
            committed = newest.stat().st_mtime
        return Glance(
            **head,
            commits=self._read,
            last=self._last,
            history=self._history,
            samples=np.array(self._samples).reshape(-1, 1 + len(QUANTILES) + len(THRESHOLDS)),
            rates=(now, whole),
            evaluators=self.store.log.commits[self._read - 1].counters.get("evaluators", 0),
            left=left,
            share=share,
            limit=config.search.generations,
            ended=self._has_ended(),
            committed=committed,
            newest=self._elites(),
            note=self._note,
        )

    def _session(self) -> slice:
        """The generations of the newest session: `seconds` begin anew with each."""
        seconds = self._history["seconds"]
        starts = np.nonzero(np.diff(seconds) < 0)[0]
        return slice(int(starts[-1]) + 1 if len(starts) else 0, len(seconds))

    def _rates(self) -> tuple[float, float, float]:
        """Images a second of the last minute and of the session, and generations a second of the last minute."""
        here = self._session()
        seconds, evaluations = self._history["seconds"][here], self._history["evaluations"][here]
        before = self._history["evaluations"][here.start - 1] if here.start else 0.0
        seconds, evaluations = np.append(0.0, seconds), np.append(before, evaluations)
        since = min(int(np.searchsorted(seconds, seconds[-1] - RECENT)), len(seconds) - 2)
        recent, all_of_it = max(seconds[-1] - seconds[since], 1e-9), max(seconds[-1], 1e-9)
        done = float(evaluations[-1] - evaluations[since])
        whole = float(evaluations[-1] - before) / all_of_it
        return done / recent, whole, (len(seconds) - 1 - since) / recent

    def _way(self, images: float, generations: float) -> tuple[float | None, float | None]:
        """How far the search is on its way to the nearest of its limits, and the seconds left."""
        search, ways = self.store.config.search, []
        for limit, done, rate in (
            (search.generations, self._generation + 1, generations),
            (search.max_evaluations, self._last["evaluations"], images),
            (search.max_time, self._last["seconds"], 1.0),
        ):
            if limit:
                ways.append((max(0.0, (limit - done) / max(rate, 1e-9)), min(1.0, done / limit)))
        left, share = min(ways, default=(None, None))
        return share, left

    def _has_ended(self) -> bool:
        """Whether the last session in run.json is the one of the last commit: it scored no fewer images, nor many more.

        Those in flight when it ended are in no generation.
        """
        if not (sessions := self.store.provenance["sessions"]):
            return False
        here, search = self._session(), self.store.config.search
        evaluations = self._history["evaluations"]
        scored = evaluations[-1] - (evaluations[here.start - 1] if here.start else 0)
        in_flight = (search.lag + 1) * max(search.offspring, search.initial)
        more = sessions[-1]["evaluations"] - scored
        return bool(0 <= more <= in_flight and sessions[-1]["seconds"] >= self._last["seconds"])


def _stamp(path: Path) -> list[tuple[int, int]]:
    """What changes with run.json and config.yaml."""
    stamps = []
    for name in ("run.json", "config.yaml"):
        file = path / "_evofool" / name
        if file.exists():
            found = file.stat()
            stamps.append((found.st_mtime_ns, found.st_size))
    return stamps


def _rows(store: RunStore, table: str, number: int, facts: Facts) -> pa.Table:
    blob = store.log.read(table, number, facts)
    return schemas.from_parquet(store.log.path(table, number), store.schema(table), blob)


def _genomes(store: RunStore, ids: list[int]) -> dict[int, bytes]:
    """Canonical bytes of the genomes of some elites, of which only the commits that brought them are read.

    Raises:
        CorruptData: one is missing.
    """
    log = store.log
    first = log.base.number if log.base else 0
    generations = [commit.generation for commit in log.commits[first:]]
    numbers = {first + bisect.bisect_left(generations, identity >> 24) for identity in ids}
    found: dict[int, bytes] = {}
    for table, number, facts in log.live_files():
        if table == "genomes" and number in numbers:
            rows = _rows(store, table, number, facts)
            rows = rows.filter(pc.is_in(rows["individual_id"], pa.array(ids)))
            found |= zip(rows["individual_id"].to_pylist(), rows["genome"].to_pylist())
    if missing := [identity for identity in ids if identity not in found]:
        raise CorruptData(f"{store.path}: the genome of individual {missing[0]} is not stored.")
    return found
