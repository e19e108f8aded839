"""What the placements of a run come to: how sure its elites became, and from which classes they came."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evofool.store.reader import Run

__all__ = ["QUANTILES", "THRESHOLDS", "bred_from", "goal_switches", "held_at", "trends"]

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


def bred_from(placements: pd.DataFrame, lag: int) -> list[set[int]]:
    """Of each placement, the indices of the classes that its first parent held when it was bred.

    It is a goal switch where its own class is none of these (Nguyen, Yosinski and Clune, GECCO 2015). None are known of
    an individual without parents.

    Args:
        placements: individual_id, generation, cell, class_index, displaced_id and parent_ids of all of them, in order.
        lag: `search.lag`.
    """
    columns = ["individual_id", "generation", "cell", "class_index", "displaced_id", "parent_ids"]
    rows = list(placements[columns].itertuples(index=False))
    lost = {(row.displaced_id, row.cell): row.generation for row in rows}
    holds: dict[int, list[tuple[int, int, float]]] = {}  # individual -> (class, from this generation, up to this one)
    for row in rows:
        end = lost.get((row.individual_id, row.cell), np.inf)
        holds.setdefault(row.individual_id, []).append((row.class_index, row.generation, end))
    found = []
    for row in rows:
        bred = row.generation - lag  # from the archive as it was after this generation
        parents = [holds.get(identity, []) for identity in row.parent_ids[:1]]
        found.append({class_ for cells in parents for class_, begin, end in cells if begin <= bred < end})
    return found


def goal_switches(run: Run) -> tuple[NDArray[np.float64], float]:
    """From which classes' elites the new elites of each class descend.

    A placement counts for the classes of `bred_from`, in equal parts.

    Returns:
        (K, K) placements from the class of a row to the class of a column, in the order of the run's classes; and the
        share of all placements with a parent that are goal switches, NaN without any.
    """
    placements = run.placements()
    number = {index: i for i, index in enumerate(run.provenance["class_indices"])}
    counts = np.zeros((len(number), len(number)))
    switches = total = 0
    for index, held in zip(placements["class_index"].tolist(), bred_from(placements, run.config.search.lag)):
        for class_ in held:
            counts[number[class_], number[index]] += 1 / len(held)
        switches, total = switches + (bool(held) and index not in held), total + bool(held)
    return counts, switches / total if total else float("nan")
