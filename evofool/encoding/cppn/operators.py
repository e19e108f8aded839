"""Operators on CPPN graphs, over a whole batch at once.

Pure functions of genomes and numbers already drawn: `uniform` arguments are (n,) or (n, genes) in [0, 1), `apply` is
(n,) bool. Structural operators make one attempt for each genome and report, (n,) bool, where it took effect. None of
them can make a cycle. Operators and rates: the 2015 code (gen_dnn.hpp, gen_dnn_ff.hpp); `split_connection` with
weights 1 and w, and `crossover`: Stanley and Miikkulainen 2002, "Evolving neural networks through augmenting
topologies", pp. 107-109.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evofool.encoding import numbers
from evofool.encoding.cppn import genome
from evofool.encoding.cppn.graphs import (
    FIRST_HIDDEN,
    FIRST_OUTPUT,
    PAD,
    Graphs,
    connection_ids,
    flat_edges,
    locate,
    node_ids,
)

__all__ = [
    "add_connection",
    "crossover",
    "delete_connection",
    "delete_node",
    "mutate_activations",
    "mutate_weights",
    "rewire_connection",
    "split_connection",
]

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Operator = Callable[..., tuple[Graphs, Mask]]


def _on_some(operator: Operator) -> Operator:
    """The operator (graphs, apply, *uniform) of one that has only the rows to apply it to: (graphs, *uniform)."""

    @wraps(operator)
    def applied(graphs: Graphs, apply: Mask, *uniform: Array | None, **settings: Any) -> tuple[Graphs, Mask]:
        rows = np.flatnonzero(apply)
        done = np.zeros(len(graphs), dtype=bool)
        if not len(rows):
            return graphs, done
        part = Graphs(*(array[rows] for array in graphs.arrays()))
        changed, done[rows] = operator(part, *(None if u is None else u[rows] for u in uniform), **settings)
        return _with_rows(graphs, rows, changed), done

    return applied


def mutate_weights(
    graphs: Graphs, uniform: Array, *, rate: float, eta: float, kind: str, limit: float
) -> tuple[Graphs, Mask]:
    """Mutate each weight with probability `rate`, as a number in [0, 1] that stands for [-limit, limit].

    Args:
        uniform: (n, M).
    """
    live = graphs.connection_ids != PAD
    units = np.clip((graphs.weights / np.float32(limit) + np.float32(1)) / np.float32(2), 0, 1)
    mutated, chosen = numbers.mutate(units, uniform, rate=rate, eta=eta, kind=kind, where=live)
    # Back and forth costs a rounding, so weights that were not chosen keep theirs.
    weights = np.where(chosen, (mutated * 2 - 1) * np.float32(limit), graphs.weights).astype(np.float32)
    return replace(graphs, weights=weights), np.asarray(chosen.any(axis=1))


def mutate_activations(graphs: Graphs, uniform: Array, *, rate: float, codes: NDArray[np.uint8]) -> tuple[Graphs, Mask]:
    """Redraw each node's activation among `codes` with probability `rate`; the old one may come again.

    Args:
        uniform: (n, N).
        codes: positions in cppn.ACTIVATIONS.
    """
    chosen = (uniform < rate) & (graphs.node_ids != PAD)
    again = np.where(chosen, uniform, 0.0) / (rate or 1.0)  # uniform once more where it was below the rate
    drawn = codes[(again * len(codes)).astype(np.int64)]
    return replace(graphs, activations=np.where(chosen, drawn, graphs.activations)), chosen.any(axis=1)


@_on_some
def add_connection(
    graphs: Graphs,
    source: Array,
    destination: Array,
    weight: Array,
    *,
    limit: float,
    parallel: bool = False,
) -> tuple[Graphs, Mask]:
    """Connect a random input or hidden node to a random hidden or output node, if that is new and makes no cycle.

    Args:
        source, destination, weight: (n,) uniform numbers that draw the ends and a weight in [-limit, limit].
        parallel: whether it need not be new, as in the 2015 code (gen_dnn_ff.hpp): parallel connections count twice.
    """
    start, end = _draw_source(graphs, source), _draw_destination(graphs, destination)
    done = _may_connect(graphs, start, end, parallel=parallel) & _has_room(graphs)
    ordinal = _first_free(connection_ids, graphs.connection_ids, start, end, done & parallel)
    new = ((weight * 2 - 1) * limit).astype(np.float32)
    return _with_connections(graphs, done, start, end, new, ordinal), done


@_on_some
def delete_connection(graphs: Graphs, which: Array) -> tuple[Graphs, Mask]:
    """Delete a random connection."""
    column = _pick(graphs.connection_ids != PAD, which)
    done = column >= 0
    return _without_connections(graphs, _one_hot(done, column, graphs.connection_ids.shape[1])), done


@_on_some
def rewire_connection(graphs: Graphs, which: Array, end: Array, node: Array) -> tuple[Graphs, Mask]:
    """Move one end of a random connection to a random node, if the result is new and makes no cycle; keep the weight.

    Args:
        which, end, node: (n,) uniform numbers that draw the connection, its end (source below 1/2) and the node.
    """
    column = _pick(graphs.connection_ids != PAD, which)
    old_source, old_destination = _at(graphs.sources, column), _at(graphs.destinations, column)
    start = np.where(end < 0.5, _draw_source(graphs, node), old_source)
    finish = np.where(end < 0.5, old_destination, _draw_destination(graphs, node))
    done = (column >= 0) & _may_connect(graphs, start, finish)
    kept = _without_connections(graphs, _one_hot(done, column, graphs.connection_ids.shape[1]))
    return _with_connections(kept, done, start, finish, _at(graphs.weights, column)), done


@_on_some
def split_connection(graphs: Graphs, which: Array, activations: NDArray[np.uint8] | None = None) -> tuple[Graphs, Mask]:
    """Put a node on a random connection: identity activation, weight 1 before it and the old weight after it.

    The picture stays as it was, bit for bit (see `programs.compile`).

    Args:
        activations: (n,) of the new nodes, as in the 2015 code (gen_dnn.hpp), where both halves keep the old weight
            and the picture changes; None for neutral splits.
    """
    column = _pick(graphs.connection_ids != PAD, which)
    done = (column >= 0) & ((graphs.node_ids != PAD).sum(axis=1) < genome.MAX_NODES) & _has_room(graphs)
    source, destination, weight = (_at(a, column) for a in (graphs.sources, graphs.destinations, graphs.weights))
    node = node_ids(source, destination, _first_free(node_ids, graphs.node_ids, source, destination, done))
    for start, end in ((source, node), (node, destination)):  # taken only in genomes not made here
        done &= locate(graphs.connection_ids, connection_ids(start, end, 0)[:, None])[:, 0] < 0
    cut = _without_connections(graphs, _one_hot(done, column, graphs.connection_ids.shape[1]))
    kinds = np.zeros(len(cut), dtype=np.uint8) if activations is None else activations
    ids, codes = _inserted(np.where(done, node, PAD), (kinds,), cut.node_ids, cut.activations)
    wider = replace(cut, node_ids=ids, activations=codes)
    before = np.ones(len(cut), dtype=np.float32) if activations is None else weight
    halves = _with_connections(wider, done, source, node, before)
    return _with_connections(halves, done, node, destination, weight), done


@_on_some
def delete_node(graphs: Graphs, which: Array) -> tuple[Graphs, Mask]:
    """Delete a random hidden node and every connection that touches it."""
    hidden = (graphs.node_ids != PAD) & (graphs.node_ids >= FIRST_HIDDEN)
    column = _pick(hidden, which)
    done = column >= 0
    node = np.where(done, _at(graphs.node_ids, column), -1)[:, None]
    ids, kinds = _without(graphs.node_ids == node, graphs.node_ids, graphs.activations)
    touched = (graphs.sources == node) | (graphs.destinations == node)
    rest = replace(graphs, node_ids=ids, activations=kinds)
    return _without_connections(rest, touched & (graphs.connection_ids != PAD)), done


def crossover(first: Graphs, second: Graphs, apply: Mask, genes: Array, nodes: Array) -> Graphs:
    """Structure of the first parent; each gene that both have comes from either with probability 1/2 (NEAT).

    Elites of different classes have no common fitness, so the first parent stands for NEAT's fitter one, whose
    disjoint and excess genes a child inherits.

    Args:
        genes: (n, M of first) uniform; nodes: (n, N of first) uniform.
    """
    rows = np.flatnonzero(apply)

    def either(name: str, ids: str, uniform: Array) -> NDArray[Any]:
        mine, other = getattr(first, name), getattr(second, name)[rows]
        match = locate(getattr(second, ids)[rows], getattr(first, ids)[rows])
        result = mine.copy()
        result[rows] = np.where((match >= 0) & (uniform[rows] < 0.5), _columns(other, match), mine[rows])
        return result

    weights, activations = either("weights", "connection_ids", genes), either("activations", "node_ids", nodes)
    return replace(first, weights=weights, activations=activations)


# ------------------------------------------------------------------------------------------------------- building


def _columns(array: NDArray[Any], columns: NDArray[np.int64]) -> NDArray[Any]:
    if array.shape[1] == 0:
        return np.zeros(columns.shape, dtype=array.dtype)
    return np.take_along_axis(array, np.maximum(columns, 0), axis=1)


def _at(array: NDArray[Any], column: NDArray[np.int64]) -> NDArray[Any]:
    """array[i, column[i]]; something harmless where column is -1."""
    return _columns(array, column[:, None])[:, 0]


def _one_hot(rows: Mask, column: NDArray[np.int64], width: int) -> Mask:
    return rows[:, None] & (np.arange(width) == column[:, None])


def _pick(candidates: Mask, uniform: Array) -> NDArray[np.int64]:
    """Column of a random True in each row, -1 where there is none."""
    count = candidates.sum(axis=1)
    wanted = (uniform * count).astype(np.int64) + 1
    hit = candidates & (np.cumsum(candidates, axis=1) == wanted[:, None])
    return np.where(count > 0, hit.argmax(axis=1) if hit.shape[1] else -1, -1)


def _first_free(ids_of: Any, table: NDArray[np.int64], source: Any, destination: Any, rows: Mask) -> NDArray[np.int64]:
    """The first ordinal of source -> destination whose id is not in a genome's row of `table`; 0 outside `rows`."""
    ordinal = np.zeros(len(table), dtype=np.int64)
    while True:
        taken = rows & (locate(table, ids_of(source, destination, ordinal)[:, None])[:, 0] >= 0)
        if not taken.any():
            return ordinal
        ordinal += taken


