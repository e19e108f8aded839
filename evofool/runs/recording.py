"""Recording: every result of a search into the store, commits and the view when they are due."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from evofool.config.sections import StorageConfig
from evofool.encoding.contract import Encoding
from evofool.evaluate.pool import Pool, at_once
from evofool.records import Facts, GenerationResult, Statistics
from evofool.search.loop import Search
from evofool.store.commits import Commit
from evofool.store.compaction import compact, is_due
from evofool.store.rows import counters_of
from evofool.store.run import RunStore
from evofool.store.view import ViewWriter

__all__ = ["Recorder", "commit_to"]

_NOT_COUNTED = ("generation", "seconds", "offspring", "placements")  # of Statistics, which commits leave out


def commit_to(
    store: RunStore, elites: NDArray[np.int64], s: Statistics, numerics: Facts, evaluators: int
) -> Commit | None:
    """Make what was appended to a store permanent; None if that is nothing.

    Args:
        elites: (C,) individual ids of the archive.
        s: of the last generation.
        numerics: with canary and epoch.
        evaluators: that are at work, for those who watch.
    """
    told = counters_of(s, store.cells)
    counters = {name: value for name, value in told.items() if name not in _NOT_COUNTED and value is not None}
    counters["evaluators"] = evaluators
    return store.commit(elites, numerics=numerics, counters=counters)


class Recorder:
    """Puts the results of a search into a store.

    Args:
        pool: draws the elites for the view.
        storage: says how often to commit and to write a view.
        numerics: of the evaluators, with canary and epoch.
        on_commit: is told the generation and the archive hash (hex) of every commit.
    """

    def __init__(
        self,
        store: RunStore,
        encoding: Encoding,
        pool: Pool,
        storage: StorageConfig,
        numerics: Facts,
        on_commit: Callable[[int, str], None] = lambda generation, archive_hash: None,
    ) -> None:
        self.store, self.pool, self.storage, self.numerics, self.on_commit = store, pool, storage, numerics, on_commit
        self.view = ViewWriter(store, encoding, lambda genomes: at_once(pool, "render", genomes))
        self.evaluations = self.commits = self.views = 0  # so far
        # When the next view is begun, at a commit: the first of a run comes with its first.
        self.view_due = time.monotonic() + (storage.snapshot_every if store.log.last else 0.0)
        self.began = time.monotonic()

    def keep(self, search: Search, result: GenerationResult, *, commit: bool = False, wait: bool = False) -> Statistics:
        """Append a result to the store; commit and write a view where that is due. Its statistics, with `seconds`.

        Args:
            commit: even if that is not due.
            wait: with a commit: until a view of it is on disk.
        """
        statistics = replace(result.statistics, seconds=time.monotonic() - self.began)
        self.evaluations += statistics.offspring
        self.store.append(replace(result, statistics=statistics))
        if commit or (statistics.generation + 1) % self.storage.commit_every == 0:
            self.commit(search)
            if wait or time.monotonic() >= self.view_due:
                self.view.begin()
                self.views += 1
                self.view_due = time.monotonic() + self.storage.snapshot_every
        self.view.settle(wait=wait)
        return statistics

    def commit(self, search: Search) -> None:
        """Make everything appended so far permanent, and compact the store where that is due."""
        assert search.statistics is not None
        evaluators = self.pool.report().evaluators
        commit = commit_to(self.store, search.archive.elites, search.statistics, self.numerics, evaluators)
        if commit:
            self.commits += 1
            self.on_commit(commit.generation, commit.archive_hash)
            if is_due(self.store):
                compact(self.store, self.store.config.storage.history)
