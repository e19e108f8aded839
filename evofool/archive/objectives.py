"""Objectives: numbers by which the individuals that compete for a cell are ranked.

An objective is a function `(odds, cells) -> (n, cells)`: from the log-odds of all outputs of the target, (n, classes)
float32, and the indices of the outputs that have cells, (cells,), to one number for each individual and cell. Greater
is better. -inf: the individual may not take this cell; NaN: it takes none. Log-odds are enough to compute any other
objective from, since they determine all probabilities.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from evofool.base.source import Source
from evofool.base.usercode import load_callable
from evofool.errors import ConfigError

__all__ = ["OBJECTIVES", "Objective", "load_objective", "log_odds", "margin", "top1_required"]

Objective = Callable[[NDArray[np.float32], NDArray[np.int64]], NDArray[np.float32]]


def log_odds(odds: NDArray[np.float32], cells: NDArray[np.int64]) -> NDArray[np.float32]:
    """z_c - logsumexp of the other classes: the order of confidence, without its saturation."""
    return odds[:, cells]


def margin(odds: NDArray[np.float32], cells: NDArray[np.int64]) -> NDArray[np.float32]:
    """z_c - the largest other logit: positive exactly where the class is top-1."""
    # Logits up to a constant of the row: the logarithm of the probability that the log-odds stand for.
    with np.errstate(invalid="ignore"):  # a row of NaN stays one
        z = -np.logaddexp(0.0, -odds.astype(np.float64))
    rows = np.arange(len(z))
    top = z.argmax(axis=1)
    others = z.copy()
    others[rows, top] = -np.inf
    second = others.max(axis=1)
    best_other = np.where(cells == top[:, None], second[:, None], z[rows, top][:, None])
    return (z[:, cells] - best_other).astype(np.float32)


def top1_required(odds: NDArray[np.float32], cells: NDArray[np.int64]) -> NDArray[np.float32]:
    """Log-odds for the class that is top-1, the lowest on a tie; -inf for all others."""
    return np.where(cells == odds.argmax(axis=1)[:, None], odds[:, cells], np.float32(-np.inf))


OBJECTIVES: dict[str, Objective] = {"log_odds": log_odds, "margin": margin, "top1_required": top1_required}


def load_objective(source: Source) -> tuple[Objective, str]:
    """An objective by name, or the user's own by `python:FILE.py:callable`.

    Returns:
        The function, and the sha256 (hex) of the user's file, "" for one of OBJECTIVES. The user's own raises
        ConfigError if it fails, or returns something else than (n, cells) numbers.

    Raises:
        ConfigError: no such objective, or code is not allowed.
    """
    if source.spec in OBJECTIVES:
        return OBJECTIVES[source.spec], ""
    if source.scheme != "python":
        raise ConfigError(
            f"{source.key}: {source.spec!r} is unknown; known are {', '.join(OBJECTIVES)} and python:FILE.py:callable."
        )
    function, code_sha256 = load_callable(source)
    return _checked(function, source), code_sha256


def _checked(function: Objective, source: Source) -> Objective:
    def objective(odds: NDArray[np.float32], cells: NDArray[np.int64]) -> NDArray[np.float32]:
        try:
            values = np.asarray(function(odds, cells), dtype=np.float32)
        except Exception as error:
            raise ConfigError(f"{source.key}: {source.spec} raised {type(error).__name__}: {error}") from error
        if values.shape != (len(odds), len(cells)):
            raise ConfigError(
                f"{source.key}: {source.spec} returned shape {values.shape} for {len(odds)} individuals and "
                f"{len(cells)} cells, not {(len(odds), len(cells))}."
            )
        return values

    return objective
