"""What the rest of the house needs of an encoding."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from evofool.records import Facts, Genomes

__all__ = ["Encoding", "Pixels", "Rows", "genome_sha256"]

Pixels: TypeAlias = NDArray[np.float32]  # a batch of direct genomes: (n, height, width, channels) in [0, 1]
Rows: TypeAlias = NDArray[np.int64] | slice  # of a batch


class Encoding(Protocol):
    """What the rest of the house needs of an encoding. `genomes` is a batch: Pixels, or `cppn.graphs.Graphs`."""

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

    def empty(self, rows: int) -> Genomes:
        """A batch of `rows` blank genomes, to be filled with `replace`."""

    def take(self, genomes: Genomes, rows: Rows) -> Genomes:
        """The genomes at `rows`."""

    def replace(self, genomes: Genomes, rows: Rows, source: Genomes, source_rows: Rows) -> Genomes:
        """`genomes` with `rows` overwritten by `source_rows` of `source`; may work in place."""

    def size(self, genomes: Genomes, row: int) -> tuple[int, int]:
        """(nodes, connections) of one genome; for pixels (numbers, 0)."""

    def to_bytes(self, genomes: Genomes, row: int) -> bytes:
        """Canonical bytes of one genome."""

    def from_bytes(self, blobs: Sequence[bytes]) -> Genomes:
        """A batch from the canonical bytes of each genome; raises InvalidGenome where bytes are of no valid one."""

    def genes(self, genomes: Genomes, row: int) -> list[Facts]:
        """One dict for each gene of one genome: the rows of the `genome` column; none for pixels."""

    def to_json(self, genomes: Genomes, row: int) -> Facts:
        """One genome as JSON data."""


def genome_sha256(encoding: Encoding, genomes: Genomes, row: int) -> bytes:
    """sha256 (32 bytes) of a genome's canonical bytes."""
    return hashlib.sha256(encoding.to_bytes(genomes, row)).digest()
