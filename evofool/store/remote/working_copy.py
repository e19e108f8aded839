"""Runs in object stores: a driver works in a copy on this machine, and the store decides what is committed.

    s3://BUCKET/FOLDER/NAME/
      elites/elites.parquet                      the view, overwritten
      _evofool/run.json                          put if absent, then overwritten
      _evofool/config-RUN_ID.yaml seeds-RUN_ID.parquet
      _evofool/commits/00000012.json             put if absent, never written again
      _evofool/individuals/00000012-HASH.parquet     HASH: 16 digits of its sha256; the other tables alike
      _studies/NAME.parquet NAME.json NAME.svg, NAME.parts/

    $EVOFOOL_CACHE or ~/.cache/evofool, runs/HASH OF URL/
      NAME/                                      the working copy: an ordinary run directory
      origin.json lock

A commit's tables are put first, under names that depend on their content, so that a table left behind by a driver that
died is never confused with another's. Then its JSON is put if absent, and only when the store has it does the copy get
it: the copy is never ahead of the store, and of two drivers on two machines one has the commit and the other stops. A
driver that got no answer reads the JSON: if the bytes are its own, so is the commit. Before work or reading the copy is
brought up to date: commits are fetched by number up to the first that does not exist, and each is checked against the
one before it; a copy that differs from the store is made anew.

Tables that no commit needs any more are deleted, and so are those that none names, once a commit has their number.
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

from evofool.base.places import as_path, as_url, quoted
from evofool.errors import ConfigError, CorruptData, EvofoolError, RunLocked, StorageError
from evofool.records import Facts
from evofool.store import commits, files
from evofool.store.commits import TABLES, CommitLog
from evofool.store.remote.objects import Objects

__all__ = ["Remote", "hold", "locate", "named", "naming", "of"]

VIEW = "elites/elites.parquet"
TRIES = 5  # of fetching a run while another driver may be writing it
_SEGMENT = re.compile(rf"(?:{'|'.join(TABLES.values())})/(\d{{8}})-[0-9a-f]{{16}}\.parquet")
_STUDY = re.compile(r"_studies/[a-z0-9_-]+(\.parts/[0-9a-f-]+)?\.(parquet|json|svg)")
_COMMIT = re.compile(r"_evofool/commits/(\d{8})\.json")
_RUN_ID = re.compile(r"[0-9a-f]{16}")
_copies: dict[str, str] = {}  # path of a working copy -> URL, of every one that this process has used


def locate(place: str | Path) -> Path:
    """The directory of a run: that of a path, or the working copy of a URL, brought up to date.

    Raises:
        ConfigError: the URL is a bucket's and not a run's, or obstore is missing.
        StorageError: the store cannot be read.
        CorruptData: what it holds is damaged.
    """
    url = as_url(place)
    if url is None:
        return as_path(place)
    if url.count("/") < 3:
        raise ConfigError(f"{url}: is a bucket; a run is {url}/NAME.")
    remote = Remote(url, Objects(url))
    with naming():
        remote.make_folders()
        # If the lock is taken, a driver of this machine has the copy, and keeps it up to date.
        with _alone(remote.path), contextlib.suppress(RunLocked), commits.lock(remote.path):
            remote.fetch()
    return remote.path


def of(path: Path) -> Remote | None:
    """The run in a store of which a directory is the working copy; None for an ordinary run directory."""
    real = path.resolve()
    origin = real.parent / "origin.json"
    if real.parent.parent != _cache() or not origin.is_file():
        return None
    url = as_url(str(files.read_json(origin).get("url")))
    return Remote(url, Objects(url), path) if url and _copy(url) == real else None


@contextlib.contextmanager
def hold(path: Path) -> Iterator[None]:
    """`commits.lock`; of a working copy, then also probe the store and bring the copy up to date.

    Raises:
        RunLocked: another driver of this machine has the run.
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
                    error.go_on = f"evofool resume {quoted(remote.url)}"
                    raise
        yield


def named(text: str) -> str:
    """Text in which paths of working copies are replaced by their URLs."""
    for path, url in _copies.items():
        text = text.replace(path, url)
    return text


