"""Breeding: from the archive as it stands to a generation of offspring, through the toolbox's operators."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from deap import base
from numpy.typing import NDArray

from evofool.archive.cells import Archive
from evofool.base import rng
from evofool.config import Config
from evofool.encoding import variation
from evofool.encoding.contract import Encoding
from evofool.encoding.names import operator_bit
from evofool.encoding.table import GenomeTable
from evofool.records import NO_PARENT, Genomes, Offspring

__all__ = ["Breeder"]


class Breeder:
    """The genomes of the current elites, and the default operators on them.

    Args:
        cells: how many the archive has.
        seeds: genomes (a batch) and their origins, in place of generation 0's random ones.
    """

    def __init__(
        self, config: Config, encoding: Encoding, cells: int, seeds: tuple[Genomes, tuple[str, ...]] | None
    ) -> None:
        self.config, self.encoding, self.seeds = config, encoding, seeds
        self._elites = GenomeTable(encoding, cells)
        self._copies: Genomes = None  # of first parents, which nobody needs once the generation is bred

    def select(self, archive: Archive, generation: int, count: int) -> NDArray[np.int64]:
        """Ids of two parents for each of `count` offspring, (count, 2), uniform over filled cells or over elites."""
        candidates = archive.elites[archive.filled]
        if self.config.search.selection == "individuals":
            candidates = np.unique(candidates)
        uniform = rng.uniforms(self.config.seed, "select", generation, (count, 2))
        return candidates[(uniform * len(candidates)).astype(np.int64)]

    def mate(self, generation: int, first: Genomes, second: Genomes) -> tuple[Genomes, NDArray[np.bool_]]:
        """Children of pairs, and which of them have two parents."""
        rates = self.config.variation.at(generation)
        return variation.mate(self.encoding, rates, self.config.seed, generation, first, second)

    def mutate(self, generation: int, genomes: Genomes) -> tuple[Genomes, NDArray[np.uint32]]:
        """Mutated genomes, and the bit set of operators that took effect on each."""
        rates, seed = self.config.variation.at(generation), self.config.seed
        return variation.mutate(self.encoding, rates, seed, generation, genomes, overwrite=genomes is self._copies)

    def breed(self, generation: int, archive: Archive, toolbox: base.Toolbox) -> Offspring:
        """One generation, by the toolbox's `select`, `mate` and `mutate`.

        Seeds, if any, are generation 0. Otherwise generations below `lag` are random, and all while no cell is filled.
        """
        search = self.config.search
        if generation == 0 and self.seeds is not None:
            return self._parentless(0, self.seeds[0], "seed", self.seeds[1])
        if generation < search.lag or not archive.filled.any():
            genomes = variation.initial(self.encoding, self.config.seed, generation, search.initial)
            return self._parentless(generation, genomes, "initial", None)
        parents = toolbox.select(archive, generation, search.offspring)
        first = second = self._copies = self._elites.take(parents[:, 0])
        if self._crosses(toolbox, generation):
            second = self._elites.take(parents[:, 1])
        children, crossed = toolbox.mate(generation, first, second)
        children, operators = toolbox.mutate(generation, children)
        self._copies = None
        parents[~crossed, 1] = NO_PARENT
        return Offspring(generation, children, parents, operators | crossed * operator_bit("crossover"))

    def _crosses(self, toolbox: base.Toolbox, generation: int) -> bool:
        """Whether second parents are needed, whose copies may be large: 120 MB for direct genomes on ImageNet."""
        is_own = getattr(toolbox.mate, "func", None) != self.mate
        return is_own or self.config.variation.at(generation).crossover_rate > 0

    def keep(self, archive: Archive, ids: NDArray[np.int64], genomes: Genomes, rows: Iterable[int]) -> None:
        """Remember the genomes of new elites, and forget individuals that no cell of the archive holds any more.

        Args:
            rows: where in the batch `genomes` that of each individual is.
        """
        self._elites.keep(archive.elites.tolist())
        self._elites.add(ids, genomes, rows)

    @staticmethod
    def _parentless(generation: int, genomes: Genomes, operator: str, origins: tuple[str, ...] | None) -> Offspring:
        n = len(genomes)
        parents = np.full((n, 2), NO_PARENT, dtype=np.int64)
        return Offspring(generation, genomes, parents, np.full(n, operator_bit(operator), dtype=np.uint32), origins)
