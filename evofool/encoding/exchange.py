"""Genomes as JSON, in and out of evofool: the `genome_json` column, and drawing from it."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from evofool.encoding.contract import Encoding
from evofool.encoding.cppn.activations import is_known, versions_of
from evofool.encoding.cppn.genome import ACTIVATIONS, MAX_CONNECTIONS, MAX_NODES, CppnEncoding
from evofool.encoding.cppn.graphs import Graphs, canonical
from evofool.encoding.direct.genome import DirectEncoding
from evofool.encoding.drawing import reference
from evofool.errors import ConfigError, InvalidGenome
from evofool.records import Facts, Genomes

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
        if data["encoding"] == "direct":
            height, width, channels = map(_side, data["shape"])
            encoding: Encoding = DirectEncoding(height, width, _colour(data["colour"], channels), _quantisation(data))
            pixels = np.frombuffer(base64.b64decode(data["float32_base64"], validate=True), dtype="<f4")
            if pixels.size != height * width * channels:
                raise InvalidGenome(
                    f"a genome has {pixels.size} pixels where its shape says {height * width * channels}."
                )
            batch: Genomes = pixels.reshape(1, height, width, channels).astype(np.float32)
        elif data["encoding"] == "cppn":
            encoding, batch = _graph(data, code)
        else:
            raise InvalidGenome(f"a genome has the encoding {str(data['encoding'])[:40]!r}, which is unknown.")
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
    return reference.render(encoding, batch, 0, shape)


def _side(value: object) -> int:
    if not isinstance(value, int) or not 1 <= value <= 8192:
        raise InvalidGenome(f"a genome has a side of {value!r:.40} pixels.")
    return value


def _colour(name: object, channels: int | None = None) -> str:
    if name not in ("grey", "hsv", "rgb", "hls2015") or (channels is not None and (name == "grey") != (channels == 1)):
        raise InvalidGenome(
            f"a genome has the colour space {name!r:.40}, which is none, or none for {channels} channels."
        )
    return str(name)


def _quantisation(data: Mapping[str, object]) -> str:
    name = data.get("quantisation", "round")
    if name not in ("round", "truncate"):
        raise InvalidGenome(f"a genome has the quantisation {str(name)[:40]!r}, which is unknown.")
    return str(name)


def _graph(data: Mapping[str, Any], code: Mapping[str, str] | None) -> tuple[CppnEncoding, Graphs]:
    nodes, connections = data["nodes"], data["connections"]
    if len(nodes) > MAX_NODES or len(connections) > MAX_CONNECTIONS:
        raise InvalidGenome(f"a genome claims {len(nodes)} nodes and {len(connections)} connections.")
    if data["coordinates"] not in ("unit", "raw") or data["output"] not in ("shifted", "absolute"):
        raise InvalidGenome("a genome has unknown coordinates or an unknown output.")
    height, width = map(_side, data["image_size"])
    names = dict.fromkeys(str(row["activation"]) for row in nodes)
    hashes = {name: _version(name, code) for name in names if name not in ACTIVATIONS}
    encoding = CppnEncoding(
        height,
        width,
        _colour(data["colour"]),
        data["coordinates"],
        data["output"],
        tuple(names),
        quantisation=_quantisation(data),
        code=tuple(hashes.items()),
    )

    def column(genes: list[Facts], name: str) -> NDArray[np.int64]:
        return np.array([[int(gene[name], 16) for gene in genes]], dtype=np.int64)

    genes = Graphs(
        column(nodes, "id"),
        np.array([[encoding.codes[row["activation"]] for row in nodes]], dtype=np.uint8),
        column(connections, "id"),
        column(connections, "source"),
        column(connections, "destination"),
        np.array([[row["weight"] for row in connections]], dtype=np.float32),
    )
    return encoding, canonical(genes)


def _version(name: str, code: Mapping[str, str] | None) -> str:
    """The sha256 (hex) of the file that an own activation is from, "" for one from Python."""
    versions = [code.get(name, "")] if code is not None else versions_of(name)
    if len(versions) > 1:
        raise InvalidGenome(
            f"a genome has the activation {name[:40]!r}, and several are known by that name here; draw it through its "
            "run: evofool.open_run(RUN).image(CLASS, size=...)."
        )
    if not versions or not is_known(name, versions[0]):
        raise InvalidGenome(f"a genome has the activation {name[:40]!r}, which is unknown here.")
    return versions[0]
