"""Pools: evaluators that share out the rows of a batch among them.

A pool is handed jobs and gives back the result of each in the order of its rows, whichever evaluator worked on them and
whichever finished first. `InlinePool` (inline.py) evaluates in this process, `RayPool` (over_ray/pool.py) in actors of
Ray. What evaluators can do with a batch is the table VERBS (evaluator.py).
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from evofool.encoding.contract import Encoding
from evofool.records import Facts, Genomes

__all__ = [
    "Batch",
    "Job",
    "Overdue",
    "Pool",
    "PoolReport",
    "Question",
    "Result",
    "at_once",
    "chunks",
    "never",
    "part",
    "stream",
]

Batch: TypeAlias = Genomes | NDArray[np.uint8]  # genomes of an encoding, images (n, height, width, channels), Question
Result: TypeAlias = Any  # what a verb makes of a batch, one row for each of its rows: Scores, images, ...

IN_FLIGHT = 2  # batches of a stream: one is worked on while the next is made


@dataclass(frozen=True)
class Question:
    """Images, and what is asked of each by the verbs `gradients` and `outputs`; its rows are taken as an array's are.

    Attributes:
        images: (n, height, width, channels) uint8, or for gradients float32 from 0 to 255.
        of: (n,) for gradients: the output of the class of each, or its place among `readouts`.
        objective: of gradients; see targets/gradients.py.
        readouts: units of layers, in place of classes.
        layer: for outputs: what this layer gives, by its name; the network's own outputs where it is "".
        pooled: whether of each channel of the layer the mean is given, not the whole map.
    """

    images: NDArray[Any]
    of: NDArray[np.int64] | None = None
    objective: str = "log_odds"
    readouts: tuple[Any, ...] = ()
    layer: str = ""
    pooled: bool = True

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: slice) -> Question:
        return replace(self, images=self.images[rows], of=None if self.of is None else self.of[rows])


@dataclass(frozen=True)
class Job:
    """A batch, and what evaluators are to do with it."""

    ticket: int  # to collect the result by: a generation's number; negative for other work
    verb: str  # a key of VERBS
    batch: Batch
    first: bool = False  # before the jobs that wait

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
    nodes: tuple[Facts, ...] = ()  # of Ray: id, host, GPU if any, and for how many chunks its answer came first

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
    """The `overdue` of a pool that has no deadline."""
    return False


class Pool(Protocol):
    """What the rest of the house needs of evaluators."""

    @property
    def canary(self) -> str:
        """What every evaluator must give (`Evaluator.canary`)."""

    overdue: Callable[[], bool]  # asked now and then; once it says yes, `collect` raises Overdue

    def submit(self, job: Job) -> None:
        """Begin a job."""

    def collect(self, ticket: int) -> Result:
        """Wait for the result of a submitted job, in the order of its rows. Each is collected once."""

    def report(self) -> PoolReport:
        """What was done so far."""

    def close(self) -> None:
        """End the evaluators, but nothing that this pool did not start."""


_tickets = itertools.count(-1, -1)  # of jobs that are not generations


def at_once(pool: Pool, verb: str, batch: Batch) -> Result:
    """The result of a job that goes before those that wait."""
    job = Job(next(_tickets), verb, batch, first=True)
    pool.submit(job)
    return pool.collect(job.ticket)


def stream(pool: Pool, verb: str, batches: Iterable[Batch]) -> Iterator[Result]:
    """The results of batches, in order; the next batch is made while evaluators work on the last."""
    tickets: deque[int] = deque()
    for batch in batches:
        job = Job(next(_tickets), verb, batch)
        pool.submit(job)
        tickets.append(job.ticket)
        if len(tickets) == IN_FLIGHT:
            yield pool.collect(tickets.popleft())
    for ticket in tickets:
        yield pool.collect(ticket)


def chunks(rows: int, size: int) -> Iterator[slice]:
    """Slices of at most `size` that cover `rows`. A function of the configuration alone, never of the evaluators."""
    for start in range(0, rows, size):
        yield slice(start, min(start + size, rows))


def part(batch: Batch, rows: slice, encoding: Encoding | None) -> Batch:
    """Some rows of a batch: of images, of a question, or of genomes of an encoding."""
    if isinstance(batch, np.ndarray | Question) or encoding is None:
        return batch[rows]
    return encoding.take(batch, rows)
