"""The kind `cppn`: genomes that are graphs, which compute a picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evofool.config.sections import EncodingConfig
from evofool.encoding import fields
from evofool.encoding.contract import Kind
from evofool.encoding.cppn import breeding
from evofool.encoding.cppn.activations import is_known, versions_of
from evofool.encoding.cppn.genome import ACTIVATIONS, MAX_CONNECTIONS, MAX_NODES, CppnEncoding
from evofool.encoding.cppn.graphs import Graphs, canonical
from evofool.encoding.drawing import reference
from evofool.errors import ConfigError, InvalidGenome
from evofool.records import Facts

__all__ = ["KIND"]


def _make(config: EncodingConfig, image_size: tuple[int, int], colour: str, code: Mapping[str, str]) -> CppnEncoding:
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


def _draw(encoding: CppnEncoding, genomes: Graphs, device: str) -> NDArray[np.uint8]:
    from evofool.encoding.drawing.render import render  # with torch

    return render(encoding, genomes, device)


def _from_json(data: Mapping[str, Any], code: Mapping[str, str] | None) -> tuple[CppnEncoding, Graphs]:
    nodes, connections = data["nodes"], data["connections"]
    if len(nodes) > MAX_NODES or len(connections) > MAX_CONNECTIONS:
        raise InvalidGenome(f"a genome claims {len(nodes)} nodes and {len(connections)} connections.")
    if data["coordinates"] not in ("unit", "raw") or data["output"] not in ("shifted", "absolute"):
        raise InvalidGenome("a genome has unknown coordinates or an unknown output.")
    height, width = map(fields.side, data["image_size"])
    names = dict.fromkeys(str(row["activation"]) for row in nodes)
    hashes = {name: _version(name, code) for name in names if name not in ACTIVATIONS}
    encoding = CppnEncoding(
        height,
        width,
        fields.colour(data["colour"]),
        data["coordinates"],
        data["output"],
        tuple(names),
        quantisation=fields.quantisation(data),
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


KIND = Kind(
    make=_make,
    initial=breeding.initial,
    mate=breeding.mate,
    mutate=breeding.mutate,
    draw=_draw,
    redraw=reference.render,
    from_json=_from_json,
    grows=True,
)
