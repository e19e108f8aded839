"""The kinds of genomes, by the name that `encoding.kind` has: what is done with genomes of any kind."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from evofool.base.registry import ENCODINGS, load
from evofool.config.sections import EncodingConfig
from evofool.encoding.contract import Encoding, Kind
from evofool.errors import ConfigError
from evofool.records import Genomes

__all__ = ["draw", "kind_of", "make_encoding", "redraw"]


def kind_of(encoding: Encoding) -> Kind:
    """The kind of an encoding."""
    return _kind(encoding.kind)


def _kind(name: str) -> Kind:
    kind: Kind = load(ENCODINGS[name])
    return kind


def make_encoding(
    config: EncodingConfig, image_size: tuple[int, int], channels: int, code: Mapping[str, str] = MappingProxyType({})
) -> Encoding:
    """The encoding a configuration asks for, for images of a target.

    Args:
        image_size: (height, width) of the target's image.
        channels: 1 (grey) or 3 (RGB).
        code: sha256 (hex) of the files that hold activations of the user's own, by their specs.

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
    return _kind(config.kind).make(config, image_size, colour, code)


def draw(encoding: Encoding, genomes: Genomes, device: str = "cpu") -> NDArray[np.uint8]:
    """Pictures of a batch of genomes at the encoding's size.

    Returns:
        (n, height, width, 1 or 3) uint8, grey or RGB.

    Raises:
        InvalidGenome: one that cannot be drawn: a CPPN with a cycle.
    """
    return kind_of(encoding).draw(encoding, genomes, device)


def redraw(encoding: Encoding, genomes: Genomes, row: int, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """The picture of one genome, (height, width, 1 or 3) uint8, at any (height, width); the encoding's by default."""
    return kind_of(encoding).redraw(encoding, genomes, row, size or (encoding.height, encoding.width))