def _draw_source(graphs: Graphs, uniform: Array) -> NDArray[np.int64]:
    """A random input or hidden node of each genome."""
    hidden = (graphs.node_ids != PAD) & (graphs.node_ids >= FIRST_HIDDEN)
    position = (uniform * (FIRST_OUTPUT + hidden.sum(axis=1))).astype(np.int64)
    nth = hidden & (np.cumsum(hidden, axis=1) == (position - FIRST_OUTPUT + 1)[:, None])
    return np.where(position < FIRST_OUTPUT, position, _at(graphs.node_ids, nth.argmax(axis=1)))


def _draw_destination(graphs: Graphs, uniform: Array) -> NDArray[np.int64]:
    """A random hidden or output node of each genome."""
    return _at(graphs.node_ids, _pick(graphs.node_ids != PAD, uniform))


def _has_room(graphs: Graphs) -> Mask:
    return np.asarray((graphs.connection_ids != PAD).sum(axis=1) < genome.MAX_CONNECTIONS)


def _may_connect(
    graphs: Graphs, source: NDArray[np.int64], destination: NDArray[np.int64], *, parallel: bool = False
) -> Mask:
    """Where source -> destination is not there yet (unless `parallel`) and closes no cycle."""
    exists = ((graphs.sources == source[:, None]) & (graphs.destinations == destination[:, None])).any(axis=1)
    ids = connection_ids(source, destination, 0)
    exists |= locate(graphs.connection_ids, ids[:, None])[:, 0] >= 0  # only in genomes not made here
    allowed = (source != destination) & (parallel | ~exists)
    inside = np.flatnonzero(allowed & (source >= FIRST_OUTPUT))  # nothing leads to an input
    if len(inside):
        part = Graphs(*(array[inside] for array in graphs.arrays()))
        allowed[inside] = ~_leads_to(part, destination[inside], source[inside])
    return allowed


