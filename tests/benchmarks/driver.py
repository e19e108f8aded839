"""The driver alone: a real run, session, archive, store and view, on a pool whose scores cost nothing.

The pool takes the place of `open_pool` in evofool's session; all else is what `evofool run` does. Its scores are made
so that placements come as often as asked, and go to individuals whose genomes are no larger than those of elites,
so that neither the archive's pace nor the genomes drift while the clock runs.
"""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray

import evofool
from benchmarks.measure import Comparison, Settings, alone, alternate, table
from benchmarks.measure import in_short as short
from evofool.config import load_config
from evofool.encoding.cppn.graphs import Graphs
from evofool.evaluate.pool import Job, PoolReport
from evofool.machines.bench.genomes import hidden_nodes
from evofool.records import TOP, Numerics, Scores
from evofool.runs import session
from evofool.runs.observers.observer import GenerationPlaced, RunStarted, RunStopped

__all__ = ["FakePool", "in_short", "markdown", "measure", "picture"]

SIDE, HIDDEN = 28, 20  # pixels; most hidden nodes of a genome that may take a cell: as elites at generation 500
GROWING = 100  # generations that take every cell, until genomes have grown
# Placements in each cell and generation: those of `mnist_cppn` at generations 10 to 50, and from about 500 on.
PACES = {"busy": 0.2, "settled": 0.02}
AT_LEAST = {10: 20_000.0, 1000: 8_000.0}
# A view is written every 30 s and at the end: half a minute, so that it has the share of the time that it has in a
# long run.
GENERATIONS = {10: 3000, 1000: 1200}
NUMERICS = Numerics(device="cpu", chunk=50, micro_batch=50, threads=1, memory_format="contiguous")


def picture(weights: NDArray[np.float32]) -> NDArray[np.uint8]:
    """An image that a genome's weights decide and that costs nothing: their bytes, cut or padded to a picture."""
    data = np.ascontiguousarray(weights).view(np.uint8).ravel()[: SIDE * SIDE]
    image = np.zeros(SIDE * SIDE, dtype=np.uint8)
    image[: len(data)] = data
    return image.reshape(SIDE, SIDE, 1)


class FakePool:
    """Scores that are there at once: in each generation chance picks the cells that are taken, and by whom.

    Args:
        cells: how many.
        pace: of placements, in each cell and generation, once genomes have grown.
    """

    canary = "none"

    def __init__(self, cells: int, pace: float) -> None:
        self.cells, self.pace = cells, pace
        self.random = np.random.default_rng(cells)
        self.pending: dict[int, Job] = {}
        self.losing: dict[int, NDArray[np.float32]] = {}  # rows -> log-odds that beat nobody
        self.evaluations, self.seconds = 0, 0.0

    def submit(self, job: Job) -> None:
        """Remember a job."""
        self.pending[job.ticket] = job

    def collect(self, ticket: int) -> Any:
        """Scores of a generation, or images with the hashes that its scores have."""
        job = self.pending.pop(ticket)
        if job.verb == "render":
            return np.stack([picture(weights) for weights in job.batch.weights])
        return self._scores(ticket, job.batch)

    def _scores(self, generation: int, genomes: Graphs) -> Scores:
        """Log-odds below 0, but for those who win: theirs rise from generation to generation."""
        started = time.perf_counter()
        n = len(genomes)
        if n not in self.losing:
            self.losing[n] = -np.abs(self.random.normal(8, 3, (n, self.cells))).astype(np.float32)
        odds = self.losing[n].copy()
        pace = 1.0 if generation < GROWING else self.pace
        won = np.nonzero(self.random.random(self.cells) < pace)[0]
        sizes = hidden_nodes(genomes)
        fit = np.nonzero(sizes <= max(HIDDEN, int(sizes.min())))[0]
        slots = fit[self.random.integers(0, len(fit), len(won))]
        odds[slots, won] = np.float32(1e-3 * (generation + 1))
        images = np.zeros((n, 32), dtype=np.uint8)
        for slot in np.unique(slots):
            digest = hashlib.sha256(picture(genomes.weights[slot]).tobytes()).digest()
            images[slot] = np.frombuffer(digest, dtype=np.uint8)
        top = np.full((n, TOP), -1, dtype=np.int32)
        top[slots, 0] = won
        self.evaluations += n
        self.seconds += time.perf_counter() - started
        return Scores(odds, odds, top, np.full((n, TOP), 0.5, dtype=np.float32), images)

    def report(self) -> PoolReport:
        """As if one evaluator had done it."""
        return PoolReport(evaluators=1, evaluations=self.evaluations)

    def close(self) -> None:
        """Nothing to let go of."""


