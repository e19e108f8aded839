"""Writing commits: tables first, then the commit that names them; where a run is kept in a store, there first."""

from __future__ import annotations

import hashlib
from pathlib import Path

from evofool.records import Facts
from evofool.store import files
from evofool.store.commits import Commit, CommitLog
from evofool.store.remote.working_copy import Remote

__all__ = ["append", "recover"]


def append(
    log: CommitLog,
    remote: Remote | None,
    generation: int,
    archive_hash: str,
    tables: dict[str, tuple[bytes, int]],
    *,
    dropped_genomes: list[int],
    numerics: Facts,
    counters: Facts,
    compacts: Facts | None = None,
) -> Commit:
    """Write tables, then the commit that names them; then delete the tables that nobody needs any more.

    Args:
        remote: decides on commits, where the run is kept in an object store.
        tables: table -> (bytes of the Parquet file, rows).
        compacts: the tables stand for all before them; see Commit.

    Raises:
        RunLocked: another driver made this commit first.
        StorageError: the file system refused; nothing was acknowledged.
    """
    number = len(log.commits)
    for table, (data, _) in tables.items():
        # Not replaced: where locks do not hold, another driver's commit may be about to name what is there.
        if not files.create(log.path(table, number), data):
            raise log.overtaken(number)
    commit = Commit(
        number=number,
        generation=generation,
        archive_hash=archive_hash,
        previous_sha256=log.last_sha256,
        files={
            table: {"size": len(data), "rows": rows, "sha256": hashlib.sha256(data).hexdigest()}
            for table, (data, rows) in tables.items()
        },
        dropped_genomes=dropped_genomes,
        numerics=numerics,
        counters=counters,
        compacts=compacts,
    )
    needless = [log.path("genomes", old) for old in dropped_genomes]
    if compacts is not None:
        needless += [log.path(table, old) for table, old, _ in log.live_files()]
    blob = commit.to_json()
    if remote:
        remote.commit(log, number, blob, {table: data for table, (data, _) in tables.items()})
    if not files.create(log.folder / f"{number:08d}.json", blob):
        raise log.overtaken(number)
    log.follow(blob)
    for table, (data, _) in tables.items():
        _put_back(log.path(table, number), data)
    for path in needless:
        with files.guard(path, "delete"):
            path.unlink(missing_ok=True)
    if remote:
        remote.settle(log)
    return commit


def _put_back(path: Path, data: bytes) -> None:
    """Write a table again if a driver that ignored the lock took it for a leftover before its commit was there."""
    with files.guard(path, "read"):
        is_whole = path.is_file() and path.read_bytes() == data
    if not is_whole:
        files.put(path, data)


def recover(log: CommitLog, remote: Remote | None) -> int:
    """Remove what a kill left behind, returning how many files. Only under the lock."""
    return log.remove_leftovers() + (remote.tidy(log) if remote else 0)