def _leads_to(graphs: Graphs, start: NDArray[np.int64], end: NDArray[np.int64]) -> Mask:
    """Whether there is a path from node `start` to node `end` of each genome."""
    begin = FIRST_OUTPUT + np.arange(len(graphs)) * (FIRST_OUTPUT + graphs.node_ids.shape[1])
    first, last = (begin + locate(graphs.node_ids, ids[:, None])[:, 0] for ids in (start, end))
    starts, ends = flat_edges(graphs)
    reached = np.zeros(len(graphs) * (FIRST_OUTPUT + graphs.node_ids.shape[1]), dtype=bool)
    reached[first] = True
    while True:
        hit = reached[starts]
        if not hit.any():
            return reached[last]
        reached[ends[hit]] = True
        starts, ends = starts[~hit], ends[~hit]


def _with_connections(
    graphs: Graphs,
    rows: Mask,
    source: NDArray[np.int64],
    destination: NDArray[np.int64],
    weight: NDArray[np.float32],
    ordinal: Any = 0,
) -> Graphs:
    """Add one connection to each of `rows`."""
    ids = np.where(rows, connection_ids(source, destination, ordinal), PAD)
    nodes, kinds, *old = graphs.arrays()
    return Graphs(nodes, kinds, *_inserted(ids, (source, destination, weight), *old))


