"""CPPN genomes: directed acyclic graphs from pixel coordinates to colour, as a struct of arrays over many genomes.

Terminology
    input        x, y, d (distance from the centre) and bias; ids 0 to 3; implicit, the same in every genome
    output       ids 4, 5, ...: grey, or hue, saturation, value; every genome has them all
    hidden node  id from 2**62 on: a hash of the connection it was put on (source, destination, ordinal of the split)
    connection   id (innovation id) = a hash of (source, destination, ordinal among parallel connections)
    gene         a node or a connection

Conventions
    Ids say what a gene is, not when or where it was invented: evaluators that never talk give the same structure the
    same id, and a structure that is lost and returns keeps it (NEAT's markings differ there: Stanley and
    Miikkulainen 2002, p. 107, number an innovation anew in each generation).
    Rows are sorted by id and padded with PAD at the end; what lies behind PAD is zero. A genome has one such form,
    so equal genomes have equal bytes.

CPPNs: Stanley 2007, "Compositional pattern producing networks". As used for fooling images: Nguyen, Yosinski and
Clune, CVPR 2015, section 2.3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from evofool.encoding.contract import Rows

__all__ = [
    "BIAS",
    "CYCLE",
    "FIRST_HIDDEN",
    "FIRST_OUTPUT",
    "INPUTS",
    "PAD",
    "Column",
    "Graphs",
    "Ids",
    "canonical",
    "connection_ids",
    "flat_edges",
    "locate",
    "node_ids",
    "padding",
    "trimmed",
    "with_rows",
]

Column: TypeAlias = NDArray[Any]  # one of the arrays of Graphs, each of its own dtype
Ids: TypeAlias = NDArray[np.int64]  # ids of genes, or their columns (-1: none)

INPUTS = ("x", "y", "d", "bias")
BIAS = 3
FIRST_OUTPUT = len(INPUTS)
FIRST_HIDDEN = 1 << 62
PAD = np.iinfo(np.int64).max
CYCLE = "a genome has a cycle; a CPPN must be acyclic."  # the message, whoever finds it


@dataclass(frozen=True)
class Graphs:
    """n CPPN genomes; row = genome. N and M are the largest numbers of nodes and connections."""

    node_ids: NDArray[np.int64]  # (n, N) outputs and hidden nodes, ascending, PAD behind
    activations: NDArray[np.uint8]  # (n, N) codes: positions in genome.ACTIVATIONS, or own ones (CppnEncoding.codes)
    connection_ids: NDArray[np.int64]  # (n, M) innovation ids, ascending, PAD behind
    sources: NDArray[np.int64]  # (n, M) node ids
    destinations: NDArray[np.int64]  # (n, M) node ids
    weights: NDArray[np.float32]  # (n, M)

    def __len__(self) -> int:
        return len(self.node_ids)

    def arrays(self) -> tuple[Column, ...]:
        """The fields in order."""
        return tuple(getattr(self, name) for name in self.__dataclass_fields__)

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return sum(array.nbytes for array in self.arrays())

    def select(self, rows: Rows) -> Graphs:
        """The genomes at `rows`, with the padding as it is."""
        return Graphs(*(array[rows] for array in self.arrays()))


def _mix(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    # The finaliser of splitmix64 (Steele et al. 2014): every input bit changes every output bit about half the time.
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


def _hash_ids(tag: int, source: Ids, destination: Ids, ordinal: Ids | int) -> Ids:
    state = np.zeros(np.broadcast(source, destination, ordinal).shape, dtype=np.uint64)
    with np.errstate(over="ignore"):
        for part in (tag, source, destination, ordinal):  # mixed after each, so that no two can stand for one another
            state = _mix(state + np.asarray(part).astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15))
    # 62 random bits above FIRST_HIDDEN: fits int64, and meets neither inputs and outputs nor (in practice) PAD.
    return ((state >> np.uint64(2)) | np.uint64(FIRST_HIDDEN)).astype(np.int64)


def node_ids(source: Ids, destination: Ids, ordinal: Ids | int) -> Ids:
    """Ids of the nodes put on connections source -> destination; ordinal 0 is the first such split in a genome."""
    return _hash_ids(1, source, destination, ordinal)


def connection_ids(source: Ids, destination: Ids, ordinal: Ids | int) -> Ids:
    """Innovation ids of connections; ordinal 0 is the first between these two nodes in a genome."""
    return _hash_ids(2, source, destination, ordinal)


def canonical(graphs: Graphs) -> Graphs:
    """Genomes of genes in any order, some of them perhaps PAD: the genes sorted by id, the padding trimmed."""

    def ascending(ids: Ids, *others: Column) -> list[Column]:
        order = np.argsort(ids, axis=1, kind="stable")
        ids = np.take_along_axis(ids, order, axis=1)
        live = ids != PAD
        return [ids, *(np.where(live, np.take_along_axis(a, order, axis=1), a.dtype.type(0)) for a in others)]

    nodes, activations, *connections = graphs.arrays()
    return trimmed(Graphs(*ascending(nodes, activations), *ascending(*connections)))


def trimmed(graphs: Graphs) -> Graphs:
    """Genomes without the columns that are padding in every row."""
    n, m = (int((ids != PAD).sum(axis=1).max(initial=0)) for ids in (graphs.node_ids, graphs.connection_ids))
    nodes, activations, *connections = graphs.arrays()
    return Graphs(nodes[:, :n], activations[:, :n], *(array[:, :m] for array in connections))


def padding(rows: int, nodes: int, connections: int) -> Graphs:
    """A batch without genes, with columns for so many; to be filled by `with_rows`."""
    return Graphs(
        node_ids=np.full((rows, nodes), PAD),
        activations=np.zeros((rows, nodes), dtype=np.uint8),
        connection_ids=np.full((rows, connections), PAD),
        sources=np.zeros((rows, connections), dtype=np.int64),
        destinations=np.zeros((rows, connections), dtype=np.int64),
        weights=np.zeros((rows, connections), dtype=np.float32),
    )


def with_rows(graphs: Graphs, rows: Rows, source: Graphs) -> Graphs:
    """`graphs` with `rows` overwritten by the genomes of `source`, in place where they are not wider."""
    result = []
    for name, old, new in zip(graphs.__dataclass_fields__, graphs.arrays(), source.arrays()):
        fill = PAD if name.endswith("_ids") else 0
        if new.shape[1] > old.shape[1]:
            wider = np.full((len(old), new.shape[1]), fill, dtype=old.dtype)
            wider[:, : old.shape[1]] = old
            old = wider
        old[rows, : new.shape[1]] = new
        old[rows, new.shape[1] :] = fill
        result.append(old)
    return Graphs(*result)


def locate(table: Ids, ids: Ids) -> Ids:
    """Row-wise binary search: the column of each id in its row of the ascending `table`, -1 where it is not in it.

    Args:
        table: (n, N) int64, rows ascending.
        ids: (n, K) int64.
    """
    result = np.full(ids.shape, -1, dtype=np.int64)
    rows, columns = np.nonzero(ids != PAD)
    result[rows, columns] = _locate(table, rows, ids[rows, columns])
    return result


def _locate(table: Ids, rows: Ids, ids: Ids) -> Ids:
    """The column of ids[i] in row rows[i] of the ascending `table`, -1 where it is not in it."""
    width = table.shape[1]
    if width == 0 or ids.size == 0:
        return np.full(ids.shape, -1, dtype=np.int64)
    flat = table.ravel()
    first = rows * width
    low, last = first, first + (width - 1)
    step = 1 << (width.bit_length() - 1)
    while step:  # low = the largest place whose entry is <= id, one bit of it at a time
        probe = np.minimum(low + step, last)
        low = np.where(flat[probe] <= ids, probe, low)
        step >>= 1
    return np.where(flat[low] == ids, low - first, -1)


def flat_edges(graphs: Graphs) -> tuple[Ids, Ids]:
    """(source, destination) of every connection, shape (E,) each, in row and id order.

    They index the flattened (n, INPUTS + N) table of inputs and nodes.
    """
    rows, columns = np.nonzero(graphs.connection_ids != PAD)
    at = rows * graphs.connection_ids.shape[1] + columns
    begin = rows * (FIRST_OUTPUT + graphs.node_ids.shape[1])

    def index(ids: Ids) -> Ids:
        # Inputs stand in front, and behind them every genome's outputs, so only hidden nodes are looked up.
        places = ids.ravel()[at]
        hidden = np.nonzero(places >= FIRST_HIDDEN)[0]
        places[hidden] = _locate(graphs.node_ids, rows[hidden], places[hidden]) + FIRST_OUTPUT
        return begin + places

    return index(graphs.sources), index(graphs.destinations)
