"""What the placements of a run come to: how sure its elites became, and from which classes they came."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evofool.store import ancestry
from evofool.store.reader import Run

__all__ = ["QUANTILES", "THRESHOLDS", "goal_switches", "held_at", "trends"]

QUANTILES = {"q10": 0.1, "q25": 0.25, "q50": 0.5, "q75": 0.75, "q90": 0.9}
THRESHOLDS = {"classes_90": 0.9, "classes_99": 0.99, "classes_9999": 0.9999}  # of confidence
_SUREST = 1 - 2.0**-25  # the confidence next to 1


def trends(run: Run) -> pd.DataFrame:
    """One row for each generation: how the elites' log-odds are spread, and how many cells are how sure.

    Where cells are of units, it is their activations, and nothing is sure.

    Returns:
        generation, evaluations, the log-odds at QUANTILES of the filled cells, and numbers of cells at THRESHOLDS and
        above. Where `storage.history` has dropped placements there are no more than q50, classes_99 and classes_9999.
    """
    history = run.history()
    frame = history[["generation", "evaluations"]].copy()
    units = bool(run.store.cells.units)
    if run.status()["placements_from"]:
        if units:
            return frame.assign(q50=history["median"])
        median = history["median"].clip(1 - _SUREST, _SUREST)
        return frame.assign(q50=np.log(median / (1 - median)), **history[["classes_99", "classes_9999"]])
    placements = run.placements()
    names = ["objective", "objective"] if units else ["log_odds", "confidence"]
    cells, columns = placements["cell"].to_numpy(), placements[names].to_numpy().T
    held = np.full((2, run.provenance["cells"]), np.nan)  # what each cell's elite has of the two
    rows = []
    for _ in held_at(
        np.searchsorted(placements["generation"], history["generation"], side="right"), cells, columns, held
    ):
        log_odds, confidence = held[:, ~np.isnan(held[0])]
        spread = np.quantile(log_odds, list(QUANTILES.values())) if len(log_odds) else [np.nan] * len(QUANTILES)
        # As the history counts them, in float32.
        sure = [int((confidence.astype(np.float32) >= least).sum()) for least in THRESHOLDS.values()]
        rows.append([*spread, *sure])
    table = pd.DataFrame(rows, columns=[*QUANTILES, *THRESHOLDS])
    return frame.join(table[list(QUANTILES)] if units else table)


def held_at(
    ends: Iterable[int], cells: NDArray[Any], columns: Iterable[NDArray[Any]], held: Iterable[NDArray[Any]]
) -> Iterator[int]:
    """Follow placements: before each of `ends` is given, `held` has what the elites are after so many placements.

    Args:
        cells: (n,) of the placements, in order; of several of a cell the last remains.
        columns: (n,) each, figures of the placements.
        held: (cells,) for each of the columns; changed in place.
    """
    begin = 0
    for end in ends:
        for values, column in zip(held, columns):
            values[cells[begin:end]] = column[begin:end]
        begin = end
        yield end


def goal_switches(run: Run) -> tuple[NDArray[np.float64], float]:
    """From which classes' elites the new elites of each class descend.

    A placement counts for the classes of `ancestry.bred_from`, in equal parts.

    Returns:
        (K, K) placements from the class of a row to the class of a column, in the order of the run's classes; and the
        share of all placements with a parent that are goal switches, NaN without any.
    """
    placements = run.placements()
    number = {index: i for i, index in enumerate(run.provenance["class_indices"])}
    counts = np.zeros((len(number), len(number)))
    origins, switched = ancestry.goal_switches(placements, run.config.search.lag)
    for index, held in zip(placements["class_index"].tolist(), origins):
        for class_ in held:
            counts[number[class_], number[index]] += 1 / len(held)
    total = sum(map(bool, origins))
    return counts, float(switched.sum()) / total if total else float("nan")
