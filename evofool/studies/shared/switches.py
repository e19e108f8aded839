"""Goal switches of a run by three exact definitions, and what they would be by chance.

Innovation Engines (Nguyen, Yosinski and Clune, GECCO 2015) count a goal switch where the parent of a class's new
champion was the champion of another class. One image may hold many cells here, so there are three counts. Of a
placement of class c by a child of parent p, which was drawn as the elite of a cell of class d:

    drawn     d is not c
    strict    c is none of the classes whose cells p held when it was drawn; nearest to the paper
    first     c is none of the classes whose cells p ever took

Each count is part of the one before it. Unrelated classes would give about (m - 1) / m of `drawn`, for m classes, so a
share says nothing without its null: children keep the cells that they took, and exchange their parents with other
children of about the same time. A child has one parent however many cells it takes, so it is children, not placements,
that exchange; productive parents stay as productive as they were.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evofool.base import rng
from evofool.config import Config
from evofool.records import NO_PARENT, Facts, address_of
from evofool.search.parents import curiosity, pick_by, pick_uniformly
from evofool.store.ancestry import Holdings, holdings
from evofool.studies.shared.statistics import mean_interval, permutations, permuted, ratio_interval

__all__ = ["DEFINITIONS", "Child", "children", "drawn_cells", "figures"]

DEFINITIONS = ("drawn", "strict", "first")
WHOSE = ("first", "either")  # parents that are asked: the first alone; the second, too, where crossover gave one
MOST, FEWEST, ROOM = 9999, 99, 100_000_000  # permutations, and numbers that they may look up together
Origins = dict[str, dict[int, float]]  # definition -> class -> how much of it the parent counts as of that class


@dataclass(frozen=True)
class Child:
    """An individual that took cells and has a parent.

    Attributes:
        classes: of the cells it took, one for each; indices of outputs.
        origins: by definition, the classes that its parent was of: 1 each; of `drawn`, where it is not known from which
            of several cells the parent was drawn, equal parts of these.
    """

    generation: int
    classes: list[int]
    origins: Origins


def drawn_cells(config: Config, placed: pd.DataFrame, cells: int) -> dict[tuple[int, int], int]:
    """From which cell each parent was drawn: {(child, 0 for its first parent or 1 for its second): cell}.

    A run stores who the parents were. The numbers by which they were drawn are those of the seed and the child's
    address, so they are drawn again (search/breeding.py). Missing where individuals are drawn, not cells, or by an
    operator of the user's own; and of a second parent that was chosen for its kinship.

    Args:
        placed: all placements in order, with parent_ids.
        cells: how many there are.
    """
    search = config.search
    ways = {"cells": (0, 1), "curiosity": (0, 1), "kinship": (0,)}
    which = ways.get(search.selection, ()) if search.mode == "map_elites" else ()
    if not which or "select" in config.variation.operators:
        return {}
    generations, cell_of = (placed[name].to_numpy() for name in ("generation", "cell"))
    who, parents = placed["individual_id"].to_numpy(), placed["parent_ids"].tolist()
    first = {int(one): int(p[0]) if len(p) else NO_PARENT for one, p in zip(who, parents)}
    elites, done, found = np.full(cells, NO_PARENT, dtype=np.int64), 0, {}
    for generation, rows in placed.groupby("generation", sort=True).indices.items():
        bred_after = int(np.searchsorted(generations, generation - search.lag, side="right"))
        for row in range(done, bred_after):
            elites[cell_of[row]] = who[row]
        done = max(done, bred_after)
        filled = np.flatnonzero(elites != NO_PARENT)
        mine = [row for row in rows if len(parents[row])]
        if not mine or not len(filled):
            continue
        slots = np.array([address_of(who[row])[1] for row in mine])
        uniform = rng.uniforms(config.seed, "select", int(generation), (int(slots.max()) + 1, 2))[slots]
        if search.selection == "curiosity":
            theirs = np.array([first[int(elite)] for elite in elites[filled]], dtype=np.int64)
            last = int(generation) - search.lag
            weights = curiosity(elites[filled], theirs, generation=last, offspring=search.offspring)
            picks = pick_by(weights, filled, uniform)
        else:
            picks = pick_uniformly(filled, uniform)
        for row, pick in zip(mine, picks):
            for i in which:
                if len(parents[row]) > i and elites[pick[i]] == parents[row][i]:
                    found[int(who[row]), i] = int(pick[i])
    return found


def children(placed: pd.DataFrame, lag: int, drawn: Mapping[tuple[int, int], int]) -> dict[str, list[Child]]:
    """The children that took cells, oldest first, by whose origins count: those of the `first` parent, and of `either`,
    which is there only if some have two.

    Args:
        placed: all placements in order, with parent_ids.
        lag: `search.lag`.
        drawn: as of `drawn_cells`.
    """
    held, class_of = holdings(placed), dict(zip(placed["cell"].tolist(), placed["class_index"].tolist()))
    columns = [placed[name].tolist() for name in ("individual_id", "generation", "class_index", "parent_ids")]
    took: dict[int, list[int]] = {}
    for one, _, class_, _ in zip(*columns):
        took.setdefault(one, []).append(class_)
    found: dict[str, list[Child]] = {whose: [] for whose in WHOSE}
    crossed = False
    for one, generation, _, parents in zip(*columns):
        if one not in took or not len(parents):
            continue
        of_each = [
            _origins(held, int(parent), generation - lag, class_of.get(drawn.get((one, i), -1)))
            for i, parent in enumerate(parents)
        ]
        if any(of_each[0].values()):
            crossed |= len(of_each) > 1
            for whose in WHOSE:
                origins = of_each[0] if whose == "first" else _together(of_each)
                found[whose].append(Child(generation, took[one], origins))
        del took[one]  # its other placements are in `classes`
    return found if crossed else {"first": found["first"]}


def _origins(held: Holdings, parent: int, bred: int, drawn: int | None) -> Origins:
    """What a parent was of after generation `bred`; nothing of one that held no cell then, or is not known."""
    rows = held.get(parent, [])
    then = [class_ for _, class_, begin, end in rows if begin <= bred < end]
    if not then:
        return {name: {} for name in DEFINITIONS}
    parts = {class_: then.count(class_) / len(then) for class_ in then} if drawn is None else {drawn: 1.0}
    ever = {class_: 1.0 for _, class_, *_ in rows}
    return {"drawn": parts, "strict": dict.fromkeys(then, 1.0), "first": ever}


def _together(parents: Sequence[Origins]) -> Origins:
    """What a child's parents are of together: of each class, as much as that parent which is most of it."""
    whole: Origins = {name: {} for name in DEFINITIONS}
    for parent in parents:
        for name, shares in parent.items():
            for class_, share in shares.items():
                whole[name][class_] = max(share, whole[name].get(class_, 0.0))
    return whole


