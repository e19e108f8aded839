"""The parts of a search one by one, and the whole of it inline, in a process that is set up as an evaluator's is."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from evofool.archive import cells as archives
from evofool.base.source import Source
from evofool.config import Config
from evofool.encoding.cppn.genome import CppnEncoding
from evofool.encoding.direct.genome import DirectEncoding
from evofool.encoding.drawing.render import render
from evofool.evaluate.opening import open_pool
from evofool.machines.bench.archives import copy_of, make
from evofool.machines.bench.continued import Continued, Stretch
from evofool.machines.bench.genomes import elites_of, grown, hidden_nodes
from evofool.machines.probe import Reading, Subject, repeated
from evofool.records import Facts, Numerics

__all__ = ["ARCHIVE", "DEEP", "HIDDEN", "Workbench"]

HIDDEN = 30  # nodes of the second set
ARCHIVE, DEEP = "archive", f"{HIDDEN} hidden nodes"


class Workbench(Subject):
    """Answers a Probe: first `make` if there is no run, then `open`, then any part as often as wanted."""

    def __init__(self, config: Config, source: Source, index: int) -> None:
        inline = config.evaluation.model_copy(update={"pool": "inline"})
        super().__init__(config.model_copy(update={"evaluation": inline}), source, index)
        self.source = source
        self._open = ExitStack()  # until the process ends

    def pace(self, numerics: Numerics) -> float:
        """About how many evaluations a second this process scores."""
        self.prepare(numerics)
        return self.measure(0.0).per_second

    def make(self, offspring: int, micro_batch: int, out: Path) -> None:
        """Make the run that everything goes on from."""
        make(self.problem.config, offspring, micro_batch, out, self.source.allow_code)

    def open(self, run: Path, folder: Path) -> Facts:
        """Go on from a run, with copies of it in a folder; facts about its archive."""
        problem, config = self.problem, self.problem.config
        pool, numerics, _ = self._open.enter_context(open_pool(problem))
        self.device = numerics.device
        self.search = Continued(problem, copy_of(run, folder / "inline"), pool)
        self.spare = copy_of(run, folder / "commits")
        self.bench: dict[tuple[str, str], tuple[Callable[[], Any], int]] = {
            ("place", ""): self._place(),
            ("commit", ""): self._commit(),
            ("quantise", ""): self._quantise(numerics.chunk),
        }
        elites = elites_of(problem.genomes, self.search.began, self.search.genomes)
        rows = np.random.default_rng(config.seed).integers(len(elites), size=(2, config.search.offspring))
        first, second = (problem.genomes.take(elites, part) for part in rows)
        self._genomes(ARCHIVE, first, second, numerics.chunk)
        last = self.spare.log.last
        assert last is not None
        facts = {"generations": last.generation + 1, "evaluations": last.counters["evaluations"], "elites": len(elites)}
        if isinstance(problem.genomes, CppnEncoding):
            facts["hidden_nodes"] = float(np.median(hidden_nodes(elites)))
            deep = [grown(problem.genomes, config.search.offspring, HIDDEN, config.seed + i) for i in range(2)]
            self._genomes(DEEP, deep[0], deep[1], numerics.chunk)
        return facts

    def parts(self) -> list[tuple[str, str]]:
        """What can be measured: (name, genomes)."""
        return list(self.bench)

    def part(self, name: str, genomes: str, seconds: float) -> Reading:
        """Do one part again and again."""
        work, rows = self.bench[name, genomes]
        return repeated(work, rows, seconds)

    def stretch(self, seconds: float) -> Stretch:
        """The whole search for a while."""
        return self.search.stretch(seconds)

    # -------------------------------------------------------------------------------------------------- what is done

    def _genomes(self, name: str, first: Any, second: Any, chunk: int) -> None:
        """The parts that depend on genomes: breeding from two generations of parents, drawing a chunk of children."""
        problem, operators = self.problem, self.problem.operators
        mate, mutate = (operators.get(verb, getattr(self.breeder, verb)) for verb in ("mate", "mutate"))
        generations = itertools.count(10**6)  # other numbers each time, as in a search

        def vary() -> Any:
            generation = next(generations)
            return mutate(generation, mate(generation, first, second)[0])[0]

        # What evaluators draw are children; the grown ones stay as they are, with just as many nodes.
        drawn = vary() if name == ARCHIVE else first
        drawn = problem.genomes.take(drawn, np.arange(chunk) % len(drawn))
        self.bench["render", name] = (lambda: render(problem.genomes, drawn, self.device), chunk)
        self.bench["vary", name] = (vary, len(first))

    def _quantise(self, chunk: int) -> tuple[Callable[[], Any], int]:
        """The end of rendering, from numbers in [0, 1] to uint8: all that rendering direct genomes is."""
        encoding = self.problem.genomes
        flat = DirectEncoding(encoding.height, encoding.width, encoding.colour, encoding.quantisation)
        values = np.random.default_rng(0).random((chunk, *flat.shape), dtype=np.float32)
        return (lambda: render(flat, values, self.device)), chunk

    def _place(self) -> tuple[Callable[[], Any], int]:
        """The last generation's scores against the archive."""
        result, problem = self.search.results[-1], self.problem
        archive, insertion = self.search.search.archive, problem.config.search.insertion
        generation = result.statistics.generation

        def place() -> Any:
            return archives.place(
                archive, result.scores, generation=generation, cells=problem.cells, insertion=insertion
            )

        return place, len(result.scores)

    def _commit(self) -> tuple[Callable[[], Any], int]:
        """The last generations' results onto the disk, `storage.commit_every` at a time."""
        count = self.problem.config.storage.commit_every
        results = list(itertools.islice(itertools.cycle(list(self.search.results)), count))

        def commit() -> None:
            for result in results:
                self.spare.append(result)
            self.search.commit(self.spare)

        return commit, sum(len(result.offspring) for result in results)
