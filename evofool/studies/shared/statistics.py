"""Intervals and tests."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from evofool.base import rng
from evofool.records import Facts

__all__ = [
    "clustered_medians",
    "difference_of_medians",
    "mann_whitney",
    "mean_interval",
    "median_interval",
    "median_ranks",
    "permutations",
    "permuted",
    "ratio_interval",
    "stouffer",
    "wilson",
]

RESAMPLES = 10_000
CLUSTERED = 4_000  # resamples of clusters and of what is in them
SUREST_P = 1 - 1e-3
_Z95 = 1.959963984540054  # the normal quantile of 0.975


def wilson(count: int, n: int) -> tuple[float | None, float | None]:
    """The 95 % interval of a share, `count` of `n` (Wilson, JASA 22, 1927, p. 209); (None, None) of none."""
    if n == 0:
        return None, None
    centre = (count + _Z95**2 / 2) / (n + _Z95**2)
    half = _Z95 / (n + _Z95**2) * math.sqrt(count * (n - count) / n + _Z95**2 / 4)
    return 0.0 if count == 0 else centre - half, 1.0 if count == n else centre + half


def median_interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """95 % percentile bootstrap of the median of (n,) numbers, infinity among them; the same every time.

    Of so few numbers that it is their range, it holds the median less surely than that: of 2, 3, 4, 5 in 50, 75, 87.5
    and 93.75 % of samples, whatever the distribution.
    """
    uniform = rng.uniforms(0, "bootstrap", 0, (RESAMPLES, len(values)))
    picks = values[(uniform * len(values)).astype(int)]
    ranked = np.sort(np.sort(picks, axis=1)[:, [(len(values) - 1) // 2, len(values) // 2]].mean(axis=1))
    return float(ranked[int(0.025 * RESAMPLES)]), float(ranked[int(0.975 * RESAMPLES)])


def median_ranks(values: NDArray[np.float64]) -> tuple[float | None, float | None]:
    """The 95 % interval of the median of (n,) numbers by their ranks, which takes no distribution for granted and costs
    a sort; (None, None) of under six, between whose ends the median lies less surely than that."""
    n, ranked = len(values), np.sort(values)
    if n < 6:
        return None, None
    rank = math.floor((n - 1 - _Z95 * math.sqrt(n)) / 2)  # the binomial's quantile, by the normal, on the safe side
    return float(ranked[rank]), float(ranked[n - 1 - rank])


def mean_interval(values: NDArray[np.float64]) -> tuple[float | None, float | None]:
    """The 95 % interval of the mean of (n,) numbers by Student's t (Biometrika 6, 1908, p. 1); (None, None) of one."""
    from scipy.special import stdtrit  # the quantile of Student's t; not imported by commands that need none

    n = len(values)
    if n < 2:
        return None, None
    mean, half = float(values.mean()), float(stdtrit(n - 1, 0.975) * values.std(ddof=1) / math.sqrt(n))
    return mean - half, mean + half


def ratio_interval(above: NDArray[np.float64], below: NDArray[np.float64]) -> tuple[float | None, float | None]:
    """95 % percentile bootstrap of sum(above) / sum(below) over (n,) units that have some of both, drawn anew together;
    the same every time; (None, None) of under six."""
    n = len(above)
    if n < 6:
        return None, None
    picks = (rng.uniforms(0, "ratio", 0, (RESAMPLES, n)) * n).astype(int)
    with np.errstate(invalid="ignore"):
        drawn = above[picks].sum(axis=1) / below[picks].sum(axis=1)
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return float(low), float(high)


def permutations(domain: str, number: int, count: int, n: int) -> NDArray[np.int64]:
    """(count, n) permutations of 0 .. n - 1, the same every time, at an address of random numbers."""
    return np.argsort(rng.uniforms(0, domain, number, (count, n)), axis=1, kind="stable")


def permuted(value: float, null: NDArray[np.float64], tail: str) -> Facts:
    """A figure beside what it is under (n,) permutations.

    Args:
        tail: what would be as far out: "less", "greater", or "both".

    Returns:
        value; low, high: the value less the middle of permutations, 95 % of them lying as far or less from it on either
        side; p: of how many permutations, counting the observed one, the figure is at least as far out.
    """
    middle, near = float(null.mean()), 1e-9 * max(1.0, abs(value))
    out = {"less": null <= value + near, "greater": null >= value - near}
    out["both"] = np.abs(null - middle) >= abs(value - middle) - near
    low, high = (float(each) - middle for each in np.quantile(null, [0.025, 0.975]))
    p = (1 + int(out[tail].sum())) / (1 + len(null))
    return {"value": value, "low": value - max(0.0, high), "high": value - min(0.0, low), "p": p}


