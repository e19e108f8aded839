"""A real search that goes on from a copy of a run, timed in stretches: `end_to_end`."""

from __future__ import annotations

import math
import shutil
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from evofool.errors import ConfigError
from evofool.evaluate.pool import Pool
from evofool.evaluate.problem import Problem
from evofool.machines.probe import Reading
from evofool.records import GenerationResult
from evofool.runs.recording import Recorder
from evofool.search.loop import Search
from evofool.store import folders
from evofool.store.reader import encoding_of
from evofool.store.restore import restore
from evofool.store.run import RunStore

__all__ = ["GENERATIONS", "Continued", "Stretch", "copy_of", "refuse_unfit"]

GENERATIONS = 100  # that a run must have behind it: its genomes and scores are then those of a search under way
RESULTS = 3  # the last ones, on which `place` and `commit` are measured


def refuse_unfit(path: Path, problem: Problem, allow_code: bool) -> None:
    """Refuse a run that a search of this configuration could not go on from.

    Raises:
        ConfigError: no run, one of another target, encoding or classes, or a run that is too short.
    """
    store = RunStore(path)
    if store.provenance["target_fingerprint"] != problem.opened.fingerprint:
        raise ConfigError(f"--run: {path} is of another target than {problem.target.spec}; give the run's own config.")
    if encoding_of(store, allow_code) != problem.encoding:
        raise ConfigError(f"--run: {path} has another encoding than the config; give the run's own config.")
    if not np.array_equal(store.provenance["class_indices"], problem.cells.classes):
        raise ConfigError(f"--run: {path} has other target.classes than the config; give the run's own config.")
    generations = store.log.last.generation + 1 if store.log.last else 0
    if generations < GENERATIONS:
        raise ConfigError(
            f"--run: {path} has {generations} of the {GENERATIONS} generations that are needed; resume it first."
        )


def copy_of(path: Path, to: Path) -> RunStore:
    """The store of a copy of a run, which may be written to."""
    for name in ("_evofool", "_history"):
        shutil.copytree(path / name, to / name)
    folders.prepare(to)
    store = RunStore(to)
    store.recover()
    return store


@dataclass(frozen=True)
class Stretch(Reading):
    """What a search did in a stretch of time."""

    generations: int
    evaluators: int
    core_seconds: float  # inside evaluators
    driver_seconds: float  # processor seconds of the driver outside them
    commits: int
    views: int

    @property
    def idle(self) -> float:
        """The share of the evaluators' time in which they had nothing to do."""
        return max(0.0, 1 - self.core_seconds / (self.evaluators * self.seconds))


class Continued:
    """A search with its store, as a run has them. Between stretches nothing is in flight, so evaluators rest.

    Args:
        store: a copy of the run's; it is written to.
        pool: inline or over Ray, with no job in flight.
    """

    def __init__(self, problem: Problem, store: RunStore, pool: Pool) -> None:
        self.config, self.pool = problem.config, pool
        self.results: deque[GenerationResult] = deque(maxlen=RESULTS)
        state = restore(store)
        assert state is not None
        self.genomes = state.genomes
        self.search = Search(
            self.config, problem.genomes, pool, problem.cells, on_result=self._keep, operators=problem.operators
        )
        self.search.restore(state)
        self.began = self.search.archive
        self.recorder = Recorder(store, problem.genomes, pool, self.config.storage, store.provenance["numerics"])
        self._views = 0  # of the recorder, when the stretch under way began
        self.recorder.view_due = math.inf  # none outside stretches
        self._one_generation()
        self._rest()
        self.recorder.view.write()  # the first one draws every elite, later ones those that changed

    def stretch(self, seconds: float) -> Stretch:
        """Search for so long, and longer where a generation takes longer, with commits and at least one view.

        Beginning and end lie between two generations, with equally many in flight: what was scored of those at the
        beginning makes up for what is scored of those at the end. The first commit and the first view come half-way,
        later ones as storage.commit_every and snapshot_every say.
        """
        self._one_generation()
        recorder = self.recorder
        commits, self._views = recorder.commits, recorder.views
        before, began = self.pool.report(), self.search.statistics
        processor, started = time.process_time(), time.perf_counter()
        recorder.view_due = time.monotonic() + min(seconds / 2, self.config.storage.snapshot_every or seconds / 2)
        self.search.run(lambda _: recorder.views > self._views and time.perf_counter() - started >= seconds)
        recorder.view.settle(wait=True)
        elapsed, processor = time.perf_counter() - started, time.process_time() - processor
        recorder.view_due = math.inf
        after, ended = self.pool.report(), self.search.statistics
        assert began is not None and ended is not None
        core_seconds = after.core_seconds - before.core_seconds
        inline = self.config.evaluation.pool == "inline"
        stretch = Stretch(
            evaluations=after.evaluations - before.evaluations,
            seconds=elapsed,
            generations=ended.generation - began.generation,
            evaluators=max(1, after.evaluators),
            core_seconds=core_seconds,
            driver_seconds=max(0.0, elapsed - core_seconds) if inline else processor,
            commits=recorder.commits - commits,
            views=recorder.views - self._views,
        )
        self._rest()
        return stretch

    def _keep(self, result: GenerationResult) -> None:
        self.results.append(result)
        first = self.recorder.views == self._views and time.monotonic() >= self.recorder.view_due
        self.recorder.keep(self.search, result, commit=first)

    def _one_generation(self) -> None:
        """Fill the pool and take one generation from it."""
        self.search.limit = None
        before = self.search.statistics
        self.search.run(lambda statistics: statistics is not before)

    def _rest(self) -> None:
        """Take what is in flight and breed nothing more."""
        if self.search.in_flight:
            last = self.search.in_flight[-1].generation
            self.search.limit = last + 1
            self.search.run(lambda statistics: statistics is not None and statistics.generation >= last)
        self.recorder.commit(self.search)
