"""From a network's outputs to scores: plain numpy, the same in every evaluator and in ask/tell."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from evofool.archive.objectives import LOG_ODDS, Objective, Readings
from evofool.records import TOP, Cells, Scores

__all__ = ["COMBINE", "OUTPUTS", "combined", "confidence", "log_odds", "log_odds_float64", "score_outputs", "sums"]

OUTPUTS = ("logits", "probabilities", "log_probabilities")  # what a network may return
COMBINE = ("mean", "product", "min")  # ways to make one answer of several networks'

_SMALLEST = 2.0**-149  # the smallest positive float32: a probability of 0 means "below this"


def log_odds(outputs: NDArray[np.floating], output: str) -> NDArray[np.float32]:
    """z_c - logsumexp of the other classes, for every row and class; float64 inside.

    Unlike a probability or its logarithm, it never saturates, so a cell can always be improved. The probability is
    1 / (1 + exp(-log_odds)).

    Args:
        outputs: (n, classes), what the network returned.
        output: "logits", "probabilities" or "log_probabilities". Log-probabilities are logits; so are the logarithms
            of probabilities, where 0 counts as the smallest positive float32. "log_odds" are what they are; those of an
            ensemble need not be any distribution's.

    Returns:
        (n, classes) float32; NaN in every column of a row that has a value that is not finite.
    """
    return log_odds_float64(outputs, output).astype(np.float32)


def log_odds_float64(outputs: NDArray[np.floating], output: str) -> NDArray[np.float64]:
    """As `log_odds`, before it is rounded to float32."""
    z = outputs.astype(np.float64)
    bad = ~np.isfinite(z).all(axis=1)
    if output == "log_odds":
        z[bad] = np.nan
        return z
    z[bad] = 0.0
    if output == "probabilities":
        z = np.log(np.maximum(z, _SMALLEST))
    top = z.argmax(axis=1)
    rows = np.arange(len(z))
    shifted = np.exp(z - z[rows, top][:, None])
    total = shifted.sum(axis=1)
    with np.errstate(divide="ignore"):
        # For all but the largest the rest holds the largest, so the subtraction is harmless ...
        result = z - (z[rows, top] + np.log(total))[:, None] - np.log1p(-shifted / total[:, None])
    # ... and for the largest the others are summed about their own maximum.
    others = z.copy()
    others[rows, top] = -np.inf
    second = others.max(axis=1)
    result[rows, top] = z[rows, top] - (second + np.log(np.exp(others - second[:, None]).sum(axis=1)))
    result[bad] = np.nan
    return result


def combined(members: Sequence[NDArray[np.float64]], combine: str) -> NDArray[np.float32]:
    """The log-odds of an ensemble, from those of its members; float64 inside.

    A member's log-odds d hold log p = -log(1 + exp(-d)) and log(1 - p) = -log(1 + exp(d)) to full precision, however
    near to 0 or 1 its p is, so nothing here is ever subtracted from 1.

    Args:
        members: (n, classes) each, of the classes that all members have. Their probabilities need not sum to 1, since a
            member may have other classes besides.
        combine: "mean": log(mean of p) - log(mean of 1 - p). "product": of the products q_c of the members' p_c,
            log(q_c) - log(sum of q_j, j != c), so q is renormalised over these classes. "min": the least of the d,
            which is no distribution's; its largest is the ensemble's answer all the same.

    Returns:
        (n, classes) float32; NaN in every column of a row that is not finite for any member.
    """
    odds = np.stack(members)
    bad = ~np.isfinite(odds).all(axis=(0, 2))
    odds[:, bad] = 0.0
    if combine == "min":
        result = odds.min(axis=0)
    elif combine == "product":
        result = log_odds_float64(-np.logaddexp(0.0, -odds).sum(axis=0), "logits")
    else:
        result = np.logaddexp.reduce(-np.logaddexp(0.0, -odds)) - np.logaddexp.reduce(-np.logaddexp(0.0, odds))
    result[bad] = np.nan
    return result.astype(np.float32)


def sums(outputs: NDArray[np.floating], output: str) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """What the probabilities of each row sum to, and the rows whose sum or sign says that they are none.

    Args:
        outputs: (n, classes), finite.
        output: see `log_odds`; anything may be logits, whose probabilities sum to 1, or log-odds, of which any will do.
    """
    if output in ("logits", "log_odds"):
        return np.ones(len(outputs)), np.zeros(len(outputs), dtype=bool)
    rows = outputs.astype(np.float64)
    with np.errstate(over="ignore"):
        total = (np.exp(rows) if output == "log_probabilities" else rows).sum(axis=1)
    negative = output == "probabilities" and rows.min(axis=1) < -1e-6
    return total, (np.abs(total - 1) > 1e-2) | negative


def confidence(log_odds: NDArray[np.float32]) -> NDArray[np.float32]:
    """The probability that log-odds stand for: 1 / (1 + exp(-log_odds)), float32; 0 for an empty cell's -inf."""
    values = log_odds.astype(np.float64)
    small = np.exp(-np.abs(values))
    return np.where(values >= 0, 1 / (1 + small), small / (1 + small)).astype(np.float32)


