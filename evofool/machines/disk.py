"""What a run takes on disk: bytes of rows measured on a short one, times the rows that a long one will have."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from evofool.config.sections import StorageConfig
from evofool.store import schemas
from evofool.store.commits import TABLES
from evofool.store.compaction import most_rows
from evofool.store.run import SMALL_GENOME, RunStore
from evofool.store.view import read_view

__all__ = ["Sizes", "disk_bytes", "sizes_of"]


@dataclass(frozen=True)
class Sizes:
    """Bytes of what a run writes, and how many distinct elites it has."""

    rows: Mapping[str, float]  # of a row, by table
    files: Mapping[str, float]  # of a file whatever its rows, by table
    commit: float  # of the file of a commit
    view: float  # of the table of elites
    rest: float  # of what is written once
    genome: float  # of a genome in its table, on average
    png: float  # of an elite's picture, on average
    elites: int


def sizes_of(store: RunStore) -> Sizes:
    """The sizes of a run that has a view and was never compacted."""
    rows, files = {}, {}
    for table in TABLES:
        rows[table], files[table] = _of_a_row_and_a_file(store, table)
    folder = store.path / "_evofool"
    genomes = store.table("genomes")["genome"].to_pylist()
    elites = read_view(store)
    pngs = [len(image["bytes"]) for image in elites["image"].to_pylist()]
    return Sizes(
        rows=rows,
        files=files,
        commit=float((folder / "commits" / "00000000.json").stat().st_size),
        view=float((store.path / "elites" / "elites.parquet").stat().st_size),
        rest=float(sum((folder / name).stat().st_size for name in ("run.json", "config.yaml"))),
        genome=sum(map(len, genomes)) / max(1, len(genomes)),
        png=sum(pngs) / max(1, len(pngs)),
        elites=len(set(elites["individual_id"].to_pylist())),
    )


def _of_a_row_and_a_file(store: RunStore, table: str) -> tuple[float, float]:
    """Bytes of a row, and of a file beside its rows: from the run's files, and from one file with the rows of all."""
    sizes = [(facts["rows"], facts["size"]) for name, _, facts in store.log.live_files() if name == table]
    whole = store.table(table)
    count, size = (sum(column) / max(1, len(sizes)) for column in zip(*sizes)) if sizes else (0.0, 0.0)
    of_all = len(schemas.encode(whole))
    if len(whole) == count:  # one file
        count, size = 0.0, float(len(schemas.encode(whole.slice(0, 0))))
    a_row = max(0.0, (of_all - size) / max(1.0, len(whole) - count))
    return a_row, size - count * a_row


def disk_bytes(
    sizes: Sizes, storage: StorageConfig, generations: int, placements: float, people: float, history: str
) -> dict[str, float]:
    """Bytes that a run would take on disk, part by part.

    Args:
        placements: in all.
        people: individuals that take a cell.
        history: as `storage.history`, "full" or "elites"; "lineage" is between the two.
    """
    commits = math.ceil(generations / storage.commit_every)
    is_small = sizes.genome <= SMALL_GENOME
    # A file of large ones stays while it holds an elite's: about half of the genomes there are no elite's any more.
    genomes = people if is_small else 2 * min(people, sizes.elites)
    counts = {"individuals": people, "placements": placements, "genomes": genomes, "history": float(generations)}
    parts = {table: commits * sizes.files[table] + count * sizes.rows[table] for table, count in counts.items()}
    parts |= {"commits": commits * sizes.commit, "elites": sizes.view, "the rest": sizes.rest}
    if history == "elites" and people:
        # Each table has a row for an individual, but placements has several; statistics of generations stay.
        rows = 2 * people + placements + generations
        left = min(people, sizes.elites) * (2 + placements / people) + generations
        share = min(1.0, most_rows(left) / rows)
        for name in ("individuals", "placements", *(["genomes"] if is_small else [])):
            parts[name] *= share
        whole = sizes.files["history"] + generations * sizes.rows["history"]  # in one file
        parts["history"] = share * parts["history"] + (1 - share) * whole
    return parts
