"""The store alone: a writer of commits that is killed, refused by the file system, or loses its power.

The writer counts a commit as promised once `append` has returned. Whatever ends it, afterwards every promised commit
has to be there, what is there has to be what was written, and recovery has to leave nothing else.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from handmade import verify_files

from chaos.forks import Child, Shared, wait_for
from chaos.outcome import Outcome
from evofool.errors import StorageError
from evofool.store import files, writing
from evofool.store.commits import TABLES, CommitLog

__all__ = ["SABOTAGE", "trial_kills", "trial_power_loss", "trial_syscalls"]

SIZES = {"individuals": 40_000, "placements": 20_000, "genomes": 120_000, "history": 1_000}
PROMISED = 0  # slot of Shared: commits whose append returned


def content(number: int, table: str) -> bytes:
    """What commit `number` holds, whoever writes it."""
    return hashlib.shake_256(f"{number} {table}".encode()).digest(SIZES[table])


def append(log: CommitLog) -> None:
    """One commit more. Every third is a compaction; one of three drops genomes, as in a run of large ones."""
    number, last = len(log.commits), log.last
    compacts = number % 3 == 2 and last is not None
    generation = last.generation if compacts and last else number
    archive_hash = last.archive_hash if compacts and last else hashlib.sha256(content(number, "history")).hexdigest()
    writing.append(
        log,
        None,
        generation,
        archive_hash,
        {table: (content(number, table), number) for table in TABLES},
        dropped_genomes=[number - 1] if number % 3 == 1 else [],
        numerics={"epoch": 0},
        counters={"evaluations": number},
        compacts={"history": "elites", "generation": generation, "archive_hash": archive_hash} if compacts else None,
    )


def folders(run: Path) -> Path:
    """An empty run directory, as far as the log cares."""
    for name in (*TABLES.values(), "_evofool/commits"):
        (run / name).mkdir(parents=True, exist_ok=True)
    return run


def write(run: Path, shared: Shared, commits: int | None = None, pause: float = 0.0) -> int:
    """Append commits, for ever or so many; the exit code."""
    try:
        log = CommitLog(run)
        log.remove_leftovers()
        end = None if commits is None else len(log.commits) + commits
        while end is None or len(log.commits) < end:
            append(log)
            shared[PROMISED] = len(log.commits)
            time.sleep(pause)
    except StorageError as error:
        print(error)
        return error.exit_code
    return 0


def recover(run: Path, promised: int, outcome: Outcome) -> None:
    """Do what a resume does, and check what it must find."""
    log = CommitLog(run)
    assert len(log.commits) >= promised, f"{promised} commits were promised, {len(log.commits)} are there"
    assert len(log.commits) <= promised + 1, "more commits than were begun"
    outcome.counts["commits promised"] += promised
    verify_files(log)
    outcome.counts["leftovers removed"] += log.remove_leftovers()
    expected = {log.path(table, number): content(number, table) for table, number, _ in log.live_files()}
    found = {path for path in run.rglob("*") if path.is_file()}
    commits = {log.folder / f"{commit.number:08d}.json" for commit in log.commits}
    assert found == expected.keys() | commits, f"left over: {sorted(map(str, found ^ (expected.keys() | commits)))}"
    for path, data in expected.items():
        assert path.read_bytes() == data, f"{path} is not what was written"


# ---------------------------------------------------------------------------------------------------------- kill -9


def trial_kills(trials: int, folder: Path, seed: int = 0) -> Outcome:
    """kill -9 of a writer 1 to 60 ms after it begins, or after its first commit; each directory lives through five."""
    draw, outcome = random.Random(seed), Outcome()
    for trial in range(trials):
        run = folders(folder / f"run-{trial // 5}")
        before = len(list((run / "_evofool/commits").glob("*.json")))
        shared = Shared()
        shared[PROMISED] = before
        with outcome.trial(f"kill {trial}"):
            child = Child(folder / "output", write, run, shared)
            if trial % 2:
                wait_for(lambda: shared[PROMISED] > before, child)  # noqa: B023 - called at once
            code = child.kill_after(draw.uniform(0.001, 0.060))
            assert code == -9, f"ended by itself with {code}: {child.said()}"
            recover(run, shared[PROMISED], outcome)
            outcome.counts["commits promised"] -= before  # those were counted by the kill before
        if trial % 5 == 4 or outcome.violations:
            shutil.rmtree(run)
    return outcome


# ------------------------------------------------------------------------------------------------- every system call

CALLS = (
    "openat",
    "write",
    "pwrite64",
    "fsync",
    "fdatasync",
    "link",
    "linkat",
    "rename",
    "renameat",
    "renameat2",
    "unlink",
    "unlinkat",
    "ftruncate",
)
FAULTS = {"kill": "signal=SIGKILL", "EIO": "error=EIO", "ENOSPC": "error=ENOSPC"}


def trial_syscalls(trials: int | None, folder: Path, seed: int = 0, commits: int = 3) -> Outcome:
    """A kill, EIO and ENOSPC at every system call of so many commits, one after the other.

    Args:
        trials: a random choice of so many of them; None for all.
    """
    outcome = Outcome()
    counted = _count_calls(folder, commits)
    points = [(call, n, fault) for call, total in counted.items() for n in range(1, total + 1) for fault in FAULTS]
    if trials is not None:
        points = random.Random(seed).sample(points, min(trials, len(points)))
    for trial, (call, number, fault) in enumerate(points):
        run, shared = folders(folder / f"run-{trial}"), Shared()
        with outcome.trial(f"{fault} at {call} {number}"):
            code, log = _traced(run, shared, folder, commits, f"{call}:{FAULTS[fault]}:when={number}")
            if fault == "kill":
                assert code == -9, f"ended with {code}"
            else:
                assert "INJECTED" in log, "the call was not reached"
                assert code == StorageError.exit_code, f"ended with {code}: {(folder / 'output').read_text()[-800:]}"
            recover(run, shared[PROMISED], outcome)
            outcome.counts[fault] += 1
            append(CommitLog(run))
            recover(run, len(CommitLog(run).commits), Outcome())
        shutil.rmtree(run)
    return outcome


def _count_calls(folder: Path, commits: int) -> dict[str, int]:
    run, shared = folders(folder / "counted"), Shared()
    write(folders(folder / "warm"), Shared(), commits)  # whatever is imported late is imported now
    code, log = _traced(run, shared, folder, commits, None)
    assert code == 0 and shared[PROMISED] == commits, f"{code}: {(folder / 'output').read_text()}"
    shutil.rmtree(run)
    return {call: n for call in CALLS if (n := log.count(f" {call}("))}


def _traced(run: Path, shared: Shared, folder: Path, commits: int, inject: str | None) -> tuple[int, str]:
    """Write in a child under strace: exit code and strace's log."""
    begin, ready = os.pipe()

    def work() -> int:
        os.read(begin, 1)
        return write(run, shared, commits)

    child = Child(folder / "output", work)
    log = folder / "strace"
    command = ["strace", "-f", "-p", str(child.pid), "-o", str(log), "-e", f"trace={','.join(CALLS)}"]
    if inject:
        command += ["-e", f"inject={inject}"]
    strace = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert strace.stderr is not None
        line = strace.stderr.readline()
        assert "attached" in line, f"strace: {line}{strace.stderr.read()}"
        os.write(ready, b"x")
        code = child.wait(20)
        strace.wait(20)
    finally:
        strace.kill()
        strace.communicate()
        os.close(begin)
        os.close(ready)
    return code, log.read_text()


