"""Curves of a run from its placements: confidence, classes, goal switches; and who took cells of other classes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evofool.records import Facts

__all__ = ["QUANTILES", "Curves", "curves", "takers"]

POINTS = 200  # of a curve, at most
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
THRESHOLDS = (0.9, 0.99, 0.9999)


@dataclass
class Curves:
    """Columns of numbers over the evaluations; a column that the tables cannot tell any more is empty."""

    evaluations: list[int] = field(default_factory=list)
    generations: list[int] = field(default_factory=list)
    quantiles: dict[float, list[float]] = field(default_factory=dict)
    classes: dict[float, list[int]] = field(default_factory=dict)
    placements: list[int] = field(default_factory=list)  # so far
    switches: list[int] = field(default_factory=list)  # so far


def takers(placed: pd.DataFrame, names: Mapping[int, str]) -> tuple[dict[int, str], dict[int, list[str]]]:
    """Of each individual the class it was surest of when it took a cell, and all classes whose cells it took."""
    seen_as: dict[int, tuple[float, str]] = {}
    taken: dict[int, list[str]] = {}
    for identity, index, odds in zip(placed["individual_id"], placed["class_index"], placed["log_odds"]):
        name = names[index]
        taken.setdefault(identity, []).append(name)
        if identity not in seen_as or odds > seen_as[identity][0]:
            seen_as[identity] = (odds, name)
    return {identity: name for identity, (_, name) in seen_as.items()}, taken


def curves(
    placed: pd.DataFrame,
    people: Mapping[int, Facts],
    history: pd.DataFrame,
    whole_from: int,
    cells: int,
    names: Mapping[int, str],
) -> tuple[Curves, list[tuple[str, int]]]:
    """The curves, and (class, how many cells of other classes the children of its elites took), the most first.

    Args:
        placed: the placements; all of them from generation `whole_from` on.
        people: the individuals that are stored, by id.
        cells: how many there are.
        names: of the classes, by index.
    """
    told = Curves()
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
        }
        return told, []
    placed = placed.sort_values("generation", kind="stable")
    at, cell, confidence = (placed[name].to_numpy() for name in ("generation", "cell", "confidence"))
    ends = np.searchsorted(at, told.generations, side="right")
    held, begin = np.full(cells, np.nan, dtype=np.float32), 0
    told.quantiles, told.classes = {q: [] for q in QUANTILES}, {t: [] for t in THRESHOLDS}
    for end in ends:
        held[cell[begin:end]] = confidence[begin:end]  # of several of a cell the last counts
        begin = end
        filled = held[~np.isnan(held)]
        for q, value in zip(QUANTILES, np.quantile(filled, QUANTILES) if len(filled) else [math.nan] * 5):
            told.quantiles[q].append(float(value))
        for limit in THRESHOLDS:
            told.classes[limit].append(int((filled >= np.float32(limit)).sum()))
    switched, donors = _switches(placed, people, names)
    told.switches = np.cumsum(switched)[ends - 1].tolist() if len(switched) else []
    return told, donors


def _switches(
    placed: pd.DataFrame, people: Mapping[int, Facts], names: Mapping[int, str]
) -> tuple[NDArray[np.bool_], list[tuple[str, int]]]:
    """Of each placement whether it is a goal switch: a cell is taken by a child none of whose parents had ever held it.

    Also how many cells each class gave away so: the class that the child's first parent was surest of.
    """
    pairs = set(zip(placed["individual_id"].tolist(), placed["cell"].tolist()))
    surest = takers(placed, names)[0]
    switched = np.zeros(len(placed), dtype=bool)
    given: dict[str, int] = {}
    for i, (identity, cell) in enumerate(zip(placed["individual_id"].tolist(), placed["cell"].tolist())):
        parents = people[identity]["parent_ids"]
        if parents and not any((parent, cell) in pairs for parent in parents):
            switched[i] = True
            donor = surest.get(parents[0])
            if donor is not None:
                given[donor] = given.get(donor, 0) + 1
    return switched, sorted(given.items(), key=lambda item: -item[1])
