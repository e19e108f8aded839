"""Genomes that are arrays of numbers in [0, 1], all of one shape: what such encodings have in common."""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from evofool.encoding import fields
from evofool.encoding.contract import Rows
from evofool.errors import InvalidGenome
from evofool.records import Facts

__all__ = ["ArrayEncoding", "Numbers"]

Numbers: TypeAlias = NDArray[np.float32]  # a batch of such genomes: (n, *shape)

_HEADER = struct.Struct("<4sBBII")
_JSON_LIMIT = 16 << 10  # bytes of a genome worth printing as text


@dataclass(frozen=True)
class ArrayEncoding:
    """Genomes as (*shape) float32; contract.py says what an encoding offers.

    A subclass says its `kind`, and its `shape` if a number for each pixel and channel is not what it has.
    """

    height: int
    width: int
    colour: str  # "grey", "hsv", "rgb" or "hls2015": what the channels mean
    quantisation: str = "round"  # or "truncate"
    kind: str = ""

    @property
    def channels(self) -> int:
        """Numbers for each pixel: 1 or 3."""
        return 1 if self.colour == "grey" else 3

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one genome."""
        return (self.height, self.width, self.channels)

    def empty(self, rows: int) -> Numbers:
        """A batch of `rows` genomes of zeros, to be filled with `replace`."""
        return np.zeros((rows, *self.shape), dtype=np.float32)

    def take(self, genomes: Numbers, rows: Rows) -> Numbers:
        """The genomes at `rows`: a view where that is a slice, else a copy."""
        return genomes[rows]

    def replace(self, genomes: Numbers, rows: Rows, source: Numbers, source_rows: Rows) -> Numbers:
        """`genomes` with `rows` overwritten by `source_rows` of `source`, in place."""
        genomes[rows] = source[source_rows]
        return genomes

    def size(self, genomes: Numbers, row: int) -> tuple[int, int]:
        """(numbers, 0): such a genome has no connections."""
        return (int(genomes[row].size), 0)

    def to_bytes(self, genomes: Numbers, row: int) -> bytes:
        """Canonical bytes of one genome: header and float32 numbers, little-endian."""
        return self._header + genomes[row].astype("<f4").tobytes()

    @property
    def _header(self) -> bytes:
        magic = b"pixl" if self.kind == "direct" else self.kind.encode()[:4]
        return _HEADER.pack(magic, 1, self.channels, self.height, self.width)

    def from_bytes(self, blobs: Sequence[bytes]) -> Numbers:
        """Genomes of canonical bytes.

        Raises:
            InvalidGenome: another shape than this encoding's, or a number outside [0, 1].
        """
        genomes = self.empty(len(blobs))
        for row, blob in enumerate(blobs):
            expected = _HEADER.size + 4 * genomes[row].size
            if len(blob) != expected or not blob.startswith(self._header):
                shape = " x ".join(map(str, self.shape))
                raise InvalidGenome(f"a genome is not {shape} {self._what}s in {expected} bytes.")
            numbers = np.frombuffer(blob, dtype="<f4", offset=_HEADER.size)
            if not np.all((numbers >= 0) & (numbers <= 1)):  # also refuses NaN
                raise InvalidGenome(f"a genome has a {self._what} outside [0, 1].")
            genomes[row] = numbers.reshape(self.shape)
        return genomes

    @property
    def _what(self) -> str:
        return "pixel" if self.kind == "direct" else "number"

    def genes(self, genomes: Numbers, row: int) -> list[Facts]:
        """Empty: such numbers are no genes worth a row each."""
        return []

    def to_json(self, genomes: Numbers, row: int) -> Facts:
        """One genome as JSON data; the numbers are base64 of float32, left out above 16 KiB."""
        data: Facts = {
            "encoding": self.kind,
            "colour": self.colour,
            "quantisation": self.quantisation,
            "shape": list(self.shape),
        }
        if self.shape[:2] != (self.height, self.width):
            data["image_size"] = [self.height, self.width]
        if genomes[row].nbytes <= _JSON_LIMIT:
            data["float32_base64"] = base64.b64encode(genomes[row].astype("<f4").tobytes()).decode()
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any], code: Mapping[str, str] | None = None) -> tuple[Self, Numbers]:
        """The encoding of what `to_json` gave, and a batch of that genome; raises InvalidGenome, or as `Kind` says."""
        shape = [fields.side(length) for length in data["shape"]]
        height, width = map(fields.side, data.get("image_size", shape[:2]))
        encoding = cls(height, width, fields.colour(data["colour"]), fields.quantisation(data))
        numbers = np.frombuffer(base64.b64decode(data["float32_base64"], validate=True), dtype="<f4")
        if tuple(shape) != encoding.shape or numbers.size != np.prod(encoding.shape):
            raise InvalidGenome(
                f"a genome has {numbers.size} numbers and the shape {tuple(shape)}, not {encoding.shape}, which its "
                "size and its colour space ask for."
            )
        return encoding, numbers.reshape(1, *encoding.shape).astype(np.float32)
