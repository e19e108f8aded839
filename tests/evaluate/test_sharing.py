"""One pool for several runs: kept while they need the same evaluators, and no run sees another's jobs or counts."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from evofool.config import Config, load_config
from evofool.evaluate import sharing
from evofool.evaluate.pool import Job, PoolReport, never
from evofool.evaluate.problem import Problem, problem_of
from evofool.evaluate.sharing import SharedPool
from evofool.records import Numerics
from evofool.targets.opening import open_target

NUMERICS = Numerics("cpu", 50, 50, 1, "contiguous")


class Strict:
    """A pool that counts, and takes no ticket that is in flight."""

    canary = "c"

    def __init__(self) -> None:
        self.in_flight: dict[int, Job] = {}
        self.counts = PoolReport(evaluators=2, nodes=({"node": "n", "host": "h", "chunks": 0},))
        self.overdue: Callable[[], bool] = never
        self.is_open = True

    def submit(self, job: Job) -> None:
        assert self.is_open and job.ticket not in self.in_flight
        self.in_flight[job.ticket] = job

    def collect(self, ticket: int) -> str:
        job, [node] = self.in_flight.pop(ticket), self.counts.nodes
        evaluations = self.counts.evaluations + len(job)
        self.counts = replace(self.counts, evaluations=evaluations, nodes=({**node, "chunks": node["chunks"] + 1},))
        return f"{job.batch[0]}"

    def report(self) -> PoolReport:
        return self.counts


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Strict]:
    """The pools that were opened."""
    pools: list[Strict] = []

    @contextlib.contextmanager
    def open_strict(problem: Problem, **options: Any) -> Iterator[tuple[Any, Numerics, dict[str, Any]]]:
        assert not any(pool.is_open for pool in pools), "the last one's evaluators are in the way"
        pools.append(Strict())
        yield pools[-1], NUMERICS, {}
        pools[-1].is_open = False

    monkeypatch.setattr(sharing, "open_pool", open_strict)
    return pools


def problem(config: Config, *overrides: str) -> Problem:
    settings = load_config(config, list(overrides))
    return problem_of(settings, open_target(settings.target), allow_code=False)


def test_a_pool_is_kept_for_runs_that_need_the_same_evaluators(config: Config, opened: list[Strict]) -> None:
    shared = SharedPool()
    stored = {"device": "cpu", "chunk": 50, "micro_batch": 50, "threads": 1, "memory_format": "contiguous"}
    steps: list[tuple[list[str], dict[str, Any], int]] = [
        ([], {}, 1),
        (["seed=2", "search.mode=random", "variation.mutation_rate=0.5", "search.generations=2"], {}, 1),
        (["encoding.coordinates=raw"], {}, 2),
        (["encoding.coordinates=raw", "target.classes=[1, 2]"], {}, 3),
        (["target.classes=[1, 2]", "evaluation.micro_batch=10"], {}, 4),
        (["target.classes=[1, 2]", "evaluation.micro_batch=10"], {"stored": stored}, 5),
        (["target.classes=[1, 2]", "evaluation.micro_batch=10"], {"stored": stored, "canary": "c"}, 5),
        (["target.classes=[1, 2]", "evaluation.micro_batch=10"], {"stored": stored, "canary": "other"}, 6),
    ]
    for overrides, options, pools in steps:
        with shared.open(problem(config, *overrides), **options) as (pool, numerics, _):
            assert pool.canary == "c" and numerics == NUMERICS
        assert len(opened) == shared.opened == pools, overrides
    with pytest.raises(KeyError), shared.open(problem(config)):
        raise KeyError
    assert not any(pool.is_open for pool in opened) and not shared.is_open, (
        "evaluators of a run that failed are not kept"
    )
    shared.close()


def test_a_run_sees_its_own_jobs_and_counts(config: Config, opened: list[Strict]) -> None:
    shared = SharedPool()
    for run in (1, 2):
        with shared.open(problem(config)) as (pool, _, _):
            assert pool.report().evaluations == 0 and pool.overdue is never
            pool.overdue = lambda: True
            for ticket in (0, 1, 2):
                pool.submit(Job(ticket, "score", np.full(3 * run, run)))
            assert [pool.collect(0), pool.collect(1)] == [str(run)] * 2  # and 2 is left in flight
            report = pool.report()
            assert (report.evaluations, report.nodes[0]["chunks"], report.evaluators) == (2 * 3 * run, 2, 2)
        assert opened[0].in_flight == {}
    assert len(opened) == 1 and opened[0].is_open
    shared.close()
    assert not opened[0].is_open
