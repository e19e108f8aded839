"""Genomes as JSON, in and out of evofool: the `genome_json` column, and drawing from it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from evofool.base.registry import ENCODINGS, load
from evofool.encoding.contract import Encoding, Kind
from evofool.encoding.kinds import redraw
from evofool.errors import ConfigError, InvalidGenome
from evofool.records import Genomes

__all__ = ["from_json", "render"]

GenomeJson: TypeAlias = str | Mapping[str, Any]  # what `Encoding.to_json` gives, as text or parsed

MAX_JSON = 8 << 20  # characters
MAX_PIXELS = 1 << 26


def from_json(genome: GenomeJson, code: Mapping[str, str] | None = None) -> tuple[Encoding, Genomes]:
    """The encoding of a genome, and a batch of that one.

    Args:
        code: the sha256 (hex) of the files that its own activations are from, by spec. By default the functions that
            are registered in this process under their names, which must be one each.

    Raises:
        InvalidGenome: not such JSON, or a genome that breaks a rule.
    """
    try:
        if isinstance(genome, str) and len(genome) > MAX_JSON:
            raise InvalidGenome(f"a genome of {len(genome)} characters is too long.")
        data = json.loads(genome) if isinstance(genome, str) else genome
        if data["encoding"] not in ENCODINGS:
            raise InvalidGenome(f"a genome has the encoding {str(data['encoding'])[:40]!r}, which is unknown.")
        kind: Kind = load(ENCODINGS[data["encoding"]])
        encoding, batch = kind.from_json(data, code)
        # By way of its bytes, so that JSON keeps to the rules that bytes do.
        return encoding, encoding.from_bytes([encoding.to_bytes(batch, 0)])
    except (ValueError, KeyError, TypeError, IndexError, OverflowError, RecursionError) as error:
        raise InvalidGenome(f"not the JSON of a genome ({type(error).__name__}: {str(error)[:200]}).") from None


def render(
    genome: GenomeJson, size: int | tuple[int, int] | None = None, *, code: Mapping[str, str] | None = None
) -> NDArray[np.uint8]:
    """Draw a genome at any size.

    Args:
        genome: the `genome_json` of an elite, as text or parsed.
        size: a side in pixels or (height, width); the size it was evolved at by default.
        code: see `from_json`.

    Returns:
        (height, width, 1 or 3) uint8, grey or RGB.

    Raises:
        InvalidGenome: not a genome.
        ConfigError: a size that cannot be drawn.
    """
    encoding, batch = from_json(genome, code)
    shape = (size, size) if isinstance(size, int) else size or (encoding.height, encoding.width)
    if min(shape) < 1 or shape[0] * shape[1] > MAX_PIXELS:
        raise ConfigError(f"size: {shape[0]} x {shape[1]} pixels cannot be drawn; give 1 to 8192.")
    return redraw(encoding, batch, 0, shape)
