"""Drivers on several machines that share a store of objects in which everything goes wrong that does.

A schedule says who works when, and which call of the store fails how: the answer is lost after the put took place, 409
or 412 or 503 although nothing took place, a put that times out and lands later, a list of long ago, a driver killed
before or after a call, a rival that acts between two calls.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import hypothesis
from handmade import verify_files
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from obstore.exceptions import AlreadyExistsError, GenericError, PreconditionError
from obstore.store import MemoryStore

from chaos.outcome import Outcome
from evofool.errors import RunLocked, StorageError
from evofool.store import files, writing
from evofool.store.commits import TABLES, CommitLog
from evofool.store.remote.objects import Objects
from evofool.store.remote.working_copy import Remote

__all__ = ["SABOTAGE", "trial_objects"]

URL = "s3://bucket/run"
DRIVERS = 3
FAULTS = (
    "lost",
    "lost, then 412",
    "503",
    "409",
    "412",
    "late",
    "stale list",
    "killed before",
    "killed after",
    "rival",
    "rival after",
)


class Killed(BaseException):
    """The driver is gone; nothing of it runs any more."""


class World:
    """The store, all who work on it, and the schedule.

    Args:
        faults: (calls that go well before it, fault), in order.
    """

    def __init__(self, folder: Path, faults: list[tuple[int, str]], outcome: Outcome) -> None:
        self.store = MemoryStore()
        self.outcome = outcome
        self.drivers = [Driver(self, folder / str(number), number) for number in range(DRIVERS)]
        self.names: set[str] = set()
        self.commits: dict[int, bytes] = {}  # as the store got them
        self.made: dict[int, bytes] = {}  # of which a driver was told that they are committed
        self._faults = faults
        self._good = faults[0][0] if faults else 0
        self._late: list[Callable[[], Any]] = []
        self._old_list: list[list[dict[str, Any]]] = []
        self._depth = 0

    def call(self, driver: Driver | None, do: Callable[[], Any], put: str = "") -> Any:
        """One request; `put`: the mode, if it is one."""
        late, self._late = self._late, []
        for landing in late:
            landing()
        fault = self._next() if driver else ""
        if fault == "killed before":
            raise Killed
        if fault == "rival" and driver:
            self._rival_of(driver)
        if fault == "503" or (fault in ("409", "412") and put != "create"):
            raise GenericError("status code: 503 Slow Down")
        if fault == "409":
            raise PreconditionError("status code: 409 ConditionalRequestConflict")
        if fault == "412":
            raise AlreadyExistsError("status code: 412 Precondition Failed")
        if fault == "late" and put:
            self._late.append(lambda: _quietly(do))
            raise GenericError("timed out")
        result = do()
        if fault == "killed after":
            raise Killed
        if fault == "rival after" and driver:
            self._rival_of(driver)
        if fault == "lost, then 412" and put == "create":
            raise AlreadyExistsError("status code: 412 Precondition Failed")  # the client asked again by itself
        if fault.startswith(("lost", "late")):
            raise GenericError("connection closed before the answer")
        return result

    def _next(self) -> str:
        if not self._faults or self._good:
            self._good -= 1
            return ""
        self.outcome.counts["faults"] += 1
        fault = self._faults.pop(0)[1]
        self._good = self._faults[0][0] if self._faults else 0
        return fault

    def _rival_of(self, driver: Driver) -> None:
        if self._depth == 0:
            self._depth += 1
            self.drivers[(driver.number + 1) % DRIVERS].work(drop=False)
            self._depth -= 1

    def put(self, name: str, data: bytes, mode: str) -> Any:
        result = self.store.put(name, data, mode=mode)
        self.names.add(name)
        if name.startswith("_evofool/commits/"):
            number = int(Path(name).stem)
            assert self.commits.setdefault(number, data) == data, f"commit {number} was replaced"
        self.is_whole()
        return result

    def delete(self, name: str) -> None:
        self.store.delete(name)
        self.names.discard(name)
        self.is_whole()

    def list(self, folder: str, *, stale: bool) -> list[list[dict[str, Any]]]:
        now = [list(batch) for batch in self.store.list(folder)]
        old, self._old_list = self._old_list, now
        return old if stale else now

    def named(self) -> set[str]:
        """The tables that a reader of the store may look for."""
        commits = [json.loads(self.commits[n]) for n in sorted(self.commits)]
        dropped = {n for commit in commits for n in commit["dropped_genomes"]}
        return {
            f"{TABLES[table]}/{commit['number']:08d}-{facts['sha256'][:16]}.parquet"
            for commit in commits
            for table, facts in commit["files"].items()
            if table != "genomes" or commit["number"] not in dropped
        }

    def is_whole(self) -> None:
        missing = self.named() - self.names
        assert not missing, f"commits name {sorted(missing)}, which the store has not"
        assert sorted(self.commits) == list(range(len(self.commits))), f"commits {sorted(self.commits)}"
        assert not self.commits or "_evofool/run.json" in self.names


class Line:
    """What one driver has of the store: the calls that evofool makes, of an obstore store."""

    def __init__(self, world: World, driver: Driver | None) -> None:
        self.world, self.driver = world, driver

    def put(self, name: str, data: bytes, *, mode: str = "overwrite") -> Any:
        return self.world.call(self.driver, lambda: self.world.put(name, data, mode), mode)

    def get(self, name: str, *, options: dict[str, Any]) -> Any:
        return self.world.call(self.driver, lambda: self.world.store.get(name, options=options))

    def delete(self, name: str) -> None:
        self.world.call(self.driver, lambda: self.world.delete(name))

    def list(self, folder: str) -> Any:
        world = self.world
        if world._faults and not world._good and world._faults[0][1] == "stale list":
            return world.call(self.driver, lambda: world.list(folder, stale=True))
        return world.call(self.driver, lambda: world.list(folder, stale=False))


class Driver:
    """One machine's driver, begun anew whenever it has stopped."""

    def __init__(self, world: World, folder: Path, number: int) -> None:
        self.world, self.folder, self.number = world, folder, number
        self.log: CommitLog | None = None
        self._made = 0

    def work(self, *, drop: bool, forget: bool = False) -> str:
        """Begin, or make a commit: how it ended.

        Args:
            drop: whether the commit makes the genomes of an older one needless.
            forget: whether this machine's working copy is lost first, if the driver has to begin.
        """
        counts = self.world.outcome.counts
        try:
            if self.log is None:
                self._begin(forget)
            else:
                self._commit(self.log, drop)
            return "done"
        except RunLocked:
            counts["stopped by a rival"] += 1
        except StorageError:
            counts["stopped by the store"] += 1
        except Killed:
            counts["killed"] += 1
        self.log = None
        return "stopped"

    def remote(self, *, reading: bool = False) -> Remote:
        objects = Objects(URL, Line(self.world, None if reading else self), together=1)
        objects.pause = lambda _: None
        return Remote(URL, objects, self.folder / "run")

    def _begin(self, forget: bool) -> None:
        if forget:
            shutil.rmtree(self.folder, ignore_errors=True)
        remote = self.remote()
        remote.make_folders()
        remote.objects.probe()
        remote.fetch()
        folder = remote.path / "_evofool"
        if not (folder / "run.json").is_file():
            self._made += 1
            run_id = hashlib.sha256(f"{self.number} {self._made}".encode()).hexdigest()[:16]
            files.put(folder / "config.yaml", f"of {run_id}\n".encode())
            files.put(folder / "run.json", json.dumps({"run_id": run_id}).encode())
            remote.create()
        log = CommitLog(remote.path)
        writing.recover(log, remote)
        self.log, self.place = log, remote

    def _commit(self, log: CommitLog, drop: bool) -> None:
        self._made += 1
        number = len(log.commits)
        unique = f"{self.number} {self._made}".encode()
        old = [c.number for c in log.commits if c.number not in {n for d in log.commits for n in d.dropped_genomes}]
        tried: list[bytes] = []
        remote = self.place
        assert remote is not None

        def noted(log: CommitLog, number: int, blob: bytes, tables: dict[str, bytes]) -> None:
            tried.append(blob)
            Remote.commit(remote, log, number, blob, tables)

        try:
            with mock.patch.object(remote, "commit", noted):
                writing.append(
                    log,
                    remote,
                    number,
                    hashlib.sha256(unique).hexdigest(),
                    {table: (table.encode() + b" of " + unique, 1) for table in ("individuals", "genomes")},
                    dropped_genomes=old[:1] if drop else [],
                    numerics={},
                    counters={},
                )
        except RunLocked:
            assert self.world.commits.get(number) != tried[0], (
                f"driver {self.number} took its own {number} for another's"
            )
            raise
        assert self.world.commits.get(number) == tried[0], f"commit {number} was acknowledged, and is not there"
        assert self.world.made.setdefault(number, tried[0]) == tried[0], f"commit {number} was acknowledged twice"
        self.world.outcome.counts["commits"] += 1


