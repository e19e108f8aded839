"""A real search that goes on from an archive, timed in stretches: `end_to_end`."""

from __future__ import annotations

import math
import time
from collections import deque
from dataclasses import dataclass

from evofool.evaluate.pool import Pool
from evofool.evaluate.problem import Problem
from evofool.records import GenerationResult
from evofool.runs.recording import Recorder, commit_to
from evofool.search.loop import Search
from evofool.store.restore import restore
from evofool.store.run import RunStore

__all__ = ["Continued", "Stretch"]

KEPT = 3  # results kept for measuring `place` and `commit` on


@dataclass(frozen=True)
class Stretch:
    """What a search did in a stretch of time."""

    evaluations: int
    seconds: float
    generations: int
    evaluators: int
    core_seconds: float  # inside evaluators
    driver_seconds: float  # processor seconds of the driver outside them
    commits: int
    views: int

    @property
    def per_second(self) -> float:
        """Evaluations a second."""
        return self.evaluations / self.seconds

    @property
    def idle(self) -> float:
        """The share of the evaluators' time in which they had nothing to do."""
        return max(0.0, 1 - self.core_seconds / (self.evaluators * self.seconds))


class Continued:
    """A search with its store, as a run has them. Between stretches nothing is in flight, so evaluators rest.

    Args:
        store: a copy of the run's; it is written to.
        pool: empty; any.
    """

    def __init__(self, problem: Problem, store: RunStore, pool: Pool) -> None:
        self.config, self.pool = problem.config, pool
        self.results: deque[GenerationResult] = deque(maxlen=KEPT)
        state = restore(store)
        assert state is not None
        self.genomes = state.genomes
        self.search = Search(
            self.config,
            problem.genomes,
            pool,
            problem.cells,
            on_result=self._keep,
            operators=problem.operators,
        )
        self.search.restore(state)
        self.began = self.search.archive
        self.recorder = Recorder(store, problem.genomes, pool, self.config.storage, store.provenance["numerics"])
        self._views = 0  # when the stretch under way began
        self._no_view()
        self._one_generation()
        self._rest()
        self.recorder.view.write()  # the first one draws every elite, later ones those that changed

    def stretch(self, seconds: float) -> Stretch:
        """Search for so long, and longer where a generation takes longer, with commits and at least one view.

        Beginning and end are between two generations with as many in flight, so chunks that were scored before count
        for those that are scored after. A commit and the view come half-way, and then as storage.commit_every and
        snapshot_every say.
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
        self._no_view()
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

    def commit(self, store: RunStore) -> None:
        """Make what was appended to a store permanent, as the run would."""
        assert self.search.statistics is not None
        commit_to(store, self.search.archive.elites, self.search.statistics, store.provenance["numerics"])

    def _keep(self, result: GenerationResult) -> None:
        self.results.append(result)
        first = self.recorder.views == self._views and time.monotonic() >= self.recorder.view_due
        self.recorder.keep(self.search, result, commit=first)

    def _no_view(self) -> None:
        self.recorder.view_due = math.inf

    def _one_generation(self) -> None:
        """Fill the pool and take one generation from it."""
        self.search.limit = None
        done = self._generation()
        self.search.run(lambda statistics: statistics is not None and statistics.generation > done)

    def _rest(self) -> None:
        """Take what is in flight and breed nothing more."""
        if self.search.in_flight:
            last = self.search.in_flight[-1].generation
            self.search.limit = last + 1
            self.search.run(lambda statistics: statistics is not None and statistics.generation >= last)
        self.recorder.commit(self.search)

    def _generation(self) -> int:
        assert self.search.statistics is not None
        return self.search.statistics.generation
