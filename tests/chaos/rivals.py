"""Several drivers at once on one directory: with the lock, and with nothing but commits that are put if absent."""

from __future__ import annotations

import contextlib
import random
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from handmade import verify_files

import evofool
from chaos.forks import Child, Shared
from chaos.outcome import Outcome
from chaos.toy import Toy, command
from evofool.errors import RunLocked, StorageError
from evofool.store import commits, files
from evofool.store.commits import CommitLog
from evofool.store.run import RunStore

__all__ = ["SABOTAGE", "trial_rivals", "trial_rivals_without_lock"]

GO, RELEASE = range(2)  # slots of what all drivers share


def trial_rivals(trials: int, folder: Path, seed: int = 0) -> Outcome:
    """Two to eight drivers begin at once: one does the whole run, the others end with 5."""
    return _trials(trials, folder, seed, locked=True)


def trial_rivals_without_lock(trials: int, folder: Path, seed: int = 0) -> Outcome:
    """The same where the file system does not lock: the run may pass from one to another, but never forks."""
    return _trials(trials, folder, seed, locked=False)


def _trials(trials: int, folder: Path, seed: int, *, locked: bool) -> Outcome:
    draw, outcome, toy = random.Random(seed), Outcome(), Toy(folder, generations=12)
    whole = toy.undisturbed()
    starting, searching = toy.seconds()
    for trial in range(trials):
        run = folder / f"run-{trial}"
        if trial % 2:  # half of them meet a run that is there already
            toy.start(run, Shared()).kill_after(starting + draw.uniform(0, searching))
        with outcome.trial(f"rivals {trial}"), contextlib.ExitStack() as stack:
            all_, drivers = Shared(), []
            racing = not locked and trial % 4 > 1  # nobody is held back, so that the run may change hands
            all_[RELEASE] = racing
            for number in range(draw.randint(2, 8)):
                made = Shared()  # slot n: whether this driver was told that its commit n is made
                output = folder / f"output-{number}"
                child = Child(
                    output, _drive, toy.arguments(run), all_, made, locked, draw.uniform(0, 0.4 if racing else 0.05)
                )
                stack.callback(child.signal)
                drivers.append((child, made))
            all_[GO] = 1
            _let_them_fight(drivers, all_)
            codes = [child.wait() for child, _ in drivers]
            outcome.counts["drivers"] += len(codes)
            for code in codes:
                outcome.counts[f"ended with {code}"] += 1
            said = [child.said() for child, _ in drivers]
            allowed = {0, RunLocked.exit_code} if locked else {0, RunLocked.exit_code, StorageError.exit_code}
            assert set(codes) <= allowed, f"{codes}: {said}"
            # None is busy where the killed run had been at its end: then each in turn may find that it is.
            busy = sum(any(made[n] for n in range(8)) for _, made in drivers)
            assert not locked or codes.count(0) == 1 or (busy == 0 and 0 in codes), f"{codes}: {said}"
            for commit in range(len(CommitLog(run).commits)):
                makers = sum(made[commit] for _, made in drivers)
                assert makers <= 1, f"commit {commit} was made {makers} times"
                outcome.counts["commits"] += makers
            outcome.counts["changes of hands"] += max(0, busy - 1)
            verify_files(CommitLog(run))
            assert toy.finish(run) == whole, "another archive"
            evofool.verify(run, allow_code=True)
        shutil.rmtree(run, ignore_errors=True)
    return outcome


def _drive(arguments: list[str], all_: Shared, made: Shared, locked: bool, delay: float) -> int:
    """A driver that, once it has made a commit, waits for its rivals to try."""
    commit = RunStore.commit

    def told(self: RunStore, *given: Any, **named: Any) -> Any:
        result = commit(self, *given, **named)
        if result:
            made[result.number] = 1
            until = time.monotonic() + 20
            while not all_[RELEASE] and time.monotonic() < until:
                time.sleep(0.001)
        return result

    while not all_[GO]:
        time.sleep(0.0005)
    time.sleep(delay)
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(RunStore, "commit", told))
        if not locked:
            stack.enter_context(mock.patch.object(commits, "lock", _no_lock))
        return command(arguments, Shared(), 0.0)


@contextlib.contextmanager
def _no_lock(run: Path) -> Iterator[None]:
    yield


def _let_them_fight(drivers: list[tuple[Child, Shared]], all_: Shared) -> None:
    """Hold those back that have made a commit until every other driver has ended, or has made one too."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        busy = [made for child, made in drivers if not child.ended(0.001) and not any(made[n] for n in range(8))]
        if not busy:
            break
    all_[RELEASE] = 1


def _create_over(path: Path, data: bytes) -> bool:
    files.put(path, data)
    return True


SABOTAGE: dict[str, Callable[[], Any]] = {
    "commits-replace": lambda: mock.patch.object(files, "create", _create_over),
}
