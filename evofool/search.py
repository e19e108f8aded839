"""The search: MAP-Elites over classes, wired through a DEAP toolbox. Start reading here.

    while not stopped:
        keep `lag` generations in flight: breed from the archive as it stands, submit        generate
        take the OLDEST in flight, whatever finished first                                   map, evaluate
        archive, placements = place(archive, scores)                                         update
        keep the result; tell the observers                                                  update

Generations 0 .. lag-1 are random; generation g >= lag breeds from the archive after g - lag. So what is bred depends
on the seed and on scores alone, never on how many evaluators there are or which was faster. `generate` and `update`
are a DEAP ask-and-tell pair: `deap.algorithms.eaGenerateUpdate(search.toolbox, ngen)` runs this search unmodified.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import asdict
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np
from deap import base, tools
from numpy.typing import NDArray

from evofool import archive as archives
from evofool import rng, variation
from evofool.config import Config
from evofool.encoding import Encoding
from evofool.encoding.table import GenomeTable
from evofool.errors import EvofoolError
from evofool.records import NO_PARENT, GenerationResult, Offspring, Placements, Scores, Statistics, individual_id
from evofool.scores import score_outputs

if TYPE_CHECKING:
    from evofool.evaluate.pool import Pool

__all__ = ["Fitness", "Individual", "Search"]


class Fitness(base.Fitness):
    """The greatest log-odds over all cells; the archive itself compares cell by cell."""

    weights = (1.0,)


class Individual:
    """A thin handle for DEAP: where the individual is, not what it is made of."""

    __slots__ = ("fitness", "generation", "slot")

    def __init__(self, generation: int, slot: int) -> None:
        self.generation, self.slot, self.fitness = generation, slot, Fitness()


class Search:
    """The state of a search and its toolbox.

    Args:
        pool: scores generations; see evaluate/pool.py.
        class_indices: (C,) the target's output index of each cell.
        seeds: genomes (a batch) and origins that take the place of generation 0's random ones.
        on_result: receives every finished generation.
        limit: generations that will be asked for, so that none beyond are bred.
    """

    def __init__(
        self,
        config: Config,
        encoding: Encoding,
        pool: Pool,
        class_indices: NDArray[np.int64],
        *,
        seeds: tuple[Any, tuple[str, ...]] | None = None,
        on_result: Callable[[GenerationResult], None] = lambda result: None,
        limit: int | None = None,
    ) -> None:
        self.config, self.encoding, self.pool, self.class_indices = config, encoding, pool, class_indices
        self.seeds, self.on_result, self.limit = seeds, on_result, limit
        self.archive = archives.empty(len(class_indices))
        self.elites = GenomeTable(encoding, len(class_indices))
        self.archive_hash = bytes(32)
        self.statistics: Statistics | None = None
        self.logbook = tools.Logbook()
        self.in_flight: deque[Offspring] = deque()
        self._next = 0  # the generation to be bred next
        self._scores: Scores | None = None  # of the oldest in flight, once collected
        self._asked: NDArray[np.uint8] | None = None
        self.toolbox = base.Toolbox()
        for name in ("generate", "map", "evaluate", "update", "select", "mate", "mutate"):
            self.toolbox.register(name, getattr(self, name))

    def run(self, stop: Callable[[Statistics | None], bool]) -> None:
        """Go on until `stop` says so; it is asked before every generation."""
        while not stop(self.statistics):
            population = self.toolbox.generate()
            for individual, fitness in zip(population, self.toolbox.map(self.toolbox.evaluate, population)):
                individual.fitness.values = fitness
            self.toolbox.update(population)

    # ---------------------------------------------------------------------------------------- the toolbox's tools

    def generate(self) -> list[Individual]:
        """Breed and submit until `lag` generations are in flight; handles of the oldest."""
        done = self.statistics.generation + 1 if self.statistics else 0
        last = done + self.config.search.lag if self.limit is None else min(done + self.config.search.lag, self.limit)
        self._breed_up_to(max(last, done + 1))
        oldest = self.in_flight[0]
        return [Individual(oldest.generation, slot) for slot in range(len(oldest))]

    def map(self, evaluate: Callable[[Individual], tuple[float]], population: Iterable[Individual]) -> list[Any]:
        """Wait for the scores of the oldest generation in flight; the fitness of each of its individuals."""
        self._scores = self.pool.collect(self.in_flight[0].generation)
        return [evaluate(individual) for individual in population]

    def evaluate(self, individual: Individual) -> tuple[float]:
        """The fitness of an individual whose scores were collected."""
        assert self._scores is not None, "evaluate comes after map"
        return (float(self._scores.log_odds[individual.slot].max()),)

    def select(self, generation: int, count: int) -> NDArray[np.int64]:
        """Ids of two parents for each of `count` offspring, uniform over filled cells or over individuals."""
        candidates = self.archive.elites[self.archive.filled]
        if self.config.search.selection == "individuals":
            candidates = np.unique(candidates)
        uniform = rng.uniforms(self.config.seed, "select", generation, (count, 2))
        return candidates[(uniform * len(candidates)).astype(np.int64)]

    def mate(self, generation: int, first: Any, second: Any) -> tuple[Any, NDArray[np.bool_]]:
        """Children of pairs, and which of them have two parents."""
        return variation.mate(self.encoding, self.config.variation, self.config.seed, generation, first, second)

    def mutate(self, generation: int, genomes: Any) -> tuple[Any, NDArray[np.uint32]]:
        """Mutated genomes, and the bit set of operators that took effect on each."""
        return variation.mutate(self.encoding, self.config.variation, self.config.seed, generation, genomes)

    def update(self, population: Any = None) -> None:
        """Place the oldest generation and hand its result on."""
        assert self._scores is not None, "update comes after map"
        offspring, scores = self.in_flight.popleft(), self._scores
        self._scores = None
        self.archive, placements = archives.place(
            self.archive,
            scores,
            generation=offspring.generation,
            class_indices=self.class_indices,
            insertion=self.config.search.insertion,
        )
        slots = [int(slot) for slot in np.unique(placements.slots)]
        genomes = {slot: self.encoding.to_bytes(offspring.genomes, slot) for slot in slots}
        images = [scores.image_sha256[slot].tobytes() for slot in placements.slots]
        hashes = {slot: sha256(genome).digest() for slot, genome in genomes.items()}
        self.archive_hash = archives.chain_hash(
            self.archive_hash, placements, images, [hashes[int(slot)] for slot in placements.slots]
        )
        self.statistics = archives.statistics(
            self.archive,
            placements,
            offspring=len(offspring),
            non_finite=int((~np.isfinite(scores.log_odds).all(axis=1)).sum()),
            previous=self.statistics,
        )
        self._remember(placements, offspring.genomes, slots)
        self.logbook.record(gen=offspring.generation, nevals=len(offspring), **asdict(self.statistics))
        sizes = {slot: self.encoding.size(offspring.genomes, slot) for slot in slots}
        top1 = self.archive.top1[placements.cells]
        self.on_result(
            GenerationResult(offspring, scores, placements, self.statistics, self.archive_hash, genomes, sizes, top1)
        )

    # -------------------------------------------------------------------------------------------------- ask and tell

    def ask(self) -> NDArray[np.uint8]:
        """The images of the next generation to be scored, (n, h, w, channels) uint8; for any kind of classifier."""
        self.generate()
        self._asked = self.pool.render(self.in_flight[0].genomes)
        return self._asked

    def tell(self, outputs: Any, output: str = "probabilities") -> None:
        """Outputs of a classifier for the images of the last `ask`.

        Args:
            outputs: (n, classes): every class of the classifier, not only those with a cell.
            output: "logits", "probabilities" or "log_probabilities".

        Raises:
            EvofoolError: nothing was asked, or the shape is not that of the images asked for.
        """
        outputs = np.asarray(outputs)
        if self._asked is None:
            raise EvofoolError("tell() comes after ask().")
        if outputs.ndim != 2 or len(outputs) != len(self._asked) or outputs.shape[1] <= self.class_indices.max():
            raise EvofoolError(f"tell() needs outputs of shape ({len(self._asked)}, classes), not {outputs.shape}.")
        self._scores = score_outputs(outputs, output, self.class_indices, self._asked)
        self._asked = None
        self.update()

    # --------------------------------------------------------------------------------------------------------- inside

    def restore(
        self,
        *,
        start: archives.Archive,
        pending: Iterable[tuple[Placements, NDArray[np.bool_]]],
        genomes: dict[int, bytes],
        statistics: Statistics,
        archive_hash: bytes,
    ) -> None:
        """Go back to where a run was: replay the last `lag` generations, breeding again what was in flight.

        Args:
            start: the archive after generation `statistics.generation - lag + 1`.
            pending: placements, and whether they are top-1, of the generations after that.
            genomes: canonical bytes of every individual that these archives hold.
        """
        self.archive, self._next = start, statistics.generation + 1
        ids = sorted(genomes)
        everyone = self.encoding.from_bytes([genomes[i] for i in ids])
        row_of = {identity: row for row, identity in enumerate(ids)}
        filled = np.unique(start.elites[start.filled])
        self.elites.add(filled, everyone, [row_of[int(i)] for i in filled])
        for placements, top1 in pending:
            self._breed_up_to(placements.generation + self.config.search.lag)
            self.archive = archives.restore(self.archive, placements, top1)
            slots = np.unique(placements.slots)
            new = individual_id(placements.generation, slots.astype(np.int64))
            self._remember(placements, everyone, [row_of[int(i)] for i in new], slots)
        self.statistics, self.archive_hash = statistics, archive_hash

    def _remember(self, placements: Placements, genomes: Any, rows: Any, slots: Any = None) -> None:
        """Keep the genomes of those who took a cell, and forget those who lost their last one."""
        slots = np.array(rows if slots is None else slots, dtype=np.int64)
        self.elites.keep(self.archive.elites.tolist())
        self.elites.add(individual_id(placements.generation, slots), genomes, rows)

    def _breed_up_to(self, generation: int) -> None:
        while self._next < generation:
            offspring = self._breed(self._next)
            self.in_flight.append(offspring)
            self.pool.submit(offspring)
            self._next += 1

    def _breed(self, generation: int) -> Offspring:
        search, seed = self.config.search, self.config.seed
        if generation == 0 and self.seeds is not None:
            genomes, origins = self.seeds
            return self._parentless(0, genomes, "seed", origins)
        if generation < search.lag or not self.archive.filled.any():
            genomes = variation.initial(self.encoding, seed, generation, search.initial)
            return self._parentless(generation, genomes, "initial", None)
        parents = self.toolbox.select(generation, search.offspring)
        first, second = self.elites.take(parents[:, 0]), self.elites.take(parents[:, 1])
        children, crossed = self.toolbox.mate(generation, first, second)
        children, operators = self.toolbox.mutate(generation, children)
        parents[~crossed, 1] = NO_PARENT
        return Offspring(generation, children, parents, operators | crossed * variation.operator_bit("crossover"), None)

    def _parentless(self, generation: int, genomes: Any, operator: str, origins: Any) -> Offspring:
        n = len(genomes)
        return Offspring(
            generation,
            genomes,
            np.full((n, 2), NO_PARENT, dtype=np.int64),
            np.full(n, variation.operator_bit(operator), dtype=np.uint32),
            origins,
        )
