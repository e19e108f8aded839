"""The kinds of genomes: what each is made by, and how it varies.

An encoding is a small frozen object that knows the picture's size and colour, and how to handle a *batch* of genomes
(an array of pixels, or `cppn.graphs.Graphs`); what it offers is in contract.py. To add a kind: a folder with the
encoding (genome.py) and its variation (breeding.py), and a row here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from evofool.config.sections import EncodingConfig
from evofool.encoding.contract import Encoding
from evofool.encoding.cppn import breeding as cppn_breeding
from evofool.encoding.cppn.activations import is_known
from evofool.encoding.cppn.genome import ACTIVATIONS, CppnEncoding
from evofool.encoding.direct import breeding as direct_breeding
from evofool.encoding.direct.genome import DirectEncoding
from evofool.errors import ConfigError
from evofool.records import Genomes

__all__ = ["KINDS", "Kind", "make_encoding"]


@dataclass(frozen=True)
class Kind:
    """One kind of genomes.

    Attributes:
        make: (config, (height, width), colour, code) to an encoding; see `make_encoding`.
        initial, mate, mutate: as those of variation.py; `mate` is told which pairs to cross.
    """

    make: Callable[[EncodingConfig, tuple[int, int], str, Mapping[str, str]], Encoding]
    initial: Callable[..., Genomes]
    mate: Callable[..., Genomes]
    mutate: Callable[..., tuple[Genomes, NDArray[np.uint32]]]


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
    return KINDS[config.kind].make(config, image_size, colour, code)


def _direct(
    config: EncodingConfig, image_size: tuple[int, int], colour: str, code: Mapping[str, str]
) -> DirectEncoding:
    return DirectEncoding(*image_size, colour, config.quantisation)


def _cppn(config: EncodingConfig, image_size: tuple[int, int], colour: str, code: Mapping[str, str]) -> CppnEncoding:
    drawable = [name for name in ACTIVATIONS if name != "identity"]
    for name in config.activations:
        if name not in drawable and not is_known(name, code.get(name, "")):
            raise ConfigError(
                f"encoding.activations: {name!r} is unknown; known are {', '.join(drawable)}, and your own as "
                "python:FILE.py:callable."
            )
    return CppnEncoding(
        *image_size,
        colour,
        config.coordinates,
        config.output,
        tuple(config.activations),
        config.weight_limit,
        config.quantisation,
        config.arithmetic,
        code=tuple((name, code[name]) for name in config.activations if name in code),
    )


KINDS: dict[str, Kind] = {
    "direct": Kind(_direct, direct_breeding.initial, direct_breeding.mate, direct_breeding.mutate),
    "cppn": Kind(_cppn, cppn_breeding.initial, cppn_breeding.mate, cppn_breeding.mutate),
}
