"""Compaction: one file for each table in place of those of all commits, with what `storage.history` keeps.

    full      everything; small files become one
    lineage   whoever is needed, with all ancestors
    elites    whoever is needed: the elites, and those from whom a resume breeds what was in flight

Whoever is kept is kept with every placement. So the newest placement of each cell stays, from which the archive is had
back, and from `CommitLog.whole_from` on all of them, from which the hash chain goes on. Statistics of generations stay.

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

FLOOR = 20_000  # rows, of all tables, that are never too many


@dataclass(frozen=True)
class Compacted:
    """What a run takes after a compaction, and took before."""

    path: str
    history: str
    commits: int
    generation: int
    archive_hash: str
    placements_from: int  # the first generation whose placements are all there
    individuals: int
    bytes: int  # of the tables
    bytes_before: int


def is_due(store: RunStore) -> bool:
    """Whether `storage.history` drops rows, and those since the last compaction are more than twice what it kept."""
    history, log = store.config.storage.history, store.log
    if history == "full":
        return False
    kept = 0
    if log.base and log.base.compacts and log.base.compacts["history"] == history:
        kept = sum(facts["rows"] for facts in log.base.files.values())
    return log.rows > most_rows(kept)


def most_rows(kept: float) -> float:
    """Rows of all tables up to which a run grows whose last compaction kept so many."""
    return 2 * kept + FLOOR


def compact(store: RunStore, history: str) -> Compacted:
    """Make a compaction the next commit, unless the last one is a compaction that kept no more. Only under the lock.

    Args:
        history: "full", "lineage" or "elites".

    Raises:
        ConfigError: there is no commit yet, or a table would be too large to be read.
        CorruptData: a file is damaged; it is left as it is.
        StorageError: the file system refused; what was committed is still there.
    """
    log, before = store.log, _bytes(store)
    last, state = log.last, restore(store)  # checks everything, so that no damage is passed on
    if last is None or state is None:
        raise ConfigError(f"{store.path}: has no commit yet, so there is nothing to compact.")
    if last.compacts is None or HISTORIES.index(last.compacts["history"]) < HISTORIES.index(history):
        whole_from, chain = log.whole_from, log.base.compacts["archive_hash"] if log.base and log.base.compacts else ""
        if history != "full":
            whole_from = max(0, last.generation - store.config.search.lag + 2)
            chain = state.start_hash.hex()
        tables = _kept(store, history, set(state.genomes))
        encoded = {name: (schemas.encode(table), table.num_rows) for name, table in tables.items() if table.num_rows}
        for name, (blob, _) in encoded.items():
            room = schemas.room(len(blob))
            if tables[name].nbytes > room:
                raise ConfigError(
                    f"{store.path}: the {name} that storage.history: {history} keeps do not fit into one file of "
                    f"{room >> 20} MiB; keep less (elites), or leave the files apart (full)."
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
            compacts={"history": history, "generation": whole_from - 1, "archive_hash": chain or bytes(32).hex()},
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


def _kept(store: RunStore, history: str, needed: set[int]) -> dict[str, pa.Table]:
    """The rows that stay, by table.

    Args:
        needed: ids of those whose genomes a resume needs, the elites among them.
    """
    tables = {name: store.table(name).combine_chunks() for name in schemas.OF_TABLE}
    people = tables["individuals"]
    kept = set(needed)
    if history == "lineage":
        # Parents were there in an earlier generation, and rows are in order of generations.
        for identity, parents in zip(
            reversed(people["individual_id"].to_pylist()), reversed(people["parent_ids"].to_pylist())
        ):
            if identity in kept:
                kept.update(parents)
    if history != "full":
        for name in ("individuals", "placements", "genomes"):
            tables[name] = tables[name].filter(_is_in(tables[name], kept))
    # Ancestors' large genomes may still be there, beside small ones.
    genomes = tables["genomes"]
    small = pc.less_equal(pc.binary_length(genomes["genome"]), SMALL_GENOME)
    return {**tables, "genomes": genomes.filter(pc.or_(small, _is_in(genomes, needed)))}


def _is_in(table: pa.Table, ids: set[int]) -> pa.Array:
    return pc.is_in(table["individual_id"], value_set=pa.array(sorted(ids), type=pa.int64()))


def _bytes(store: RunStore) -> int:
    return sum(facts["size"] for _, _, facts in store.log.live_files())
