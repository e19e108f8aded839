"""The search: MAP-Elites over classes, wired through a DEAP toolbox. Start reading here.

The archive has a cell (or a few) for each class of a network, the target. An individual is a genome: pixels, or a
graph that computes them (a CPPN). Evaluators draw its image and score it with the target. Each cell holds an elite: the
best so far, by default the one whose image the target is surest to be of that class. One round of `Search.run`:

    generate    breed from elites and submit, until `lag` generations are in flight    breeding.py, encoding/
    map         wait for the scores of the oldest, even if a later one is finished     evaluate/, targets/
    update      let the oldest compete for the cells, and hand on the result           archive/, runs/, store/

Generations 0 to lag - 1 are random; any later generation g is bred from the archive that generation g - lag left. With
a lag of 2, generation 5 is bred once 3 is placed, while 4 is being scored. So what is bred depends on the seed and on
scores alone, never on the number of evaluators or on which was faster. `generate` and `update` are DEAP's ask and
tell: `deap.algorithms.eaGenerateUpdate(search.toolbox, ngen)` runs this search unmodified. The controls of
`search.mode`, in which classes exchange nothing or nothing is selected, differ in breeding.py alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from hashlib import sha256
from types import MappingProxyType

import numpy as np
from deap import base, tools
from numpy.typing import NDArray

from evofool.archive.cells import chain_hash, empty, place, restore, statistics
from evofool.archive.state import State
from evofool.config import Config
from evofool.encoding.contract import Encoding
from evofool.encoding.own import Operators
from evofool.errors import EvofoolError
from evofool.evaluate.pool import Job, Pool
from evofool.records import Cells, GenerationResult, Genomes, Offspring, Scores, Statistics, individual_id
from evofool.search.breeding import Breeder
from evofool.search.handles import Individual, Population

__all__ = ["Search"]


class Search:
    """The state of a search and its toolbox.

    Args:
        pool: scores generations; see evaluate/pool.py.
        cells: of the archive.
        seeds: genomes (a batch) and their origins, in place of generation 0's random ones.
        on_result: receives every generation once it is placed.
        limit: the number of generations, so that none beyond are bred in advance; None for no end.
        operators: the user's own, by the name that they take in the toolbox.
    """

    def __init__(
        self,
        config: Config,
        encoding: Encoding,
        pool: Pool,
        cells: Cells,
        *,
        seeds: tuple[Genomes, tuple[str, ...]] | None = None,
        on_result: Callable[[GenerationResult], None] = lambda result: None,
        limit: int | None = None,
        operators: Operators = MappingProxyType({}),
    ) -> None:
        self.config, self.encoding, self.pool, self.cells = config, encoding, pool, cells
        self.on_result, self.limit = on_result, limit
        self.archive = empty(len(cells))
        self.archive_hash = bytes(32)
        self.statistics: Statistics | None = None
        self.logbook = tools.Logbook()
        self.in_flight: deque[Offspring] = deque()
        self._next = 0  # the generation to be bred next
        self._scores: Scores | None = None  # of the oldest in flight, once collected
        self._breeder = Breeder(config, encoding, cells, seeds)
        self.toolbox = base.Toolbox()
        for method in (self.generate, self.map, self.evaluate, self.update):
            self.toolbox.register(method.__name__, method)
        for name in ("select", "mate", "mutate"):
            self.toolbox.register(name, operators.get(name, getattr(self._breeder, name)))

    def run(self, stop: Callable[[Statistics | None], bool]) -> None:
        """Go on until `stop` says so: it is asked before every generation, with None before the first."""
        while not stop(self.statistics):
            population = self.toolbox.generate()
            self.toolbox.map(self.toolbox.evaluate, population)  # waits; nobody here asks for each one's fitness
            self.toolbox.update(population)

    def generate(self) -> Population:
        """Breed and submit until `lag` generations are in flight, or all up to `limit`; handles of the oldest."""
        oldest = self.statistics.generation + 1 if self.statistics else 0
        end = oldest + self.config.search.lag
        self._breed_up_to(end if self.limit is None else max(oldest + 1, min(end, self.limit)))
        return Population(oldest, len(self.in_flight[0]))

    def map(self, evaluate: Callable[..., tuple[float]], population: Iterable[Individual]) -> Iterator[tuple[float]]:
        """Wait for the scores of the oldest generation in flight; its fitnesses, computed when they are looked at."""
        self._scores = self.pool.collect(self.in_flight[0].generation)
        return map(evaluate, population)

    def evaluate(self, individual: Individual) -> tuple[float]:
        """The fitness of an individual of the generation that `map` has waited for: its greatest log-odds."""
        if self._scores is None:
            raise EvofoolError("toolbox.evaluate comes after toolbox.map.")
        return (float(self._scores.log_odds[individual.slot].max()),)

    def update(self, population: Iterable[Individual] | None = None) -> None:
        """Place the oldest generation in flight and hand its result on; the handles are not needed."""
        if self._scores is None:
            raise EvofoolError("toolbox.update comes after toolbox.map.")
        offspring, scores, self._scores = self.in_flight.popleft(), self._scores, None
        generation, insertion, batch = offspring.generation, self.config.search.insertion, offspring.genomes
        self.archive, placements = place(
            self.archive, scores, generation=generation, cells=self.cells, insertion=insertion, own=offspring.own
        )
        slots = np.unique(placements.slots).astype(np.int64)
        genomes = {slot: self.encoding.to_bytes(batch, slot) for slot in slots.tolist()}
        self._breeder.keep(self.archive, individual_id(generation, slots), offspring.parents[slots, 0], batch, slots)
        images = [scores.image_sha256[slot].tobytes() for slot in placements.slots]
        hashes = [sha256(genomes[slot]).digest() for slot in placements.slots.tolist()]
        self.archive_hash = chain_hash(self.archive_hash, placements, images, hashes)
        bad = int((~np.isfinite(scores.log_odds).all(axis=1)).sum())
        self.statistics = statistics(
            self.archive,
            placements,
            offspring=len(offspring),
            non_finite=bad,
            previous=self.statistics,
            units=bool(self.cells.units),
        )
        self.logbook.record(gen=generation, nevals=len(offspring), **asdict(self.statistics))
        sizes = {slot: self.encoding.size(batch, slot) for slot in genomes}
        result = GenerationResult(offspring, scores, placements, self.statistics, self.archive_hash, genomes, sizes)
        self.on_result(result)

    def restore(self, state: State) -> None:
        """Go back to where a run was: place what a resume needs (State.pending), and breed again what was in flight."""
        ids = sorted(state.genomes)
        everyone = self.encoding.from_bytes([state.genomes[i] for i in ids])
        self.archive, self._next = state.start, state.generation + 1
        holders = np.unique(state.start.elites[state.start.filled])
        self._keep(holders, state, everyone, ids)
        for placements, top1 in state.pending:
            self._breed_up_to(placements.generation + self.config.search.lag)
            self.archive = restore(self.archive, placements, top1)
            winners = individual_id(placements.generation, np.unique(placements.slots).astype(np.int64))
            self._keep(winners, state, everyone, ids)
        self.statistics, self.archive_hash = state.statistics, state.archive_hash

    def _keep(self, elites: NDArray[np.int64], state: State, everyone: Genomes, ids: list[int]) -> None:
        parents = [state.parents[i] for i in elites.tolist()]
        self._breeder.keep(self.archive, elites, parents, everyone, np.searchsorted(ids, elites))

    def _breed_up_to(self, generation: int) -> None:
        while self._next < generation:
            offspring = self._breeder.breed(self._next, self.archive, self.toolbox)
            self.in_flight.append(offspring)
            self.pool.submit(Job(offspring.generation, "score", offspring.genomes))
            self._next += 1