def figures(family: Sequence[Child], classes: Sequence[int], window: int) -> Iterator[Facts]:
    """What the children come to: rows with figure, of (the definition), value, low, high, p, n and null.

    `goal_switches`, for each class; `switch_share`, of the placements; `switch_share_by_chance`, between whose low and
    high 95 % of permutations lie; `switch_excess`, by how much more it is, less these; p is two-sided.

    Args:
        family: of one run, the oldest first.
        classes: of the archive.
        window: how many children exchange parents, at least: those of so many whole generations.
    """
    number = {class_: i for i, class_ in enumerate(classes)}
    taken = np.zeros(len(classes))
    for child in family:
        np.add.at(taken, [number[class_] for class_ in child.classes], 1)
    count = int(np.clip(ROOM // (len(DEFINITIONS) * taken.sum()), FEWEST, MOST))
    own = {name: np.zeros(len(classes)) for name in DEFINITIONS}  # placements that are no switches
    expected = dict.fromkeys(DEFINITIONS, 0.0)
    draws = {name: np.zeros(count) for name in DEFINITIONS}
    for i, part in enumerate(_windows(family, window)):
        rows = np.repeat(np.arange(len(part)), [len(child.classes) for child in part])
        took = np.array([number[class_] for child in part for class_ in child.classes])
        parents = permutations("goal switches", i, count, len(part))[:, rows]
        for name in DEFINITIONS:
            was = np.zeros((len(part), len(classes)))  # how much each child's parent was of each class
            for row, child in enumerate(part):
                for class_, share in child.origins[name].items():
                    was[row, number[class_]] = share
            np.add.at(own[name], took, was[rows, took])
            expected[name] += float(was.mean(axis=0)[took].sum())
            draws[name] += was[parents, took].sum(axis=1)
    for name in DEFINITIONS:
        chance, null = 1 - expected[name] / taken.sum(), 1 - draws[name] / taken.sum()
        yield from ({**row, "of": name} for row in _rows(taken, taken - own[name], chance, null))


def _rows(
    taken: NDArray[np.float64], switches: NDArray[np.float64], chance: float, null: NDArray[np.float64]
) -> Iterator[Facts]:
    n = int(taken.sum())
    share = float(switches.sum()) / n
    low, high = mean_interval(switches)
    yield {"figure": "goal_switches", "value": float(switches.mean()), "low": low, "high": high, "n": n}
    low, high = ratio_interval(switches, taken)
    yield {"figure": "switch_share", "value": share, "low": low, "high": high, "n": n}
    least, most = np.quantile(null, [0.025, 0.975])
    least, most = min(float(least), chance), max(float(most), chance)
    yield {"figure": "switch_share_by_chance", "value": chance, "low": least, "high": most, "n": n}
    how = "parents permuted in windows of time"
    yield {"figure": "switch_excess", **permuted(share - chance, null - chance, "both"), "n": n, "null": how}


def _windows(family: Sequence[Child], window: int) -> Iterator[Sequence[Child]]:
    """Parts of whole generations, each as small as it can be, of at least so many children; the last takes the rest."""
    starts = [0]
    for i, child in enumerate(family):
        if i - starts[-1] >= window and child.generation != family[i - 1].generation:
            starts.append(i)
    if len(starts) > 1 and len(family) - starts[-1] < window:
        starts.pop()
    for begin, end in zip(starts, [*starts[1:], len(family)]):
        yield family[begin:end]
