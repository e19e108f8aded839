"""Compaction: one file for each table in place of those of all commits, with the rows that `storage.history` asks for.

    full      all rows, but for large genomes that no resume needs; the other two keep the statistics of generations too
    lineage   rows of the individuals that a resume needs, and of all their ancestors
    elites    rows of the individuals that a resume needs: elites, and parents of the generations to be bred again

An individual stays with all its placements or goes with them. So the newest placement of each cell stays, from which
the archive is restored; and all placements from generation `CommitLog.whole_from` on, for the hash chain.

A compaction is a commit (commits.py), so a kill leaves the run as it was before or as it is afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from evofool.errors import ConfigError
from evofool.store import schemas, writing
from evofool.store.commits import HISTORIES
from evofool.store.restore import restore
from evofool.store.run import SMALL_GENOME, RunStore

__all__ = ["Compacted", "compact", "is_due", "most_rows"]

FLOOR = 20_000  # rows of all tables, up to which no run needs a compaction


@dataclass(frozen=True)
class Compacted:
    """A run after its compaction, and its size before."""

    path: str
    history: str
    commits: int
    generation: int
    archive_hash: str
    placements_from: int  # the first generation from which on all placements are stored
    individuals: int
    bytes: int  # of the tables
    bytes_before: int


def is_due(store: RunStore) -> bool:
    """Whether `storage.history` drops rows, and more have come since it last did than `most_rows` allows."""
    history, log = store.config.storage.history, store.log
    if history == "full":
        return False
    remaining = 0
    if log.base and log.compacts["history"] == history:
        remaining = sum(facts["rows"] for facts in log.base.files.values())
    return log.rows > most_rows(remaining)


def most_rows(remaining: float) -> float:
    """Rows of all tables that a run may have before the next compaction is due, if the last one left `remaining`."""
    return 2 * remaining + FLOOR


def compact(store: RunStore, history: str) -> Compacted:
    """Make a compaction the next commit, unless the last is one that drops no less. Only under the lock.

    Args:
        history: "full", "lineage" or "elites".

    Raises:
        ConfigError: there is no commit yet, or a table would be too large to be read.
        CorruptData: a file is damaged; the run is left as it is.
        StorageError: the file system refused; all commits are still whole.
    """
    log, before = store.log, _bytes(store)
    last, state = log.last, restore(store)  # checks everything, so that no damage is passed on
    if last is None or state is None:
        raise ConfigError(f"{store.path}: has no commit yet, so there is nothing to compact.")
    if last.compacts is None or HISTORIES.index(last.compacts["history"]) < HISTORIES.index(history):
        whole_from, chain = log.whole_from, log.compacts["archive_hash"]
        if history != "full":
            whole_from = max(0, last.generation - store.config.search.lag + 2)
            chain = state.start_hash.hex()
        tables = _remaining(store, history, set(state.genomes))
        encoded = {name: (schemas.encode(table), table.num_rows) for name, table in tables.items() if table.num_rows}
        for name, (blob, _) in encoded.items():
            limit = schemas.byte_limit(len(blob))
            if tables[name].nbytes > limit:
                raise ConfigError(
                    f"{store.path}: the {name} that storage.history: {history} keeps do not fit into one file of "
                    f"{limit >> 20} MiB; keep less (elites), or leave the files apart (full)."
                )
        writing.append(
            log,
            store.remote,
            last.generation,
            last.archive_hash,
            encoded,
            dropped_genomes=[],
            numerics=last.numerics,
            counters=last.counters,
            compacts={"history": history, "generation": whole_from - 1, "archive_hash": chain},
        )
        store.find_large()
    return Compacted(
        str(store.path),
        history,
        len(log.commits),
        last.generation,
        last.archive_hash,
        log.whole_from,
        store.table("individuals").num_rows,
        _bytes(store),
        before,
    )


def _remaining(store: RunStore, history: str, needed: set[int]) -> dict[str, pa.Table]:
    """The rows that stay, by table.

    Args:
        needed: ids of the individuals whose genomes a resume needs, among them the elites.
    """
    tables = {name: store.table(name).combine_chunks() for name in schemas.TABLES}
    people = tables["individuals"]
    ids = set(needed)
    if history == "lineage":
        # From the last row to the first, since rows are in order of generations, and parents are of earlier ones.
        for identity, parents in zip(
            reversed(people["individual_id"].to_pylist()), reversed(people["parent_ids"].to_pylist())
        ):
            if identity in ids:
                ids.update(parents)
    if history != "full":
        for name in ("individuals", "placements", "genomes"):
            tables[name] = tables[name].filter(_is_in(tables[name], ids))
    # Large genomes of ancestors go too; a file that had small ones as well may still have them.
    genomes = tables["genomes"]
    small = pc.less_equal(pc.binary_length(genomes["genome"]), SMALL_GENOME)
    return {**tables, "genomes": genomes.filter(pc.or_(small, _is_in(genomes, needed)))}


def _is_in(table: pa.Table, ids: set[int]) -> pa.Array:
    return pc.is_in(table["individual_id"], value_set=pa.array(sorted(ids), type=pa.int64()))


def _bytes(store: RunStore) -> int:
    return sum(facts["size"] for _, _, facts in store.log.live_files())
