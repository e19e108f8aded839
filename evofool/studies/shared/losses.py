"""What is lost when parts of elites are taken away: curves, one number for their form, and intervals.

Of a picture of n copies, a network that adds up what it finds loses the same with each copy: its curve is a straight
line, and `form`, the slope at the begin over the mean slope, is 1. One that takes the best copy loses nothing until the
last: `form` is 0. One that needs every copy loses most with the first: `form` is greater than 1.

Runs are drawn anew, and in each its individuals: elites of one run are kin, and one individual may hold several cells.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evofool.base import rng
from evofool.records import Facts

__all__ = ["FEW", "Resampling", "form", "resampling", "verdict"]

RESAMPLES = 2000
FEW = 6  # individuals, under which no interval is given
BEGIN = 0.25  # share of what is removed, up to which a curve begins
LEAST_LOSS = 1.0  # log-odds lost with all of it, under which a curve has no form
MAX_LIKE, SUM_LIKE = 0.5, 2.0  # a form below the one is like a maximum's; between both like a sum's


def form(shares: NDArray[np.float64], losses: NDArray[np.float64]) -> float:
    """The slope at the begin of a curve over its mean slope; NaN where less than LEAST_LOSS is lost in all.

    Args:
        shares: (k,) of what is removed, ascending, the last 1; without the 0 that a curve begins with.
        losses: (k,) of log-odds.
    """
    if not len(shares) or not losses[-1] >= LEAST_LOSS:
        return float("nan")
    begin = shares <= max(BEGIN, shares[0])
    slope = (shares[begin] @ losses[begin]) / (shares[begin] @ shares[begin])  # least squares through the origin
    return float(slope / (losses[-1] / shares[-1]))


def verdict(low: float | None, high: float | None) -> str:
    """What the interval of a form says, in a word."""
    if low is None or high is None:
        return "undecided"
    if high < MAX_LIKE:
        return "max-like"
    if low > SUM_LIKE:
        return "all-like"
    if low <= MAX_LIKE:
        return "undecided"
    return "sum-like" if high < SUM_LIKE else "not max-like"


class Resampling:
    """Elites drawn anew RESAMPLES times, by runs and individuals; the same every time.

    Args:
        runs, individuals: of n elites each.
    """

    def __init__(self, runs: Sequence[str], individuals: Sequence[int]) -> None:
        of_run, _ = pd.factorize(pd.Series(list(runs)))
        pairs = pd.MultiIndex.from_arrays([of_run, list(individuals)])
        self._individual, unique = pd.factorize(pairs)
        run_of = np.array([run for run, _ in unique], dtype=np.int64)
        members = [np.flatnonzero(run_of == run) for run in range(of_run.max(initial=-1) + 1)]
        drawn = np.zeros((RESAMPLES, len(run_of)), dtype=np.int64)
        most = max(map(len, members), default=0)
        for place in range(len(members)):
            numbers = rng.uniforms(0, "ablate.bootstrap", place, (RESAMPLES, 1 + most))
            picked = (numbers[:, 0] * len(members)).astype(np.int64)
            for run, rows in enumerate(members):
                where = np.flatnonzero(picked == run)
                chosen = rows[(numbers[where, 1 : 1 + len(rows)] * len(rows)).astype(np.int64)]
                np.add.at(drawn, (where[:, None], chosen), 1)
        self._weights = drawn[:, self._individual]

    def facts(self, values: NDArray[np.float64], statistic: str = "median") -> Facts:
        """A median or mean over elites, those that are NaN left out, with its interval of 95 %.

        Returns:
            value, low, high (None of fewer than FEW individuals) and n, the elites that it is of.
        """
        known = np.isfinite(values)
        n = int(known.sum())
        if not n:
            return {"value": None, "low": None, "high": None, "n": 0}
        of = _mean if statistic == "mean" else _median
        value = float(of(values[known], np.ones((1, n)))[0])
        if len(np.unique(self._individual[known])) < FEW:
            return {"value": value, "low": None, "high": None, "n": n}
        weights = self._weights[:, known].astype(np.float64)
        low, high = np.quantile(of(values[known], weights[weights.sum(axis=1) > 0]), [0.025, 0.975])
        return {"value": value, "low": min(value, float(low)), "high": max(value, float(high)), "n": n}

    def difference(self, first: NDArray[np.float64], second: NDArray[np.float64], statistic: str = "median") -> Facts:
        """As `facts`, of what is more in the first than in the second of each elite; and p of its signs being chance,
        two-sided, by the mean of each individual."""
        rest = first - second
        facts = self.facts(rest, statistic)
        known = np.isfinite(rest)
        if facts["low"] is None:
            return {**facts, "p": None}
        means = pd.Series(rest[known]).groupby(self._individual[known]).mean().to_numpy()
        signs = np.where(rng.uniforms(0, "ablate.signs", 0, (RESAMPLES, len(means))) < 0.5, -1.0, 1.0)
        flipped = np.abs(signs @ means)
        p = (1 + int((flipped >= abs(means.sum()) * (1 - 1e-12)).sum())) / (1 + RESAMPLES)
        return {**facts, "p": p}


def resampling(elites: pd.DataFrame) -> Resampling:
    """That of a table with the columns run_id and individual_id, a row for each elite."""
    return _cached(tuple(elites["run_id"]), tuple(elites["individual_id"]))


@functools.lru_cache(maxsize=4)  # most tables of a summary are of the same elites
def _cached(runs: tuple[str, ...], individuals: tuple[int, ...]) -> Resampling:
    return Resampling(runs, individuals)


def _mean(values: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = weights @ values / weights.sum(axis=1)
    return found


def _median(values: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Medians of values by rows of whole weights; between the two in the middle where they are of an even number."""
    order = np.argsort(values, kind="stable")
    ranked, sums = values[order], np.cumsum(weights[:, order], axis=1)
    half = sums[:, -1:] / 2
    lower, upper = (sums >= half).argmax(axis=1), (sums > half).argmax(axis=1)
    return (ranked[lower] + ranked[upper]) / 2
