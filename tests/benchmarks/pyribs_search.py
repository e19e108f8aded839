"""pyribs on the same LeNet: MAP-Elites as in its tutorial on fooling MNIST, and with other settings.

The tutorial (pyribs, "Generating Images to Fool an MNIST Classifier"): a GridArchive of ten cells, a GaussianEmitter
that starts from grey with sigma 0.5 and batches of 30, the class of greatest probability as measure and that
probability as objective. Other settings insert every image into every class by its log-odds, as evofool does: the
image is added ten times, once for each class.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.traces import Judge, Trace, quantised
from evofool.archive.scores import confidence

__all__ = ["GRID", "TUTORIAL", "Setting", "better", "search"]

CLASSES, PIXELS = 10, 784


@dataclass(frozen=True)
class Setting:
    """Sigma and batch size of the emitter, and whether an image competes in every class or in its best alone."""

    sigma: float
    batch: int
    every_class: bool

    def __str__(self) -> str:
        where = "every class" if self.every_class else "argmax class"
        return f"pyribs, sigma {self.sigma}, batch {self.batch}, {where}"


TUTORIAL = Setting(0.5, 30, every_class=False)
GRID = tuple(Setting(sigma, batch, True) for sigma in (0.02, 0.05, 0.1, 0.2, 0.5) for batch in (30, 200))


def search(spec: str, setting: Setting, seed: int, budget: int, *, until_minimum: bool = True) -> dict[str, Any]:
    """One search in this process.

    Args:
        budget: of evaluations; it ends earlier once the minimum (or else the median) reaches the goal.

    Returns:
        A Trace as a dict.
    """
    from ribs.archives import GridArchive  # here, since numba and scikit-learn come with it, and all tests would wait
    from ribs.emitters import GaussianEmitter

    judge = Judge(spec)
    archive = GridArchive(solution_dim=PIXELS, dims=[CLASSES], ranges=[(0, CLASSES)], seed=seed)
    emitter = GaussianEmitter(
        archive,
        sigma=setting.sigma,
        x0=np.full(PIXELS, 0.5),
        lower_bounds=np.zeros(PIXELS),
        upper_bounds=np.ones(PIXELS),
        batch_size=setting.batch,
        seed=seed,
    )
    trace, best = Trace(str(setting), seed, 1), np.full(CLASSES, -np.inf, dtype=np.float32)
    evaluations, started = 0, time.perf_counter()
    while evaluations < budget and (trace.minimum_at if until_minimum else trace.median_at) is None:
        solutions = emitter.ask()
        odds = judge.log_odds(quantised(solutions))
        if setting.every_class:
            cells = np.tile(np.arange(CLASSES), len(solutions))
            archive.add(np.repeat(solutions, CLASSES, axis=0), odds.ravel(), cells[:, None])
            np.maximum(best, odds.max(axis=0), out=best)
        else:
            top = odds.argmax(axis=1)
            reached = odds[np.arange(len(odds)), top]
            archive.add(solutions, confidence(reached), top[:, None])
            np.maximum.at(best, top, reached)
        evaluations += len(solutions)
        trace.record_cells(evaluations, best)
    return trace.close(evaluations, time.perf_counter() - started)


def better(traces: list[dict[str, Any]]) -> tuple[float, float]:
    """What settings are ranked by, the smallest first: evaluations to the goal, then how far the median was from 1."""
    reached = [trace["median_at"] if trace["median_at"] is not None else np.inf for trace in traces]
    return float(np.median(reached)), 1 - float(np.median([trace["median"][-1] for trace in traces]))
