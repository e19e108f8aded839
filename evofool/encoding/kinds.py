"""Encodings: what evolves, and how it becomes a picture.

An encoding is a small frozen object that knows the picture's size and colour, and how to handle a *batch* of genomes
(an array of pixels, or `cppn.Graphs`): `initial`, `take`, `replace`, `to_bytes`, `from_bytes`, `genes`, `to_json`.
`reference.render` draws one genome at any size in plain numpy; `render.render` draws a batch on a device.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from evofool.config import EncodingConfig
from evofool.encoding.cppn.activations import is_known
from evofool.encoding.cppn.genome import ACTIVATIONS, CppnEncoding
from evofool.encoding.direct.genome import DirectEncoding
from evofool.errors import ConfigError

__all__ = ["CppnEncoding", "DirectEncoding", "Encoding", "genome_sha256", "make_encoding"]


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

    def take(self, genomes: Any, rows: Any) -> Any:
        """The genomes at `rows`."""

    def replace(self, genomes: Any, rows: Any, source: Any, source_rows: Any) -> Any:
        """`genomes` with `rows` overwritten by `source_rows` of `source`; may work in place."""

    def size(self, genomes: Any, row: int) -> tuple[int, int]:
        """(nodes, connections)."""

    def to_bytes(self, genomes: Any, row: int) -> bytes:
        """Canonical bytes of one genome."""

    def from_bytes(self, blobs: Sequence[bytes]) -> Any:
        """Genomes of canonical bytes; raises InvalidGenome."""

    def genes(self, genomes: Any, row: int) -> list[dict[str, Any]]:
        """One dict for each gene."""

    def to_json(self, genomes: Any, row: int) -> dict[str, Any]:
        """One genome as JSON data."""


def make_encoding(config: EncodingConfig, image_size: tuple[int, int], channels: int) -> Encoding:
    """The encoding a configuration asks for, for images of a target.

    Args:
        image_size: (height, width) of the target's image.
        channels: 1 (grey) or 3 (RGB).

    Raises:
        ConfigError: the colour space does not fit the target, or an activation is unknown.
    """
    colour = config.colour
    if colour == "auto":
        colour = "grey" if channels == 1 else "hsv"
    if (colour == "grey") != (channels == 1):
        raise ConfigError(
            f"encoding.colour: {colour} does not fit a target with {channels} channel{'s' * (channels > 1)}; "
            f"say encoding.colour={'grey' if channels == 1 else 'hsv'}, or auto."
        )
    height, width = image_size
    if config.kind == "direct":
        return DirectEncoding(height, width, colour, config.quantisation)
    drawable = [name for name in ACTIVATIONS if name != "identity"]
    for name in config.activations:
        if name not in drawable and not is_known(name):
            raise ConfigError(
                f"encoding.activations: {name!r} is unknown; known are {', '.join(drawable)}, and your own as "
                "python:FILE.py:callable."
            )
    return CppnEncoding(
        height,
        width,
        colour,
        config.coordinates,
        config.output,
        tuple(config.activations),
        config.weight_limit,
        config.quantisation,
        config.arithmetic,
    )


def genome_sha256(encoding: Encoding, genomes: Any, row: int) -> bytes:
    """sha256 (32 bytes) of a genome's canonical bytes."""
    return hashlib.sha256(encoding.to_bytes(genomes, row)).digest()
