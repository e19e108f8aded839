"""Whether elites of one class look more alike than those of different classes, over runs that share nothing.

A picture is compared as its blurred pixels, as its spectrum (which does not change when the picture is shifted), and as
the log-odds that another network gives it. The measure is free of scale: how much nearer the elite of the same class of
another run is than that run's other elites, as the share of these that are farther; by chance 0.5.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evofool.records import Facts
from evofool.studies.shared.pictures import fitted
from evofool.studies.shared.statistics import mean_interval, permutations, permuted

__all__ = ["SIDE", "across", "blurred", "likeness", "spectrum", "stands_out"]

SIDE = 14  # pixels of a blurred picture
WAVES = 32  # pixels of the picture whose spectrum is taken, at most
MOST, FEWEST, ROOM = 9999, 999, 400_000_000  # permutations, and numbers that they may look up together


def blurred(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(SIDE * SIDE * channels,) the picture at SIDE x SIDE pixels, from 0 to 255."""
    return fitted(image, (SIDE, SIDE), image.shape[2]).astype(np.float32).ravel()


def spectrum(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Logarithms of 1 + the amplitudes of the luma's waves, without the mean."""
    side = min(WAVES, *image.shape[:2])
    grey = fitted(image, (side, side), 1)[:, :, 0] / 255.0
    return np.log1p(np.abs(np.fft.rfft2(grey - grey.mean()))).astype(np.float32).ravel()


def across(image: NDArray[np.uint8]) -> float:
    """The share of the luma's steps from pixel to pixel, squared, that are between neighbours in a row: 1 for vertical
    bars, 0 for horizontal ones; NaN of one that is the same throughout."""
    grey = fitted(image, image.shape[:2], 1)[:, :, 0].astype(float)
    rows, columns = (np.diff(grey, axis=axis) ** 2 for axis in (1, 0))
    total = rows.sum() + columns.sum()
    return float(rows.sum() / total) if total else float("nan")


def likeness(vectors: Sequence[NDArray[np.float32]]) -> Facts | None:
    """How much nearer elites of one class are than others, over all ordered pairs of runs.

    Args:
        vectors: of each of R runs (K, d), the pictures of K classes, in one order of classes.

    Returns:
        value: the mean share of another run's elites that are farther than the one of the same class; low, high: 95 %
        by the jackknife over runs (Arvesen, Annals of Mathematical Statistics 40, 1969, p. 2076), of three or more; p:
        one-sided, of classes permuted over the elites of each run; n: elites. None of one run, or one class.
    """
    runs, classes = len(vectors), len(vectors[0])
    if runs < 2 or classes < 2:
        return None
    count = int(np.clip(ROOM // (classes * runs * (runs - 1)), FEWEST, MOST))
    orders = np.stack([permutations("likeness", run, count, classes) for run in range(runs)])
    means, null = np.full((runs, runs), np.nan), np.zeros(count)
    for a in range(runs):
        for b in range(runs):
            if a != b:
                nearer = _nearer(vectors[a], vectors[b])
                means[a, b] = np.diag(nearer).mean()
                null += nearer[orders[a], orders[b]].mean(axis=1)
    null /= runs * (runs - 1)
    value = float(np.nanmean(means))
    without = [np.nanmean(np.delete(np.delete(means, run, 0), run, 1)) for run in range(runs)] if runs > 2 else []
    low, high = mean_interval(np.array([runs * value - (runs - 1) * each for each in without]))
    return {**permuted(value, null, "greater"), "low": low, "high": high, "n": runs * classes}


def _nearer(here: NDArray[np.float32], there: NDArray[np.float32]) -> NDArray[np.float64]:
    """(K, K) of each elite of one run (row) and each of another (column), the share of the others of that run that are
    farther; half of those as far."""
    squares = (here.astype(float) ** 2).sum(axis=1)[:, None] + (there.astype(float) ** 2).sum(axis=1)
    apart = np.round(squares - 2.0 * (here.astype(float) @ there.astype(float).T), 6)
    ranks = pd.DataFrame(apart).rank(axis=1).to_numpy()
    return np.asarray((len(there) - ranks) / (len(there) - 1))


def stands_out(values: NDArray[np.float64], which: int) -> Facts:
    """The mean over runs of a figure of one class.

    Args:
        values: (R, K) of R runs and K classes.

    Returns:
        value; low, high: Student's over runs; p: two-sided, that it is as far from the mean of all classes, where
        classes are permuted over the elites of each run; n: runs.
    """
    runs, classes = values.shape
    orders = np.stack([permutations("stands out", run, MOST, classes)[:, which] for run in range(runs)])
    null = values[np.arange(runs)[:, None], orders].mean(axis=0)
    low, high = mean_interval(values[:, which])
    return {**permuted(float(values[:, which].mean()), null, "both"), "low": low, "high": high, "n": runs}
