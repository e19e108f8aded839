"""The kind `direct`: genomes that are pixels; and what makes a kind of other arrays of numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evofool.config.sections import EncodingConfig
from evofool.encoding.arrays import ArrayEncoding, Numbers
from evofool.encoding.contract import Kind
from evofool.encoding.direct import breeding
from evofool.encoding.direct.genome import DirectEncoding
from evofool.encoding.drawing import reference

__all__ = ["KIND", "array_kind"]

Paint = Callable[[Any, Numbers, tuple[int, int]], NDArray[np.float32]]


def array_kind(encoding: type[ArrayEncoding], paint: Paint) -> Kind:
    """A kind of genomes that are arrays of numbers in [0, 1], which begin at random and vary as pixels do.

    Args:
        paint: (encoding, one genome, (height, width)) to the colours of a picture, (height, width, channels) float32 in
            [0, 1], in the encoding's colour space; by numpy, a function of the genome alone.
    """

    def redraw(of: ArrayEncoding, genomes: Numbers, row: int, size: tuple[int, int]) -> NDArray[np.uint8]:
        return reference.pixels(np.clip(paint(of, genomes[row], size), 0, 1).astype(np.float32), of)

    def draw(of: ArrayEncoding, genomes: Numbers, device: str) -> NDArray[np.uint8]:
        images = np.empty((len(genomes), of.height, of.width, of.channels), dtype=np.uint8)
        for row in range(len(genomes)):
            images[row] = redraw(of, genomes, row, (of.height, of.width))
        return images

    return _kind(encoding, draw, redraw)


def _kind(encoding: type[ArrayEncoding], draw: Callable[..., Any], redraw: Callable[..., Any]) -> Kind:
    def make(config: EncodingConfig, size: tuple[int, int], colour: str, code: Mapping[str, str]) -> ArrayEncoding:
        return encoding(*size, colour, config.quantisation)

    return Kind(make, breeding.initial, breeding.mate, breeding.mutate, draw, redraw, encoding.from_json)


def _draw(encoding: DirectEncoding, genomes: Numbers, device: str) -> NDArray[np.uint8]:
    from evofool.encoding.drawing.render import render  # with torch

    return render(encoding, genomes, device)


KIND = _kind(DirectEncoding, _draw, reference.render)