def stouffer(ps: NDArray[np.float64], signs: NDArray[np.float64] | None = None) -> float:
    """One p-value for (k,) independent tests of one hypothesis, each counting alike (Stouffer et al., The American
    Soldier, 1949, vol. 1, p. 45).

    Args:
        ps: one-sided; or two-sided, in (0, 1]. Those of permutations are never 0, but may be 1, which says no more than
            that all of so many were farther out; one-sided ones count as SUREST_P at most, or one test would outweigh
            all others.
        signs: of two-sided ones, in which direction each effect was (-1 or 1).
    """
    from scipy.special import ndtr, ndtri

    if signs is None:
        z = float(-ndtri(np.minimum(ps, SUREST_P)).sum() / math.sqrt(len(ps)))
        return float(ndtr(-z))
    z = float((signs * -ndtri(ps / 2)).sum() / math.sqrt(len(ps)))
    return float(2 * ndtr(-abs(z)))


def difference_of_medians(first: NDArray[np.float64], second: NDArray[np.float64]) -> Facts:
    """The median of (n,) numbers less that of (m,) others.

    Returns:
        value; low, high: 95 % percentile bootstrap, each side drawn anew; p: two-sided, of RESAMPLES permutations of
        who belongs to which; the same every time. None where a side has no numbers.
    """
    n, m = len(first), len(second)
    if not n or not m:
        return {"value": None, "low": None, "high": None, "p": None}
    value = float(np.median(first) - np.median(second))
    picks = rng.uniforms(0, "difference", 0, (RESAMPLES, n + m))
    here, there = (picks[:, :n] * n).astype(int), (picks[:, n:] * m).astype(int)
    drawn = np.median(first[here], axis=1) - np.median(second[there], axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    mixed = np.concatenate([first, second])[np.argsort(rng.uniforms(0, "difference", 1, (RESAMPLES, n + m)), axis=1)]
    null = np.median(mixed[:, :n], axis=1) - np.median(mixed[:, n:], axis=1)
    # Sums of the same numbers in another order are not always the same to the last bit.
    p = (1 + int((np.abs(null) >= abs(value) * (1 - 1e-12)).sum())) / (1 + RESAMPLES)
    return {"value": value, "low": float(low), "high": float(high), "p": p}


def clustered_medians(
    clusters: Sequence[NDArray[np.float64]], less: Sequence[NDArray[np.float64]] | None = None
) -> tuple[float, float, float]:
    """The median over clusters of the median in each, or of what it is more than in its partner; and 95 % of it.

    Args:
        clusters: (n,) numbers each, infinity among them: what runs of a seed came to, say.
        less: as many, of which each is the partner of the cluster at its place; finite.

    Returns:
        The value; low, high: percentile bootstrap of clusters, and of numbers within each; the same every time. Of one
        cluster it is of its numbers alone.
    """
    drawn = np.stack([_medians_drawn(cluster, 2 * i) for i, cluster in enumerate(clusters)])
    values = np.array([np.median(cluster) for cluster in clusters])
    if less is not None:
        drawn = drawn - np.stack([_medians_drawn(cluster, 2 * i + 1) for i, cluster in enumerate(less)])
        values = values - [np.median(cluster) for cluster in less]
    k = len(clusters)
    picks = (rng.uniforms(0, "clusters", 0, (CLUSTERED, k)) * k).astype(int)
    middle = np.sort(np.median(drawn[picks, np.arange(CLUSTERED)[:, None]], axis=1))
    value = float(np.median(values))
    low, high = middle[int(0.025 * CLUSTERED)], middle[int(0.975 * CLUSTERED)]
    return value, min(value, float(low)), max(value, float(high))


def _medians_drawn(values: NDArray[np.float64], address: int) -> NDArray[np.float64]:
    picks = rng.uniforms(0, "cluster", address, (CLUSTERED, len(values)))
    result: NDArray[np.float64] = np.median(values[(picks * len(values)).astype(int)], axis=1)
    return result


def mann_whitney(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """The p-value of the two-sided Mann-Whitney U test; infinity is the largest."""
    from scipy.stats import mannwhitneyu  # half a second, of which no other command should know

    largest = 1 + max([v for v in (*first, *second) if np.isfinite(v)], default=0)
    a, b = (np.where(np.isfinite(v), v, largest) for v in (first, second))  # only ranks matter
    return float(mannwhitneyu(a, b, alternative="two-sided").pvalue)
