"""The pool in this process."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch

from evofool.evaluate.evaluator import VERBS, Evaluator, device_failed, other_canary
from evofool.evaluate.memory import gpu_described, keep_freed_memory, peak_rss_mib, platform
from evofool.evaluate.pool import Job, Overdue, PoolReport, Result, chunks, never, part
from evofool.evaluate.problem import Problem
from evofool.evaluate.resolving import usable_numerics
from evofool.evaluate.settings import applied
from evofool.records import Facts, Numerics
from evofool.targets.target import DEVICE_FAILURES

__all__ = ["InlinePool", "open_inline"]


class InlinePool:
    """The pool in this process: it evaluates when a result is collected. Torch's settings change only while it works.

    Args:
        build: makes the evaluator, under torch's settings for the numerics.
        numerics: of that evaluator.

    Raises:
        EvaluationFailed: the device failed; so does `collect`.
    """

    def __init__(self, build: Callable[[], Evaluator], numerics: Numerics) -> None:
        self._jobs: dict[int, Job] = {}  # by ticket
        self._report = PoolReport(evaluators=1)
        self._numerics = numerics
        self.overdue = never
        keep_freed_memory()
        with self._at_work():
            self._evaluator = build()
            self.canary = self._evaluator.canary()

    def submit(self, job: Job) -> None:
        self._jobs[job.ticket] = job

    def collect(self, ticket: int) -> Result:
        """Do a job, chunk by chunk; `overdue` is asked before each."""
        job = self._jobs.pop(ticket)
        verb, encoding, results = VERBS[job.verb], self._evaluator.encoding, []
        started = time.perf_counter()
        with self._at_work():
            for rows in chunks(len(job), self._numerics.chunk):
                if self.overdue():
                    raise Overdue
                results.append(verb.perform(self._evaluator, part(job.batch, rows, encoding)))
        result = verb.join(results)
        self._report = replace(
            self._report,
            evaluations=self._report.evaluations + verb.evaluates * len(job),
            core_seconds=self._report.core_seconds + time.perf_counter() - started,
            peak_rss_mib=peak_rss_mib(),
        )
        return result

    @contextlib.contextmanager
    def _at_work(self) -> Iterator[None]:
        """Torch's settings as the numerics need them; a device that fails is told of in a sentence."""
        try:
            with applied(self._numerics):
                yield
        except DEVICE_FAILURES as error:
            raise device_failed(self._numerics, error) from error

    def report(self) -> PoolReport:
        return self._report

    def close(self) -> None:
        """Nothing to let go of."""


@contextlib.contextmanager
def open_inline(
    problem: Problem,
    *,
    address: str | None = None,
    stored: Facts | None = None,
    canary: str | None = None,
    warn: Callable[[str], None] = lambda text: None,
) -> Iterator[tuple[InlinePool, Numerics, Facts]]:
    """As `opening.open_pool`; there is no cluster, so `address` means nothing."""
    numerics = usable_numerics(problem, torch.cuda.is_available(), stored, warn)
    pool = InlinePool(lambda: problem.evaluator(numerics), numerics)
    here = platform(numerics.device)
    if canary not in (None, pool.canary):
        raise other_canary("this machine", stored, numerics, {here})
    yield pool, numerics, {"platform": here, **({"gpu": gpu_described()} if numerics.device == "cuda" else {})}
