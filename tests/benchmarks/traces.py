"""How a search went: confidence over the ten digits against evaluations, kept thin enough to be stored and drawn."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from evofool import load_target
from evofool.archive.scores import confidence, log_odds
from evofool.targets.numerics import default_numerics

__all__ = ["GOAL", "Judge", "Trace", "final", "quantised"]

GOAL = 0.9999
_STEP = 1.02  # points of a curve are at least this factor of evaluations apart


def quantised(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """(n, 784) numbers in [0, 1] to the (n, 28, 28, 1) uint8 that evofool's evaluators see."""
    return np.floor(pixels * 255 + 0.5).astype(np.uint8).reshape(-1, 28, 28, 1)


class Judge:
    """The LeNet as evofool's evaluator runs it: micro-batches of evofool's size, smaller ones where a rival's end.

    A rival is not made to pad its batches, so its forward passes cost no more than it needs.
    """

    def __init__(self, spec: str) -> None:
        target = load_target(spec)
        numerics = default_numerics("cpu", target.family)
        self.micro_batch = numerics.micro_batch
        self.target = target.to("cpu", numerics.memory_format)

    def log_odds(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(n, 10) of images, (n, 28, 28, 1) uint8."""
        with torch.inference_mode():
            parts = [
                self.target.outputs(torch.from_numpy(images[start : start + self.micro_batch]))
                for start in range(0, len(images), self.micro_batch)
            ]
        return log_odds(np.concatenate(parts), self.target.returns)


@dataclass
class Trace:
    """One search with one seed; an empty cell counts as confidence 0."""

    name: str
    seed: int
    processes: int
    evaluations: list[int] = field(default_factory=list)
    median: list[float] = field(default_factory=list)
    minimum: list[float] = field(default_factory=list)
    median_at: int | None = None  # evaluations at which the median first reached GOAL
    minimum_at: int | None = None
    seconds: float = 0.0

    def record(self, evaluations: int, median: float, minimum: float) -> None:
        """The state after so many evaluations."""
        if self.median_at is None and median >= GOAL:
            self.median_at = evaluations
        if self.minimum_at is None and minimum >= GOAL:
            self.minimum_at = evaluations
        if len(self.evaluations) > 1 and evaluations < self.evaluations[-2] * _STEP:
            for values in (self.evaluations, self.median, self.minimum):
                values.pop()  # the last point is the last state, however near the one before
        self.evaluations.append(evaluations)
        self.median.append(median)
        self.minimum.append(minimum)

    def record_cells(self, evaluations: int, best: NDArray[np.float32]) -> None:
        """The state as (10,) log-odds, -inf in an empty cell."""
        values = confidence(best)
        self.record(evaluations, float(np.median(values)), float(values.min()))

    def close(self, evaluations: int, seconds: float) -> dict[str, Any]:
        """The trace as a dict, with the evaluations in all and the time they took."""
        return {**asdict(self), "total": evaluations, "per_second": evaluations / seconds, "seconds": seconds}


def final(traces: Iterable[dict[str, Any]], what: str) -> list[float]:
    """The last median or minimum of each trace."""
    return [trace[what][-1] for trace in traces]
