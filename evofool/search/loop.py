"""The search: MAP-Elites over classes, wired through a DEAP toolbox. Start reading here.

    while not stopped:
        keep `lag` generations in flight: breed from the archive as it stands, submit        generate
        take the OLDEST in flight, whatever finished first                                   map, evaluate
        archive, placements = place(archive, scores)                                         update
        hand the result on: to the store, to the observers                                   update

Generations 0 .. lag-1 are random; generation g >= lag breeds from the archive after g - lag. So what is bred depends
on the seed and on scores alone, never on how many evaluators there are or which was faster. `generate` and `update`
are a DEAP ask-and-tell pair: `deap.algorithms.eaGenerateUpdate(search.toolbox, ngen)` runs this search unmodified.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from hashlib import sha256
from types import MappingProxyType
from typing import Any

import numpy as np
from deap import base, tools

from evofool.archive.cells import chain_hash, empty, place, restore, statistics
from evofool.archive.state import State
from evofool.config import Config
from evofool.encoding.contract import Encoding
from evofool.errors import EvofoolError
from evofool.evaluate.pool import Job, Pool
from evofool.records import Cells, GenerationResult, Offspring, Scores, Statistics, individual_id
from evofool.search.breeding import Breeder
from evofool.search.handles import Individual, Population

__all__ = ["Search"]


class Search:
    """The state of a search and its toolbox.

    Args:
        pool: scores generations; see evaluate/pool.py.
        cells: of the archive.
        seeds: genomes (a batch) and origins that take the place of generation 0's random ones.
        on_result: receives every finished generation.
        limit: generations that will be asked for, so that none beyond are bred.
        operators: of the user's own, in place of the toolbox's `select`, `mate` or `mutate`.
    """

    def __init__(
        self,
        config: Config,
        encoding: Encoding,
        pool: Pool,
        cells: Cells,
        *,
        seeds: tuple[Any, tuple[str, ...]] | None = None,
        on_result: Callable[[GenerationResult], None] = lambda result: None,
        limit: int | None = None,
        operators: Mapping[str, Callable[..., Any]] = MappingProxyType({}),
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
        self._breeder = Breeder(config, encoding, len(cells), seeds)
        self.toolbox = base.Toolbox()
        for owner, names in (
            (self, ("generate", "map", "evaluate", "update")),
            (self._breeder, ("select", "mate", "mutate")),
        ):
            for name in names:
                self.toolbox.register(name, operators.get(name, getattr(owner, name)))

    def run(self, stop: Callable[[Statistics | None], bool]) -> None:
        """Go on until `stop` says so; it is asked before every generation."""
        while not stop(self.statistics):
            population = self.toolbox.generate()
            self.toolbox.map(self.toolbox.evaluate, population)  # waits; nobody here asks for each one's fitness
            self.toolbox.update(population)

    def generate(self) -> Population:
        """Breed and submit until `lag` generations are in flight; handles of the oldest."""
        done = self.statistics.generation + 1 if self.statistics else 0
        ahead = done + self.config.search.lag
        self._breed_up_to(ahead if self.limit is None else max(done + 1, min(ahead, self.limit)))
        oldest = self.in_flight[0]
        return Population(oldest.generation, len(oldest))

    def map(self, evaluate: Callable[[Individual], tuple[float]], population: Iterable[Individual]) -> Iterator[Any]:
        """Wait for the scores of the oldest generation in flight; the fitness of each of its individuals, on demand."""
        self._scores = self.pool.collect(self.in_flight[0].generation)
        return map(evaluate, population)

    def evaluate(self, individual: Individual) -> tuple[float]:
        """The fitness of an individual whose scores were collected."""
        if self._scores is None:
            raise EvofoolError("toolbox.evaluate comes after toolbox.map.")
        return (float(self._scores.log_odds[individual.slot].max()),)

    def update(self, population: Any = None) -> None:
        """Place the oldest generation and hand its result on."""
        if self._scores is None:
            raise EvofoolError("toolbox.update comes after toolbox.map.")
        offspring, scores, self._scores = self.in_flight.popleft(), self._scores, None
        insertion, batch = self.config.search.insertion, offspring.genomes
        self.archive, placements = place(
            self.archive, scores, generation=offspring.generation, cells=self.cells, insertion=insertion
        )
        slots = np.unique(placements.slots).tolist()
        genomes = {slot: self.encoding.to_bytes(batch, slot) for slot in slots}
        self._breeder.keep(self.archive, placements, slots, batch, slots)
        images = [scores.image_sha256[slot].tobytes() for slot in placements.slots]
        hashes = [sha256(genomes[slot]).digest() for slot in placements.slots.tolist()]
        self.archive_hash = chain_hash(self.archive_hash, placements, images, hashes)
        bad = int((~np.isfinite(scores.log_odds).all(axis=1)).sum())
        self.statistics = statistics(
            self.archive, placements, offspring=len(offspring), non_finite=bad, previous=self.statistics
        )
        self.logbook.record(gen=offspring.generation, nevals=len(offspring), **asdict(self.statistics))
        sizes = {slot: self.encoding.size(batch, slot) for slot in slots}
        self.on_result(
            GenerationResult(offspring, scores, placements, self.statistics, self.archive_hash, genomes, sizes)
        )

    def restore(self, state: State) -> None:
        """Go back to where a run was: replay its last `lag` generations, breeding again what was in flight."""
        ids = sorted(state.genomes)
        everyone = self.encoding.from_bytes([state.genomes[i] for i in ids])
        self.archive, self._next = state.start, state.generation + 1
        holders = np.unique(state.start.elites[state.start.filled])
        self._breeder.adopt(holders, everyone, np.searchsorted(ids, holders))
        for placements, top1 in state.pending:
            self._breed_up_to(placements.generation + self.config.search.lag)
            self.archive = restore(self.archive, placements, top1)
            slots = np.unique(placements.slots).astype(np.int64)
            rows = np.searchsorted(ids, individual_id(placements.generation, slots))
            self._breeder.keep(self.archive, placements, slots, everyone, rows)
        self.statistics, self.archive_hash = state.statistics, state.archive_hash

    def _breed_up_to(self, generation: int) -> None:
        while self._next < generation:
            offspring = self._breeder.breed(self._next, self.archive, self.toolbox)
            self.in_flight.append(offspring)
            self.pool.submit(Job(offspring.generation, "score", offspring.genomes))
            self._next += 1
