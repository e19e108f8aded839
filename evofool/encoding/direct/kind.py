"""The kind `direct`: genomes that are pixels."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evofool.config.sections import EncodingConfig
from evofool.encoding import fields
from evofool.encoding.contract import Kind, Pixels
from evofool.encoding.direct import breeding
from evofool.encoding.direct.genome import DirectEncoding
from evofool.encoding.drawing import reference
from evofool.errors import InvalidGenome

__all__ = ["KIND"]


def _make(config: EncodingConfig, image_size: tuple[int, int], colour: str, code: Mapping[str, str]) -> DirectEncoding:
    return DirectEncoding(*image_size, colour, config.quantisation)


def _draw(encoding: DirectEncoding, genomes: Pixels, device: str) -> NDArray[np.uint8]:
    from evofool.encoding.drawing.render import render  # with torch

    return render(encoding, genomes, device)


def _from_json(data: Mapping[str, Any], code: Mapping[str, str] | None) -> tuple[DirectEncoding, Pixels]:
    height, width, channels = map(fields.side, data["shape"])
    encoding = DirectEncoding(height, width, fields.colour(data["colour"], channels), fields.quantisation(data))
    pixels = np.frombuffer(base64.b64decode(data["float32_base64"], validate=True), dtype="<f4")
    if pixels.size != height * width * channels:
        raise InvalidGenome(f"a genome has {pixels.size} pixels where its shape says {height * width * channels}.")
    return encoding, pixels.reshape(1, height, width, channels).astype(np.float32)


KIND = Kind(
    make=_make,
    initial=breeding.initial,
    mate=breeding.mate,
    mutate=breeding.mutate,
    draw=_draw,
    redraw=reference.render,
    from_json=_from_json,
)
