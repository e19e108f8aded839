"""Pools: whoever has evaluators do something with a batch.

A pool is handed jobs and gives each one's result back in the order of the batch's rows, whoever did what and whatever
finished first. `InlinePool` (inline.py) is the pool in this process; the one over Ray actors is in over_ray/. What can
be asked of an evaluator is the table VERBS (evaluator.py).
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from evofool.encoding.contract import Encoding
from evofool.errors import IncompatibleRun
from evofool.records import Facts

__all__ = ["Job", "Overdue", "Pool", "PoolReport", "at_once", "chunks", "never", "other_numerics", "part", "stream"]

IN_FLIGHT = 2  # batches of a stream: one is worked on while the next is made


@dataclass(frozen=True)
class Job:
    """What a pool is handed."""

    ticket: int  # to collect the result by; a generation, or below 0 for something else
    verb: str  # a key of VERBS
    batch: Any  # genomes or images
    first: bool = False  # before what waits

    def __len__(self) -> int:
        return len(self.batch)


@dataclass(frozen=True)
class PoolReport:
    """What a pool has done so far; telemetry, not result."""

    evaluators: int = 0
    evaluations: int = 0
    core_seconds: float = 0.0  # inside evaluators
    requeued: int = 0  # chunks scored again because their evaluator was lost
    out_of_order: int = 0  # chunks that finished before one submitted earlier
    compared: int = 0  # chunks that two evaluators scored, with the same bits
    peak_rss_mib: float = 0.0  # of the largest evaluator
    nodes: tuple[Facts, ...] = ()  # of Ray: id, host, and whose answers for how many chunks were taken

    def facts(self) -> Facts:
        """For provenance."""
        return {
            "evaluations": self.evaluations,
            "evaluators": self.evaluators,
            "evaluator_core_seconds": round(self.core_seconds, 3),
            "evaluator_peak_rss_mib": round(self.peak_rss_mib, 1),
            "requeued_chunks": self.requeued,
            "out_of_order_chunks": self.out_of_order,
            "compared_chunks": self.compared,
            "nodes": list(self.nodes),
        }


class Overdue(Exception):
    """The run is to stop now, with work in flight."""


def never() -> bool:
    """The `overdue` of a pool that nobody hurries."""
    return False


class Pool(Protocol):
    """What the rest of the house needs of whoever evaluates."""

    @property
    def canary(self) -> str:
        """What every evaluator must give (`Evaluator.canary`)."""

    overdue: Callable[[], bool]  # asked now and then; once it says yes, `collect` raises Overdue

    def submit(self, job: Job) -> None:
        """Begin a job."""

    def collect(self, ticket: int) -> Any:
        """The result of a submitted job, in the order of its rows; waits for it."""

    def report(self) -> PoolReport:
        """What was done so far."""

    def close(self) -> None:
        """Let go of evaluators and of nothing that this pool did not start."""


_errands = itertools.count(-1, -1)


def at_once(pool: Pool, verb: str, batch: Any) -> Any:
    """The result of a job that goes before what waits."""
    job = Job(next(_errands), verb, batch, first=True)
    pool.submit(job)
    return pool.collect(job.ticket)


def stream(pool: Pool, verb: str, batches: Iterable[Any]) -> Iterator[Any]:
    """The results of batches, in order; the next batch is made while evaluators work on the last."""
    waiting: deque[int] = deque()
    for batch in batches:
        job = Job(next(_errands), verb, batch)
        pool.submit(job)
        waiting.append(job.ticket)
        if len(waiting) == IN_FLIGHT:
            yield pool.collect(waiting.popleft())
    for ticket in waiting:
        yield pool.collect(ticket)


def chunks(rows: int, size: int) -> Iterator[slice]:
    """Slices of at most `size` that cover `rows`. A function of the config alone, never of the evaluators."""
    for start in range(0, rows, size):
        yield slice(start, min(start + size, rows))


def part(batch: Any, rows: slice, encoding: Encoding | None) -> Any:
    """Some rows of images, or of genomes of an encoding."""
    return batch[rows] if isinstance(batch, np.ndarray) or encoding is None else encoding.take(batch, rows)


def other_numerics(where: str) -> IncompatibleRun:
    """The error where a canary is not the run's."""
    return IncompatibleRun(
        f"{where} does not score the canary as the run's evaluators did (another processor, device or version of "
        "torch), so scores could have other bits; use a machine like the old one, or run and resume with "
        "--allow-numerics-change, which marks it in the next commit."
    )
