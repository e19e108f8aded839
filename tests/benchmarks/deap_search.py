"""A plain loop with DEAP's operators and a multiprocessing pool, as its documentation shows, on the same LeNet.

One elite for each class, 200 offspring of random elites in a generation, polynomial mutation of one pixel in ten, every
image tried in every class. The pool has a process for each core, each with its LeNet; it is given lists of as many
individuals as evofool's evaluators score in one forward pass, not one by one, which would be several times slower.
"""

from __future__ import annotations

import multiprocessing
import random
import time
from typing import Any

import numpy as np
import torch
from deap import tools
from numpy.typing import NDArray

from benchmarks.traces import Judge, Trace, quantised

__all__ = ["search"]

CLASSES, PIXELS, OFFSPRING = 10, 784, 200
_judge: list[Judge] = []  # of a worker's process


def _begin(spec: str) -> None:
    torch.set_num_threads(1)
    _judge.append(Judge(spec))


def evaluate(individuals: list[list[float]]) -> NDArray[np.float32]:
    """(n, 10) log-odds of n lists of pixels, in a worker."""
    return _judge[0].log_odds(quantised(np.array(individuals)))


def mutated(parent: list[float]) -> list[float]:
    """A child of an elite."""
    child = parent[:]
    tools.mutPolynomialBounded(child, 15.0, 0.0, 1.0, 0.1)
    return child


def search(spec: str, seed: int, budget: int, processes: int) -> dict[str, Any]:
    """One search; a Trace as a dict."""
    random.seed(seed)
    size = Judge(spec).micro_batch
    trace, best = Trace("DEAP, multiprocessing", seed, processes), np.full(CLASSES, -np.inf, dtype=np.float32)
    elites: list[list[float]] = [[] for _ in range(CLASSES)]
    context = multiprocessing.get_context("spawn")
    with context.Pool(processes, _begin, (spec,)) as pool:
        pool.map(evaluate, [[[0.5] * PIXELS]] * processes, chunksize=1)  # every worker has loaded its network
        evaluations, started = 0, time.perf_counter()
        while evaluations < budget:
            if evaluations:
                offspring = [mutated(random.choice(elites)) for _ in range(OFFSPRING)]
            else:
                offspring = [[random.random() for _ in range(PIXELS)] for _ in range(OFFSPRING)]
            chunks = [offspring[start : start + size] for start in range(0, OFFSPRING, size)]
            odds = np.concatenate(pool.map(evaluate, chunks, chunksize=1))
            for cell in range(CLASSES):
                slot = int(odds[:, cell].argmax())
                if odds[slot, cell] > best[cell]:
                    best[cell], elites[cell] = odds[slot, cell], offspring[slot]
            evaluations += OFFSPRING
            trace.record_cells(evaluations, best)
        return trace.close(evaluations, time.perf_counter() - started)
