"""What the pool over Ray keeps account of: jobs, their chunks, and the evaluators that have these."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import ray

from evofool.encoding.contract import Encoding
from evofool.evaluate.pool import Batch, Result, part
from evofool.records import Facts

__all__ = ["MAX_ATTEMPTS", "MAX_ATTEMPTS_OF_A_PART", "Chunk", "Progress", "Worker"]

MAX_ATTEMPTS = 5  # evaluators that one chunk may take down before it is halved to find out which rows do it
MAX_ATTEMPTS_OF_A_PART = 2  # evaluators that a half may take down before it is halved again, to single rows


@dataclass
class Progress:
    """A job under way."""

    verb: str
    missing: int  # rows
    parts: dict[int, Result] = field(default_factory=dict)  # results by their first row


@dataclass
class Chunk:
    """Some rows of a job."""

    ticket: int  # of the job: a generation's number; negative for other work
    verb: str
    batch: Batch  # of these rows alone
    rows: slice  # of the job's batch
    sequence: int  # order of submission
    attempts: int = 0  # losses of evaluators that it may have been the cause of
    doubled: bool = False  # sent to a second evaluator: the first is slow, or the two are to be compared
    answer: Result | None = None  # the first result of a doubled one
    done: bool = False

    def __str__(self) -> str:
        what = f"generation {self.ticket}, slots" if self.ticket >= 0 else f"{self.verb.replace('_', ' ')}, rows"
        return f"{what} {self.rows.start} to {self.rows.stop - 1}"

    def __len__(self) -> int:
        return self.rows.stop - self.rows.start

    def halves(self, encoding: Encoding | None) -> list[Chunk]:
        """Two chunks of half the rows, each of which may take down MAX_ATTEMPTS_OF_A_PART evaluators more."""
        start, middle, stop = self.rows.start, (self.rows.start + self.rows.stop) // 2, self.rows.stop
        attempts = MAX_ATTEMPTS - MAX_ATTEMPTS_OF_A_PART
        return [
            replace(
                self, batch=part(self.batch, slice(a - start, b - start), encoding), rows=slice(a, b), attempts=attempts
            )
            for a, b in ((start, middle), (middle, stop))
        ]


@dataclass(eq=False)
class Worker:
    """The driver's side of one actor."""

    handle: ray.actor.ActorHandle
    hello: ray.ObjectRef | None = None  # the call that shows it is ready; None once it is
    sent: dict[ray.ObjectRef, Chunk] = field(default_factory=dict)  # the chunks it has, by call; the oldest first
    since: float = 0.0  # when the oldest began, as far as the driver knows
    facts: Facts = field(default_factory=dict)  # canary, pid, host, node and gpu; {} until it said hello
    failed_hellos: int = 0  # in a row