def _logits(outputs: NDArray[np.floating], output: str) -> NDArray[np.float32]:
    """Outputs as logits, of which logarithms of probabilities are some."""
    if output == "probabilities":
        return np.log(np.maximum(outputs.astype(np.float64), _SMALLEST)).astype(np.float32)
    if output == "log_odds":
        return -np.logaddexp(0.0, -outputs.astype(np.float64)).astype(np.float32)
    return outputs.astype(np.float32)


def _largest(values: NDArray[np.float32]) -> NDArray[np.int32]:
    """(n, TOP) the columns of each row's largest values, of equals the first; -1: there are fewer."""
    left, rows = values.copy(), np.arange(len(values))
    found = np.full((len(values), TOP), -1, dtype=np.int32)
    for i in range(min(TOP, values.shape[1])):  # much faster than to sort a thousand columns
        found[:, i] = left.argmax(axis=1)
        left[rows, found[:, i]] = -np.inf
    return found


def score_outputs(
    outputs: NDArray[np.floating],
    output: str,
    cells: Cells,
    images: NDArray[np.uint8],
    objective: Objective = LOG_ODDS,
    layer: NDArray[np.float32] | None = None,
    activations: NDArray[np.float32] | None = None,
) -> Scores:
    """Scores of images.

    Args:
        outputs: (m, classes), what the network returned for the n images and then m - n rows of padding.
        output: see `log_odds`.
        cells: of the archive.
        images: (n, h, w, channels) uint8.
        objective: by which individuals are ranked in each cell.
        layer: (m, ...) the outputs of the layer that the objective reads, if any.
        activations: (m, K), where cells are of units: by which individuals are ranked, whatever the objective is.
    """
    rows = len(images)
    # All m rows are computed, so that a row's bits cannot depend on how many of the others are padding.
    odds = log_odds(outputs, output)[:rows]
    if activations is None:
        readings = Readings(
            odds,
            cells.classes,
            logits=_logits(outputs[:rows], output) if objective.logits else None,
            images=images if objective.images else None,
            layer=None if layer is None else layer[:rows],
        )
        of_cells, ranked = odds[:, cells.classes], objective(readings)
    else:
        of_cells = ranked = activations[:rows]
    top = _largest(np.nan_to_num(odds, nan=-np.inf))
    hashes = b"".join(hashlib.sha256(image.tobytes()).digest() for image in images)
    return Scores(
        log_odds=of_cells,
        objective=ranked,
        top_classes=top,
        top_confidences=np.where(top < 0, 0, np.nan_to_num(confidence(np.take_along_axis(odds, top, axis=1)))),
        image_sha256=np.frombuffer(hashes, dtype=np.uint8).reshape(rows, 32),
        bins=cells.describe(images) if cells.describe else None,
    )
