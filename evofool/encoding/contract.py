"""What the rest of the house needs of an encoding."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from evofool.records import Facts, Genomes

__all__ = ["Encoding", "genome_sha256"]


class Encoding(Protocol):
    """What the rest of the house needs of an encoding. `genomes` is a batch: pixels or `cppn.Graphs`."""

    @property
    def kind(self) -> str: ...
    @property
    def colour(self) -> str: ...
    @property
    def quantisation(self) -> str: ...
    @property
    def height(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def channels(self) -> int: ...

    def empty(self, rows: int) -> Any:
        """Room for genomes, to be filled with `replace`."""

    def initial(self, *draws: NDArray[np.float64]) -> Any:
        """Random genomes from uniform numbers, one array for each entry of `draws_of_initial`."""

    def draws_of_initial(self) -> tuple[int, ...]:
        """Numbers for each individual that `initial` takes, argument by argument."""

    def take(self, genomes: Genomes, rows: Any) -> Any:
        """The genomes at `rows`."""

    def replace(self, genomes: Genomes, rows: Any, source: Any, source_rows: Any) -> Any:
        """`genomes` with `rows` overwritten by `source_rows` of `source`; may work in place."""

    def size(self, genomes: Genomes, row: int) -> tuple[int, int]:
        """(nodes, connections)."""

    def to_bytes(self, genomes: Genomes, row: int) -> bytes:
        """Canonical bytes of one genome."""

    def from_bytes(self, blobs: Sequence[bytes]) -> Any:
        """Genomes of canonical bytes; raises InvalidGenome."""

    def genes(self, genomes: Genomes, row: int) -> list[Facts]:
        """One dict for each gene."""

    def to_json(self, genomes: Genomes, row: int) -> Facts:
        """One genome as JSON data."""


def genome_sha256(encoding: Encoding, genomes: Genomes, row: int) -> bytes:
    """sha256 (32 bytes) of a genome's canonical bytes."""
    return hashlib.sha256(encoding.to_bytes(genomes, row)).digest()