def _without_connections(graphs: Graphs, gone: Mask) -> Graphs:
    nodes, kinds, *old = graphs.arrays()
    return Graphs(nodes, kinds, *_without(gone, *old))


def _inserted(new: NDArray[np.int64], values: tuple[NDArray[Any], ...], *arrays: NDArray[Any]) -> list[NDArray[Any]]:
    """Genes with one more in each row, where it belongs; none in rows where its id is PAD.

    Args:
        new: (n,) ids.
        values: (n,) each, of the new genes, for every array but the first.
        arrays: (n, K) ids, ascending in each row, and what goes with them.
    """
    n, width = arrays[0].shape
    position = (arrays[0] < new[:, None]).sum(axis=1)[:, None]
    columns = np.arange(width + 1)
    source = np.where(columns == position, width, columns - (columns > position)) + np.arange(n)[:, None] * (width + 1)
    live = new != PAD
    result = []
    for array, value in zip(arrays, (new, *(np.where(live, v, 0) for v in values))):
        wide = np.empty((n, width + 1), dtype=array.dtype)
        wide[:, :width], wide[:, width] = array, value
        result.append(wide.ravel()[source])
    return _trimmed(*result)


def _without(gone: Mask, *arrays: NDArray[Any]) -> list[NDArray[Any]]:
    """Genes without some of them; ids come first."""
    order = np.argsort(gone, axis=1, kind="stable")
    order += np.arange(len(gone))[:, None] * gone.shape[1]
    blank = np.where(gone, PAD, arrays[0]), *(np.where(gone, a.dtype.type(0), a) for a in arrays[1:])
    return _trimmed(*(array.ravel()[order] for array in blank))


def _trimmed(*arrays: NDArray[Any]) -> list[NDArray[Any]]:
    """Without columns that no row has a gene in; ids come first."""
    width = int((arrays[0] != PAD).any(axis=0).sum())
    return [array[:, :width] for array in arrays]


def _with_rows(graphs: Graphs, rows: NDArray[np.int64], part: Graphs) -> Graphs:
    """`graphs` with `rows` replaced by those of `part`."""
    result = []
    for name, old, new in zip(graphs.__dataclass_fields__, graphs.arrays(), part.arrays()):
        width = max(old.shape[1], new.shape[1])
        array = np.full((len(graphs), width), PAD if name.endswith("_ids") else 0, dtype=old.dtype)
        array[:, : old.shape[1]] = old
        array[rows, : new.shape[1]] = new
        array[rows, new.shape[1] :] = array.dtype.type(PAD) if name.endswith("_ids") else 0
        result.append(array)
    nodes, connections = _trimmed(*result[:2]), _trimmed(*result[2:])
    return Graphs(*nodes, *connections)
