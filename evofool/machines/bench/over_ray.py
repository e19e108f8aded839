"""What is measured over Ray: the whole search, and the round trip of chunks that cost nothing to score.

Ray is started for it on this machine, whatever cluster there is: the network alone, beside which the figures stand, is
measured here too. It offers twice the evaluators' cores, since those of the empty round trip have to be somewhere.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from evofool.encoding import variation
from evofool.evaluate.opening import Work, open_pool
from evofool.evaluate.over_ray import cluster as ray_cluster
from evofool.evaluate.over_ray.pool import RayPool
from evofool.evaluate.pool import Evaluator, Pool
from evofool.evaluate.problem import Recipe
from evofool.machines.bench.archives import copy_of
from evofool.machines.bench.continued import Continued
from evofool.machines.probe import Ingredients, Reading
from evofool.records import NO_PARENT, Numerics, Offspring, Scores

__all__ = ["IdleRecipe", "RoundTrip", "over_ray"]


class _Idle(Evaluator):
    """Scores in no time."""

    def __init__(self, cells: int) -> None:
        self.cells = cells

    def score(self, genomes: Any) -> Scores:
        """Zeros."""
        n = len(genomes)
        values = np.zeros((n, self.cells), dtype=np.float32)
        none = np.zeros(n, dtype=np.float32)
        return Scores(values, values, none.astype(np.int32), none, np.zeros((n, 32), dtype=np.uint8))

    def canary(self) -> str:
        """The same everywhere."""
        return "idle"


@dataclass(frozen=True)
class IdleRecipe(Recipe):
    """How actors make an evaluator that does nothing."""

    def build(self) -> Evaluator:
        """An evaluator in this process."""
        return _Idle(len(self.class_indices))


class RoundTrip:
    """Generations that go out to evaluators and come back scored, as many in flight as a search has."""

    def __init__(self, given: Ingredients, pool: Pool) -> None:
        self.pool, self.lag, n = pool, given.config.search.lag, given.config.search.offspring
        genomes = variation.initial(given.encoding, given.config.seed, 0, n)
        parents = np.full((n, 2), NO_PARENT, dtype=np.int64)
        self.offspring = Offspring(0, genomes, parents, np.zeros(n, dtype=np.uint32))
        self.generations = itertools.count()

    def measure(self, seconds: float) -> Reading:
        """Send and collect again and again."""
        flying: list[int] = []
        taken: list[float] = []
        started = time.perf_counter()
        last = started
        while not taken or flying:
            while len(flying) < self.lag and (not taken or last - started < seconds):
                flying.append(next(self.generations))
                self.pool.submit(replace(self.offspring, generation=flying[-1]))
            self.pool.collect(flying.pop(0))
            now = time.perf_counter()
            taken.append(now - last)
            last = now
        return Reading(len(taken) * len(self.offspring), last - started, max(taken), min(taken))


@contextlib.contextmanager
def over_ray(
    given: Ingredients,
    work: Work,
    run: Path,
    folder: Path,
    numerics: Numerics,
    evaluators: int,
    tell: Callable[[str], None],
) -> Iterator[tuple[Continued, RoundTrip]]:
    """A search over as many evaluators as the machine has room for, and an empty round trip over as many.

    Args:
        run: to go on from; copied into `folder`.
        tell: receives Ray's warnings.

    Raises:
        ResourcesMissing: the evaluators do not start.
    """
    config = given.config
    settings = config.evaluation.model_copy(update={"pool": "ray", "evaluators": evaluators})
    given = replace(given, config=config.model_copy(update={"evaluation": settings}))
    with contextlib.ExitStack() as stack:
        cluster = ray_cluster.connect("local", 2 * evaluators * numerics.threads)
        stack.callback(cluster.close)
        pool, _, _ = stack.enter_context(open_pool(settings, work, address="local", warn=tell))
        recipe = IdleRecipe.of(work, replace(numerics, device="cpu"))
        idle = RayPool(cluster, recipe, evaluators=evaluators, warn=tell)
        stack.callback(idle.close)
        yield Continued(given, copy_of(run, folder / "ray"), pool), RoundTrip(given, idle)
