"""CPPN genomes: directed acyclic graphs from pixel coordinates to colour, as a struct of arrays over many genomes.

Terminology
    input        x, y, d (distance from the centre) and bias; ids 0 to 3; implicit, the same in every genome
    output       ids 4, 5, ...: grey, or hue, saturation, value; every genome has them all
    hidden node  id from 2**62 on: a hash of the connection it was put on (source, destination, ordinal of the split)
    connection   id (innovation id) = a hash of (source, destination, ordinal among parallel connections)
    gene         a node or a connection

Conventions
    Ids say what a gene is, not when or where it was invented: evaluators that never talk give the same structure the
    same id, and a structure that is lost and found again keeps it (NEAT's markings differ there: Stanley and
    Miikkulainen 2002, p. 107, number an innovation anew in each generation).
    Rows are sorted by id and padded with PAD at the end; what lies behind PAD is zero. A genome has one such form,
    so equal genomes have equal bytes.

CPPNs: Stanley 2007, "Compositional pattern producing networks". As used for fooling images: Nguyen, Yosinski and
Clune, CVPR 2015, section 2.3.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evofool.encoding.activations import FIRST_OWN
from evofool.errors import InvalidGenome

__all__ = [
    "ACTIVATIONS",
    "BIAS",
    "FIRST_HIDDEN",
    "FIRST_OUTPUT",
    "INPUTS",
    "PAD",
    "Graphs",
    "canonical",
    "connection_ids",
    "flat_edges",
    "locate",
    "node_ids",
]

INPUTS = ("x", "y", "d", "bias")
BIAS = 3
FIRST_OUTPUT = len(INPUTS)
FIRST_HIDDEN = 1 << 62
PAD = np.iinfo(np.int64).max

# A gene stores the position in this table, so entries are only ever appended. Definitions: reference.py, render.py.
ACTIVATIONS = ("identity", "sine", "sigmoid", "gaussian", "linear")

MAX_NODES = 4096
MAX_CONNECTIONS = 65536
MAX_WEIGHT = 1e6
_HEADER = struct.Struct("<4sBBII")
_MAGIC = b"cppn"


@dataclass(frozen=True)
class Graphs:
    """n CPPN genomes; row = genome. N and M are the largest numbers of nodes and connections."""

    node_ids: NDArray[np.int64]  # (n, N) outputs and hidden nodes, ascending, PAD behind
    activations: NDArray[np.uint8]  # (n, N) codes: positions in ACTIVATIONS, or own ones (CppnEncoding.codes)
    connection_ids: NDArray[np.int64]  # (n, M) innovation ids, ascending, PAD behind
    sources: NDArray[np.int64]  # (n, M) node ids
    destinations: NDArray[np.int64]  # (n, M) node ids
    weights: NDArray[np.float32]  # (n, M)

    def __len__(self) -> int:
        return len(self.node_ids)

    def arrays(self) -> tuple[NDArray[Any], ...]:
        """The fields in order."""
        return tuple(getattr(self, name) for name in self.__dataclass_fields__)


# ----------------------------------------------------------------------------------------------------------- ids


def _mix(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    # The finaliser of splitmix64 (Steele et al. 2014): every input bit changes every output bit about half the time.
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


def _hash_ids(tag: int, source: Any, destination: Any, ordinal: Any) -> NDArray[np.int64]:
    state = np.zeros(np.broadcast(source, destination, ordinal).shape, dtype=np.uint64)
    with np.errstate(over="ignore"):
        for part in (tag, source, destination, ordinal):  # mixed after each, so that no two can stand for one another
            state = _mix(state + np.asarray(part).astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15))
    # 62 random bits above FIRST_HIDDEN: fits int64, and meets neither inputs and outputs nor (in practice) PAD.
    return ((state >> np.uint64(2)) | np.uint64(FIRST_HIDDEN)).astype(np.int64)


def node_ids(source: Any, destination: Any, ordinal: Any) -> NDArray[np.int64]:
    """Ids of the nodes put on connections source -> destination; ordinal 0 is the first such split in a genome."""
    return _hash_ids(1, source, destination, ordinal)


def connection_ids(source: Any, destination: Any, ordinal: Any) -> NDArray[np.int64]:
    """Innovation ids of connections; ordinal 0 is the first between these two nodes in a genome."""
    return _hash_ids(2, source, destination, ordinal)


# ------------------------------------------------------------------------------------------------ array-wide tools


def canonical(
    node_ids: NDArray[np.int64],
    activations: NDArray[np.uint8],
    connection_ids: NDArray[np.int64],
    sources: NDArray[np.int64],
    destinations: NDArray[np.int64],
    weights: NDArray[np.float32],
) -> Graphs:
    """Sort genes by id, drop those whose id is PAD, and trim the padding."""

    def tidy(ids: NDArray[np.int64], *others: NDArray[Any]) -> list[NDArray[Any]]:
        width = int((ids != PAD).sum(axis=1).max(initial=0))
        order = np.argsort(ids, axis=1, kind="stable")[:, :width]
        ids = np.take_along_axis(ids, order, axis=1)
        live = ids != PAD
        return [ids, *(np.where(live, np.take_along_axis(a, order, axis=1), a.dtype.type(0)) for a in others)]

    return Graphs(*tidy(node_ids, activations), *tidy(connection_ids, sources, destinations, weights))


def locate(table: NDArray[np.int64], ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Row-wise binary search: the column of each id in its row of the ascending `table`, -1 where it is not there.

    Args:
        table: (n, N) int64, rows ascending.
        ids: (n, K) int64.
    """
    result = np.full(ids.shape, -1, dtype=np.int64)
    rows, columns = np.nonzero(ids != PAD)
    result[rows, columns] = _locate(table, rows, ids[rows, columns])
    return result


