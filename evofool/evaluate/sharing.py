"""One pool for several runs, one after the other: evaluators that the next run needs as well are kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

from evofool.evaluate.opening import open_pool
from evofool.evaluate.pool import Job, Pool, PoolReport, Result, never
from evofool.evaluate.problem import Problem
from evofool.records import Facts, Numerics

__all__ = ["SharedPool"]


class SharedPool:
    """Opens pools as `opening.open_pool` does, and keeps the last one for a run that needs the same evaluators.

    They are the same for one target, encoding, objective, classes and section `evaluation`. A Ray that was started for
    the first run goes on until `close`, whichever evaluators it has by then.

    Attributes:
        opened: how many times evaluators were opened.
    """

    def __init__(self) -> None:
        self.opened = 0
        self._pool, self._cluster = ExitStack(), ExitStack()
        self._needs: Any = None  # what the open pool was opened for
        self._open: tuple[Pool, Numerics, Facts] | None = None
        self._warn: Callable[[str], None] = lambda text: None

    @property
    def is_open(self) -> bool:
        """Whether there are evaluators."""
        return self._open is not None

    @contextmanager
    def open(
        self,
        problem: Problem,
        *,
        address: str | None = None,
        stored: Facts | None = None,
        canary: str | None = None,
        warn: Callable[[str], None] = lambda text: None,
    ) -> Iterator[tuple[Pool, Numerics, Facts]]:
        """As `opening.open_pool`, from whose pool this one's report and jobs differ in being of this run alone."""
        self._warn = warn
        needs = _needs(problem, address, stored)
        if self._open is None or needs != self._needs or canary not in (None, self._open[0].canary):
            self._let_go()
            if problem.config.evaluation.pool == "ray" and not self.opened:
                self._keep_ray(problem, address)
            pool = open_pool(problem, address=address, stored=stored, canary=canary, warn=lambda text: self._warn(text))
            self._open, self._needs = self._pool.enter_context(pool), needs
            self.opened += 1
        whole, numerics, facts = self._open
        loan = _Loan(whole)
        try:
            yield loan, numerics, facts
            loan.give_back()
        except BaseException:  # evaluators may be lost, or in the middle of something
            self._let_go()
            raise

    def close(self) -> None:
        """End the evaluators, and Ray where it was started for them."""
        self._let_go()
        self._cluster.close()

    def _let_go(self) -> None:
        self._open = None
        self._pool.close()

    def _keep_ray(self, problem: Problem, address: str | None) -> None:
        # Ray takes seconds to import.
        from evofool.evaluate.over_ray.cluster import connected
        from evofool.evaluate.over_ray.imports import refuse_missing

        self._cluster.enter_context(connected(problem.config.evaluation, address, lambda: refuse_missing(problem)))


def _needs(problem: Problem, address: str | None, stored: Facts | None) -> Any:
    """What two problems have in common for which the same evaluators serve."""
    opened, cells = problem.opened, problem.cells
    return (
        (opened.section.model_copy(update={"classes": "all"}), opened.fingerprint, problem.encoding),
        (cells.classes.tolist(), cells.bins, cells.describe, problem.objective.spec, dict(problem.code)),
        (problem.config.evaluation, address, stored and Numerics.of(stored)),
    )


class _Loan:
    """A pool as one run has it."""

    def __init__(self, pool: Pool) -> None:
        self._pool, self._before = pool, pool.report()
        self._in_flight: set[int] = set()  # tickets

    @property
    def canary(self) -> str:
        return self._pool.canary

    @property
    def overdue(self) -> Callable[[], bool]:
        return self._pool.overdue

    @overdue.setter
    def overdue(self, ask: Callable[[], bool]) -> None:
        self._pool.overdue = ask

    def submit(self, job: Job) -> None:
        self._in_flight.add(job.ticket)
        self._pool.submit(job)

    def collect(self, ticket: int) -> Result:
        self._in_flight.discard(ticket)
        return self._pool.collect(ticket)

    def report(self) -> PoolReport:
        """Of this run; the largest evaluator is that of all."""
        now, before = self._pool.report(), self._before
        chunks = {_place(node): node["chunks"] for node in before.nodes}
        return replace(
            now,
            evaluations=now.evaluations - before.evaluations,
            core_seconds=now.core_seconds - before.core_seconds,
            requeued=now.requeued - before.requeued,
            out_of_order=now.out_of_order - before.out_of_order,
            compared=now.compared - before.compared,
            nodes=tuple({**node, "chunks": node["chunks"] - chunks.get(_place(node), 0)} for node in now.nodes),
        )

    def close(self) -> None:
        """Nothing: others have the pool after this run."""

    def give_back(self) -> None:
        """Wait for what the run left in flight when it stopped: another run's jobs have the same tickets."""
        self._pool.overdue = never
        for ticket in sorted(self._in_flight):
            self._pool.collect(ticket)


def _place(node: Facts) -> tuple[Any, ...]:
    return node["node"], node["host"], node.get("gpu", "")
