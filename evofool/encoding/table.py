"""The genomes of current elites by individual id: each stored once, however many cells it holds."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from evofool.encoding.contract import Encoding
from evofool.records import Genomes

__all__ = ["GenomeTable"]


class GenomeTable:
    """A batch of genomes that grows from `room` rows, and the row of each individual in it."""

    def __init__(self, encoding: Encoding, room: int) -> None:
        self.encoding = encoding
        self._genomes: Genomes = encoding.empty(room)
        self._row_of: dict[int, int] = {}
        self._free = list(range(room - 1, -1, -1))

    def keep(self, alive: Iterable[int]) -> None:
        """Forget all individuals but those with the ids `alive`."""
        alive = set(alive)
        for identity in [i for i in self._row_of if i not in alive]:
            self._free.append(self._row_of.pop(identity))

    def add(self, ids: Iterable[int], source: Genomes, rows: Iterable[int]) -> None:
        """Remember individuals whose genomes are `rows` of the batch `source`, unless it has them already."""
        pairs = [(int(i), int(r)) for i, r in zip(ids, rows) if int(i) not in self._row_of]
        if not pairs:
            return
        if len(pairs) > len(self._free):
            self._grow(len(self._row_of) + len(pairs))
        places = [self._free.pop() for _ in pairs]
        self._row_of.update({identity: place for (identity, _), place in zip(pairs, places)})
        self._genomes = self.encoding.replace(
            self._genomes, np.array(places, dtype=np.int64), source, np.array([r for _, r in pairs], dtype=np.int64)
        )

    def take(self, ids: NDArray[np.int64]) -> Genomes:
        """The genomes of `ids`, as a batch of their own."""
        return self.encoding.take(self._genomes, np.array([self._row_of[int(i)] for i in ids], dtype=np.int64))

    def _grow(self, least: int) -> None:
        old, rows = self._genomes, np.arange(len(self._genomes))
        room = max(least, 2 * len(rows))
        self._genomes = self.encoding.replace(self.encoding.empty(room), rows, old, rows)
        self._free = list(range(room - 1, len(rows) - 1, -1)) + self._free
