"""The commit log: what a run has promised to keep.

    _evofool/commits/00000000.json, 00000001.json, ...    immutable, each created only if it was not there

A commit names the table files it brings (size, rows, sha256), the sha256 of the commit before it, and the archive hash
after its last generation. Files are written first, so a commit that exists is whole; files that no commit names are
leftovers of a kill and are removed by the next driver.

A compaction is a commit like any other, of the generation of the one before it. Its tables stand for those of all
commits before it, which are leftovers from then on. The commits themselves stay: their names keep a driver that was
left behind from making one of them again. Only in a salvaged run (salvage.py) the first commit may be a compaction.
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

from evofool.errors import CorruptData, RunLocked
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
PUT_BACK = 0.5  # seconds within which a driver puts back a table that another took for a leftover
HISTORIES = ("full", "lineage", "elites")  # values of storage.history, each keeps less than the one before
_NAME = re.compile(r"\d{8}\.json")
_SEGMENT = re.compile(r"\d{8}\.parquet")
_HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Commit:
    """One entry of the log."""

    number: int
    generation: int  # the last one it covers
    archive_hash: str  # hex
    previous_sha256: str  # of the commit before; "" for the first
    files: dict[str, Facts]  # table -> {"size", "rows", "sha256"}; the name follows from number and table
    dropped_genomes: list[int]  # numbers of commits whose genomes nobody needs any more
    numerics: Facts  # Numerics, canary and epoch
    counters: Facts
    schema_version: int = 1
    # Of a compaction: {"history": what was kept, "generation": the last whose placements may be gone, -1 for none,
    # "archive_hash": after that generation}. Not in the JSON of other commits, and unknown to versions before it.
    compacts: Facts | None = None

    def to_json(self) -> bytes:
        """Canonical JSON, with its own sha256 in it: the newest commit has no successor to vouch for it."""
        facts = {name: value for name, value in vars(self).items() if name != "compacts" or value is not None}
        body = json.dumps(facts, sort_keys=True)
        data = {**facts, "sha256": hashlib.sha256(body.encode()).hexdigest()}
        return (json.dumps(data, sort_keys=True, indent=1) + "\n").encode()


class CommitLog:
    """The commits of one run directory, checked link by link when opened.

    Args:
        tolerant: keep the commits before the first that is damaged; what is wrong with that one is in `broken`.

    Attributes:
        base: the last compaction, None before the first; tables of earlier commits are gone.
        rows: of the tables since then, in all.

    Raises:
        CorruptData: a commit is missing, damaged, or does not follow the one before it.
    """

    def __init__(self, run: Path, *, tolerant: bool = False) -> None:
        self.run = run
        self.broken: CorruptData | None = None
        self.folder = run / "_evofool" / "commits"
        self.commits: list[Commit] = []
        self.base: Commit | None = None
        self.rows = 0
        self.last_sha256 = ""  # of the newest commit's file
        self._sound: set[tuple[str, int]] = set()  # tables that were compared with their commits
        try:
            self.catch_up()
        except CorruptData as error:
            if not tolerant:
                raise
            self.broken = error

    def catch_up(self) -> None:
        """Take the commits that others have written since.

        Raises:
            CorruptData: as at the beginning.
        """
        with files.guard(self.folder, "read"):
            names = sorted(entry.name for entry in self.folder.iterdir() if _NAME.fullmatch(entry.name))
        for number, name in enumerate(names):
            path = self.folder / name
            if name != f"{number:08d}.json":
                raise CorruptData(f"{self.folder / f'{number:08d}.json'}: missing, though later commits are there.")
            if number < len(self.commits):
                continue
            with files.guard(path, "read"):
                blob = path.read_bytes()
            self._add(_parse_next(path, blob, self.last, self.last_sha256), blob)

    def _add(self, commit: Commit, blob: bytes) -> None:
        self.commits.append(commit)
        if commit.compacts is not None:
            self.base, self.rows = commit, 0
        self.rows += sum(facts["rows"] for facts in commit.files.values())
        self.last_sha256 = hashlib.sha256(blob).hexdigest()

    def follow(self, blob: bytes) -> None:
        """Take the next commit, checked as if read; it is not written.

        Raises:
            CorruptData: it is damaged, or does not follow the last one.
        """
        number = len(self.commits)
        self._add(_parse_next(self.folder / f"{number:08d}.json", blob, self.last, self.last_sha256), blob)

    @property
    def last(self) -> Commit | None:
        """The newest commit."""
        return self.commits[-1] if self.commits else None

    @property
    def whole_from(self) -> int:
        """The first generation from which on all placements, and whoever made them, are stored."""
        return self.base.compacts["generation"] + 1 if self.base and self.base.compacts else 0

    @property
    def ancestors_from(self) -> int:
        """The first generation whose individuals are stored if an elite since descends from them."""
        ends = (c.generation for c in self.commits if c.compacts and c.compacts["history"] == "elites")
        return max(ends, default=-1) + 1

    def path(self, table: str, number: int) -> Path:
        """Where a commit's file of a table lies."""
        return self.run / TABLES[table] / f"{number:08d}.parquet"

    def live_files(self) -> Iterator[tuple[str, int, Facts]]:
        """(table, commit number, facts) of every file that must be there."""
        commits = self.commits[self.base.number if self.base else 0 :]
        dropped = {number for commit in commits for number in commit.dropped_genomes}
        for commit in commits:
            for table, facts in commit.files.items():
                if table != "genomes" or commit.number not in dropped:
                    yield table, commit.number, facts

    def doubt(self) -> None:
        """Compare every table with its commit again when it is next read."""
        self._sound.clear()

    def read(self, table: str, number: int, facts: Facts) -> bytes:
        """The bytes of a table, which are compared with its commit the first time.

        Args:
            facts: of `live_files`.

        Raises:
            CorruptData: the file is missing or differs, with both checksums.
        """
        path, until = self.path(table, number), time.monotonic() + PUT_BACK
        while not path.is_file() and time.monotonic() < until:  # where locks do not hold; see writing.py
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
        """Where locks do not hold, another driver's compaction may take files away: that is no damage.

        Raises:
            RunLocked: in place of CorruptData, if another driver has gone on.
        """
        try:
            yield
        except CorruptData:
            number = len(self.commits)
            if (self.folder / f"{number:08d}.json").exists():
                raise self.overtaken(number) from None
            raise

    def overtaken(self, number: int) -> RunLocked:
        """The error where another driver has gone on with commit `number`."""
        return RunLocked(f"{self.run}: another driver wrote commit {number}; this one stops.")

    def remove_leftovers(self) -> int:
        """Delete temporary files and tables that no commit names, returning how many. Only under the lock."""
        live = {self.path(table, number) for table, number, _ in self.live_files()}
        gone = 0
        tables = [self.run / name for name in TABLES.values()]
        for folder in (self.folder, self.run / "_evofool", *tables):
            with files.guard(folder, "remove what a kill left"):
                for entry in folder.iterdir() if folder.is_dir() and not folder.is_symlink() else ():
                    segment = folder in tables and _SEGMENT.fullmatch(entry.name)
                    if entry in live or not entry.is_file() or entry.is_symlink():
                        continue
                    if files.TEMPORARY.fullmatch(entry.name) or (segment and not self._was_committed(entry)):
                        entry.unlink()
                        gone += 1
        return gone

    def _was_committed(self, table: Path) -> bool:
        """Whether a driver that ignored the lock has committed a table since this log was read."""
        return int(table.stem) >= len(self.commits) and (self.folder / f"{table.stem}.json").exists()


