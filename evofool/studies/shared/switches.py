"""Goal switches of a run by three exact definitions, and what they would be by chance.

Innovation Engines (Nguyen, Yosinski and Clune, GECCO 2015) count a goal switch where the parent of a class's new
champion was the champion of another class. One image may hold many cells here, so there are three counts. Of a
placement of class c by a child of parent p, which was drawn as the elite of a cell of class d:

    drawn     d is not c
    strict    c is none of the classes whose cells p held when it was drawn; nearest to the paper
    first     c is none of the classes whose cells p ever took

Each count is part of the one before it. Unrelated classes would give about (m - 1) / m of `drawn`, for m classes, so a
share says nothing without its null: children keep the cells that they took, and exchange the cells that their parents
were drawn from with other children of about the same time. Who held such a cell when the child was bred is its parent
then. So cells that give many champions go on doing so, and nobody descends from who came later. A child has one parent
however many cells it takes, so it is children, not placements, that exchange.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evofool.base import rng
from evofool.config import Config
from evofool.records import NO_PARENT, Facts, address_of
from evofool.search.parents import curiosity, pick_by, pick_uniformly
from evofool.store.ancestry import Holdings, holdings
from evofool.studies.shared.statistics import mean_interval, permutations, permuted, ratio_interval

__all__ = ["DEFINITIONS", "Child", "Descent", "descent", "drawn_cells", "figures"]

DEFINITIONS = ("drawn", "strict", "first")
MOST, FEWEST, ROOM = 9999, 99, 100_000_000  # permutations, and numbers that they may look up together


@dataclass(frozen=True)
class Child:
    """An individual that took cells and has a parent.

    Attributes:
        classes: of the cells it took, one for each; indices of outputs.
        drawn: of each parent, from which cell it was drawn: {cell: 1}; or equal parts of those it held, where it is not
            known from which.
        bred: the generation after which the archive was bred from.
        holders: (C,) who held each cell then, NO_PARENT where nobody did.
    """

    generation: int
    classes: list[int]
    drawn: list[dict[int, float]]
    bred: int
    holders: NDArray[np.int64]


@dataclass(frozen=True)
class Descent:
    """The children of a run, the oldest first; which cells each individual held, and the class of each cell."""

    children: list[Child]
    held: Holdings
    class_of: dict[int, int]

    @property
    def crossed(self) -> bool:
        """Whether some have two parents."""
        return any(len(child.drawn) > 1 for child in self.children)


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
    who, parents, found = placed["individual_id"].to_numpy(), placed["parent_ids"].tolist(), {}
    first = {int(one): int(p[0]) if len(p) else NO_PARENT for one, p in zip(who, parents)}
    for generation, rows, elites in _archives(placed, search.lag, cells):
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


def _archives(placed: pd.DataFrame, lag: int, cells: int) -> Iterator[tuple[int, list[int], NDArray[np.int64]]]:
    """Each generation, its rows of the placements, and who held each cell when it was bred; NO_PARENT where nobody."""
    generations, cell_of = placed["generation"].to_numpy(), placed["cell"].to_numpy()
    who, elites, done = placed["individual_id"].to_numpy(), np.full(cells, NO_PARENT, dtype=np.int64), 0
    for generation, rows in placed.groupby("generation", sort=True).indices.items():
        until = int(np.searchsorted(generations, generation - lag, side="right"))
        elites = elites.copy()
        for row in range(done, until):
            elites[cell_of[row]] = who[row]
        done = max(done, until)
        yield int(generation), rows.tolist(), elites


def descent(placed: pd.DataFrame, lag: int, drawn: Mapping[tuple[int, int], int], cells: int) -> Descent:
    """The children that took cells, and what their parents held.

    Args:
        placed: all placements in order, with parent_ids.
        lag: `search.lag`.
        drawn: as of `drawn_cells`.
        cells: how many there are.
    """
    who, class_index, parents = (placed[name].tolist() for name in ("individual_id", "class_index", "parent_ids"))
    held, found = holdings(placed), []
    for generation, rows, elites in _archives(placed, lag, cells):
        bred, took = generation - lag, dict[int, list[int]]()
        for row in rows:
            took.setdefault(who[row], []).append(class_index[row])
        for row in rows:
            if not len(parents[row]) or not (classes := took.pop(who[row], [])):
                continue
            origins = [_drawn(held.get(int(p), []), bred, drawn.get((who[row], i))) for i, p in enumerate(parents[row])]
            if origins[0]:
                found.append(Child(generation, classes, [each for each in origins if each], bred, elites))
    return Descent(found, held, dict(zip(placed["cell"].tolist(), class_index)))


def _drawn(cells: list[tuple[int, int, int, float]], bred: int, drawn: int | None) -> dict[int, float]:
    """From which cells a parent may have been drawn, with their shares; none of one that held no cell."""
    if drawn is not None:
        return {drawn: 1.0}
    then = [cell for cell, _, begin, end in cells if begin <= bred < end]
    return {cell: 1.0 / len(then) for cell in then}


def figures(family: Descent, classes: Sequence[int], window: int, *, either: bool) -> Iterator[Facts]:
    """What the children come to: rows with figure, of (the definition), value, low, high, p, n and null.

    `goal_switches`, for each class; `switch_share`, of the placements; `switch_share_by_chance`, between whose low and
    high 95 % of permutations lie; `switch_excess`, by how much more it is, less these; p is two-sided.

    Args:
        family: of one run, with a child at least.
        classes: of the archive.
        window: how many children exchange, at least: those of so many whole generations.
        either: whether both parents count, so that a switch is one from both; else the first alone.
    """
    number = {class_: i for i, class_ in enumerate(classes)}
    taken = np.zeros(len(classes))
    for child in family.children:
        np.add.at(taken, [number[class_] for class_ in child.classes], 1)
    count = int(np.clip(ROOM // (len(DEFINITIONS) * taken.sum()), FEWEST, MOST))
    own = {name: np.zeros(len(classes)) for name in DEFINITIONS}  # placements that are no switches
    expected = dict.fromkeys(DEFINITIONS, 0.0)
    draws = {name: np.zeros(count) for name in DEFINITIONS}
    for i, part in enumerate(_windows(family.children, window)):
        rows = np.repeat(np.arange(len(part)), [len(child.classes) for child in part])
        took = np.array([number[class_] for child in part for class_ in child.classes])
        orders, each = permutations("goal switches", i, count, len(part))[:, rows], np.arange(len(rows))
        for name, was in zip(DEFINITIONS, _origins(family, part, either)):
            np.add.at(own[name], took, was[each, rows])
            expected[name] += float(was.mean(axis=1).sum())
            draws[name] += was[each, orders].sum(axis=1)
    for name in DEFINITIONS:
        chance, null = 1 - expected[name] / taken.sum(), 1 - draws[name] / taken.sum()
        yield from ({**row, "of": name} for row in _rows(taken, taken - own[name], chance, null))


def _origins(family: Descent, part: Sequence[Child], either: bool) -> NDArray[np.float64]:
    """(definitions, placements, children): how much a placement would be no switch, had the parents of its child been
    drawn from the cells that those of each child of the window were drawn from."""
    count = [len(child.classes) for child in part]
    was, at = np.zeros((len(DEFINITIONS), sum(count), len(part))), 0
    for _, brood in groupby(part, key=lambda child: child.generation):
        siblings = list(brood)
        took = [class_ for child in siblings for class_ in child.classes]
        own: dict[int, NDArray[np.float64]] = {}  # by cell
        for row, child in enumerate(part):
            parents = child.drawn if either else child.drawn[:1]
            for cell in {cell for drawn in parents for cell in drawn} - own.keys():
                classes = _classes_of(family, cell, siblings[0])
                own[cell] = np.array([[class_ in of for class_ in took] for of in classes], dtype=float)
            for drawn in parents:
                share = sum(part_ * own[cell] for cell, part_ in drawn.items())
                was[:, at : at + len(took), row] = np.maximum(was[:, at : at + len(took), row], share)
        at += len(took)
    return was


def _classes_of(family: Descent, cell: int, child: Child) -> tuple[set[int], set[int], set[int]]:
    """By definition, the classes that who held a cell when a child was bred was of; of an empty cell its own."""
    own, rows = {family.class_of[cell]}, family.held.get(int(child.holders[cell]), [])
    then = {class_ for _, class_, begin, end in rows if begin <= child.bred < end}
    return own, then | own, {class_ for _, class_, *_ in rows} | own


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
    how = "drawn cells permuted in windows of time"
    yield {"figure": "switch_excess", **permuted(share - chance, null - chance, "both"), "n": n, "null": how}


def _windows(family: Sequence[Child], window: int) -> Iterator[Sequence[Child]]:
    """Parts of whole generations, as small as they can be, of at least so many children; the last takes the rest."""
    starts = [0]
    for i, child in enumerate(family):
        if i - starts[-1] >= window and child.generation != family[i - 1].generation:
            starts.append(i)
    if len(starts) > 1 and len(family) - starts[-1] < window:
        starts.pop()
    for begin, end in zip(starts, [*starts[1:], len(family)]):
        yield family[begin:end]
