"""Who descends from whom in a run: lines of first parents, what parents held when others were bred from them, and goal
switches. Of tables in memory; reader.py and whoever else wants to know bring them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = ["Holdings", "bred_from", "first_parents", "goal_switches", "holdings", "line", "takers"]

# individual -> (cell, class, from this generation, until before this one)
Holdings: TypeAlias = dict[int, list[tuple[int, int, int, float]]]


def first_parents(parents: Mapping[int, Sequence[int]], starts: Iterable[int]) -> dict[int, int | None]:
    """{individual: its first parent} of some individuals and all ancestors on their lines of first parents; None at the
    end of a line.

    Args:
        parents: of all individuals that are known; who is not among them is nobody's parent here.
    """
    tree: dict[int, int | None] = {}
    for start in starts:
        one: int | None = int(start)
        while one is not None and one not in tree:
            known = parents.get(one, ())
            tree[one] = int(known[0]) if len(known) and int(known[0]) in parents else None
            one = tree[one]
    return tree


def line(tree: Mapping[int, int | None], start: int) -> list[int]:
    """An individual and its ancestors by first parents, the newest first; `tree` as of `first_parents`."""
    found = [start]
    while (parent := tree[found[-1]]) is not None:
        found.append(parent)
    return found


def holdings(placements: pd.DataFrame) -> Holdings:
    """Which cells each individual took, and until when it held them; infinity of those that it holds still.

    Args:
        placements: individual_id, generation, cell, class_index and displaced_id of all of them, in order.
    """
    columns = [placements[name].tolist() for name in ("individual_id", "generation", "cell", "class_index")]
    displaced = zip(placements["displaced_id"].tolist(), columns[2], columns[1])
    lost = {(who, cell): generation for who, cell, generation in displaced if not pd.isna(who)}
    held: Holdings = {}
    for who, generation, cell, class_ in zip(*columns):
        held.setdefault(who, []).append((cell, class_, generation, lost.get((who, cell), math.inf)))
    return held


def bred_from(placements: pd.DataFrame, lag: int, parent: int = 0) -> list[set[int]]:
    """Of each placement, the indices of the classes that its parent held when the individual was bred.

    None are known of an individual without such a parent.

    Args:
        placements: as of `holdings`, with parent_ids.
        lag: `search.lag`: generation g was bred from the archive as it was after generation g - lag.
        parent: 0 for the first parent, 1 for the second.
    """
    held = holdings(placements)
    found = []
    for generation, parents in zip(placements["generation"].tolist(), placements["parent_ids"]):
        whose = held.get(int(parents[parent]), []) if len(parents) > parent else []
        found.append({class_ for _, class_, begin, end in whose if begin <= generation - lag < end})
    return found


def goal_switches(placements: pd.DataFrame, lag: int) -> tuple[list[set[int]], NDArray[np.bool_]]:
    """`bred_from` of the first parents, and of each placement whether it is a goal switch: its parent held cells, and
    none of its class (Nguyen, Yosinski and Clune, GECCO 2015)."""
    origins = bred_from(placements, lag)
    taken = placements["class_index"].tolist()
    return origins, np.array([bool(held) and index not in held for held, index in zip(origins, taken)], dtype=bool)


def takers(placements: pd.DataFrame) -> tuple[dict[int, Any], dict[int, list[int]]]:
    """Of each individual the placement of which it was surest, as a row (a named tuple), and the indices of all classes
    whose cells it took."""
    surest: dict[int, Any] = {}
    taken: dict[int, list[int]] = {}
    for row in placements[["individual_id", "class_index", "log_odds", "confidence"]].itertuples(index=False):
        taken.setdefault(row.individual_id, []).append(row.class_index)
        if row.individual_id not in surest or row.log_odds > surest[row.individual_id].log_odds:
            surest[row.individual_id] = row
    return surest, taken
