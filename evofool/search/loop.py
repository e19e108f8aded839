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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from hashlib import sha256
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from deap import base, tools
from numpy.typing import NDArray

from evofool.archive import cells as archives
from evofool.archive.objectives import Objective, log_odds
from evofool.archive.scores import score_outputs
from evofool.config import Config
from evofool.encoding.kinds import Encoding
from evofool.errors import EvofoolError
from evofool.records import GenerationResult, Offspring, Scores, Statistics, individual_id
from evofool.search.breeding import Breeder

if TYPE_CHECKING:
    from evofool.evaluate.pool import Pool
    from evofool.store.state import State

__all__ = ["Fitness", "Individual", "Population", "Search"]


class Fitness(base.Fitness):
    """The greatest log-odds over all cells; the archive itself compares cell by cell."""

    weights = (1.0,)


class Individual:
    """A thin handle for DEAP: where the individual is, not what it is made of."""

    __slots__ = ("fitness", "generation", "slot")

    def __init__(self, generation: int, slot: int) -> None:
        self.generation, self.slot, self.fitness = generation, slot, Fitness()


class Population(Sequence[Individual]):
    """The handles of a generation, made when somebody looks: thousands a second would cost more than placing them."""

    def __init__(self, generation: int, size: int) -> None:
        self._generation, self._size = generation, size

    @cached_property
    def _individuals(self) -> list[Individual]:
        return [Individual(self._generation, slot) for slot in range(self._size)]

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: Any) -> Any:
        return self._individuals[index]


class Search:
    """The state of a search and its toolbox.

    Args:
        pool: scores generations; see evaluate/pool.py.
        class_indices: (C,) the target's output index of each cell.
        seeds: genomes (a batch) and origins that take the place of generation 0's random ones.
        on_result: receives every finished generation.
        limit: generations that will be asked for, so that none beyond are bred.
        objective: what cells rank by, for `tell`; a pool has its own.
        operators: of the user's own, in place of the toolbox's `select`, `mate` or `mutate`.
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
        objective: Objective = log_odds,
        operators: Mapping[str, Callable[..., Any]] = MappingProxyType({}),
    ) -> None:
        self.config, self.encoding, self.pool, self.class_indices = config, encoding, pool, class_indices
        self.on_result, self.limit, self.objective = on_result, limit, objective
        self.archive = archives.empty(len(class_indices))
        self.archive_hash = bytes(32)
        self.statistics: Statistics | None = None
        self.logbook = tools.Logbook()
        self.in_flight: deque[Offspring] = deque()
        self._next = 0  # the generation to be bred next
        self._scores: Scores | None = None  # of the oldest in flight, once collected
        self._asked: NDArray[np.uint8] | None = None
        self._breeder = Breeder(config, encoding, len(class_indices), seeds)
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
        self.archive, placements = archives.place(
            self.archive,
            scores,
            generation=offspring.generation,
            class_indices=self.class_indices,
            insertion=self.config.search.insertion,
        )
        slots = np.unique(placements.slots).tolist()
        genomes = {slot: self.encoding.to_bytes(offspring.genomes, slot) for slot in slots}
        self._breeder.keep(self.archive, placements, slots, offspring.genomes, slots)
        self.archive_hash = archives.chain_hash(
            self.archive_hash,
            placements,
            [scores.image_sha256[slot].tobytes() for slot in placements.slots],
            [sha256(genomes[slot]).digest() for slot in placements.slots.tolist()],
        )
        self.statistics = archives.statistics(
            self.archive,
            placements,
            offspring=len(offspring),
            non_finite=int((~np.isfinite(scores.log_odds).all(axis=1)).sum()),
            previous=self.statistics,
        )
        self.logbook.record(gen=offspring.generation, nevals=len(offspring), **asdict(self.statistics))
        sizes = {slot: self.encoding.size(offspring.genomes, slot) for slot in slots}
        self.on_result(
            GenerationResult(offspring, scores, placements, self.statistics, self.archive_hash, genomes, sizes)
        )

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
        self._scores = score_outputs(outputs, output, self.class_indices, self._asked, self.objective)
        self._asked = None
        self.update()

    def restore(self, state: State) -> None:
        """Go back to where a run was: replay its last `lag` generations, breeding again what was in flight."""
        ids = sorted(state.genomes)
        everyone = self.encoding.from_bytes([state.genomes[i] for i in ids])
        self.archive, self._next = state.start, state.generation + 1
        holders = np.unique(state.start.elites[state.start.filled])
        self._breeder.adopt(holders, everyone, np.searchsorted(ids, holders))
        for placements, top1 in state.pending:
            self._breed_up_to(placements.generation + self.config.search.lag)
            self.archive = archives.restore(self.archive, placements, top1)
            slots = np.unique(placements.slots).astype(np.int64)
            rows = np.searchsorted(ids, individual_id(placements.generation, slots))
            self._breeder.keep(self.archive, placements, slots, everyone, rows)
        self.statistics, self.archive_hash = state.statistics, state.archive_hash

    def _breed_up_to(self, generation: int) -> None:
        while self._next < generation:
            offspring = self._breeder.breed(self._next, self.archive, self.toolbox)
            self.in_flight.append(offspring)
            self.pool.submit(offspring)
            self._next += 1