@contextlib.contextmanager
def naming() -> Iterator[None]:
    """Errors raised inside name the URL and not the path of its working copy."""
    try:
        yield
    except EvofoolError as error:
        error.message = named(error.message)
        error.args = (error.message,)
        error.safe, error.go_on = (text and named(text) for text in (error.safe, error.go_on))
        raise


class Remote:
    """A run in a store and its working copy. Whoever calls `create`, `send` or `commit` holds `hold`.

    Raises:
        RunLocked: by these three: another driver was first.
        StorageError: the store refused, or did not answer.
    """

    def __init__(self, url: str, objects: Objects, path: Path | None = None) -> None:
        self.url = url
        self.objects = objects
        self.path = path or _copy(url)
        self._needed: set[str] = set()
        _copies[str(self.path)] = url

    def make_folders(self) -> None:
        """Make the folders of the working copy, inside one that only this user may read."""
        with files.guard(self.path, "make a working copy"):
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            for folder in ("elites", *TABLES.values(), "_evofool/commits"):
                (self.path / folder).mkdir(parents=True, exist_ok=True)
        if not (self.path.parent / "origin.json").is_file():
            self._remember(None)

    def fetch(self) -> None:
        """Bring the working copy up to date; without a run in the store it is empty afterwards.

        Raises:
            CorruptData: a commit or a file is damaged, or missing though it is named.
        """
        for _ in range(TRIES):
            missing = self._fetch()
            if not missing:
                return
        raise CorruptData(f"{self.url}/{missing[0]}: missing, though the run names it.")

    def _fetch(self) -> list[str]:
        """One try of `fetch`: the names of missing objects, which a newer commit may have made needless."""
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
        missing += [name for name, data in blobs.items() if data is None and not _STUDY.fullmatch(name)]
        if missing:
            return missing
        for number, commit in new:
            self._write(_commit(number), commit)
        for name, data in blobs.items():
            if data is not None:
                self._write(others[name], data)
        self._fetch_view()
        self._write("_evofool/run.json", blob)
        log.remove_leftovers()
        return []

    def _commits(self) -> tuple[CommitLog, list[tuple[int, bytes]]]:
        """The log as the store has it, and number and bytes of the commits that the working copy lacks."""
        try:
            log = CommitLog(self.path)
        except CorruptData:
            self._clear()
            log = CommitLog(self.path)
        last = len(log.commits) - 1
        # Each commit names the sha256 of the one before, so if the newest is the same, all are.
        if last >= 0 and self.objects.get(_commit(last)) != (self.path / _commit(last)).read_bytes():
            self._clear()
            log = CommitLog(self.path)
        # The list says which to fetch at once; it may be out of date, so those behind it are fetched one by one.
        listed = {int(m[1]) for name in self.objects.listed("_evofool/commits") if (m := _COMMIT.fullmatch(name))}
        ahead = range(len(log.commits), max(listed, default=-1) + 1)
        blobs = dict(zip(ahead, self.objects.each(lambda n: self.objects.get(_commit(n)), ahead)))
        new: list[tuple[int, bytes]] = []
        while True:
            number = len(log.commits)
            blob = blobs.get(number)
            if blob is None:
                blob = self.objects.get(_commit(number))
            if blob is None:
                break
            log.follow(blob)
            new.append((number, blob))
        if later := [n for n, blob in blobs.items() if blob is not None and n > number]:
            raise CorruptData(f"{self.url}/{_commit(number)}: missing, though commit {later[0]} is there.")
        return log, new

    def _bring(self, log: CommitLog, table: str, number: int, facts: Facts) -> str | None:
        """Fetch a table unless the working copy has it; the name of its object if the store has none."""
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
        tag = files.read_json(self.path.parent / "origin.json").get("view")
        answer = self.objects.get_if_changed(VIEW, tag if (self.path / VIEW).is_file() else None)
        if answer:
            self._write(VIEW, answer[0])
            self._remember(answer[1])

    def _write(self, name: str, data: bytes) -> None:
        path = self.path / name
        if not path.is_file() or path.read_bytes() != data:
            path.parent.mkdir(parents=True, exist_ok=True)
            files.put(path, data, temporary_folder=self.path / "_evofool")

    def _remember(self, view: str | None) -> None:
        origin = {"url": self.url, "view": view}
        files.put(self.path.parent / "origin.json", (json.dumps(origin, indent=1) + "\n").encode())

    def _clear(self) -> None:
        """Empty the working copy but for its lock, which this process holds."""
        for folder in (self.path, self.path / "_evofool"):
            for entry in folder.iterdir():
                if entry.is_dir() and not entry.is_symlink():
                    if entry.name != "_evofool":
                        shutil.rmtree(entry)
                elif entry.name != "lock":
                    entry.unlink()
        self.make_folders()

    def create(self) -> None:
        """Put a run that was made in the working copy, run.json last and only if absent."""
        folder = self.path / "_evofool"
        sent = [self.send(path) for name in ("config.yaml", "seeds.parquet") if (path := folder / name).is_file()]
        if not self.objects.create("_evofool/run.json", (folder / "run.json").read_bytes()):
            self.objects.delete(sent)
            self._clear()
            raise RunLocked(
                f"{self.url}: another driver has just made this run; this one stops.",
                go_on=f"evofool resume {quoted(self.url)}",
            )

    def send(self, path: Path, log: CommitLog | None = None) -> str:
        """Overwrite the object of a file of the working copy that is neither a commit nor a table; its name.

        Args:
            log: the commits that the file is made from. If the store has a later one, nothing is written. (Should one
                be made between that check and the put, an old view stays until the next is written.)
        """
        if log and self.objects.get(_commit(len(log.commits))) is not None:
            raise self._overtaken(log)
        name = str(path.relative_to(self.path))
        if path.name in ("config.yaml", "seeds.parquet"):
            # Named by run: two drivers that make a run at the same time must not overwrite each other's files.
            run_id = self._run_id((self.path / "_evofool" / "run.json").read_bytes())
            name = f"_evofool/{path.stem}-{run_id}{path.suffix}"
        tag = self.objects.put(name, path.read_bytes())
        if name == VIEW:
            self._remember(tag)
        return name

    def commit(self, log: CommitLog, number: int, blob: bytes, tables: dict[str, bytes]) -> None:
        """Put the tables of a commit, then the commit itself: when this returns, the store has it.

        Args:
            log: without this commit.
            blob: the commit's JSON.
            tables: table -> bytes of its file.
        """
        self._needed = self._names(log)
        uploads = [
            (self._segment(log.path(table, number), hashlib.sha256(data).hexdigest()), data)
            for table, data in tables.items()
        ]
        self.objects.each(lambda item: self.objects.put(*item), uploads)
        if not self.objects.create(_commit(number), blob):
            raise self._overtaken(log)

    def settle(self, log: CommitLog) -> None:
        """Delete the tables that `commit` has made needless; `log` is with that commit."""
        self.objects.delete(sorted(self._needed - self._names(log)))

    def tidy(self, log: CommitLog) -> int:
        """Delete the tables that no commit names, up to the number of the last commit; how many.

        Drivers that died have left them behind. A table of a higher number may belong to a driver about to commit it.
        """
        live, last = self._names(log), len(log.commits) - 1
        matches = [m for folder in TABLES.values() for n in self.objects.listed(folder) if (m := _SEGMENT.fullmatch(n))]
        return self.objects.delete(m[0] for m in matches if int(m[1]) <= last and m[0] not in live)

    def _overtaken(self, log: CommitLog) -> RunLocked:
        return RunLocked(f"{self.url}: another driver wrote commit {len(log.commits)}; this one stops.")

    def _names(self, log: CommitLog) -> set[str]:
        """The names of all objects that hold a table which must exist."""
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
    return as_path(os.environ.get("EVOFOOL_CACHE") or "~/.cache/evofool").resolve() / "runs"


def _copy(url: str) -> Path:
    return _cache() / hashlib.sha256(url.encode()).hexdigest()[:16] / url.rpartition("/")[2]


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Wait until no other process of this machine brings a working copy up to date, and keep others from it."""
    with files.guard(path):
        handle = os.open(path.parent / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        with files.guard(path, "lock it"):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
