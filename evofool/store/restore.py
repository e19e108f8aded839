"""Reading a run back: its generations one by one, and what a search goes on from."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from evofool.archive import cells
from evofool.archive.state import State
from evofool.errors import CorruptData
from evofool.records import NO_PARENT, Facts, Placements, Statistics, individual_id
from evofool.store.commits import Commit
from evofool.store.rows import placements_of, statistics_of
from evofool.store.run import RunStore

__all__ = ["generations", "restore"]


def generations(
    store: RunStore,
) -> Iterator[tuple[Placements, NDArray[np.bool_], list[bytes], list[bytes], Statistics]]:
    """Committed generations: placements, top-1 flags, image and genome sha256 of each placement, statistics.

    Generations before `log.whole_from` may lack placements, but never the newest of a cell. Raises as `restore`.
    """
    units = bool(store.cells.units)
    individuals = {row["individual_id"]: row for row in store.table("individuals").to_pylist()}
    by_generation: dict[int, list[Facts]] = {}
    for row in store.table("placements").to_pylist():
        by_generation.setdefault(row["generation"], []).append(row)
    for row in store.table("history").to_pylist():
        rows = by_generation.get(row["generation"], [])
        try:
            people = [individuals[r["individual_id"]] for r in rows]
        except KeyError as error:
            raise CorruptData(f"{store.path}: a placement names individual {error}, which is not stored.") from None
        yield (
            placements_of(row["generation"], rows),
            np.array(
                [not units and p["top1_class_index"] == r["class_index"] for p, r in zip(people, rows)], dtype=bool
            ),
            [bytes.fromhex(p["image_sha256"]) for p in people],
            [bytes.fromhex(p["genome_sha256"]) for p in people],
            statistics_of(row),
        )


def restore(store: RunStore, at: Commit | None = None) -> State | None:
    """The state after a commit, from the stored placements, with the hash chain computed anew; None before the first.

    Args:
        at: the last compaction; by default the last commit.

    Raises:
        CorruptData: a checksum, the hash chain or a genome is wrong, or an individual is missing.
    """
    last = at or store.log.last
    if last is None:
        return None
    store.log.doubt()
    store.seeds()  # raises where they are damaged
    lag = store.config.search.lag
    archive = start = cells.empty(len(store.cells))
    pending: list[tuple[Placements, NDArray[np.bool_]]] = []
    # The chain begins where placements are whole, with the hash that a compaction has stored for this.
    first = store.log.whole_from
    start_hash = chain = bytes.fromhex(store.log.compacts["archive_hash"])
    statistics, generation = None, -1
    hashes = {commit.generation: commit.archive_hash for commit in store.log.commits}
    for placements, top1, images, genomes, counters in generations(store):
        generation, statistics = generation + 1, counters
        if placements.generation != generation:
            raise CorruptData(f"{store.path}: generation {generation} is missing from the history.")
        archive = cells.restore(archive, placements, top1)
        if generation >= first:
            chain = cells.chain_hash(chain, placements, images, genomes)
        if generation >= first - 1 and hashes.get(generation, chain.hex()) != chain.hex():
            raise CorruptData(f"{store.path}: the archive hash of generation {generation} is not the one committed.")
        if generation <= last.generation - lag + 1:
            start, start_hash = archive, chain
        else:
            pending.append((placements, top1))
        if at is not None and generation == at.generation:
            break
    if generation != last.generation or statistics is None:
        raise CorruptData(
            f"{store.path}: the history ends at generation {generation}, the commits at {last.generation}."
        )
    needed = {*start.elites.tolist(), *archive.elites.tolist()}
    for placements, _ in pending:
        needed.update(individual_id(placements.generation, placements.slots.astype(np.int64)).tolist())
    needed -= {NO_PARENT}
    found, parents = store.genomes(needed), store.first_parents(needed)
    return State(generation, chain, statistics, start, start_hash, pending, found, parents)