def parse(path: Path, blob: bytes) -> Commit:
    """A commit by itself: neither its number nor what it follows is looked at.

    Raises:
        CorruptData: it is damaged.
    """
    data = files.read_json(path, blob)
    try:
        del data["sha256"]
        commit = Commit(**data)
        facts = [f for f in commit.files.values() if _HEX.fullmatch(f["sha256"]) and f["rows"] >= 0 and f["size"] >= 0]
        sound = (
            type(commit.number) is int
            and commit.schema_version == 1
            and type(commit.generation) is int
            and len(facts) == len(commit.files)
            and commit.files.keys() <= TABLES.keys()
            and all(type(n) is int and 0 <= n < commit.number for n in commit.dropped_genomes)
            and _HEX.fullmatch(commit.archive_hash)
            and (commit.compacts is None or _is_compaction(commit))
            and commit.to_json() == blob
        )
    except (TypeError, KeyError, AttributeError):
        sound = False
    if not sound:
        raise CorruptData(f"{path}: damaged, or not a commit of this version of evofool.")
    return commit


def _parse_next(path: Path, blob: bytes, before: Commit | None, previous: str) -> Commit:
    commit = parse(path, blob)
    if commit.number != (before.number + 1 if before else 0):
        raise CorruptData(f"{path}: is commit {commit.number} by its content.")
    moved = before and (commit.generation, commit.archive_hash) != (before.generation, before.archive_hash)
    if commit.previous_sha256 != previous or (commit.compacts is not None and moved):
        raise CorruptData(f"{path}: does not follow the commit before it; one of the two was changed.")
    return commit


def _is_compaction(commit: Commit) -> bool:
    """Whether a commit that says it is a compaction can be one."""
    facts = commit.compacts
    return (
        facts is not None
        and facts.keys() == {"history", "generation", "archive_hash"}
        and facts["history"] in HISTORIES
        and type(facts["generation"]) is int
        and -1 <= facts["generation"] <= commit.generation
        and _HEX.fullmatch(facts["archive_hash"]) is not None
    )


@contextlib.contextmanager
def lock(run: Path) -> Iterator[None]:
    """Hold the run directory for one driver.

    Raises:
        RunLocked: somebody else has it; the message says who.
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
        with files.guard(path):
            os.ftruncate(handle, 0)
            started = time.strftime("%Y-%m-%d %H:%M:%S %Z")
            os.pwrite(handle, f"process {os.getpid()} on {socket.gethostname()} since {started}".encode(), 0)
        yield
    finally:
        os.close(handle)
