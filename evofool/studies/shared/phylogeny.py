"""A run's ancestry for others: tables in the ALife data standard, and the line of each elite as a strip of pictures.

The standard (Lalejini et al., Artificial Life 2019, "Data standards for artificial life software") asks of a CSV for a
column `id` of numbers from 0 on, and `ancestor_list`, ids of the same file as a list of JSON, "[none]" for none;
`origin_time` and `destruction_time` are optional, and others free. Nearly every program reads a single parent only, so
there is a file of first parents beside that of all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evofool.base.sheets import percent, png_name, sheet
from evofool.encoding.kinds import redraw
from evofool.errors import StorageError
from evofool.records import Facts, address_of
from evofool.store.ancestry import Holdings, holdings, line, takers
from evofool.store.reader import Run, encoding_of, read_steadily
from evofool.store.run import RunStore

__all__ = ["alife", "write"]

COLUMNS = 10  # pictures of a strip in a row


def alife(people: Mapping[int, Facts], held: Holdings, elites: Iterable[int], *, parents: int | None) -> pd.DataFrame:
    """The elites and all their ancestors, the oldest first, a row for each.

    Args:
        people: rows of the table of individuals, by id.
        held: which cells they took, and until when.
        elites: where lines end.
        parents: how many of each individual's parents count: 1, or None for all.

    Returns:
        id, ancestor_list, origin_time (the generation), destruction_time (the generation in which it lost its last
        cell; inf of who holds one still), cells (how many it took), slot, operators, nodes, connections, origin.
    """
    wanted, todo = set[int](), [int(one) for one in elites]
    while todo:
        one = todo.pop()
        if one not in wanted:
            wanted.add(one)
            todo += [int(p) for p in people[one]["parent_ids"][:parents] if int(p) in people]
    rows = []
    for one in sorted(wanted):
        row = people[one]
        ancestors = list(dict.fromkeys(int(p) for p in row["parent_ids"][:parents] if int(p) in wanted))
        rows.append(
            {
                "id": one,
                "ancestor_list": f"[{','.join(map(str, ancestors)) or 'none'}]",
                "origin_time": row["generation"],
                "destruction_time": max((end for *_, end in held.get(one, [])), default=math.inf),
                "cells": len(held.get(one, [])),
                "slot": row["slot"],
                "operators": " ".join(row["operators"]),
                "nodes": row["nodes"],
                "connections": row["connections"],
                "origin": row["origin"],
            }
        )
    return pd.DataFrame(rows)


def write(
    folder: Path,
    run: Run,
    elites: pd.DataFrame,
    people: Mapping[int, Facts],
    placed: pd.DataFrame,
    tree: Mapping[int, int | None],
    *,
    allow_code: bool,
) -> None:
    """Write ancestry.csv, ancestry_first.csv, and for each elite lines/CLASS.png: its ancestors by first parents.

    Args:
        folder: made if it is not there.
        elites: rows of the elites table.
        people, tree: rows of the table of individuals, and the first parents of the elites and their ancestors, by id.
        placed: all placements.
        allow_code: whether activations of the user's own may run, to draw ancestors.

    Raises:
        StorageError: the file system refused.
    """
    held, (surest, _) = holdings(placed), takers(placed)
    names = dict(zip(run.provenance["class_indices"], run.provenance["class_names"]))
    draw = _drawer(run, set(tree), allow_code)
    try:
        (folder / "lines").mkdir(parents=True, exist_ok=True)
        for name, parents in (("ancestry.csv", None), ("ancestry_first.csv", 1)):
            alife(people, held, elites["individual_id"], parents=parents).to_csv(folder / name, index=False)
        for row in elites.to_dict("records"):
            bin_ = f"-{row['bin']}" if "bin" in row else ""
            ancestors = line(tree, int(row["individual_id"]))[::-1]
            pictures = sheet(
                [draw(one) for one in ancestors], [_told(one, surest, names) for one in ancestors], COLUMNS
            )
            name = png_name(row["class_index"], f"{row['class_name']}{bin_}")
            pictures.save(folder / "lines" / name)
    except OSError as error:
        raise StorageError(f"--export: {folder} cannot be written ({error.strerror or error}).") from None


def _told(one: int, surest: Mapping[int, Any], names: Mapping[int, str]) -> tuple[str, str, str]:
    """What stands below a picture: the generation, and the class it was surest of among those whose cells it took."""
    row = surest.get(one)
    return (
        f"generation {address_of(one)[0]}",
        *((names[row.class_index], percent(row.confidence)) if row else ("", "")),
    )


def _drawer(run: Run, ids: set[int], allow_code: bool) -> Callable[[int], NDArray[np.uint8]]:
    """Draws an individual at the size that was scored; a grey square of one whose genome the run has not kept."""
    encoding, (height, width) = encoding_of(run.store, allow_code), run.provenance["image_size"]

    def read(store: RunStore) -> dict[int, bytes]:
        return store.genomes(ids & set(store.table("genomes")["individual_id"].to_pylist()))

    genomes = read_steadily(run.store, read)

    @lru_cache(maxsize=512)  # lines have their beginnings in common
    def draw(one: int) -> NDArray[np.uint8]:
        if one not in genomes:
            return np.full((height, width, 1), 128, dtype=np.uint8)
        return redraw(encoding, encoding.from_bytes([genomes[one]]), 0)

    return draw
