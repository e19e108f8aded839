"""The first generations of a run, in a process and a folder of their own: what `evofool cluster plan` goes by."""

from __future__ import annotations

import math
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from evofool.base.source import Source
from evofool.config import Config, load_config
from evofool.encoding import variation
from evofool.encoding.kinds import kind_of
from evofool.evaluate.inline import InlinePool
from evofool.evaluate.memory import gpu_peak_mib, memory_mib
from evofool.evaluate.problem import Problem
from evofool.machines.disk import Sizes, sizes_of
from evofool.machines.probe import EvaluatorSubject
from evofool.records import GenerationResult, Numerics, Statistics
from evofool.runs.agreement import provenance_of
from evofool.runs.recording import Recorder
from evofool.search.loop import Search
from evofool.store import folders
from evofool.store.run import RunStore

__all__ = ["MIB", "BreedingMemory", "FirstGenerations", "PlacementCurve", "Rehearsal"]

MIB = 1 << 20
BRED = 64  # individuals bred to measure the memory that breeding takes
STEEPEST_CPPN = 0.6  # exponent of the power law: CPPNs take ever fewer cells, pixels improve all of them all the time


@dataclass(frozen=True)
class PlacementCurve:
    """Placements against evaluations: those of the first generations, and a power law beyond."""

    counts: tuple[tuple[int, int], ...]  # (evaluations, placements), both cumulative, generation by generation
    direct: bool  # whether genomes stay as large as they were, as pixels do

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
class BreedingMemory:
    """The memory that breeding takes."""

    base_mib: float  # of the process before any evaluator is built
    bytes_a_row: float  # that breeding a row adds to its peak
    genome_bytes: float


@dataclass(frozen=True)
class FirstGenerations:
    """What the first generations of a run took."""

    driver_seconds: float  # of a generation
    placements: PlacementCurve
    individuals: int  # that took a cell
    gpu_mib: float  # the peak of the evaluator; 0 without a GPU
    sizes: Sizes  # on disk


class Rehearsal(EvaluatorSubject):
    """A driver with its evaluator."""

    def __init__(self, config: Config, source: Source, index: int) -> None:
        if config.evaluation.pool == "ray":
            from evofool.evaluate.over_ray import pool  # noqa: F401 - its memory is part of every process of such a run
        super().__init__(config, source, index)

    def breeding(self) -> BreedingMemory:
        """Memory before any evaluator is built, what breeding a row adds to its peak, and how large a genome is."""
        base, _ = memory_mib()
        encoding = self.problem.genomes
        rows = min(BRED, self.problem.config.search.offspring)
        parents = encoding.take(self.genomes, np.arange(rows) % len(self.genomes))
        before = memory_mib()[1]
        variation.initial(encoding, 0, 0, rows)
        self.mutate(1, parents)
        genome = float(parents.nbytes) / rows
        growth = max(0.0, memory_mib()[1] - max(before, base)) * MIB / rows
        # A small batch may fit into memory that the process has already; three copies of a genome are the least.
        return BreedingMemory(base, max(3 * genome, growth), genome)

    def evolve(self, numerics: Numerics, seconds: float) -> FirstGenerations:
        """Run the first generations, smaller ones where those of the configuration would take too long."""
        config = self.problem.config
        small = max(numerics.micro_batch, int(self.pace(numerics) * seconds / (2 * config.search.lag + 4)))
        sizes = [f"search.{key}={min(getattr(config.search, key), small)}" for key in ("offspring", "initial")]
        smaller = load_config(config, [*sizes, "search.generations=null", "storage.history=full"])
        with tempfile.TemporaryDirectory(prefix="evofool-") as folder:
            return self._evolve(replace(self.problem, config=smaller), numerics, seconds, Path(folder) / "run")

    def _evolve(self, problem: Problem, numerics: Numerics, seconds: float, path: Path) -> FirstGenerations:
        pool = InlinePool(lambda: self.evaluator, numerics)
        folders.prepare(path)
        facts = provenance_of(problem, numerics, pool.canary, [])
        store = RunStore.create(path, problem.config, facts, None)
        whole = {**asdict(numerics), "canary": pool.canary, "epoch": 0}
        recorder = Recorder(store, problem.genomes, pool, problem.config.storage, whole)
        counts: list[tuple[int, int]] = []

        def keep(result: GenerationResult) -> None:
            s = recorder.keep(search, result)
            counts.append((s.evaluations, s.placements_total))

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
        return FirstGenerations(
            driver_seconds=max(0.0, driver) / len(counts) * scale,
            placements=PlacementCurve(tuple(counts), not kind_of(problem.genomes).grows),
            individuals=len(store.table("individuals")),
            gpu_mib=gpu_peak_mib(),
            sizes=sizes_of(store),
        )
