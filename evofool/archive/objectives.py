"""Objectives: numbers by which the individuals that compete for a cell are ranked.

An objective gives, from what was read off the target for some images, one number for each individual and class. Greater
is better. -inf: the individual may not take this cell; NaN: it takes none. Log-odds are enough for most, since they
determine all probabilities; who needs more says so, and gets it. To add one: a file that ends with an `Objective`, and
a row of OBJECTIVES in base/registry.py, or no row and `search.objective=python:FILE.py:NAME` (docs/extend.md).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from evofool.base.registry import OBJECTIVES, known, load
from evofool.base.source import Source
from evofool.base.usercode import load_callable
from evofool.errors import ConfigError

__all__ = ["LOG_ODDS", "MARGIN", "TOP1_REQUIRED", "Objective", "Readings", "load_objective"]


@dataclass(frozen=True)
class Readings:
    """What was read off the target for n images.

    Attributes:
        log_odds: (n, outputs) float32, of all outputs of the target; a row that is not finite is NaN throughout.
        classes: (K,) int64, the outputs that have cells.
        logits: (n, outputs) float32 where asked for: what the target returned, as logits; of a target that returns
            probabilities or their logarithms, the logarithms; of an ensemble, the logarithms of the probabilities that
            its log-odds stand for.
        images: (n, height, width, channels) uint8 where asked for, as they were scored.
        layer: (n, ...) float32 where asked for: the outputs of one layer.
    """

    log_odds: NDArray[np.float32]
    classes: NDArray[np.int64]
    logits: NDArray[np.float32] | None = None
    images: NDArray[np.uint8] | None = None
    layer: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.log_odds)


@dataclass(frozen=True)
class Objective:
    """What cells rank by.

    Attributes:
        rank: from readings to (n, K) numbers, one for each individual and class with a cell. The numbers of an
            individual must not depend on the others, nor on how many there are.
        logits, images: whether the readings have these.
        layer: the layer whose outputs the readings have, by its name in `dict(module.named_modules())`; "" for none.
    """

    rank: Callable[[Readings], NDArray[np.float32]]
    logits: bool = False
    images: bool = False
    layer: str = ""

    def __call__(self, readings: Readings) -> NDArray[np.float32]:
        return self.rank(readings)


def _log_odds(readings: Readings) -> NDArray[np.float32]:
    return readings.log_odds[:, readings.classes]


def _margin(readings: Readings) -> NDArray[np.float32]:
    # Logits up to a constant of the row: the logarithm of the probability that the log-odds stand for.
    with np.errstate(invalid="ignore"):  # a row of NaN stays one
        z = -np.logaddexp(0.0, -readings.log_odds.astype(np.float64))
    rows = np.arange(len(z))
    top = z.argmax(axis=1)
    others = z.copy()
    others[rows, top] = -np.inf
    second = others.max(axis=1)
    best_other = np.where(readings.classes == top[:, None], second[:, None], z[rows, top][:, None])
    return (z[:, readings.classes] - best_other).astype(np.float32)


def _top1_required(readings: Readings) -> NDArray[np.float32]:
    odds = readings.log_odds
    return np.where(readings.classes == odds.argmax(axis=1)[:, None], odds[:, readings.classes], np.float32(-np.inf))


# z_c - logsumexp of the other classes: the order of confidence, without its saturation.
LOG_ODDS = Objective(_log_odds)
# z_c - the largest other logit: positive exactly where the class is top-1. Among a thousand classes flat pictures win
# it: where a network is sure of nothing, every logit is close to the largest.
MARGIN = Objective(_margin)
# Log-odds for the class that is top-1, the lowest on a tie; -inf for all others.
TOP1_REQUIRED = Objective(_top1_required)


def load_objective(source: Source) -> tuple[Objective, str]:
    """An objective by name, or the user's own by `python:FILE.py:NAME`: an `Objective`, or a function of readings.

    Returns:
        The objective, and the sha256 (hex) of the user's file, "" for one of the registry. It raises ConfigError if it
        fails, or returns something else than (n, K) numbers.

    Raises:
        ConfigError: no such objective, or code is not allowed.
    """
    if source.spec in OBJECTIVES:
        return _checked(load(OBJECTIVES[source.spec]), source), ""
    if source.scheme != "python":
        raise ConfigError(f"{source.key}: {source.spec!r} is unknown: {known(source.spec, OBJECTIVES)}")
    function, code_sha256 = load_callable(source)
    return _checked(function if isinstance(function, Objective) else Objective(function), source), code_sha256


def _checked(objective: Objective, source: Source) -> Objective:
    def rank(readings: Readings) -> NDArray[np.float32]:
        try:
            values = np.asarray(objective.rank(readings), dtype=np.float32)
        except Exception as error:
            raise ConfigError(f"{source.key}: {source.spec} raised {type(error).__name__}: {error}") from error
        expected = (len(readings), len(readings.classes))
        if values.shape != expected:
            raise ConfigError(
                f"{source.key}: {source.spec} returned shape {values.shape} for {expected[0]} individuals and "
                f"{expected[1]} classes, not {expected}."
            )
        return values

    return replace(objective, rank=rank)
