"""Opening the pool over Ray: a cluster that is there or one of the run's own, and actors on it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch

from evofool.evaluate.over_ray.cluster import connected
from evofool.evaluate.over_ray.imports import refuse_missing
from evofool.evaluate.over_ray.pool import RayPool
from evofool.evaluate.problem import Problem
from evofool.evaluate.resolving import usable_numerics
from evofool.records import Facts, Numerics

__all__ = ["open_over_ray"]


@contextlib.contextmanager
def open_over_ray(
    problem: Problem,
    *,
    address: str | None = None,
    stored: Facts | None = None,
    canary: str | None = None,
    warn: Callable[[str], None] = lambda text: None,
) -> Iterator[tuple[RayPool, Numerics, Facts]]:
    """As `evaluate.opening.open_pool`."""
    settings = problem.config.evaluation
    with connected(settings, address, lambda: refuse_missing(problem)) as cluster:
        has_gpu = cluster.supply("GPU") > 0
        if settings.device == "auto" and not (stored or has_gpu) and torch.cuda.is_available():
            warn(
                "this machine has a GPU, but the nodes of Ray's cluster declare none, so evaluators use processors; "
                "start the nodes with --num-gpus."
            )
        numerics = usable_numerics(problem, has_gpu, stored, warn)
        pool = RayPool(
            cluster,
            problem.recipe(numerics),
            evaluators=settings.evaluators,
            per_gpu=settings.evaluators_per_gpu,
            ready_timeout=settings.ready_timeout,
            chunk_timeout=settings.chunk_timeout,
            canary=canary,
            stored=stored,
            warn=warn,
        )
        with contextlib.closing(pool):
            yield pool, numerics, {**cluster.facts(), "platform": pool.platform}
