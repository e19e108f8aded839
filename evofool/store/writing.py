"""Writing commits: tables first, then the commit that names them; of a run in an object store, to the store first."""

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
    """Write tables, then the commit that names them; then delete the tables that no commit needs any more.

    Args:
        remote: of a run in an object store, which then decides whether there is a commit; else None.
        generation, archive_hash, dropped_genomes, numerics, counters, compacts: see Commit. With `compacts` the tables
            replace all earlier ones.
        tables: table -> (bytes of the Parquet file, rows).

    Raises:
        RunLocked: another driver made this commit first.
        StorageError: the file system or the store refused. If the commit exists nevertheless, a resume goes on from it.
    """
    number = len(log.commits)
    for table, (data, _) in tables.items():
        # Never replaced: where locks do not hold, another driver may be about to commit a table of this name.
        if not files.create(log.path(table, number), data):
            raise log.overtaken()
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
    if not files.create(log.commit_path(number), blob):
        raise log.overtaken()
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
    """Write a table again if a driver that ignored the lock deleted it as a leftover before its commit existed."""
    with files.guard(path, "read"):
        is_whole = path.is_file() and path.read_bytes() == data
    if not is_whole:
        files.put(path, data)


def recover(log: CommitLog, remote: Remote | None) -> int:
    """Remove what a kill left behind, returning how many files. Only under the lock."""
    return log.remove_leftovers() + (remote.tidy(log) if remote else 0)
