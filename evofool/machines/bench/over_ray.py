"""What is measured over Ray: the whole search, and the round trip of chunks that cost nothing to score.

Ray is started for it on this machine, even if RAY_ADDRESS names a cluster: the network alone, beside which the figures
stand, is measured here too. It offers twice the evaluators' cores, half of them for the evaluators of the round trip.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from evofool.config import load_config
from evofool.encoding import variation
from evofool.evaluate.evaluator import Evaluator, Verb
from evofool.evaluate.opening import open_pool
from evofool.evaluate.over_ray.cluster import connect
from evofool.evaluate.over_ray.pool import RayPool
from evofool.evaluate.pool import Job, Pool
from evofool.evaluate.problem import Problem, Recipe
from evofool.machines.bench.continued import Continued, copy_of
from evofool.machines.probe import Reading
from evofool.records import Genomes, Numerics, Scores

__all__ = ["IdleRecipe", "RoundTrip", "over_ray"]


class _Idle(Evaluator):
    """An evaluator without a network."""

    def __init__(self, recipe: Recipe) -> None:
        self.cells, self.numerics = recipe.cells, recipe.numerics

    def canary(self) -> str:
        """The same everywhere."""
        return "idle"


def _zeros(evaluator: Evaluator, genomes: Genomes) -> Scores:
    """Scores of 0, in next to no time."""
    return Scores.of(np.zeros((len(genomes), len(evaluator.cells.classes)), dtype=np.float32))


@dataclass(frozen=True)
class IdleRecipe(Recipe):
    """How actors make an evaluator that does nothing."""

    @classmethod
    def of(cls, problem: Problem, numerics: Numerics) -> IdleRecipe:
        """The recipe of a problem, with `score` that does nothing."""
        scoring = {"score": Verb(_zeros, Scores.concatenate, Scores.not_finite)}
        return cls(**vars(problem.recipe(numerics)) | {"verbs": scoring})

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
        """Send and collect again and again, at least once."""
        in_flight: list[int] = []
        collected = 0
        started = last = time.perf_counter()
        while not collected or in_flight:
            while len(in_flight) < self.lag and (not collected or last - started < seconds):
                in_flight.append(next(self.generations))
                self.pool.submit(Job(in_flight[-1], "score", self.genomes))
            self.pool.collect(in_flight.pop(0))
            last = time.perf_counter()
            collected += 1
        return Reading(collected * len(self.genomes), last - started)


@contextlib.contextmanager
def over_ray(
    problem: Problem, run: Path, folder: Path, numerics: Numerics, evaluators: int, tell: Callable[[str], None]
) -> Iterator[tuple[Continued, RoundTrip]]:
    """A search over as many evaluators as the machine has room for, and an empty round trip over as many.

    Args:
        run: to go on from; copied into `folder`.
        tell: receives Ray's warnings.

    Raises:
        ResourcesMissing: the evaluators do not start.
    """
    config = load_config(problem.config, ["evaluation.pool=ray", f"evaluation.evaluators={evaluators}"])
    problem = replace(problem, config=config)
    with contextlib.ExitStack() as stack:
        cluster = connect("local", 2 * evaluators * numerics.threads)
        stack.callback(cluster.close)
        pool, _, _ = stack.enter_context(open_pool(problem, address="local", warn=tell))
        recipe = IdleRecipe.of(problem, replace(numerics, device="cpu"))
        idle = RayPool(cluster, recipe, evaluators=evaluators, warn=tell)
        stack.callback(idle.close)
        yield Continued(problem, copy_of(run, folder / "ray"), pool), RoundTrip(problem, idle)
