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
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from evofool.encoding import numbers
from evofool.encoding.cppn import genome
from evofool.encoding.cppn.graphs import (
    FIRST_HIDDEN,
    FIRST_OUTPUT,
    PAD,
    Column,
    Graphs,
    Ids,
    canonical,
    connection_ids,
    flat_edges,
    locate,
    node_ids,
    trimmed,
    with_rows,
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
_Number = TypeVar("_Number", bound=np.generic)


def _on_some(operator: Operator) -> Operator:
    """From an operator on all rows, (graphs, *uniform), one on the rows that `apply` picks: (graphs, apply, *uniform).

    The former may add genes in any order, and delete them by writing PAD over their ids.
    """

    @wraps(operator)
    def applied(graphs: Graphs, apply: Mask, *uniform: Array | None, **settings: Any) -> tuple[Graphs, Mask]:
        rows = np.flatnonzero(apply)
        is_changed = np.zeros(len(graphs), dtype=bool)
        if not len(rows):
            return graphs, is_changed
        part = graphs.select(rows)
        changed, is_changed[rows] = operator(part, *(None if u is None else u[rows] for u in uniform), **settings)
        copies = Graphs(*(array.copy() for array in graphs.arrays()))
        return trimmed(with_rows(copies, rows, canonical(changed))), is_changed

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
        codes: CppnEncoding.activation_codes.
    """
    chosen = (uniform < rate) & (graphs.node_ids != PAD)
    again = np.where(chosen, uniform, 0.0) / (rate or 1.0)  # uniform once more where it was below the rate
    drawn = codes[(again * len(codes)).astype(np.int64)]
    return replace(graphs, activations=np.where(chosen, drawn, graphs.activations)), chosen.any(axis=1)


@_on_some
def add_connection(
    graphs: Graphs, source: Array, destination: Array, weight: Array, *, limit: float, parallel: bool = False
) -> tuple[Graphs, Mask]:
    """Connect a random input or hidden node to a random hidden or output node, if that is new and makes no cycle.

    Args:
        source, destination, weight: (n,) uniform numbers that draw the ends and a weight in [-limit, limit].
        parallel: whether it need not be new, as in the 2015 code (gen_dnn_ff.hpp): parallel connections count twice.
    """
    start, end = _draw_source(graphs, source), _draw_destination(graphs, destination)
    is_changed = _may_connect(graphs, start, end, parallel=parallel) & _has_room(graphs)
    ordinal = _first_free(connection_ids, graphs.connection_ids, start, end, is_changed & parallel)
    new = ((weight * 2 - 1) * limit).astype(np.float32)
    return _with_connections(graphs, is_changed, start, end, new, ordinal), is_changed


@_on_some
def delete_connection(graphs: Graphs, which: Array) -> tuple[Graphs, Mask]:
    """Delete a random connection."""
    column = _pick(graphs.connection_ids != PAD, which)
    is_changed = column >= 0
    return _without_connection(graphs, is_changed, column), is_changed


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
    is_changed = (column >= 0) & _may_connect(graphs, start, finish)
    rest = _without_connection(graphs, is_changed, column)
    return _with_connections(rest, is_changed, start, finish, _at(graphs.weights, column)), is_changed


@_on_some
def split_connection(graphs: Graphs, which: Array, activations: NDArray[np.uint8] | None = None) -> tuple[Graphs, Mask]:
    """Put a node on a random connection: identity activation, weight 1 before it and the old weight after it.

    The picture stays as it was, bit for bit (see `programs.compile`).

    Args:
        activations: (n,) of the new nodes, as in the 2015 code (gen_dnn.hpp), where both halves keep the old weight
            and the picture changes; None for neutral splits.
    """
    column = _pick(graphs.connection_ids != PAD, which)
    is_changed = (column >= 0) & ((graphs.node_ids != PAD).sum(axis=1) < genome.MAX_NODES) & _has_room(graphs)
    source, destination = _at(graphs.sources, column), _at(graphs.destinations, column)
    weight = _at(graphs.weights, column)
    node = node_ids(source, destination, _first_free(node_ids, graphs.node_ids, source, destination, is_changed))
    for start, end in ((source, node), (node, destination)):  # a genome from elsewhere may use these ids for others
        is_changed &= locate(graphs.connection_ids, connection_ids(start, end, 0)[:, None])[:, 0] < 0
    cut = _without_connection(graphs, is_changed, column)
    kinds = np.zeros(len(cut), dtype=np.uint8) if activations is None else activations
    ids = _with_column(cut.node_ids, np.where(is_changed, node, PAD))
    wider = replace(cut, node_ids=ids, activations=_with_column(cut.activations, kinds))
    before = np.ones(len(cut), dtype=np.float32) if activations is None else weight
    halves = _with_connections(wider, is_changed, source, node, before)
    return _with_connections(halves, is_changed, node, destination, weight), is_changed


@_on_some
def delete_node(graphs: Graphs, which: Array) -> tuple[Graphs, Mask]:
    """Delete a random hidden node and every connection that touches it."""
    column = _pick(_is_hidden(graphs), which)
    is_changed = column >= 0
    node = np.where(is_changed, _at(graphs.node_ids, column), -1)[:, None]
    is_touched = (graphs.sources == node) | (graphs.destinations == node)
    nodes = np.where(graphs.node_ids == node, PAD, graphs.node_ids)
    connections = np.where(is_touched, PAD, graphs.connection_ids)
    return replace(graphs, node_ids=nodes, connection_ids=connections), is_changed


def crossover(first: Graphs, second: Graphs, apply: Mask, genes: Array, nodes: Array) -> Graphs:
    """Structure of the first parent; each gene that both have comes from either with probability 1/2 (NEAT).

    Elites of different classes have no common fitness, so the first parent stands for NEAT's fitter one, whose
    disjoint and excess genes a child inherits.

    Args:
        genes: (n, M of first) uniform; nodes: (n, N of first) uniform.
    """
    rows = np.flatnonzero(apply)

    def either(name: str, ids: str, uniform: Array) -> Column:
        mine, other = getattr(first, name), getattr(second, name)[rows]
        match = locate(getattr(second, ids)[rows], getattr(first, ids)[rows])
        result = mine.copy()
        result[rows] = np.where((match >= 0) & (uniform[rows] < 0.5), _columns(other, match), mine[rows])
        return result

    weights, activations = either("weights", "connection_ids", genes), either("activations", "node_ids", nodes)
    return replace(first, weights=weights, activations=activations)


# ------------------------------------------------------------------------------------------------------- building


def _columns(array: NDArray[_Number], columns: Ids) -> NDArray[_Number]:
    """array[i, columns[i, j]]; some number where that is -1."""
    if array.shape[1] == 0:
        return np.zeros(columns.shape, dtype=array.dtype)
    return np.take_along_axis(array, np.maximum(columns, 0), axis=1)


def _at(array: NDArray[_Number], column: Ids) -> NDArray[_Number]:
    """array[i, column[i]]; some number where that is -1."""
    return _columns(array, column[:, None])[:, 0]


def _is_hidden(graphs: Graphs) -> Mask:
    return (graphs.node_ids != PAD) & (graphs.node_ids >= FIRST_HIDDEN)


def _nth(candidates: Mask, n: Ids) -> Ids:
    """Column of the n-th True of each row, counted from 0; -1 where it has not as many."""
    hit = candidates & (np.cumsum(candidates, axis=1) == n[:, None] + 1)
    return np.where(hit.any(axis=1), hit.argmax(axis=1) if hit.shape[1] else -1, -1)


def _pick(candidates: Mask, uniform: Array) -> Ids:
    """Column of a random True in each row, -1 where it has none."""
    return _nth(candidates, (uniform * candidates.sum(axis=1)).astype(np.int64))


def _first_free(ids_of: Callable[[Ids, Ids, Ids], Ids], table: Ids, source: Ids, destination: Ids, rows: Mask) -> Ids:
    """The first ordinal of source -> destination whose id is not in a genome's row of `table`; 0 outside `rows`."""
    ordinal = np.zeros(len(table), dtype=np.int64)
    while True:
        is_used = rows & (locate(table, ids_of(source, destination, ordinal)[:, None])[:, 0] >= 0)
        if not is_used.any():
            return ordinal
        ordinal += is_used


def _draw_source(graphs: Graphs, uniform: Array) -> Ids:
    """A random input or hidden node of each genome."""
    hidden = _is_hidden(graphs)
    position = (uniform * (FIRST_OUTPUT + hidden.sum(axis=1))).astype(np.int64)
    node = _at(graphs.node_ids, _nth(hidden, position - FIRST_OUTPUT))
    return np.where(position < FIRST_OUTPUT, position, node)


def _draw_destination(graphs: Graphs, uniform: Array) -> Ids:
    """A random hidden or output node of each genome."""
    return _at(graphs.node_ids, _pick(graphs.node_ids != PAD, uniform))


def _has_room(graphs: Graphs) -> Mask:
    return np.asarray((graphs.connection_ids != PAD).sum(axis=1) < genome.MAX_CONNECTIONS)


def _may_connect(graphs: Graphs, source: Ids, destination: Ids, *, parallel: bool = False) -> Mask:
    """Which genomes may get source -> destination: it makes no cycle and, unless `parallel`, is not there already."""
    exists = ((graphs.sources == source[:, None]) & (graphs.destinations == destination[:, None])).any(axis=1)
    ids = connection_ids(source, destination, 0)
    exists |= locate(graphs.connection_ids, ids[:, None])[:, 0] >= 0  # a genome from elsewhere may use it for another
    allowed = (source != destination) & (parallel | ~exists)
    inside = np.flatnonzero(allowed & (source >= FIRST_OUTPUT))  # nothing leads to an input
    if len(inside):
        allowed[inside] = ~_leads_to(graphs.select(inside), destination[inside], source[inside])
    return allowed


def _leads_to(graphs: Graphs, start: Ids, end: Ids) -> Mask:
    """Whether a path leads from node `start` to node `end` of each genome."""
    stride = FIRST_OUTPUT + graphs.node_ids.shape[1]
    begin = FIRST_OUTPUT + np.arange(len(graphs)) * stride
    first, last = (begin + locate(graphs.node_ids, ids[:, None])[:, 0] for ids in (start, end))
    starts, ends = flat_edges(graphs)
    reached = np.zeros(len(graphs) * stride, dtype=bool)
    reached[first] = True
    while True:
        hit = reached[starts]
        if not hit.any():
            return reached[last]
        reached[ends[hit]] = True
        starts, ends = starts[~hit], ends[~hit]


def _with_connections(
    graphs: Graphs, rows: Mask, source: Ids, destination: Ids, weight: NDArray[np.float32], ordinal: Ids | int = 0
) -> Graphs:
    """With one more connection in each of `rows`, behind the others."""
    ids = np.where(rows, connection_ids(source, destination, ordinal), PAD)
    nodes, kinds, *old = graphs.arrays()
    return Graphs(nodes, kinds, *map(_with_column, old, (ids, source, destination, weight)))


def _with_column(array: Column, values: Column) -> Column:
    return np.concatenate([array, values[:, None]], axis=1)


def _without_connection(graphs: Graphs, rows: Mask, column: Ids) -> Graphs:
    """Without the connection at `column` of each of `rows`."""
    columns = np.arange(graphs.connection_ids.shape[1])
    is_gone = rows[:, None] & (columns == column[:, None])
    return replace(graphs, connection_ids=np.where(is_gone, PAD, graphs.connection_ids))