class Clock(evofool.Observer):
    """When the loop began and ended, its last commit and view included, and how much it did."""

    def __init__(self) -> None:
        self.evaluations = self.placements = 0

    def on_start(self, event: RunStarted) -> None:
        self.started = time.perf_counter()

    def on_generation(self, event: GenerationPlaced) -> None:
        self.evaluations += event.statistics.offspring
        self.placements += event.statistics.placements

    def on_stop(self, event: RunStopped) -> None:
        self.stopped = time.perf_counter()


def timed_run(cells: int, pace: str, generations: int) -> dict[str, float]:
    """A run of `mnist_cppn` with the default storage settings, grown first and then timed for so many generations.

    Returns:
        Evaluations a second, the share of the time that making up scores took, placements in a generation, and seconds.
    """
    with tempfile.TemporaryDirectory() as folder, _pool(cells, PACES[pace]) as pool:
        given: dict[str, Any] = {
            "target": torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(SIDE * SIDE, cells, bias=False)),
            "preprocessing": evofool.Preprocessing((SIDE, SIDE), 1, (0.0,), (255.0,)),
            "class_names": [f"class {i}" for i in range(cells)],
        }
        config = load_config("configs/mnist_cppn.yaml", ["evaluation.pool=inline"])
        run = evofool.run(config, [f"search.generations={GROWING}"], out=Path(folder) / "run", **given)
        clock, pool.seconds = Clock(), 0.0
        stop = [f"search.generations={GROWING + generations}"]
        evofool.resume(run.path, stop, observers=[clock], **given)
    taken = clock.stopped - clock.started
    return {
        "rate": clock.evaluations / taken,
        "share_of_scores": pool.seconds / taken,
        "placements_a_generation": clock.placements / generations,
        "seconds": taken,
    }


@contextlib.contextmanager
def _pool(cells: int, pace: float) -> Iterator[FakePool]:
    """Sessions opened meanwhile get a fake pool."""
    pool = FakePool(cells, pace)

    @contextlib.contextmanager
    def opened(*_: Any, **__: Any) -> Iterator[tuple[FakePool, Numerics, dict[str, Any]]]:
        yield pool, NUMERICS, {}

    with mock.patch.object(session, "open_pool", opened):
        yield pool


def measure(settings: Settings) -> dict[str, Any]:
    """Rows of the table, and what else was seen of each run."""
    tasks = {f"{cells} classes, {pace}": (cells, pace) for cells in AT_LEAST for pace in PACES}
    details: dict[str, list[dict[str, float]]] = {task: [] for task in tasks}

    def once(task: str) -> float:
        generations = 20 if settings.quick else GENERATIONS[tasks[task][0]]
        details[task].append(alone(timed_run, *tasks[task], generations))
        return details[task][-1]["rate"]

    found = alternate({task: partial(once, task) for task in tasks}, min(3, settings.repeats))
    rows = []
    for task, (cells, pace) in tasks.items():
        what = f"{task}: {PACES[pace]:.1%} of the cells taken in each generation"
        rows.append(Comparison(what, "evaluations/s", "1 thread", found[task], {}, AT_LEAST[cells]))
    return {"rows": [asdict(row) for row in rows], "details": details}


def in_short(results: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(what, found, aim) of the rows that have an aim."""
    return short(results["rows"])


def markdown(results: dict[str, Any]) -> str:
    """The table."""
    runs = [run for runs in results["details"].values() for run in runs]
    share, seconds = (max(run[name] for run in runs) for name in ("share_of_scores", "seconds"))
    return (
        f"{table(results['rows'])}\n\n`mnist_cppn` through the whole session with the default storage settings: bred, "
        f"placed, committed, the elites view written; {seconds:.0f} s at most, after {GROWING} generations in "
        f"which genomes grow to at most {HIDDEN} hidden nodes. Making up scores took at most {share:.1%} of it."
    )
