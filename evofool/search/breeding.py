"""Breeding: from the archive as it stands to a generation of offspring, through the toolbox's operators.

`search.mode` says from whom. Besides MAP-Elites there are two controls, which score as many images:

    single_class  Each class is a population of its own: offspring are handed to the classes in turn, so that all get
                  the same number of images; the parent is the class's own elite, and the child competes in that
                  class's cell alone. As the control of Nguyen, Yosinski and Clune, GECCO 2015, "Innovation Engines",
                  which kept 100 individuals of a class, by rank; here it is the elite alone, as in MAP-Elites, so that
                  the two differ in nothing but what classes give each other.
    random        Every generation is random, drawn as the first ones are; only the archive remembers. What selection
                  adds is then measured against as many draws from where every search begins. (A CPPN that is drawn
                  has no hidden nodes: growth is variation's, and without selection how much of it would be a choice.)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

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
from evofool.records import NO_PARENT, Cells, Genomes, Offspring
from evofool.search.parents import curiosity, pick_by, pick_kin, pick_uniformly

__all__ = ["Breeder"]


class Breeder:
    """The genomes of the current elites, and the default operators on them.

    Args:
        cells: of the archive.
        seeds: genomes (a batch) and their origins, in place of generation 0's random ones.
    """

    def __init__(
        self, config: Config, encoding: Encoding, cells: Cells, seeds: tuple[Genomes, tuple[str, ...]] | None
    ) -> None:
        self.config, self.encoding, self.cells, self.seeds = config, encoding, cells, seeds
        self._elites = GenomeTable(encoding, len(cells))
        self._parents: dict[int, int] = {}  # of each elite: its first parent
        self._copies: Genomes = None  # of first parents, which nobody needs once the generation is bred

    def select(self, archive: Archive, generation: int, count: int) -> NDArray[np.int64]:
        """Ids of two parents for each of `count` offspring, (count, 2), as `search.selection` says (parents.py).

        Where classes are searched one by one, uniform over the filled cells of the offspring's own class, of which
        there is one without bins; NO_PARENT where there is none.
        """
        if (own := self._own(generation, count)) is not None:
            return self._of_its_class(archive, own, generation)
        candidates, search = archive.elites[archive.filled], self.config.search
        uniform = rng.uniforms(self.config.seed, "select", generation, (count, 2))
        if search.selection == "individuals":
            candidates = np.unique(candidates)
        if search.selection in ("cells", "individuals"):
            return pick_uniformly(candidates, uniform)
        parents = np.array([self._parents[int(elite)] for elite in candidates], dtype=np.int64)
        if search.selection == "curiosity":
            last = generation - search.lag
            weights = curiosity(candidates, parents, generation=last, offspring=search.offspring)
            return pick_by(weights, candidates, uniform)
        first = pick_uniformly(candidates, uniform[:, 0])
        return np.stack([first, pick_kin(first, candidates, parents, uniform[:, 1])], axis=1)

    def _of_its_class(self, archive: Archive, own: NDArray[np.int64], generation: int) -> NDArray[np.int64]:
        elites = archive.elites.reshape(len(self.cells.classes), self.cells.bins)
        filled = archive.filled.reshape(elites.shape)
        first_filled = np.take_along_axis(elites, np.argsort(~filled, axis=1, kind="stable"), axis=1)
        uniform = rng.uniforms(self.config.seed, "select", generation, (len(own), 2))
        picks = (uniform * filled.sum(axis=1)[own, None]).astype(np.int64)
        return first_filled[own[:, None], picks]

    def _own(self, generation: int, count: int) -> NDArray[np.int64] | None:
        """Which of the K classes each individual of a generation is for, (count,), in turn; None: for all of them."""
        search = self.config.search
        if search.mode != "single_class":
            return None
        before = min(generation, search.lag) * search.initial + max(0, generation - search.lag) * search.offspring
        return (before + np.arange(count)) % len(self.cells.classes)

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

        Seeds, if any, are generation 0, and compete for every class. Otherwise generations below `lag` are random, and
        all while no cell is filled; so are offspring of a class that has no elite yet, where none is another's parent.
        """
        search = self.config.search
        if generation == 0 and self.seeds is not None:
            return self._parentless(0, self.seeds[0], "seed", self.seeds[1])
        if generation < search.lag or not archive.filled.any():
            return self._random(generation, search.initial)
        if search.mode == "random":
            return self._random(generation, search.offspring)
        parents = toolbox.select(archive, generation, search.offspring)
        orphans = np.flatnonzero(parents[:, 0] == NO_PARENT)
        parents[orphans] = archive.elites[archive.filled][0]  # bred as all others are, and then drawn anew
        first = second = self._copies = self._elites.take(parents[:, 0])
        if self._crosses(toolbox, generation):
            second = self._elites.take(parents[:, 1])
        children, crossed = toolbox.mate(generation, first, second)
        children, operators = toolbox.mutate(generation, children)
        self._copies = None
        parents[~crossed, 1] = NO_PARENT
        operators = operators | crossed * operator_bit("crossover")
        if len(orphans):
            drawn = variation.initial(self.encoding, self.config.seed, generation, len(parents))
            children = self.encoding.replace(children, orphans, drawn, orphans)
            parents[orphans], operators[orphans] = NO_PARENT, operator_bit("initial")
        return Offspring(generation, children, parents, operators, own=self._own(generation, len(parents)))

    def _crosses(self, toolbox: base.Toolbox, generation: int) -> bool:
        """Whether second parents are needed, whose copies may be large: 120 MB for direct genomes on ImageNet."""
        is_own = getattr(toolbox.mate, "func", None) != self.mate
        return is_own or self.config.variation.at(generation).crossover_rate > 0

    def keep(
        self, archive: Archive, ids: NDArray[np.int64], parents: Iterable[int], genomes: Genomes, rows: Iterable[int]
    ) -> None:
        """Remember new elites, and forget individuals that no cell of the archive holds any more.

        Args:
            parents: the first parent of each, NO_PARENT where there is none.
            rows: where in the batch `genomes` that of each individual is.
        """
        alive = archive.elites.tolist()
        self._elites.keep(alive)
        self._elites.add(ids, genomes, rows)
        self._parents.update(zip(ids.tolist(), (int(parent) for parent in parents)))
        self._parents = {i: self._parents[i] for i in alive if i != NO_PARENT}

    def _random(self, generation: int, count: int) -> Offspring:
        genomes = variation.initial(self.encoding, self.config.seed, generation, count)
        return replace(self._parentless(generation, genomes, "initial", None), own=self._own(generation, count))

    @staticmethod
    def _parentless(generation: int, genomes: Genomes, operator: str, origins: tuple[str, ...] | None) -> Offspring:
        n = len(genomes)
        parents = np.full((n, 2), NO_PARENT, dtype=np.int64)
        return Offspring(generation, genomes, parents, np.full(n, operator_bit(operator), dtype=np.uint32), origins)
