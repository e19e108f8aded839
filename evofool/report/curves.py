"""Curves of a run from its placements: confidence, classes, goal switches."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from evofool.report import trends
from evofool.store import ancestry

__all__ = ["QUANTILES", "Curves", "curves"]

POINTS = 200  # of a curve, at most
QUANTILES, THRESHOLDS = tuple(trends.QUANTILES.values()), tuple(trends.THRESHOLDS.values())


@dataclass
class Curves:
    """Columns of numbers over the evaluations; a column that the tables cannot tell any more is empty."""

    evaluations: list[int] = field(default_factory=list)
    generations: list[int] = field(default_factory=list)
    quantiles: dict[float, list[float]] = field(default_factory=dict)
    classes: dict[float, list[int]] = field(default_factory=dict)
    placements: list[int] = field(default_factory=list)  # so far
    switches: list[int] = field(default_factory=list)  # so far


def curves(
    placed: pd.DataFrame,
    history: pd.DataFrame,
    whole_from: int,
    cells: int,
    lag: int,
    names: Mapping[int, str],
    units: bool = False,
) -> tuple[Curves, list[tuple[str, int]]]:
    """The curves, and (class, how many cells of other classes the children of its elites took), the most first.

    Args:
        placed: the placements in order, as `ancestry.bred_from` wants them; all from generation `whole_from` on.
        cells: how many there are.
        lag: `search.lag`.
        names: of the classes, by index.
        units: whether cells are of units: then quantiles are of activations, which `placed` has in place of
            confidences and log-odds, and no classes are counted.
    """
    told, thresholds = Curves(), () if units else THRESHOLDS
    generations = history["generation"].to_numpy()
    if not len(generations):
        return told, []
    shown = np.unique(np.linspace(0, len(generations) - 1, min(POINTS, len(generations))).round().astype(int))
    told.generations = generations[shown].tolist()
    told.evaluations = history["evaluations"].to_numpy()[shown].tolist()
    told.placements = history["placements_total"].to_numpy()[shown].tolist()
    if whole_from:  # what came before the last compaction is only in the history
        told.quantiles = {0.5: history["median"].to_numpy()[shown].tolist()}
        told.classes = {
            limit: history[name].to_numpy()[shown].tolist()
            for limit, name in ((0.99, "classes_99"), (0.9999, "classes_9999"))
            if limit in thresholds
        }
        return told, []
    ends = np.searchsorted(placed["generation"], told.generations, side="right")
    held = np.full(cells, np.nan, dtype=np.float32)
    told.quantiles, told.classes = {q: [] for q in QUANTILES}, {t: [] for t in thresholds}
    for _ in trends.held_at(ends, placed["cell"].to_numpy(), [placed["confidence"].to_numpy()], [held]):
        filled = held[~np.isnan(held)]
        for q, value in zip(QUANTILES, np.quantile(filled, QUANTILES) if len(filled) else [math.nan] * len(QUANTILES)):
            told.quantiles[q].append(float(value))
        for limit in thresholds:
            told.classes[limit].append(int((filled >= np.float32(limit)).sum()))
    origins, switched = ancestry.goal_switches(placed, lag)
    told.switches = np.append(0, np.cumsum(switched))[ends].tolist()
    given = Counter(names[index] for held, is_switch in zip(origins, switched) if is_switch for index in held)
    return told, given.most_common()
