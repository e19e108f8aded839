"""Measuring rates fairly: programs take turns, each in processes of its own with a stated number of threads."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import date
from importlib import metadata
from typing import Any

from evofool.base.provenance import facts

__all__ = [
    "Comparison",
    "Crew",
    "Settings",
    "alone",
    "alternate",
    "cores",
    "in_short",
    "machine",
    "one_line",
    "rate",
    "table",
]

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
_PACKAGES = ("evofool", "torch", "numpy", "deap", "ribs", "neat-python")


@dataclass(frozen=True)
class Settings:
    """What the command line asks for.

    Attributes:
        repeats: rounds of alternated measurements.
        seeds: of whole searches.
        quick: whether to do as little as shows that everything works.
        spec: of the LeNet to be fooled.
    """

    repeats: int
    seeds: tuple[int, ...]
    quick: bool
    spec: str

    @property
    def seconds(self) -> float:
        """The length of one measurement of a rate."""
        return 0.1 if self.quick else 0.5


@dataclass(frozen=True)
class Comparison:
    """A row of a table of rates.

    Attributes:
        ours, rivals: rates, one for each round; several rivals are ways to do the same thing, and the best counts.
        threads: how many threads and processes each side had.
        at_least: the ratio (the rate, where there is no rival) that evofool is to have.
    """

    what: str
    unit: str
    threads: str
    ours: list[float]
    rivals: dict[str, list[float]]
    at_least: float | None = None


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def machine() -> dict[str, str]:
    """When, on what and with which versions something was measured."""
    found = facts()
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in _PACKAGES)
    return {
        "date": str(date.today()),
        "processor": str(found["processor"]),
        "cores": str(found["cores"]),
        "versions": f"Python {platform.python_version()}, {versions}",
    }


def one_line(facts: Mapping[str, str]) -> str:
    """`machine` as a sentence."""
    return f"{facts['date']}, {facts['processor']}, {facts['cores']} cores; {facts['versions']}."


def rate(work: Callable[[], int], seconds: float) -> tuple[int, float]:
    """Do `work` again and again, at least once, until `seconds` have passed: (items done, seconds taken)."""
    done, started = 0, time.perf_counter()
    while True:
        done += work()
        taken = time.perf_counter() - started
        if taken >= seconds:
            return done, taken


def alternate(contestants: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """The rate of each contestant in each round; every other round in reverse order, so that drift favours nobody."""
    found: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(rounds):
        for name in list(contestants)[:: -1 if turn % 2 else 1]:
            found[name].append(contestants[name]())
    return found


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows of `Comparison` (as dicts) in Markdown: ratio of medians, and in brackets the ratios of single rounds."""
    lines = ["| what | evofool | rival | ratio | to be at least | each side |", "|---|---|---|---|---|---|"]
    for row in rows:
        ours, wanted = row["ours"], row["at_least"]
        cells = [row["what"], f"{_figure(statistics.median(ours))} {row['unit']}"]
        if row["rivals"]:
            name, rival = max(row["rivals"].items(), key=lambda item: statistics.median(item[1]))
            ratios = [ours_once / rival_once for ours_once, rival_once in zip(ours, rival)]
            ratio = statistics.median(ours) / statistics.median(rival)
            spread = f"{_figure(min(ratios))} to {_figure(max(ratios))}"
            cells += [f"{name}: {_figure(statistics.median(rival))}", f"{_figure(ratio)} ({spread})"]
        else:
            cells[1] += f" ({_figure(min(ours))} to {_figure(max(ours))})"
            cells += ["", ""]
        lines.append(f"| {' | '.join([*cells, '' if wanted is None else _figure(wanted), row['threads']])} |")
    return "\n".join(lines)


def in_short(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    """(what, found, aim) of those rows of `Comparison` (as dicts) that have an aim."""
    lines = []
    for row in rows:
        if row["at_least"] is None:
            continue
        ours = row["ours"]
        if row["rivals"]:
            name, rival = max(row["rivals"].items(), key=lambda item: statistics.median(item[1]))
            ratios = [ours_once / rival_once for ours_once, rival_once in zip(ours, rival)]
            found = f"{_figure(statistics.median(ours) / statistics.median(rival))} times {name}"
            found += f" ({_figure(min(ratios))} to {_figure(max(ratios))})"
            aim = f"{_figure(row['at_least'])} times"
        else:
            found = f"{_figure(statistics.median(ours))} {row['unit']} ({_figure(min(ours))} to {_figure(max(ours))})"
            aim = _figure(row["at_least"])
        lines.append((row["what"], found, aim))
    return lines


def _figure(value: float) -> str:
    """Three figures at least, thousands set apart."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


@contextlib.contextmanager
def _threads_of_children(threads: int) -> Iterator[None]:
    """Processes started meanwhile have so many threads in every library that asks the environment."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, str(threads)))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function gives, called in a new process of one thread."""
    context = multiprocessing.get_context("spawn")
    with _threads_of_children(1), ProcessPoolExecutor(1, mp_context=context, initializer=_settle) as executor:
        return executor.submit(function, *arguments).result()


def _settle(threads: int = 1) -> None:
    """Make this process one that evofool's evaluators would be at home in; rivals are to have that too."""
    import torch

    from evofool.evaluate.memory import keep_freed_memory

    torch.set_num_threads(threads)
    keep_freed_memory()


class Crew:
    """The same contestant in one or more processes that work at the same time.

    Args:
        make: a class; its object, built in each process, is called with the name of a task and returns items done.
        arguments: of the class.
        processes: how many.
        threads: of each process.
    """

    def __init__(self, make: type[Any], arguments: tuple[Any, ...] = (), *, processes: int = 1, threads: int = 1):
        context = multiprocessing.get_context("spawn")
        self._ends, self._processes = [], []
        with _threads_of_children(threads):
            for _ in range(processes):
                end, other = context.Pipe()
                process = context.Process(target=_serve, args=(other, make, arguments, threads), daemon=True)
                process.start()
                other.close()
                self._ends.append(end)
                self._processes.append(process)
        self._ready = False

    def rate(self, task: str, seconds: float, processes: int | None = None) -> float:
        """Items a second of so many of the processes together, by default all."""
        if not self._ready:  # not before they are needed, so that several crews start at the same time
            self._ready = all(end.recv() == "ready" for end in self._ends)
        busy = self._ends[:processes]
        for end in busy:
            end.send((task, seconds))
        return sum(done / taken for done, taken in [end.recv() for end in busy])

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *error: object) -> None:
        for end, process in zip(self._ends, self._processes):
            end.close()
            process.join()


def _serve(end: Any, make: type[Any], arguments: tuple[Any, ...], threads: int) -> None:
    """Build a contestant, say so, and measure it whenever asked."""
    _settle(threads)
    contestant = make(*arguments)
    end.send("ready")
    warm: set[str] = set()
    while True:
        try:
            task, seconds = end.recv()
        except EOFError:
            return
        if task not in warm:
            contestant(task)
            warm.add(task)
        end.send(rate(lambda task=task: contestant(task), seconds))
