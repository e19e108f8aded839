"""Encodings: what evolves, and how it becomes a picture.

An encoding is a small frozen object that knows the picture's size and colour, and how to handle a *batch* of genomes
(an array of pixels, or `cppn.Graphs`): `initial`, `take`, `replace`, `to_bytes`, `from_bytes`, `genes`, `to_json`.
`reference.render` draws one genome at any size in plain numpy; `render.render` draws a batch on a device.
"""

from __future__ import annotations

import hashlib
from typing import Any

from evofool.config import EncodingConfig
from evofool.encoding.cppn import ACTIVATIONS, CppnEncoding
from evofool.encoding.direct import DirectEncoding
from evofool.errors import ConfigError

__all__ = ["CppnEncoding", "DirectEncoding", "Encoding", "genome_sha256", "make_encoding"]

Encoding = CppnEncoding | DirectEncoding


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
        return DirectEncoding(height, width, colour)
    drawable = [name for name in ACTIVATIONS if name != "identity"]
    for name in config.activations:
        if name not in drawable:
            raise ConfigError(f"encoding.activations: {name!r} is unknown; known are {', '.join(drawable)}.")
    return CppnEncoding(
        height, width, colour, config.coordinates, config.output, tuple(config.activations), config.weight_limit
    )


def genome_sha256(encoding: Encoding, genomes: Any, row: int) -> bytes:
    """sha256 (32 bytes) of a genome's canonical bytes."""
    return hashlib.sha256(encoding.to_bytes(genomes, row)).digest()