def _quietly(do: Callable[[], Any]) -> None:
    with contextlib.suppress(AlreadyExistsError, FileNotFoundError):
        do()


def _schedule(
    folder: Path, steps: list[tuple[int, bool, bool]], faults: list[tuple[int, str]], outcome: Outcome
) -> None:
    world = World(folder, faults, outcome)
    for number, drop, forget in steps:
        world.drivers[number].work(drop=drop, forget=forget)
    world._faults = []
    # Whoever reads now finds all that was acknowledged, and whoever begins goes on from there.
    reader = Driver(world, folder / "reader", DRIVERS)
    reader.remote(reading=True).fetch()
    read = CommitLog(folder / "reader" / "run")
    verify_files(read)
    found = {commit.number: commit.to_json() for commit in read.commits}
    assert found == world.commits, f"read {sorted(found)} of {sorted(world.commits)}"
    assert world.made.items() <= found.items(), f"lost: {sorted(world.made.keys() - found.keys())}"
    assert (reader.work(drop=False), reader.work(drop=False)) == ("done", "done")
    left = {n for n in world.names - world.named() if n.startswith(tuple(TABLES.values()))}
    assert all(int(Path(name).name[:8]) >= len(found) for name in left), f"left behind: {sorted(left)}"
    for driver in world.drivers:
        if driver.log is not None:
            assert driver.work(drop=False) == "stopped", "two drivers went on"


