"""What the rest of the house needs of an encoding, and of a kind of them.

An encoding is a small frozen object that knows the picture's size and colour, and how to handle a *batch* of genomes
(an array, or `cppn.graphs.Graphs`). A kind makes encodings, and says how their genomes begin, vary and are drawn. To
add one: a file that ends with a `Kind`, and a row of ENCODINGS in base/registry.py (docs/extend.md).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from evofool.config.sections import EncodingConfig
from evofool.records import Facts, Genomes

__all__ = ["Encoding", "Kind", "Rows", "genome_sha256"]

Rows: TypeAlias = NDArray[np.int64] | slice  # of a batch


class Encoding(Protocol):
    """What the rest of the house needs of an encoding.

    `genomes` is a batch with a length and `nbytes`: an array, or `cppn.graphs.Graphs`. Encodings are equal where they
    mean the same by a genome.
    """

    @property
    def kind(self) -> str: ...
    @property
    def colour(self) -> str:
        """What the channels mean: "grey", "hsv", "rgb" or "hls2015"."""

    @property
    def quantisation(self) -> str:
        """How a number in [0, 1] becomes 0 .. 255: "round" or "truncate"."""

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
        """One genome as JSON data, among it {"encoding": kind}; `Kind.from_json` reads it."""


@dataclass(frozen=True)
class Kind:
    """One kind of genomes.

    Attributes:
        make: (config, (height, width), colour, code) to an encoding; see `kinds.make_encoding`.
        initial: (encoding, seed, generation, rows) to a batch of random genomes.
        mate: (encoding, config, seed, generation, first, second, apply) to the children of the pairs that `apply`,
            (n,) bool, picks; the others are their first parents.
        mutate: as `variation.mutate`: (encoding, config, seed, generation, genomes, *, overwrite) to the mutated batch
            and, (n,) uint32, the operators that took effect on each. `initial`, `mate` and `mutate` take their numbers
            from base/rng.py by address, so that children are a function of (seed, generation, parents).
        draw: (encoding, genomes, device) to (n, height, width, channels) uint8. A picture's bits must not depend on the
            other genomes of its batch, nor on how many there are.
        redraw: (encoding, genomes, row, (height, width)) to one picture of any size, without torch. At the encoding's
            own size it is the picture that `draw` gives, or differs by a grey level where a function was rounded.
        from_json: (data, code) to the encoding and a batch of one; of what `to_json` gave. May raise ValueError,
            KeyError, TypeError or IndexError for data that is none; the genome is checked by `from_bytes` afterwards.
        grows: whether genomes get larger as they evolve.
    """

    make: Callable[[EncodingConfig, tuple[int, int], str, Mapping[str, str]], Encoding]
    initial: Callable[..., Genomes]
    mate: Callable[..., Genomes]
    mutate: Callable[..., tuple[Genomes, NDArray[np.uint32]]]
    draw: Callable[[Any, Genomes, str], NDArray[np.uint8]]
    redraw: Callable[[Any, Genomes, int, tuple[int, int]], NDArray[np.uint8]]
    from_json: Callable[[Mapping[str, Any], Mapping[str, str] | None], tuple[Encoding, Genomes]]
    grows: bool = False


def genome_sha256(encoding: Encoding, genomes: Genomes, row: int) -> bytes:
    """sha256 (32 bytes) of a genome's canonical bytes."""
    return hashlib.sha256(encoding.to_bytes(genomes, row)).digest()
