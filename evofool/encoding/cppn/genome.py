"""The encoding of CPPNs: random genomes, batches, canonical bytes, checks, JSON; what a genome is: graphs.py."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from evofool.encoding.contract import Rows
from evofool.encoding.cppn.activations import FIRST_OWN, Activation, own
from evofool.encoding.cppn.graphs import (
    CYCLE,
    FIRST_HIDDEN,
    FIRST_OUTPUT,
    INPUTS,
    PAD,
    Graphs,
    canonical,
    connection_ids,
    flat_edges,
    locate,
    padding,
    trimmed,
    with_rows,
)
from evofool.errors import InvalidGenome
from evofool.records import Facts

__all__ = ["ACTIVATIONS", "MAX_CONNECTIONS", "MAX_NODES", "CppnEncoding"]

# A gene stores the position in this table, so entries are only ever appended. Definitions: reference.py, render.py.
ACTIVATIONS = ("identity", "sine", "sigmoid", "gaussian", "linear")

MAX_NODES = 4096
MAX_CONNECTIONS = 65536
MAX_WEIGHT = 1e6
_HEADER = struct.Struct("<4sBBII")
_MAGIC = b"cppn"


@dataclass(frozen=True)
class CppnEncoding:
    """Genomes as graphs; contract.py says what an encoding offers."""

    height: int
    width: int
    colour: str  # "grey", "hsv", "rgb" or "hls2015"
    coordinates: str = "unit"  # or "raw": see programs.coordinates
    output: str = "shifted"  # an output v is drawn as (v + 1) / 2; or "absolute": as |v|
    activations: tuple[str, ...] = ("sine", "sigmoid", "gaussian", "linear")  # that mutation and new nodes draw from
    weight_limit: float = 10.0  # weights are drawn from [-weight_limit, weight_limit]
    quantisation: str = "round"  # or "truncate"
    arithmetic: str = "portable"  # see portable.py; or "torch"
    kind: str = "cppn"
    code: tuple[tuple[str, str], ...] = ()  # (spec, sha256 of its file) of activations of the user's own

    @property
    def channels(self) -> int:
        """Outputs of a genome: 1 or 3."""
        return 1 if self.colour == "grey" else 3

    @property
    def activation_codes(self) -> NDArray[np.uint8]:
        """The codes of `activations`."""
        return np.array([self.codes[name] for name in self.activations], dtype=np.uint8)

    @cached_property
    def codes(self) -> dict[str, int]:
        """What genes write for each activation: a position in ACTIVATIONS, or from FIRST_OWN on for own ones."""
        others = [name for name in self.activations if name not in ACTIVATIONS]
        built_in = {name: code for code, name in enumerate(ACTIVATIONS)}
        return built_in | {name: code for code, name in enumerate(others, FIRST_OWN)}

    def own(self, name: str) -> Activation:
        """The function of an activation of the user's own.

        Raises:
            ConfigError: it is not known in this process.
        """
        return own(name, dict(self.code).get(name, ""))

    @cached_property
    def activation_names(self) -> dict[int, str]:
        """The activation that each code stands for."""
        return {code: name for name, code in self.codes.items()}

    def empty(self, rows: int) -> Graphs:
        """A batch of `rows` genomes without genes, to be filled with `replace`."""
        return padding(rows, 0, 0)

    def initial(self, weights: NDArray[np.float64], activations: NDArray[np.float64]) -> Graphs:
        """Genomes without hidden nodes: every input to every output, random weights and output activations.

        Args:
            weights: (n, 4 * channels) uniform numbers in [0, 1); a genome's connections come output by output, and
                those of an output in the order of INPUTS.
            activations: (n, channels) uniform numbers in [0, 1).
        """
        n, channels = activations.shape
        outputs = np.arange(FIRST_OUTPUT, FIRST_OUTPUT + channels)
        source, destination = (grid.ravel() for grid in np.meshgrid(np.arange(FIRST_OUTPUT), outputs))
        codes = self.activation_codes
        genomes = Graphs(
            np.tile(outputs, (n, 1)),
            codes[(activations * len(codes)).astype(np.int64)],
            np.tile(connection_ids(source, destination, 0), (n, 1)),
            np.tile(source, (n, 1)),
            np.tile(destination, (n, 1)),
            ((weights * 2 - 1) * self.weight_limit).astype(np.float32),
        )
        return canonical(genomes)

    def take(self, graphs: Graphs, rows: Rows) -> Graphs:
        """The genomes at `rows`, padding trimmed."""
        return trimmed(graphs.select(rows))

    def replace(self, graphs: Graphs, rows: Rows, source: Graphs, source_rows: Rows) -> Graphs:
        """`graphs` with `rows` overwritten by `source_rows` of `source`; the memory of `graphs` may be reused."""
        return with_rows(graphs, rows, source.select(source_rows))

    def size(self, graphs: Graphs, row: int) -> tuple[int, int]:
        """(nodes, connections); inputs and outputs count as nodes."""
        n, m = (int(np.count_nonzero(ids[row] != PAD)) for ids in (graphs.node_ids, graphs.connection_ids))
        return len(INPUTS) + n, m

    def to_bytes(self, graphs: Graphs, row: int) -> bytes:
        """Canonical bytes of one genome, little-endian: header, then the fields of Graphs in order."""
        nodes, m = self.size(graphs, row)
        n = nodes - len(INPUTS)
        fields = zip(graphs.arrays(), _layout(n, m))
        genes = (array[row, :count].astype(dtype, copy=False).tobytes() for array, (dtype, count) in fields)
        return _HEADER.pack(_MAGIC, 1, self.channels, n, m) + b"".join(genes)

    def from_bytes(self, blobs: Sequence[bytes]) -> Graphs:
        """Genomes of canonical bytes, each checked by `check`.

        Raises:
            InvalidGenome: bytes that `to_bytes` of this encoding would not give.
        """
        parsed = [self._parse(blob) for blob in blobs]
        nodes = max((one.node_ids.shape[1] for one in parsed), default=0)
        connections = max((one.connection_ids.shape[1] for one in parsed), default=0)
        graphs = padding(len(parsed), nodes, connections)
        for row, one in enumerate(parsed):
            graphs = with_rows(graphs, slice(row, row + 1), one)
        return graphs

    def _parse(self, blob: bytes) -> Graphs:
        if len(blob) < _HEADER.size:
            raise InvalidGenome(f"a genome of {len(blob)} bytes is too short to be a CPPN.")
        magic, version, channels, n, m = _HEADER.unpack_from(blob)
        if magic != _MAGIC or version != 1:
            raise InvalidGenome("a genome does not begin as a CPPN of version 1 does.")
        if channels != self.channels:
            raise InvalidGenome(f"a genome has {channels} outputs where the encoding has {self.channels}.")
        # Sizes first: a header may claim anything.
        if n > MAX_NODES or m > MAX_CONNECTIONS:
            raise InvalidGenome(
                f"a genome claims {n} nodes and {m} connections; the limits are {MAX_NODES} and {MAX_CONNECTIONS}."
            )
        if len(blob) != _HEADER.size + 9 * n + 28 * m:
            raise InvalidGenome(f"a genome of {n} nodes and {m} connections has {len(blob)} bytes, which does not fit.")
        fields, at = [], _HEADER.size
        for dtype, count in _layout(n, m):
            array = np.frombuffer(blob, dtype=dtype, count=count, offset=at)
            at += array.nbytes
            fields.append(array.astype(array.dtype.newbyteorder("="))[None])
        graphs = Graphs(*fields)
        self.check(graphs)
        return graphs

    def check(self, graphs: Graphs) -> None:
        """Refuse what is not a CPPN: ids, ends, activations, weights, cycles.

        Args:
            graphs: one genome (one row, no padding).

        Raises:
            InvalidGenome: with the rule that is broken.
        """
        nodes, connections = graphs.node_ids[0], graphs.connection_ids[0]
        outputs = nodes[nodes < FIRST_HIDDEN]
        if not np.array_equal(outputs, np.arange(FIRST_OUTPUT, FIRST_OUTPUT + self.channels)):
            raise InvalidGenome("a genome has not exactly the outputs of its encoding.")
        for what, ids in (("node", nodes), ("connection", connections)):
            if np.any(ids[1:] <= ids[:-1]) or np.any(ids == PAD):
                raise InvalidGenome(f"a genome's {what} ids are not unique and ascending.")
        if unknown := set(graphs.activations[0].tolist()) - self.activation_names.keys():
            raise InvalidGenome(f"a genome has an unknown activation (code {max(unknown)}).")
        weights = graphs.weights[0]
        if not np.all(np.isfinite(weights)) or np.any(np.abs(weights) > MAX_WEIGHT):
            raise InvalidGenome("a genome has a weight that is not finite or beyond 1e6.")
        sources, destinations = graphs.sources, graphs.destinations
        is_node = locate(graphs.node_ids, sources) >= 0
        is_input = (sources >= 0) & (sources < FIRST_OUTPUT)
        if not np.all(is_node | is_input) or not np.all(locate(graphs.node_ids, destinations) >= 0):
            raise InvalidGenome("a genome has a connection from or to a node that is not there.")
        self._refuse_cycle(graphs)

    @staticmethod
    def _refuse_cycle(graphs: Graphs) -> None:
        # Kahn's algorithm by whole layers, over all genes.
        source, destination = flat_edges(graphs)
        pending = np.bincount(destination, minlength=FIRST_OUTPUT + graphs.node_ids.shape[1])
        is_sorted = pending == 0
        frontier = is_sorted.copy()
        while frontier.any():
            pending -= np.bincount(destination[frontier[source]], minlength=len(pending))
            frontier = (pending == 0) & ~is_sorted
            is_sorted |= frontier
        if not is_sorted.all():
            raise InvalidGenome(CYCLE)

    def genes(self, graphs: Graphs, row: int) -> list[Facts]:
        """One dict for each gene, nodes first: the rows of the `genome` column."""
        nodes, connections = self.size(graphs, row)
        genes: list[Facts] = [
            {
                "gene": "node",
                "id": int(graphs.node_ids[row, i]),
                "activation": self.activation_names[int(graphs.activations[row, i])],
                # Not null: pandas makes floats of nested integers beside nulls, and 62 bits do not fit.
                "source": -1,
                "destination": -1,
            }
            for i in range(nodes - len(INPUTS))
        ]
        genes += [
            {
                "gene": "connection",
                "id": int(graphs.connection_ids[row, i]),
                "source": int(graphs.sources[row, i]),
                "destination": int(graphs.destinations[row, i]),
                "weight": float(graphs.weights[row, i]),
            }
            for i in range(connections)
        ]
        return genes

    def to_json(self, graphs: Graphs, row: int) -> Facts:
        """One genome as JSON data; ids are hex strings, since JSON readers lose bits of 64-bit numbers."""
        genes = [{k: f"{v:x}" if isinstance(v, int) else v for k, v in g.items()} for g in self.genes(graphs, row)]
        return {
            "encoding": "cppn",
            "colour": self.colour,
            "coordinates": self.coordinates,
            "output": self.output,
            "quantisation": self.quantisation,
            "image_size": [self.height, self.width],
            "sha256": hashlib.sha256(self.to_bytes(graphs, row)).hexdigest(),
            "nodes": [{k: g[k] for k in ("id", "activation")} for g in genes if g["gene"] == "node"],
            "connections": [
                {k: g[k] for k in ("id", "source", "destination", "weight")} for g in genes if g["gene"] == "connection"
            ],
        }


def _layout(n: int, m: int) -> tuple[tuple[str, int], ...]:
    """The fields of Graphs as the bytes of a genome have them, (dtype, genes) each, for n nodes and m connections."""
    return ("<i8", n), ("u1", n), ("<i8", m), ("<i8", m), ("<i8", m), ("<f4", m)