def trial_objects(trials: int, folder: Path, seed: int = 0) -> Outcome:
    """Schedules drawn by hypothesis: no commit lost, none made twice, none that names what is not there."""
    outcome = Outcome()
    steps = st.lists(st.tuples(st.integers(0, DRIVERS - 1), st.booleans(), st.booleans()), min_size=2, max_size=12)
    faults = st.lists(st.tuples(st.integers(0, 12), st.sampled_from(FAULTS)), max_size=12)

    @hypothesis.seed(seed)
    @settings(
        max_examples=trials,
        database=None,
        deadline=None,
        phases=[Phase.generate],  # to shrink what fails would take minutes
        suppress_health_check=list(HealthCheck),
    )
    @given(steps=steps, faults=faults)
    def schedule(steps: list[tuple[int, bool, bool]], faults: list[tuple[int, str]]) -> None:
        outcome.trials += 1
        place = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else folder))
        try:
            _schedule(place, steps, list(faults), outcome)
        except AssertionError as error:
            raise AssertionError(f"{error}; steps {steps}, faults {faults}") from None
        finally:
            shutil.rmtree(place, ignore_errors=True)

    with mock.patch("os.fsync"), outcome.trial("objects"):  # nothing here is about power
        outcome.trials -= 1
        schedule()
    return outcome


def _overwrite(objects: Objects, name: str, data: bytes) -> bool:
    objects.put(name, data)
    return True


def _believe(objects: Objects, name: str, data: bytes) -> bool:
    try:
        objects._store.put(name, data, mode="create")
    except (AlreadyExistsError, PreconditionError):
        return False
    except GenericError:
        raise StorageError(f"{name}: no answer.") from None
    return True


def _commit_first(remote: Remote, log: CommitLog, number: int, blob: bytes, tables: dict[str, bytes]) -> None:
    _commit(remote, log, number, blob, {})
    _commit(remote, log, number, blob, tables)


_commit = Remote.commit


@contextlib.contextmanager
def _create_by(function: Callable[[Objects, str, bytes], bool]) -> Iterator[None]:
    with mock.patch.object(Objects, "create", function), mock.patch.object(Objects, "probe"):
        yield


SABOTAGE: dict[str, Callable[[], Any]] = {
    "objects-replace": lambda: _create_by(_overwrite),
    "objects-believed": lambda: _create_by(_believe),
    "objects-commit-first": lambda: mock.patch.object(Remote, "commit", _commit_first),
}
