"""The commit log: what a run has promised not to lose.

    _evofool/commits/00000000.json, 00000001.json, ...    never overwritten; each created only if its name is free

A commit names the table files it brings (size, rows, sha256), the sha256 of the commit before it, and the archive hash
after its last generation. Files are written first, so a commit that exists is whole; files that no commit names are
leftovers of a kill and are removed by the next driver.

A compaction is a commit whose tables replace those of all commits before it, which are leftovers from then on; it ends
with the generation of the commit before it. The commits before it stay: a driver that missed the compaction must find
their names taken. Only in a salvaged run (salvage.py) the first commit may be a compaction.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from evofool.errors import CorruptData, RunLocked, StorageError
from evofool.records import Facts
from evofool.store import files

__all__ = ["HISTORIES", "TABLES", "Commit", "CommitLog", "lock", "parse"]

# table -> folder below the run directory
TABLES = {
    "individuals": "_evofool/individuals",
    "placements": "_evofool/placements",
    "genomes": "_evofool/genomes",
    "history": "_history",
}
PUT_BACK = 3.0  # seconds within which a driver writes a table again that another deleted as a leftover
HISTORIES = ("full", "lineage", "elites")  # values of storage.history; each stores less than the one before
_NAME = re.compile(r"\d{8}\.json")
_SEGMENT = re.compile(r"\d{8}\.parquet")
_HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Commit:
    """One entry of the log."""

    number: int
    generation: int  # the last of which it brings rows
    archive_hash: str  # hex
    previous_sha256: str  # of the commit before; "" for the first
    files: dict[str, Facts]  # table -> {"size", "rows", "sha256"}; the name follows from number and table
    dropped_genomes: list[int]  # numbers of commits whose genomes nobody needs any more
    numerics: Facts  # Numerics, canary and epoch
    counters: Facts
    schema_version: int = 1
    # Of a compaction: {"history": a value of HISTORIES, "generation": the last whose placements may be gone, -1 for
    # none, "archive_hash": after that generation}. Left out of the JSON of other commits.
    compacts: Facts | None = None

    def to_json(self) -> bytes:
        """Canonical JSON, with its own sha256 in it: the newest commit has no successor to vouch for it."""
        facts = {name: value for name, value in vars(self).items() if name != "compacts" or value is not None}
        body = json.dumps(facts, sort_keys=True)
        data = {**facts, "sha256": hashlib.sha256(body.encode()).hexdigest()}
        return (json.dumps(data, sort_keys=True, indent=1) + "\n").encode()


class CommitLog:
    """The commits of one run directory; when they are read, each is checked against the one before it.

    Args:
        tolerant: whether to read no further than the first damaged commit, instead of raising.

    Attributes:
        broken: what is wrong with the first damaged commit, if `tolerant` met one.
        base: the last compaction, None before the first; tables of earlier commits are gone.
        compacts: `Commit.compacts` of `base`; before the first compaction, that of one that dropped nothing.
        rows: how many the tables of `base` and later commits have in all.

    Raises:
        CorruptData: a commit is missing, damaged, or does not follow the one before it.
    """

    def __init__(self, run: Path, *, tolerant: bool = False) -> None:
        self.run = run
        self.broken: CorruptData | None = None
        self.folder = run / "_evofool" / "commits"
        self.commits: list[Commit] = []
        self.base: Commit | None = None
        self.compacts: Facts = {"history": "full", "generation": -1, "archive_hash": bytes(32).hex()}
        self.rows = 0
        self.last_sha256 = ""  # of the newest commit's file
        self._sound: set[tuple[str, int]] = set()  # (table, commit number) of files that match their commits
        try:
            self.catch_up()
        except CorruptData as error:
            if not tolerant:
                raise
            self.broken = error

    def catch_up(self) -> None:
        """Read the commits that others have written since the last one in this log. Raises as the class."""
        with files.guard(self.folder, "read"):
            names = sorted(entry.name for entry in self.folder.iterdir() if _NAME.fullmatch(entry.name))
        for number, name in enumerate(names):
            path = self.commit_path(number)
            if name != path.name:
                raise CorruptData(f"{path}: missing, though later commits are there.")
            if number < len(self.commits):
                continue
            with files.guard(path, "read"):
                blob = path.read_bytes()
            self.follow(blob)

    def follow(self, blob: bytes) -> None:
        """Add the next commit to this log, from the bytes of its file; nothing is written. Raises as the class."""
        number, before = len(self.commits), self.last
        path = self.commit_path(number)
        commit = parse(path, blob)
        if commit.number != number:
            raise CorruptData(f"{path}: is commit {commit.number} by its content.")
        moved = before and (commit.generation, commit.archive_hash) != (before.generation, before.archive_hash)
        if commit.previous_sha256 != self.last_sha256 or (commit.compacts is not None and moved):
            raise CorruptData(f"{path}: does not follow the commit before it; one of the two was changed.")
        self.commits.append(commit)
        if commit.compacts is not None:
            self.base, self.compacts, self.rows = commit, commit.compacts, 0
        self.rows += sum(facts["rows"] for facts in commit.files.values())
        self.last_sha256 = hashlib.sha256(blob).hexdigest()

    @property
    def last(self) -> Commit | None:
        """The newest commit."""
        return self.commits[-1] if self.commits else None

    @property
    def whole_from(self) -> int:
        """The first generation from which on all placements, and the individuals that made them, are stored."""
        return self.compacts["generation"] + 1

    @property
    def ancestors_from(self) -> int:
        """The first generation whose individuals are stored if a later elite descends from them."""
        ends = (c.generation for c in self.commits if c.compacts and c.compacts["history"] == "elites")
        return max(ends, default=-1) + 1

    def commit_path(self, number: int) -> Path:
        """The file of a commit."""
        return self.folder / f"{number:08d}.json"

    def path(self, table: str, number: int) -> Path:
        """The file that a commit brings for a table."""
        return self.run / TABLES[table] / f"{number:08d}.parquet"

    def live_files(self) -> Iterator[tuple[str, int, Facts]]:
        """(table, commit number, {"size", "rows", "sha256"}) of every table file that must exist."""
        commits = self.commits[self.base.number if self.base else 0 :]
        dropped = {number for commit in commits for number in commit.dropped_genomes}
        for commit in commits:
            for table, facts in commit.files.items():
                if table != "genomes" or commit.number not in dropped:
                    yield table, commit.number, facts

    def doubt(self) -> None:
        """From now on, compare every table file with its commit once more when it is read."""
        self._sound.clear()

    def read(self, table: str, number: int, facts: Facts) -> bytes:
        """The bytes of a file of `live_files`, which are compared with its commit the first time.

        Raises:
            CorruptData: the file is missing or differs; the message names both checksums.
        """
        path, until = self.path(table, number), time.monotonic() + PUT_BACK
        # Where locks do not hold, another driver may have deleted it, and whoever committed it writes it again before
        # the next commit.
        while number == len(self.commits) - 1 and not path.is_file() and time.monotonic() < until:
            time.sleep(0.05)
        if not path.is_file() or path.is_symlink() or path.parent.is_symlink():
            raise CorruptData(f"{path}: missing (or a link), though commit {number} names it.")
        with files.guard(path, "read"):
            blob = path.read_bytes()
        if (table, number) not in self._sound:
            sha256 = hashlib.sha256(blob).hexdigest()
            if sha256 != facts["sha256"]:
                raise CorruptData(
                    f"{path}: damaged; its sha256 is {sha256[:16]}..., commit {number} says {facts['sha256'][:16]}..."
                )
            self._sound.add((table, number))
        return blob

    @contextlib.contextmanager
    def yielding(self) -> Iterator[None]:
        """Raise RunLocked in place of CorruptData where another driver has written a commit since.

        Its compaction may have deleted files, where locks do not hold, which is no damage.
        """
        try:
            yield
        except CorruptData:
            if self.commit_path(len(self.commits)).exists():
                raise self.overtaken() from None
            raise

    def overtaken(self) -> RunLocked:
        """The error for a driver that finds the next commit written by another."""
        return RunLocked(f"{self.run}: another driver wrote commit {len(self.commits)}; this one stops.")

    def remove_leftovers(self) -> int:
        """Delete temporary files and tables that no commit names, returning how many. Only under the lock."""
        live = {self.path(table, number) for table, number, _ in self.live_files()}
        removed = 0
        tables = [self.run / name for name in TABLES.values()]
        for folder in (self.folder, self.run / "_evofool", *tables):
            with files.guard(folder, "remove what a kill left"):
                for entry in folder.iterdir() if folder.is_dir() and not folder.is_symlink() else ():
                    is_table = folder in tables and _SEGMENT.fullmatch(entry.name)
                    if entry in live or not entry.is_file() or entry.is_symlink():
                        continue
                    if files.TEMPORARY.fullmatch(entry.name) or (is_table and not self._was_committed(entry)):
                        entry.unlink()
                        removed += 1
        return removed

    def _was_committed(self, table: Path) -> bool:
        """Whether a driver that ignored the lock has committed a table since this log was read."""
        return int(table.stem) >= len(self.commits) and (self.folder / f"{table.stem}.json").exists()


def parse(path: Path, blob: bytes) -> Commit:
    """A commit from the bytes of its file; `CommitLog.follow` checks that it follows the one before it.

    Raises:
        CorruptData: it is damaged; the message names `path`.
    """
    data = files.read_json(path, blob)
    try:
        del data["sha256"]
        commit = Commit(**data)
        sound = (
            type(commit.number) is int
            and commit.schema_version == 1
            and type(commit.generation) is int
            and all(_HEX.fullmatch(f["sha256"]) and f["rows"] >= 0 and f["size"] >= 0 for f in commit.files.values())
            and commit.files.keys() <= TABLES.keys()
            and all(type(n) is int and 0 <= n < commit.number for n in commit.dropped_genomes)
            and _HEX.fullmatch(commit.archive_hash)
            and (commit.compacts is None or _is_sound(commit.compacts, commit.generation))
            and commit.to_json() == blob
        )
    except (TypeError, KeyError, AttributeError):
        sound = False
    if not sound:
        raise CorruptData(f"{path}: damaged, or not a commit of this version of evofool.")
    return commit


def _is_sound(compacts: Facts, generation: int) -> bool:
    """Whether `Commit.compacts` is what a compaction of a generation can have."""
    return (
        compacts.keys() == {"history", "generation", "archive_hash"}
        and compacts["history"] in HISTORIES
        and type(compacts["generation"]) is int
        and -1 <= compacts["generation"] <= generation
        and _HEX.fullmatch(compacts["archive_hash"]) is not None
    )


@contextlib.contextmanager
def lock(run: Path) -> Iterator[None]:
    """Hold the lock of a run directory, which one driver has at a time.

    Raises:
        RunLocked: another process has it; the message says which.
        StorageError: the lock's file cannot be written, or the file system has no locks.
    """
    path = run / "_evofool" / "lock"
    with files.guard(path):
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(handle, 4096, 0).decode(errors="replace").strip() or "an unknown process"
            raise RunLocked(f"{run}: in use by {owner}; wait for it or stop it.") from None
        except OSError as error:
            raise StorageError(
                f"{path}: cannot be locked ({error.strerror}); let storage.path be on a file system with locks."
            ) from None
        with files.guard(path):
            os.ftruncate(handle, 0)
            started = time.strftime("%Y-%m-%d %H:%M:%S %Z")
            os.pwrite(handle, f"process {os.getpid()} on {socket.gethostname()} since {started}".encode(), 0)
        yield
    finally:
        os.close(handle)