# -------------------------------------------------------------------------------------------------------- power loss

SHUTDOWN, NO_LOG_FLUSH = 0x8004587D, 2  # EXT4_IOC_SHUTDOWN, and the flag that throws the journal's tail away too


def trial_power_loss(trials: int, folder: Path, seed: int = 0) -> Outcome:
    """The file system is cut off at a random instant, what was not synced is gone, and it is mounted again."""
    draw, outcome = random.Random(seed), Outcome()
    disk, place = folder / "disk", folder / "mounted"
    place.mkdir(exist_ok=True)
    for trial in range(trials):
        if trial % 20 == 0:
            with disk.open("wb") as file:
                file.truncate(96 << 20)
            _run("mkfs.ext4", "-q", "-F", str(disk))
        shared = Shared()
        with outcome.trial(f"power loss {trial}"), contextlib.ExitStack() as undo:
            with _mounted(disk, place):
                run = folders(place / f"run-{trial}")
                os.sync()
                pause = draw.uniform(0.0, 0.004)
                child = Child(folder / "output", write, run, shared, None, pause)
                undo.callback(child.signal)
                commits = draw.randint(0, 4)
                wait_for(lambda: shared[PROMISED] >= commits, child)  # noqa: B023 - called at once
                if not child.ended(draw.uniform(0.0, 0.020)):
                    handle = os.open(place, os.O_RDONLY)
                    fcntl.ioctl(handle, SHUTDOWN, NO_LOG_FLUSH.to_bytes(4, "little"))
                    os.close(handle)
                promised = shared[PROMISED]
                code = child.wait(20)
                assert code == StorageError.exit_code, f"the writer ended with {code}: {child.said()}"
                assert shared[PROMISED] == promised or shared[PROMISED] == promised + 1, "promised without a disk"
            with _mounted(disk, place):
                recover(run, promised, outcome)
                shutil.rmtree(run)
    return outcome


@contextlib.contextmanager
def _mounted(disk: Path, place: Path) -> Iterator[None]:
    _run("mount", "-o", "loop", str(disk), str(place))
    try:
        yield
    finally:
        for _ in range(50):
            if subprocess.run(["umount", str(place)], capture_output=True).returncode == 0:
                break
            time.sleep(0.02)
        else:
            _run("umount", "-l", str(place))


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip()}"


# --------------------------------------------------------------------------------- the same with evofool broken


def _fsync_but_not(folder: str, *, folders: bool) -> Any:
    """os.fsync without effect on files in folders of a name, or on those folders themselves."""
    real = os.fsync

    def fsync(handle: int) -> None:
        path = Path(f"/proc/self/fd/{handle}").readlink()
        if path.is_dir() != folders or folder not in (path if folders else path.parent).parts:
            real(handle)

    return mock.patch.object(os, "fsync", fsync)


def _create_in_place(path: Path, data: bytes) -> bool:
    path.write_bytes(data)
    return True


# What evofool does to keep its promises, taken away: each has to make trials fail, or they prove nothing. The fsync of
# a table's folder is not among them, as on ext4 that of the commit, which follows, makes the table's name last too.
SABOTAGE: dict[str, Callable[[], Any]] = {
    "commits-in-place": lambda: mock.patch.object(files, "create", _create_in_place),
    "no-recovery": lambda: mock.patch.object(CommitLog, "remove_leftovers", lambda self: 0),
    "no-table-sync": lambda: _fsync_but_not("genomes", folders=False),
    "no-commit-sync": lambda: _fsync_but_not("commits", folders=False),
    "no-folder-sync": lambda: _fsync_but_not("commits", folders=True),
}
