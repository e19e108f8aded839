"""What is measured over Ray: the whole search, and the round trip of chunks that cost nothing to score.

Ray is started for it on this machine, whatever cluster there is: the network alone, beside which the figures stand, is
measured here too. It offers twice the evaluators' cores, since those of the empty round trip have to be somewhere.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np

from evofool.encoding import variation
from evofool.evaluate.evaluator import Evaluator, Verb
from evofool.evaluate.opening import open_pool
from evofool.evaluate.over_ray.cluster import connect
from evofool.evaluate.over_ray.pool import RayPool
from evofool.evaluate.pool import Job, Pool
from evofool.evaluate.problem import Problem, Recipe
from evofool.machines.bench.archives import copy_of
from evofool.machines.bench.continued import Continued
from evofool.machines.probe import Reading
from evofool.records import Genomes, Numerics, Scores

__all__ = ["IdleRecipe", "RoundTrip", "over_ray"]


class _Idle(Evaluator):
    """Nothing to score with."""

    def __init__(self, recipe: Recipe) -> None:
        self.cells, self.numerics = recipe.cells, recipe.numerics

    def canary(self) -> str:
        """The same everywhere."""
        return "idle"


def _zeros(evaluator: Evaluator, genomes: Genomes) -> Scores:
    """Scores in no time."""
    n = len(genomes)
    values = np.zeros((n, len(evaluator.cells.classes)), dtype=np.float32)
    none = np.zeros(n, dtype=np.float32)
    return Scores(values, values, none.astype(np.int32), none, np.zeros((n, 32), dtype=np.uint8))


@dataclass(frozen=True)
class IdleRecipe(Recipe):
    """How actors make an evaluator that does nothing."""

    @classmethod
    def of(cls, problem: Problem, numerics: Numerics) -> IdleRecipe:
        """As `Problem.recipe`."""
        recipe = problem.recipe(numerics)
        scoring = {"score": Verb(_zeros, Scores.concatenate, Scores.not_finite)}
        return cls(**{field.name: getattr(recipe, field.name) for field in fields(recipe)} | {"verbs": scoring})

    def build(self) -> Evaluator:
        """An evaluator in this process."""
        return _Idle(self)


class RoundTrip:
    """Generations that go out to evaluators and come back scored, as many in flight as a search has."""

    def __init__(self, problem: Problem, pool: Pool) -> None:
        search = problem.config.search
        self.pool, self.lag = pool, search.lag
        self.genomes = variation.initial(problem.genomes, problem.config.seed, 0, search.offspring)
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
                self.pool.submit(Job(flying[-1], "score", self.genomes))
            self.pool.collect(flying.pop(0))
            now = time.perf_counter()
            taken.append(now - last)
            last = now
        return Reading(len(taken) * len(self.genomes), last - started, max(taken), min(taken))


@contextlib.contextmanager
def over_ray(
    problem: Problem,
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
    config = problem.config
    settings = config.evaluation.model_copy(update={"pool": "ray", "evaluators": evaluators})
    problem = replace(problem, config=config.model_copy(update={"evaluation": settings}))
    with contextlib.ExitStack() as stack:
        cluster = connect("local", 2 * evaluators * numerics.threads)
        stack.callback(cluster.close)
        pool, _, _ = stack.enter_context(open_pool(problem, address="local", warn=tell))
        recipe = IdleRecipe.of(problem, replace(numerics, device="cpu"))
        idle = RayPool(cluster, recipe, evaluators=evaluators, warn=tell)
        stack.callback(idle.close)
        yield Continued(problem, copy_of(run, folder / "ray"), pool), RoundTrip(problem, idle)
