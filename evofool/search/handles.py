"""What DEAP sees of a generation: handles that say which individual is meant, and hold no genome."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from deap import base

__all__ = ["Fitness", "Individual", "Population"]


class Fitness(base.Fitness):
    """The greatest log-odds over all cells; the archive itself compares cell by cell."""

    weights = (1.0,)


class Individual:
    """The handle of an individual."""

    __slots__ = ("fitness", "generation", "slot")

    def __init__(self, generation: int, slot: int) -> None:
        self.generation, self.slot, self.fitness = generation, slot, Fitness()


class Population(Sequence[Individual]):
    """The handles of a generation, made when first used: thousands a second would cost more than placing them."""

    def __init__(self, generation: int, size: int) -> None:
        self._generation, self._size = generation, size

    @cached_property
    def _individuals(self) -> list[Individual]:
        return [Individual(self._generation, slot) for slot in range(self._size)]

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: int | slice) -> Any:
        return self._individuals[index]