def _locate(table: NDArray[np.int64], rows: NDArray[np.int64], ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """The column of ids[i] in row rows[i] of the ascending `table`, -1 where it is not there."""
    width = table.shape[1]
    if width == 0 or ids.size == 0:
        return np.full(ids.shape, -1, dtype=np.int64)
    flat = table.ravel()
    first = rows * width
    low, last = first, first + (width - 1)
    step = 1 << (width.bit_length() - 1)
    while step:  # low = the largest place whose entry is <= id, found bit by bit
        probe = np.minimum(low + step, last)
        low = np.where(flat[probe] <= ids, probe, low)
        step >>= 1
    return np.where(flat[low] == ids, low - first, -1)


def flat_edges(graphs: Graphs) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(source, destination) of every connection, shape (E,) each, in row and id order.

    They index the flattened (n, INPUTS + N) table of inputs and nodes.
    """
    rows, columns = np.nonzero(graphs.connection_ids != PAD)
    at = rows * graphs.connection_ids.shape[1] + columns
    begin = rows * (FIRST_OUTPUT + graphs.node_ids.shape[1])

    def index(ids: NDArray[np.int64]) -> NDArray[np.int64]:
        # Inputs stand in front, and behind them every genome's outputs, so only hidden nodes are looked for.
        places = ids.ravel()[at]
        hidden = np.nonzero(places >= FIRST_HIDDEN)[0]
        places[hidden] = _locate(graphs.node_ids, rows[hidden], places[hidden]) + FIRST_OUTPUT
        return begin + places

    return index(graphs.sources), index(graphs.destinations)


# ------------------------------------------------------------------------------------------------------ the encoding


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
    kind: str = "cppn"

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
        own = [name for name in self.activations if name not in ACTIVATIONS]
        return {
            **{name: code for code, name in enumerate(ACTIVATIONS)},
            **{name: FIRST_OWN + i for i, name in enumerate(own)},
        }

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
            len(INPUTS) + int((graphs.node_ids[row] != PAD).sum()),
            int((graphs.connection_ids[row] != PAD).sum()),
        )

    def to_bytes(self, graphs: Graphs, row: int) -> bytes:
        """Canonical bytes of one genome, little-endian: header, then the fields of Graphs in order."""
        nodes = graphs.node_ids[row] != PAD
        connections = graphs.connection_ids[row] != PAD
        n, m = int(nodes.sum()), int(connections.sum())
        return b"".join(
            [
                _HEADER.pack(_MAGIC, 1, self.channels, n, m),
                graphs.node_ids[row, :n].astype("<i8").tobytes(),
                graphs.activations[row, :n].tobytes(),
                graphs.connection_ids[row, :m].astype("<i8").tobytes(),
                graphs.sources[row, :m].astype("<i8").tobytes(),
                graphs.destinations[row, :m].astype("<i8").tobytes(),
                graphs.weights[row, :m].astype("<f4").tobytes(),
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

    def genes(self, graphs: Graphs, row: int) -> list[dict[str, Any]]:
        """One dict for each gene, nodes first: the rows of the `genome` column."""
        nodes, connections = self.size(graphs, row)
        listed: list[dict[str, Any]] = [
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

    def to_json(self, graphs: Graphs, row: int) -> dict[str, Any]:
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
