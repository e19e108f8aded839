"""A real search that goes on from an archive, timed in stretches: `end_to_end`."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import asdict, dataclass

from evofool.evaluate.pool import Pool
from evofool.machines.probe import Ingredients
from evofool.records import GenerationResult, Statistics
from evofool.search.loop import Search
from evofool.store.run import RunStore
from evofool.store.view import ViewWriter

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

    def __init__(self, given: Ingredients, store: RunStore, pool: Pool) -> None:
        self.config, self.store, self.pool = given.config, store, pool
        self.results: deque[GenerationResult] = deque(maxlen=KEPT)
        self._commits = self._views = 0
        self._view_at: float | None = None
        state = store.state()
        assert state is not None
        self.genomes = state.genomes
        self.search = Search(
            self.config,
            given.encoding,
            pool,
            given.class_indices,
            on_result=self._keep,
            operators=given.operators,
        )
        self.search.restore(state)
        self.began = self.search.archive
        self.view = ViewWriter(store, given.encoding, pool.render)
        self._one_generation()
        self._rest()
        self.view.write()  # the first one draws every elite, later ones those that changed

    def stretch(self, seconds: float) -> Stretch:
        """Search for so long, and longer where a generation takes longer, with commits and at least one view.

        Beginning and end are between two generations with as many in flight, so chunks that were scored before count
        for those that are scored after. A commit and the view come half-way, and then as storage.commit_every and
        snapshot_every say.
        """
        self._one_generation()
        self._commits = self._views = 0
        before, began = self.pool.report(), self.search.statistics
        processor, started = time.process_time(), time.perf_counter()
        self._view_at = started + min(seconds / 2, self.config.storage.snapshot_every or seconds / 2)
        self.search.run(lambda _: self._views > 0 and time.perf_counter() - started >= seconds)
        self.view.settle(wait=True)
        elapsed, processor = time.perf_counter() - started, time.process_time() - processor
        self._view_at = None
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
            commits=self._commits,
            views=self._views,
        )
        self._rest()
        return stretch

    def commit(self, store: RunStore) -> None:
        """Make what was appended to a store permanent, as the run would."""
        counted = self.search.statistics
        assert counted is not None
        counters = {name: value for name, value in asdict(counted).items() if name != "generation"}
        store.commit(self.search.archive.elites, numerics=store.provenance["numerics"], counters=counters)

    def _keep(self, result: GenerationResult) -> None:
        self.results.append(result)
        self.store.append(result)
        due = self._view_at is not None and time.perf_counter() >= self._view_at
        regular = (result.statistics.generation + 1) % self.config.storage.commit_every == 0
        if regular or (due and not self._views):
            self.commit(self.store)
            self._commits += 1
            if due:
                self.view.begin()
                self._views += 1
                self._view_at = time.perf_counter() + self.config.storage.snapshot_every
        self.view.settle()

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
        self.commit(self.store)

    def _generation(self) -> int:
        statistics: Statistics | None = self.search.statistics
        assert statistics is not None
        return statistics.generation
