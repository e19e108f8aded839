"""The encoding of CPPNs: random genomes, batches, canonical bytes, checks, JSON; what a genome is: graphs.py."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evofool.encoding.cppn.activations import FIRST_OWN, Activation, own
from evofool.encoding.cppn.graphs import (
    BIAS,
    FIRST_HIDDEN,
    FIRST_OUTPUT,
    INPUTS,
    PAD,
    Graphs,
    canonical,
    connection_ids,
    flat_edges,
    locate,
    node_ids,
)
from evofool.errors import InvalidGenome
from evofool.records import Facts

__all__ = [
    "ACTIVATIONS",
    "BIAS",
    "FIRST_HIDDEN",
    "FIRST_OUTPUT",
    "INPUTS",
    "PAD",
    "CppnEncoding",
    "Graphs",
    "canonical",
    "connection_ids",
    "flat_edges",
    "locate",
    "node_ids",
]

# A gene stores the position in this table, so entries are only ever appended. Definitions: reference.py, render.py.
ACTIVATIONS = ("identity", "sine", "sigmoid", "gaussian", "linear")

MAX_NODES = 4096
MAX_CONNECTIONS = 65536
MAX_WEIGHT = 1e6
_HEADER = struct.Struct("<4sBBII")
_MAGIC = b"cppn"


@dataclass(frozen=True)
class CppnEncoding:
    """Genomes as graphs; see encoding/__init__.py for what an encoding offers."""

    height: int
    width: int
    colour: str  # "grey", "hsv", "rgb" or "hls2015"
    coordinates: str = "unit"
    output: str = "shifted"
    activations: tuple[str, ...] = ("sine", "sigmoid", "gaussian", "linear")
    weight_limit: float = 10.0
    quantisation: str = "round"
    arithmetic: str = "torch"  # or "portable": see portable.py
    kind: str = "cppn"
    code: tuple[tuple[str, str], ...] = ()  # (spec, sha256 of its file) of activations of the user's own

    @property
    def channels(self) -> int:
        """Outputs of a genome: 1 or 3."""
        return 1 if self.colour == "grey" else 3

    @property
    def activation_codes(self) -> NDArray[np.uint8]:
        """Codes that mutation and new nodes draw from."""
        return np.array([self.codes[name] for name in self.activations], dtype=np.uint8)

    @cached_property
    def codes(self) -> dict[str, int]:
        """What genes write for each activation: a position in ACTIVATIONS, or from FIRST_OWN on for own ones."""
        others = [name for name in self.activations if name not in ACTIVATIONS]
        return {
            **{name: code for code, name in enumerate(ACTIVATIONS)},
            **{name: FIRST_OWN + i for i, name in enumerate(others)},
        }

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
        """Room for `rows` genomes, to be filled with `replace`."""
        return self._room(rows, 0, 0)

    @staticmethod
    def _room(rows: int, n: int, m: int) -> Graphs:
        """Genomes without genes, padded to n nodes and m connections."""
        return Graphs(
            node_ids=np.full((rows, n), PAD, dtype=np.int64),
            activations=np.zeros((rows, n), dtype=np.uint8),
            connection_ids=np.full((rows, m), PAD, dtype=np.int64),
            sources=np.zeros((rows, m), dtype=np.int64),
            destinations=np.zeros((rows, m), dtype=np.int64),
            weights=np.zeros((rows, m), dtype=np.float32),
        )

    def initial(self, *draws: NDArray[np.float64]) -> Graphs:
        """Genomes without hidden nodes: every input to every output, random weights and output activations.

        Args:
            draws: uniform numbers in [0, 1) for the weights, (n, 4 * channels), and for the activations, (n, channels).
        """
        weights, kinds = draws
        n, channels = kinds.shape
        outputs = np.arange(FIRST_OUTPUT, FIRST_OUTPUT + channels)
        source, destination = (grid.ravel() for grid in np.meshgrid(np.arange(FIRST_OUTPUT), outputs))
        codes = self.activation_codes

        def rows(values: NDArray[Any]) -> NDArray[Any]:
            return np.tile(values, (n, 1))

        return canonical(
            rows(outputs),
            codes[(kinds * len(codes)).astype(np.int64)],
            rows(connection_ids(source, destination, 0)),
            rows(source),
            rows(destination),
            ((weights * 2 - 1) * self.weight_limit).astype(np.float32),
        )

    def draws_of_initial(self) -> tuple[int, ...]:
        """Numbers for each individual that `initial` takes, argument by argument."""
        return (FIRST_OUTPUT * self.channels, self.channels)

    def take(self, graphs: Graphs, rows: Any) -> Graphs:
        """The genomes at `rows` (indices or a slice), padding trimmed."""
        nodes, activations, *connections = (array[rows] for array in graphs.arrays())
        n = int((nodes != PAD).sum(axis=1).max(initial=0))
        m = int((connections[0] != PAD).sum(axis=1).max(initial=0))
        return Graphs(nodes[:, :n], activations[:, :n], *(array[:, :m] for array in connections))

    def replace(
        self, graphs: Graphs, rows: NDArray[np.int64], source: Graphs, source_rows: NDArray[np.int64]
    ) -> Graphs:
        """`graphs` with `rows` overwritten by `source_rows` of `source`; the memory of `graphs` may be reused."""
        result = []
        for name, new in zip(graphs.__dataclass_fields__, source.arrays()):
            old, new, fill = getattr(graphs, name), new[source_rows], PAD if name.endswith("_ids") else 0
            if new.shape[1] > old.shape[1]:
                wider = np.full((len(old), new.shape[1]), fill, dtype=old.dtype)
                wider[:, : old.shape[1]] = old
                old = wider
            old[rows, : new.shape[1]] = new
            old[rows, new.shape[1] :] = fill
            result.append(old)
        return Graphs(*result)

    def size(self, graphs: Graphs, row: int) -> tuple[int, int]:
        """(nodes, connections); inputs and outputs count as nodes."""
        return (
            len(INPUTS) + int(np.count_nonzero(graphs.node_ids[row] != PAD)),
            int(np.count_nonzero(graphs.connection_ids[row] != PAD)),
        )

    def to_bytes(self, graphs: Graphs, row: int) -> bytes:
        """Canonical bytes of one genome, little-endian: header, then the fields of Graphs in order."""
        nodes, m = self.size(graphs, row)
        n = nodes - len(INPUTS)
        return b"".join(
            [
                _HEADER.pack(_MAGIC, 1, self.channels, n, m),
                graphs.node_ids[row, :n].astype("<i8", copy=False).tobytes(),
                graphs.activations[row, :n].tobytes(),
                graphs.connection_ids[row, :m].astype("<i8", copy=False).tobytes(),
                graphs.sources[row, :m].astype("<i8", copy=False).tobytes(),
                graphs.destinations[row, :m].astype("<i8", copy=False).tobytes(),
                graphs.weights[row, :m].astype("<f4", copy=False).tobytes(),
            ]
        )

    def from_bytes(self, blobs: Sequence[bytes]) -> Graphs:
        """Genomes of canonical bytes, each checked by `check`.

        Raises:
            InvalidGenome: bytes that `to_bytes` of this encoding would not give.
        """
        parsed = [self._parse(blob) for blob in blobs]
        n = max((len(p.node_ids[0]) for p in parsed), default=0)
        m = max((len(p.connection_ids[0]) for p in parsed), default=0)
        graphs = self._room(len(parsed), n, m)
        for row, one in enumerate(parsed):
            for target, values in zip(graphs.arrays(), one.arrays()):
                target[row, : values.shape[1]] = values[0]
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
        for dtype, count in (("<i8", n), ("u1", n), ("<i8", m), ("<i8", m), ("<i8", m), ("<f4", m)):
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
        known = locate(graphs.node_ids, sources) >= 0
        inputs = (sources >= 0) & (sources < FIRST_OUTPUT)
        if not np.all(known | inputs) or not np.all(locate(graphs.node_ids, destinations) >= 0):
            raise InvalidGenome("a genome has a connection from or to a node that is not there.")
        self._refuse_cycle(graphs)

    @staticmethod
    def _refuse_cycle(graphs: Graphs) -> None:
        # Kahn's algorithm by whole layers, over all genes (compile drops those that reach no output).
        source, destination = flat_edges(graphs)
        pending = np.bincount(destination, minlength=FIRST_OUTPUT + graphs.node_ids.shape[1])
        done = pending == 0
        frontier = done.copy()
        while frontier.any():
            freed = np.bincount(destination[frontier[source]], minlength=len(pending))
            pending -= freed
            frontier = (pending == 0) & ~done
            done |= frontier
        if not done.all():
            raise InvalidGenome("a genome has a cycle; a CPPN must be acyclic.")

    def genes(self, graphs: Graphs, row: int) -> list[Facts]:
        """One dict for each gene, nodes first: the rows of the `genome` column."""
        nodes, connections = self.size(graphs, row)
        listed: list[Facts] = [
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
        listed += [
            {
                "gene": "connection",
                "id": int(graphs.connection_ids[row, i]),
                "source": int(graphs.sources[row, i]),
                "destination": int(graphs.destinations[row, i]),
                "weight": float(graphs.weights[row, i]),
            }
            for i in range(connections)
        ]
        return listed

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
