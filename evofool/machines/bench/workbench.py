"""The parts of a search one by one, and the whole of it inline, in a process that is set up as an evaluator's is."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from evofool.archive import cells as archives
from evofool.archive.scores import score_outputs
from evofool.base.source import Source
from evofool.config import Config, load_config
from evofool.encoding.cppn.genome import CppnEncoding
from evofool.encoding.direct.genome import DirectEncoding
from evofool.encoding.kinds import draw
from evofool.evaluate.opening import open_pool
from evofool.evaluate.settings import settle
from evofool.machines.bench.continued import GENERATIONS, Continued, Stretch, copy_of
from evofool.machines.bench.genomes import grown, hidden_nodes
from evofool.machines.probe import EvaluatorSubject, Reading, repeated
from evofool.records import Facts, Genomes, Numerics
from evofool.runs import runner
from evofool.runs.recording import commit_to

__all__ = ["ARCHIVE", "DEEP", "HIDDEN", "Workbench"]

HIDDEN = 30  # nodes of each genome of the second set
ARCHIVE, DEEP = "archive", f"{HIDDEN} hidden nodes"  # the two sets

Part: TypeAlias = tuple[Callable[[], object], int]  # what is done again and again, and to how many individuals


class Workbench(EvaluatorSubject):
    """Answers a Probe: first `make` if no run was named, then `open`, then any part any number of times."""

    def __init__(self, config: Config, source: Source, index: int) -> None:
        super().__init__(load_config(config, ["evaluation.pool=inline"]), source, index)
        self.source = source
        self._open = ExitStack()  # until the process ends

    def make(self, offspring: int, micro_batch: int, out: Path) -> None:
        """Make the run that everything goes on from: GENERATIONS generations of `offspring`, in this process.

        Args:
            micro_batch: of the configuration; smaller generations are scored in one smaller pass, without padding.
        """
        initial, rows = min(offspring, self.problem.config.search.initial), min(offspring, micro_batch)
        sizes = [f"search.offspring={offspring}", f"search.initial={initial}"]
        limits = [f"search.generations={GENERATIONS}", "search.max_evaluations=null", "search.max_time=null"]
        shapes = [f"evaluation.micro_batch={rows}", f"evaluation.chunk={rows}"]
        config = load_config(self.problem.config, [*sizes, *limits, "search.stop_when=[]", *shapes])
        runner.run(config, out=out, resume="never", allow_code=self.source.allow_code, progress=False)

    def open(self, run: Path, folder: Path) -> Facts:
        """Go on from copies of a run, made in a folder. Facts about its archive, as JSON data."""
        problem, config = self.problem, self.problem.config
        pool, numerics, _ = self._open.enter_context(open_pool(problem))
        settle(numerics)  # parts run outside the pool, which sets torch's threads for its own work only
        self.device = numerics.device
        self.search = Continued(problem, copy_of(run, folder / "inline"), pool)
        self.spare = copy_of(run, folder / "commits")
        self.bench: dict[tuple[str, str], Part] = {
            ("score", ""): self._score(numerics),
            ("place", ""): self._place(),
            ("commit", ""): self._commit(),
            ("quantise", ""): self._quantise(numerics.chunk),
        }
        if numerics.device == "cuda":
            self.bench["transfer", ""] = self._transfer(numerics.chunk)
        holders = np.unique(self.search.began.elites[self.search.began.filled])
        elites = problem.genomes.from_bytes([self.search.genomes[int(i)] for i in holders])
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

    # ------------------------------------------------------------------------------------------------------ the parts

    def _genomes(self, name: str, first: Genomes, second: Genomes, chunk: int) -> None:
        """The parts that depend on genomes: breeding from two generations of parents, drawing a chunk of children."""
        problem = self.problem
        generations = itertools.count(10**6)  # other numbers each time, as in a search

        def vary() -> Genomes:
            generation = next(generations)
            return self.mutate(generation, self.mate(generation, first, second)[0])[0]

        # What evaluators draw are children; the grown ones stay as they are, with just as many nodes.
        drawn = vary() if name == ARCHIVE else first
        drawn = problem.genomes.take(drawn, np.arange(chunk) % len(drawn))
        self.bench["render", name] = (lambda: draw(problem.genomes, drawn, self.device), chunk)
        self.bench["vary", name] = (vary, len(first))

    def _quantise(self, chunk: int) -> Part:
        """The end of rendering, from numbers in [0, 1] to uint8: all that rendering direct genomes is."""
        encoding = self.problem.genomes
        flat = DirectEncoding(encoding.height, encoding.width, encoding.colour, encoding.quantisation)
        values = np.random.default_rng(0).random((chunk, *flat.shape), dtype=np.float32)
        return (lambda: draw(flat, values, self.device)), chunk

    def _transfer(self, chunk: int) -> Part:
        """A chunk of images to the device and back: drawn ones come down to be hashed, and go up to be scored."""
        images = torch.from_numpy(self._images(chunk))
        return (lambda: images.to(self.device).cpu()), chunk

    def _score(self, numerics: Numerics) -> Part:
        """From a chunk's outputs and images to log-odds and hashes."""
        problem, images = self.problem, self._images(numerics.chunk)
        shape = (numerics.chunk, len(problem.target.class_names))
        logits = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
        return (lambda: score_outputs(logits, "logits", problem.cells, images)), numerics.chunk

    def _images(self, rows: int) -> NDArray[np.uint8]:
        height, width = self.problem.target.image_size
        shape = (rows, height, width, self.problem.target.channels)
        return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)

    def _place(self) -> Part:
        """The last generation's scores against the archive."""
        result, problem = self.search.results[-1], self.problem
        archive, insertion = self.search.search.archive, problem.config.search.insertion
        generation = result.statistics.generation

        def place() -> object:
            return archives.place(
                archive, result.scores, generation=generation, cells=problem.cells, insertion=insertion
            )

        return place, len(result.scores)

    def _commit(self) -> Part:
        """The last generations' results onto the disk, `storage.commit_every` at a time."""
        count = self.problem.config.storage.commit_every
        results = list(itertools.islice(itertools.cycle(list(self.search.results)), count))
        search = self.search.search

        def commit() -> None:
            for result in results:
                self.spare.append(result)
            assert search.statistics is not None
            commit_to(self.spare, search.archive.elites, search.statistics, self.spare.provenance["numerics"], 1)

        return commit, sum(len(result.offspring) for result in results)
