"""Runs in object stores: worked in a copy on this machine, while the store says what is committed.

    s3://BUCKET/FOLDER/NAME/
      elites/elites.parquet                      the view, overwritten
      _evofool/run.json                          put if absent, then overwritten
      _evofool/config-RUN_ID.yaml seeds-RUN_ID.parquet
      _evofool/commits/00000012.json             put if absent, never written again
      _evofool/individuals/00000012-HASH.parquet     HASH: 16 digits of its sha256; placements, genomes, _history alike
      _studies/NAME.parquet

    $EVOFOOL_CACHE or ~/.cache/evofool, runs/HASH OF URL/
      NAME/                                      the working copy: a run directory as any
      origin.json lock

A commit's tables are put first, under names that no other content has, so that what a driver leaves behind when it dies
cannot be taken for another's. Then its JSON is put if absent, and only when the store has it does the copy get it: the
copy is never ahead of the store, and of two drivers on two machines one has the commit and the other stops. A driver
whose answer was lost finds its own bytes there. Whoever begins to work or to read brings the copy up to date: commits
are asked for by number until there is none, each checked against the one before; a copy that differs is made anew.

Tables that no commit needs any more are deleted, and so are those that none names, once their number is decided.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from evofool.base.places import as_url
from evofool.errors import ConfigError, CorruptData, EvofoolError, RunLocked, StorageError
from evofool.records import Facts
from evofool.store import commits, files
from evofool.store.commits import TABLES, CommitLog
from evofool.store.remote.objects import Objects

__all__ = ["Remote", "hold", "locate", "named", "naming", "of"]

VIEW = "elites/elites.parquet"
TRIES = 5  # of reading a run that another driver goes on with meanwhile
_SEGMENT = re.compile(rf"(?:{'|'.join(TABLES.values())})/(\d{{8}})-[0-9a-f]{{16}}\.parquet")
_STUDY = re.compile(r"_studies/[a-z_]+\.parquet")
_COMMIT = re.compile(r"_evofool/commits/(\d{8})\.json")
_RUN_ID = re.compile(r"[0-9a-f]{16}")
_copies: dict[str, str] = {}  # path of a working copy -> URL, of all this process has seen


def locate(place: str | Path) -> Path:
    """The directory of a run: a path itself, or the working copy of a URL, brought up to date.

    Raises:
        ConfigError: no URL of a run, or obstore is missing.
        StorageError: the store cannot be read.
        CorruptData: what it holds is damaged.
    """
    url = as_url(place)
    if url is None:
        return Path(place)
    if url.count("/") < 3:
        raise ConfigError(f"{url}: is a bucket; a run is {url}/NAME.")
    remote = Remote(url, Objects(url))
    with naming():
        remote.make_folders()
        with _alone(remote.path):
            try:
                with commits.lock(remote.path):
                    remote.fetch()
            except RunLocked:
                pass  # a driver of this machine works here, and nothing is newer than what it has
    return remote.path


def of(path: Path) -> Remote | None:
    """The place in a store that a directory is the working copy of; None for any other."""
    real = path.resolve()
    origin = real.parent / "origin.json"
    if real.parent.parent != _cache() or not origin.is_file():
        return None
    url = as_url(str(files.read_json(origin).get("url")))
    return Remote(url, Objects(url), path) if url and _copy(url) == real else None


@contextlib.contextmanager
def hold(path: Path) -> Iterator[None]:
    """`commits.lock`, and of a working copy: the store probed, the copy brought up to date.

    Raises:
        RunLocked: a driver of this machine has it.
        ConfigError: the store does not put if absent.
        StorageError: the store cannot be read or written.
        CorruptData: what it holds is damaged.
    """
    remote = of(path)
    with contextlib.ExitStack() as stack:
        if remote is None:
            stack.enter_context(commits.lock(path))
        else:
            with _alone(path):
                stack.enter_context(commits.lock(path))
                try:
                    remote.objects.probe()
                    remote.fetch()
                except StorageError as error:
                    error.safe = f"every commit that was acknowledged, in {remote.url}"
                    error.go_on = f"evofool resume {remote.url}"
                    raise
        yield


def named(text: str) -> str:
    """Text with URLs in the place of their working copies."""
    for path, url in _copies.items():
        text = text.replace(path, url)
    return text


@contextlib.contextmanager
def naming() -> Iterator[None]:
    """Errors raised inside name the URL and not its working copy."""
    try:
        yield
    except EvofoolError as error:
        error.message = named(error.message)
        error.args = (error.message,)
        error.safe, error.go_on = (text and named(text) for text in (error.safe, error.go_on))
        raise


class Remote:
    """A run in a store and its working copy. Writers are inside `hold`."""

    def __init__(self, url: str, objects: Objects, path: Path | None = None) -> None:
        self.url = url
        self.objects = objects
        self.path = path or _copy(url)
        self._needed: set[str] = set()
        _copies[str(self.path)] = url

    # ---------------------------------------------------------------------------------------------------- the copy

    def make_folders(self) -> None:
        """Make the folders of the working copy, for nobody else to read."""
        with files.guard(self.path, "make a working copy"):
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            for folder in ("elites", *TABLES.values(), "_evofool/commits"):
                (self.path / folder).mkdir(parents=True, exist_ok=True)
        if not (self.path.parent / "origin.json").is_file():
            self._remember(None)

    def fetch(self) -> None:
        """Bring the working copy up to date; without a run in the store it is empty afterwards.

        Raises:
            StorageError: the store cannot be read.
            CorruptData: a commit or a file is damaged, or missing though it is named.
        """
        missing: list[str] = []
        for _ in range(TRIES):
            missing = self._fetch()
            if not missing:
                return
        raise CorruptData(f"{self.url}/{missing[0]}: missing, though the run names it.")

    def _fetch(self) -> list[str]:
        """One try: names of objects that were not there, perhaps since a newer commit made them needless."""
        self.make_folders()
        blob = self.objects.get("_evofool/run.json")
        if blob is None:
            if self.objects.get(_commit(0)) is not None:
                raise CorruptData(f"{self.url}: has commits but no _evofool/run.json; put that object back.")
            self._clear()
            return []
        run_id = self._run_id(blob)
        local = self.path / "_evofool" / "run.json"
        if local.is_file() and files.read_json(local).get("run_id") != run_id:
            self._clear()
        log, new = self._commits()
        missing = [name for name in self.objects.each(lambda f: self._bring(log, *f), log.live_files()) if name]
        facts = files.read_json(local, blob)
        others = {f"_evofool/config-{run_id}.yaml": "_evofool/config.yaml"}
        if facts.get("seeds_file_sha256"):
            others[f"_evofool/seeds-{run_id}.parquet"] = "_evofool/seeds.parquet"
        others |= {name: name for name in self.objects.listed("_studies") if _STUDY.fullmatch(name)}
        blobs = {name: self.objects.get(name) for name in others}
        missing += [name for name, found in blobs.items() if found is None and not _STUDY.fullmatch(name)]
        if missing:
            return missing
        for number, commit in new:
            self._write(_commit(number), commit)
        for name, found in blobs.items():
            if found is not None:
                self._write(others[name], found)
        self._fetch_view()
        self._write("_evofool/run.json", blob)
        log.remove_leftovers()
        return []

    def _commits(self) -> tuple[CommitLog, list[tuple[int, bytes]]]:
        """The log of the store, and those of its commits that the working copy lacks."""
        try:
            log = CommitLog(self.path)
        except CorruptData:
            self._clear()
            log = CommitLog(self.path)
        have = len(log.commits)
        # Each commit names the sha256 of the one before, so the newest vouches for all.
        if have and self.objects.get(_commit(have - 1)) != (self.path / _commit(have - 1)).read_bytes():
            self._clear()
            log, have = CommitLog(self.path), 0
        new: list[tuple[int, bytes]] = []
        hints = {int(m[1]) for name in self.objects.listed("_evofool/commits") if (m := _COMMIT.fullmatch(name))}
        ahead = range(have, max(hints, default=-1) + 1)
        found = dict(zip(ahead, self.objects.each(lambda n: self.objects.get(_commit(n)), ahead)))
        while True:
            number = have + len(new)
            blob = found.get(number)
            if blob is None:
                blob = self.objects.get(_commit(number))
            if blob is None:
                break
            log.follow(blob)
            new.append((number, blob))
        if later := [n for n, blob in found.items() if blob is not None and n > number]:
            raise CorruptData(f"{self.url}/{_commit(number)}: missing, though commit {later[0]} is there.")
        return log, new

    def _bring(self, log: CommitLog, table: str, number: int, facts: Facts) -> str | None:
        """See that a table is in the working copy; the name of its object if that is not there."""
        path = log.path(table, number)
        if path.is_file() and not path.is_symlink() and files.sha256_of(path) == facts["sha256"]:
            return None
        name = self._segment(path, facts["sha256"])
        data = self.objects.get(name)
        if data is None:
            return name
        if hashlib.sha256(data).hexdigest() != facts["sha256"]:
            raise CorruptData(f"{self.url}/{name}: damaged; its sha256 is not the one that commit {number} names.")
        self._write(str(path.relative_to(self.path)), data)
        return None

    def _fetch_view(self) -> None:
        there = (self.path / VIEW).is_file()
        origin = files.read_json(self.path.parent / "origin.json")
        found = self.objects.get_if_changed(VIEW, origin.get("view") if there else None)
        if found:
            self._write(VIEW, found[0])
            self._remember(found[1])

    def _write(self, name: str, data: bytes) -> None:
        path = self.path / name
        if not path.is_file() or path.read_bytes() != data:
            path.parent.mkdir(parents=True, exist_ok=True)
            files.put(path, data, temporary_folder=self.path / "_evofool")

    def _remember(self, view: str | None) -> None:
        origin = {"url": self.url, "view": view}
        files.put(self.path.parent / "origin.json", (json.dumps(origin, indent=1) + "\n").encode())

    def _clear(self) -> None:
        """Empty the working copy of everything but the lock, which is held."""
        for folder in (self.path, self.path / "_evofool"):
            for entry in folder.iterdir():
                if entry.is_dir() and not entry.is_symlink():
                    if entry.name != "_evofool":
                        shutil.rmtree(entry)
                elif entry.name != "lock":
                    entry.unlink()
        self.make_folders()

    # ------------------------------------------------------------------------------------------------------ writing

    def create(self) -> None:
        """Put a run that was made in the working copy, run.json last and only if absent.

        Raises:
            RunLocked: another driver made a run there first.
            StorageError: the store refused.
        """
        folder = self.path / "_evofool"
        sent = [self.send(path) for name in ("config.yaml", "seeds.parquet") if (path := folder / name).is_file()]
        if not self.objects.create("_evofool/run.json", (folder / "run.json").read_bytes()):
            self.objects.delete(sent)
            self._clear()
            raise RunLocked(
                f"{self.url}: another driver has just made this run; this one stops.",
                go_on=f"evofool resume {self.url}",
            )

    def send(self, path: Path, log: CommitLog | None = None) -> str:
        """Overwrite the object of a file of the working copy that is not a commit or a table; its name.

        Args:
            log: the commits that the file is of. A driver that slept while another went on is stopped here; should it
                fall asleep between the question and the put, an old view stays until the next is written.

        Raises:
            RunLocked: the store has a later commit.
            StorageError: the store refused.
        """
        number = len(log.commits) if log else 0
        if log and self.objects.get(_commit(number)) is not None:
            raise self._overtaken(number)
        name = str(path.relative_to(self.path))
        data = path.read_bytes()
        if path.name in ("config.yaml", "seeds.parquet"):
            # Rivals that make a run at once must not overwrite each other's before one has made it.
            run_id = self._run_id((self.path / "_evofool" / "run.json").read_bytes())
            name = f"_evofool/{path.stem}-{run_id}{path.suffix}"
        tag = self.objects.put(name, data)
        if name == VIEW:
            self._remember(tag)
        return name

    def commit(self, log: CommitLog, number: int, blob: bytes, tables: dict[str, bytes]) -> None:
        """Put the tables of a commit, then the commit itself: when this returns, the store has it.

        Args:
            log: without this commit.

        Raises:
            RunLocked: another driver made a commit of this number.
            StorageError: the store refused, or cannot be asked whether it has the commit.
        """
        self._needed = self._names(log)
        self.objects.each(
            lambda item: self.objects.put(*item),
            [
                (self._segment(log.path(table, number), hashlib.sha256(data).hexdigest()), data)
                for table, data in tables.items()
            ],
        )
        if not self.objects.create(_commit(number), blob):
            raise self._overtaken(number)

    def settle(self, log: CommitLog) -> None:
        """Delete the tables that the last commit made needless."""
        self.objects.delete(sorted(self._needed - self._names(log)))

    def tidy(self, log: CommitLog) -> int:
        """Delete what drivers left behind when they died: tables that no commit names, of numbers that are decided.

        A number that is not decided may be that of a driver which is just about to commit.
        """
        live, last = self._names(log), len(log.commits) - 1
        listed = [m for folder in TABLES.values() for n in self.objects.listed(folder) if (m := _SEGMENT.fullmatch(n))]
        return self.objects.delete(m[0] for m in listed if int(m[1]) <= last and m[0] not in live)

    def _overtaken(self, number: int) -> RunLocked:
        return RunLocked(f"{self.url}: another driver wrote commit {number}; this one stops.")

    def _names(self, log: CommitLog) -> set[str]:
        """Of all objects that hold a table which must be there."""
        return {self._segment(log.path(table, number), facts["sha256"]) for table, number, facts in log.live_files()}

    def _segment(self, path: Path, sha256: str) -> str:
        return f"{path.relative_to(self.path).with_suffix('')}-{sha256[:16]}.parquet"

    def _run_id(self, blob: bytes) -> str:
        run_id = str(files.read_json(Path(f"{self.path}/_evofool/run.json"), blob).get("run_id"))
        if not _RUN_ID.fullmatch(run_id):
            raise CorruptData(f"{self.url}/_evofool/run.json: names no run id.")
        return run_id


def _commit(number: int) -> str:
    return f"_evofool/commits/{number:08d}.json"


def _cache() -> Path:
    return Path(os.environ.get("EVOFOOL_CACHE") or Path.home() / ".cache" / "evofool").resolve() / "runs"


def _copy(url: str) -> Path:
    return _cache() / hashlib.sha256(url.encode()).hexdigest()[:16] / url.rpartition("/")[2]


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Wait for other processes of this machine that bring a working copy up to date."""
    with files.guard(path):
        handle = os.open(path.parent / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
