"""Opening a pool: the one that a configuration names. Runs and studies both open theirs here."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from evofool.base.registry import POOLS, load
from evofool.evaluate.pool import Pool
from evofool.evaluate.problem import Problem
from evofool.records import Facts, Numerics

__all__ = ["SLOW", "open_pool"]

SLOW = {  # what a person is told before a pool opens that takes seconds to do so
    "ray": "starting evaluators over Ray, and first Ray itself where none is running: some 10 to 20 seconds "
    "(evaluation.pool=inline does without)",
}


def open_pool(
    problem: Problem,
    *,
    address: str | None = None,
    stored: Facts | None = None,
    canary: str | None = None,
    warn: Callable[[str], None] = lambda text: None,
) -> AbstractContextManager[tuple[Pool, Numerics, Facts]]:
    """A pool, its numerics, and facts about the cluster, or inline about the GPU; the pool is closed at the end.

    A row of POOLS in base/registry.py is a function with these arguments; see evaluate/pool.py for what a pool is.

    Args:
        problem: its configuration's section `evaluation` says what is opened.
        address: of a Ray cluster.
        stored: the numerics of a run that goes on, which stand for `auto` in the configuration.
        canary: what evaluators must give; None: whatever they give.
        warn: receives a sentence whenever evaluators are slow, missing or lost.

    Raises:
        ConfigError: the numerics contradict each other, or the cluster is open to everybody.
        IncompatibleRun: the canary is another, or `evaluation.device` is cuda without a GPU.
        ResourcesMissing: the cluster does not answer, or no evaluator was ready in time.
    """
    opener = load(POOLS[problem.config.evaluation.pool])
    opened: AbstractContextManager[tuple[Pool, Numerics, Facts]] = opener(
        problem, address=address, stored=stored, canary=canary, warn=warn
    )
    return opened
