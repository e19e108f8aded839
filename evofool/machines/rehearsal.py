"""The first generations of a run, in a process and a folder of their own: what `evofool plan` goes by."""

from __future__ import annotations

import math
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from evofool.base.source import Source
from evofool.config import Config
from evofool.encoding import variation
from evofool.encoding.direct.genome import DirectEncoding
from evofool.evaluate.inline import InlinePool
from evofool.evaluate.memory import gpu_peak_mib, memory_mib
from evofool.evaluate.problem import Problem
from evofool.machines.disk import Measured, measured
from evofool.machines.probe import Subject
from evofool.records import GenerationResult, Genomes, Numerics, Statistics
from evofool.runs.agreement import provenance_of
from evofool.runs.recording import Recorder
from evofool.search.loop import Search
from evofool.store import folders
from evofool.store.run import RunStore

__all__ = ["Bred", "PlacementCurve", "Rehearsal", "Rehearsed"]

MIB = 1 << 20
BRED = 64  # rows whose memory is measured
STEEPEST_CPPN = 0.6  # of the power law: CPPNs take ever fewer cells, pixels improve all of them all the time


@dataclass(frozen=True)
class PlacementCurve:
    """Placements against evaluations, as far as they were seen, and a power law beyond."""

    counts: tuple[tuple[int, int], ...]  # (evaluations, placements), both cumulative, generation by generation
    direct: bool

    @property
    def evaluations(self) -> int:
        return self.counts[-1][0]

    @property
    def total(self) -> int:
        return self.counts[-1][1]

    def at(self, evaluations: int, how: str = "expected") -> float:
        """Placements after so many evaluations: "expected", "low" or "high"."""
        if evaluations <= self.evaluations:
            n, p = zip(*self.counts)
            return float(np.interp(evaluations, [0, *n], [0, *p]))
        middle = next(c for c in self.counts if c[0] >= self.evaluations / 2)
        slope = 1.0
        if middle[0] < self.evaluations and middle[1] > 0:
            slope = math.log(self.total / middle[1]) / math.log(self.evaluations / middle[0])
        slope = min(slope, 1.0 if self.direct else STEEPEST_CPPN)
        slope = {"expected": slope, "low": 0.6 * slope, "high": min(1.0, 1.4 * slope)}[how]
        return float(self.total * (evaluations / self.evaluations) ** slope)


@dataclass(frozen=True)
class Bred:
    """What breeding takes of memory."""

    base_mib: float  # of the process before any evaluator is built
    bytes_a_row: float  # that breeding a row adds to its peak
    genome_bytes: float


@dataclass(frozen=True)
class Rehearsed:
    """What the first generations took."""

    driver_seconds: float  # of a generation
    placements: PlacementCurve
    individuals: int  # that took a cell
    png_bytes: float
    gpu_mib: float
    disk: Measured


class Rehearsal(Subject):
    """A driver with its evaluator, to be measured."""

    def __init__(self, config: Config, source: Source, index: int) -> None:
        if config.evaluation.pool == "ray":
            from evofool.evaluate.over_ray import pool  # noqa: F401 - its memory is part of every process of such a run
        super().__init__(config, source, index)

    def breeding(self) -> Bred:
        """Memory before any evaluator is built, what breeding a row adds to its peak, and how large a genome is."""
        base, _ = memory_mib()
        encoding = self.problem.genomes
        rows = min(BRED, self.problem.config.search.offspring)
        parents = encoding.take(self.genomes, np.arange(rows) % len(self.genomes))
        mutate = self.problem.operators.get("mutate", self.breeder.mutate)
        before = memory_mib()[1]
        variation.initial(encoding, 0, 0, rows)
        mutate(1, parents)
        # A small batch may fit into memory that is there already; the arrays' own sizes are the least it can be.
        genome = self._array_bytes(parents) / rows
        grown = max(0.0, memory_mib()[1] - max(before, base)) * MIB / rows
        return Bred(base, max(3 * genome, grown), genome)

    def _array_bytes(self, genomes: Genomes) -> float:
        """Bytes of a batch in memory."""
        arrays = [genomes] if isinstance(self.problem.encoding, DirectEncoding) else genomes.arrays()
        return float(sum(array.nbytes for array in arrays))

    def evolve(self, numerics: Numerics, seconds: float) -> Rehearsed:
        """Run the first generations, smaller ones where those of the configuration would take too long."""
        config = self.problem.config
        self.prepare(numerics)
        pace = self.measure(0.0).per_second
        small = max(numerics.micro_batch, int(pace * seconds / (2 * config.search.lag + 4)))
        update = {
            "offspring": min(config.search.offspring, small),
            "initial": min(config.search.initial, small),
            "generations": None,
        }
        search = config.search.model_copy(update=update)
        storage = config.storage.model_copy(update={"history": "full"})
        smaller = replace(self.problem, config=config.model_copy(update={"search": search, "storage": storage}))
        with tempfile.TemporaryDirectory(prefix="evofool-") as folder:
            return self._evolve(smaller, numerics, seconds, Path(folder) / "run")

    def _evolve(self, problem: Problem, numerics: Numerics, seconds: float, path: Path) -> Rehearsed:
        pool = InlinePool(lambda: self.evaluator, numerics)
        folders.prepare(path)
        facts = provenance_of(problem, numerics, pool.canary, [])
        store = RunStore.create(path, problem.config, facts, None)
        whole = {**asdict(numerics), "canary": pool.canary, "epoch": 0}
        recorder = Recorder(store, problem.genomes, pool, problem.config.storage, whole)
        counts: list[tuple[int, int]] = []
        individuals = 0

        def keep(result: GenerationResult) -> None:
            nonlocal individuals
            s = recorder.keep(search, result)
            counts.append((s.evaluations, s.placements_total))
            individuals += len(result.genomes)

        search = Search(
            problem.config, problem.genomes, pool, problem.cells, on_result=keep, operators=problem.operators
        )
        started, limit = time.monotonic(), self.problem.config.search.generations

        def stop(s: Statistics | None) -> bool:
            if s is None:
                return False
            late = time.monotonic() - started > seconds and s.generation > problem.config.search.lag
            return late or (limit is not None and s.generation + 1 >= limit)

        search.run(stop)
        driver = time.monotonic() - started - pool.report().core_seconds
        recorder.commit(search)
        recorder.view.write()
        recorder.view.close()
        scale = self.problem.config.search.offspring / problem.config.search.offspring
        sizes = measured(store)
        return Rehearsed(
            driver_seconds=max(0.0, driver) / len(counts) * scale,
            placements=PlacementCurve(tuple(counts), isinstance(problem.encoding, DirectEncoding)),
            individuals=individuals,
            png_bytes=sizes.png,
            gpu_mib=gpu_peak_mib(),
            disk=sizes,
        )
