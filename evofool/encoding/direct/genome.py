"""Direct genomes: one number in [0, 1] for every pixel and channel, float32, as a batch (n, height, width, channels).

Nguyen, Yosinski and Clune, CVPR 2015, section 2.3: "each pixel value is initialized with uniform random noise".
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evofool.encoding.contract import Pixels, Rows
from evofool.errors import InvalidGenome
from evofool.records import Facts

__all__ = ["DirectEncoding"]

_HEADER = struct.Struct("<4sBBII")
_MAGIC = b"pixl"
_JSON_LIMIT = 16 << 10  # bytes of a genome worth printing as text


@dataclass(frozen=True)
class DirectEncoding:
    """Genomes as pixels; contract.py says what an encoding offers."""

    height: int
    width: int
    colour: str  # "grey", "hsv", "rgb" or "hls2015": what the channels mean
    quantisation: str = "round"  # or "truncate"
    kind: str = "direct"

    @property
    def channels(self) -> int:
        """Numbers for each pixel: 1 or 3."""
        return 1 if self.colour == "grey" else 3

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one genome."""
        return (self.height, self.width, self.channels)

    def empty(self, rows: int) -> Pixels:
        """A batch of `rows` black genomes, to be filled with `replace`."""
        return np.zeros((rows, *self.shape), dtype=np.float32)

    def take(self, genomes: Pixels, rows: Rows) -> Pixels:
        """The genomes at `rows`: a view where that is a slice, else a copy."""
        return genomes[rows]

    def replace(self, genomes: Pixels, rows: Rows, source: Pixels, source_rows: Rows) -> Pixels:
        """`genomes` with `rows` overwritten by `source_rows` of `source`, in place."""
        genomes[rows] = source[source_rows]
        return genomes

    def size(self, genomes: Pixels, row: int) -> tuple[int, int]:
        """(numbers, 0): a direct genome has no connections."""
        return (int(genomes[row].size), 0)

    def to_bytes(self, genomes: Pixels, row: int) -> bytes:
        """Canonical bytes of one genome: header and float32 pixels, little-endian."""
        return self._header + genomes[row].astype("<f4").tobytes()

    @property
    def _header(self) -> bytes:
        return _HEADER.pack(_MAGIC, 1, self.channels, self.height, self.width)

    def from_bytes(self, blobs: Sequence[bytes]) -> Pixels:
        """Genomes of canonical bytes.

        Raises:
            InvalidGenome: another shape than this encoding's, or a number outside [0, 1].
        """
        genomes = self.empty(len(blobs))
        for row, blob in enumerate(blobs):
            expected = _HEADER.size + 4 * genomes[row].size
            if len(blob) != expected or not blob.startswith(self._header):
                raise InvalidGenome(
                    f"a genome is not {self.height} x {self.width} x {self.channels} pixels in {expected} bytes."
                )
            pixels = np.frombuffer(blob, dtype="<f4", offset=_HEADER.size)
            if not np.all((pixels >= 0) & (pixels <= 1)):  # also refuses NaN
                raise InvalidGenome("a genome has a pixel outside [0, 1].")
            genomes[row] = pixels.reshape(self.shape)
        return genomes

    def genes(self, genomes: Pixels, row: int) -> list[Facts]:
        """Empty: pixels are no genes worth a row each."""
        return []

    def to_json(self, genomes: Pixels, row: int) -> Facts:
        """One genome as JSON data; the pixels are base64 of float32, left out above 16 KiB."""
        data = {
            "encoding": "direct",
            "colour": self.colour,
            "quantisation": self.quantisation,
            "shape": list(self.shape),
        }
        if genomes[row].nbytes <= _JSON_LIMIT:
            data["float32_base64"] = base64.b64encode(genomes[row].astype("<f4").tobytes()).decode()
        return data
