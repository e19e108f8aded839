"""What the pool over Ray keeps account of: chunks, and the evaluators that have them."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from typing import Any

from evofool.encoding.contract import Encoding
from evofool.evaluate.pool import Job, chunks, part
from evofool.records import Facts

__all__ = ["MAX_ATTEMPTS", "MAX_ATTEMPTS_OF_A_PART", "Chunk", "Worker"]

MAX_ATTEMPTS = 5  # evaluators that one chunk may take down before it is halved to find out which rows do it
MAX_ATTEMPTS_OF_A_PART = 2  # then, down to single rows


@dataclass
class Chunk:
    """Some rows of a job."""

    ticket: int  # of the job: a generation, or below 0 for something else
    verb: str
    batch: Any  # of these rows
    rows: slice
    encoding: Encoding | None  # of genomes
    sequence: int  # order of submission
    attempts: int = 0
    doubled: bool = False  # sent to a second evaluator: the first is slow, or the two are to be compared
    answer: Any = None  # the first of a doubled one
    done: bool = False

    def __str__(self) -> str:
        what = f"generation {self.ticket}, slots" if self.ticket >= 0 else f"{self.verb.replace('_', ' ')}, rows"
        return f"{what} {self.rows.start} to {self.rows.stop - 1}"

    def __len__(self) -> int:
        return self.rows.stop - self.rows.start

    def halves(self) -> list[Chunk]:
        """Two chunks of half the rows; an evaluator pads them to the same forward passes."""
        start, middle, stop = self.rows.start, (self.rows.start + self.rows.stop) // 2, self.rows.stop
        attempts = MAX_ATTEMPTS - MAX_ATTEMPTS_OF_A_PART
        return [
            replace(self, batch=self._part(slice(a - start, b - start)), rows=slice(a, b), attempts=attempts)
            for a, b in ((start, middle), (middle, stop))
        ]

    def _part(self, rows: slice) -> Any:
        return part(self.batch, rows, self.encoding)

    @staticmethod
    def of(job: Job, size: int, encoding: Encoding | None, sequence: int) -> list[Chunk]:
        """The chunks of a job, numbered from `sequence` on."""
        return [
            Chunk(job.ticket, job.verb, part(job.batch, rows, encoding), rows, encoding, sequence + i)
            for i, rows in enumerate(chunks(len(job), size))
        ]


@dataclass(eq=False)
class Worker:
    """The driver's side of one actor."""

    handle: Any
    hello: Any = None  # the call that shows it is ready; None once it is
    sent: deque[tuple[Any, Chunk]] = field(default_factory=deque)  # oldest first
    since: float = 0.0  # when the oldest began, as far as the driver knows
    facts: Facts = field(default_factory=dict)
    failed_hellos: int = 0  # in a row
