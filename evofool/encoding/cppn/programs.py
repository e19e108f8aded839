"""CPPN genomes made ready to render: `compile` once, render many times, at any size; and the pixels' coordinates."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from evofool.encoding.cppn.graphs import BIAS, CYCLE, FIRST_HIDDEN, FIRST_OUTPUT, PAD, Graphs, flat_edges
from evofool.errors import InvalidGenome

__all__ = ["Program", "Stage", "compile", "coordinates", "distinct"]

Indices: TypeAlias = NDArray[np.int64]
_Connections: TypeAlias = tuple[Indices, Indices, NDArray[np.float32]]  # (E,) source and destination places, weights
_Integer = TypeVar("_Integer", np.uint8, np.int64)


@dataclass(frozen=True)
class Stage:
    """Nodes in topological order, evaluated in a table of values, the state, with a row for each input and node.

    The rows of inputs lie in front; behind them those of nodes, by level, activation and genome. A level is the nodes
    whose longest paths within the stage are equally long, so they need only rows before them.

    A node's value is its activation of a sum of addends, weight times value of a source. Every node has a first addend,
    and these are one array; the others of a level are added to it in their order here.
    """

    inputs: int  # rows of inputs
    activations: list[int]  # the codes that occur, ascending
    counts: NDArray[np.int64]  # (levels, activations) nodes
    sources: Indices  # (nodes,) state rows of first addends
    weights: NDArray[np.float32]  # (nodes,) of first addends
    other_counts: NDArray[np.int64]  # (levels,) other addends
    other_sources: Indices  # (others,) state rows
    other_weights: NDArray[np.float32]  # (others,)
    into: Indices  # (others,) the position, among the nodes of its level, of the node it is added to

    @property
    def rows(self) -> int:
        """Rows of the state."""
        return self.inputs + len(self.sources)


@dataclass(frozen=True)
class Program:
    """Genomes made ready to render: what does not reach an output is dropped, the rest lies in two stages.

    A node that depends on one coordinate at most, x, y or d, is in the first, which is to be computed for that
    coordinate's distinct values only: 224 rather than 50,176 of a picture 224 pixels wide. All others are in the
    second.
    """

    first: Stage  # inputs: x, y, d and bias
    handed_on: tuple[Indices, ...]  # for each of x, y, d: state rows of the first stage that the second needs
    second: Stage  # inputs: x, y, d, bias, and what is handed on
    outputs: Indices  # (genomes, channels) state rows of the second stage


def compile(graphs: Graphs) -> Program:
    """The program of a batch of n genomes.

    A node that only hands on one value (identity, one connection of weight 1: a fresh split) is bypassed, and a node's
    connections are summed in ascending order of weight, then of the id of the node the value comes from. A split
    changes neither, so it changes no bit of the picture.

    Raises:
        InvalidGenome: a genome has a cycle.
    """
    n, width = graphs.node_ids.shape
    stride = FIRST_OUTPUT + width
    # Inputs and nodes of all genomes, one behind the other, are the places that `source` and `destination` index.
    inputs = np.tile(np.arange(FIRST_OUTPUT), (n, 1))
    ids = np.concatenate([inputs, graphs.node_ids], axis=1).ravel()
    activations = np.concatenate([np.zeros_like(inputs, dtype=np.uint8), graphs.activations], axis=1).ravel()
    is_output = (ids >= FIRST_OUTPUT) & (ids < FIRST_HIDDEN)

    connections = *flat_edges(graphs), graphs.weights[graphs.connection_ids != PAD]
    connections = _without_bypassed(connections, activations, is_output)
    source, destination, weights = _without_dead_ends(connections, is_output)

    # A node where nothing arrives gets a zero from the bias, so that every node has a first addend.
    is_needed, has_addend = is_output.copy(), np.zeros(n * stride, dtype=bool)
    is_needed[source[ids[source] >= FIRST_OUTPUT]] = True
    has_addend[destination] = True
    bare = np.nonzero(is_needed & ~has_addend)[0]
    source = np.concatenate([source, bare // stride * stride + BIAS])
    destination = np.concatenate([destination, bare])
    weights = np.concatenate([weights, np.zeros(len(bare), dtype=np.float32)])
    order = _by_destination(destination, weights, ids[source])
    edges = _Edges(source[order], destination[order], weights[order])

    state = np.tile(np.arange(stride), n)  # the state row of every place; inputs are shared
    needs = np.zeros((n, stride), dtype=np.uint8)
    needs[:, :FIRST_OUTPUT] = (1, 2, 4, 0)  # bits of the coordinates that x, y, d and the bias depend on
    needs = _settled(edges, needs.ravel(), np.bitwise_or, 0)
    is_first = np.array([bin(bits).count("1") <= 1 for bits in range(8)])[needs]

    first = _stage(edges.of(is_first[edges.destination]), activations, state, FIRST_OUTPUT)
    leaves = is_output.copy()
    leaves[edges.source[~is_first[edges.destination]]] = True
    leaves &= is_first & (ids >= FIRST_OUTPUT)
    places = [np.nonzero(leaves & of_axis)[0] for of_axis in (needs <= 1, needs == 2, needs == 4)]
    handed_on = tuple(state[of_axis] for of_axis in places)
    second_inputs = FIRST_OUTPUT + sum(map(len, places))
    state[np.concatenate(places)] = np.arange(FIRST_OUTPUT, second_inputs)
    second = _stage(edges.of(~is_first[edges.destination]), activations, state, second_inputs)
    # Ascending ids: the order of channels.
    return Program(first, handed_on, second, outputs=state[np.nonzero(is_output)[0]].reshape(n, -1 if n else 0))


class _Edges:
    """Connections by destination, each destination's in the order of its sum.

    Args:
        source, destination: places.
    """

    def __init__(self, source: Indices, destination: Indices, weights: NDArray[np.float32]) -> None:
        self.source, self.destination, self.weights = source, destination, weights
        is_first = np.diff(destination, prepend=-1) > 0
        self.first, self.others = np.nonzero(is_first)[0], np.nonzero(~is_first)[0]
        self.node_of_others = np.cumsum(is_first)[self.others] - 1

    def of(self, which: NDArray[np.bool_]) -> _Edges:
        return _Edges(self.source[which], self.destination[which], self.weights[which])

    @property
    def nodes(self) -> Indices:
        """The destinations."""
        return self.destination[self.first]


def _settled(edges: _Edges, values: NDArray[_Integer], function: np.ufunc, increment: int) -> NDArray[_Integer]:
    """Values of all places, when each destination's is `function` of those of its sources, plus `increment`.

    Changes `values` until that is so: with `np.maximum` and 1, starting from 0, to the length of the longest path to
    each place.

    Raises:
        InvalidGenome: a cycle, where `increment` is not 0.
    """
    nodes, first, others = edges.nodes, edges.source[edges.first], edges.source[edges.others]
    for _ in range(len(nodes) + 1):
        results = values[first]
        function.at(results, edges.node_of_others, values[others])
        results += increment
        if np.array_equal(results, values[nodes]):
            return values
        values[nodes] = results
    raise InvalidGenome(CYCLE)


def _stage(edges: _Edges, activations: NDArray[np.uint8], state: Indices, inputs: int) -> Stage:
    """The stage of all nodes that edges lead to; `state` has the row of each place, and gets those of these nodes.

    Raises:
        InvalidGenome: a genome has a cycle.
    """
    nodes, others = edges.nodes, edges.others
    levels = _settled(edges, np.zeros(len(state), dtype=np.int64), np.maximum, 1)  # the longest path to each node
    level = levels[nodes]

    kinds, kind = np.unique(activations[nodes], return_inverse=True)
    key = (level - 1) * len(kinds) + kind
    order = np.argsort(key, kind="stable")
    depth = int(level.max(initial=0))
    counts = np.bincount(key, minlength=depth * len(kinds)).reshape(depth, -1 if len(kinds) else 0)
    state[nodes[order]] = inputs + np.arange(len(nodes))

    sources, level_of = state[edges.source], levels[edges.destination[others]]
    by_level = np.argsort(level_of, kind="stable")
    others, level_of = others[by_level], level_of[by_level]
    begin = inputs + np.concatenate([[0], np.cumsum(counts.sum(axis=1))])
    return Stage(
        inputs=inputs,
        activations=kinds.tolist(),
        counts=counts,
        sources=sources[edges.first][order],
        weights=edges.weights[edges.first][order],
        other_counts=np.bincount(level_of - 1, minlength=depth),
        other_sources=sources[others],
        other_weights=edges.weights[others],
        into=state[edges.destination[others]] - begin[level_of - 1],
    )


def _without_bypassed(
    connections: _Connections, activations: NDArray[np.uint8], is_output: NDArray[np.bool_]
) -> _Connections:
    """Connections with those nodes left out that only hand on a value."""
    source, destination, weights = connections
    arrivals = np.bincount(destination, minlength=len(is_output))
    hands_on = (weights == 1) & (arrivals[destination] == 1) & (activations[destination] == 0)
    hands_on &= ~is_output[destination]
    comes_from = np.arange(len(is_output))
    comes_from[destination[hands_on]] = source[hands_on]
    for _ in range(len(is_output).bit_length()):  # each round doubles how far a chain of them is followed
        further = comes_from[comes_from]
        if np.array_equal(further, comes_from):
            break
        comes_from = further
    is_bypassed = np.zeros(len(is_output), dtype=bool)
    is_bypassed[destination[hands_on]] = True
    if is_bypassed[comes_from].any():
        raise InvalidGenome(CYCLE)
    return comes_from[source[~hands_on]], destination[~hands_on], weights[~hands_on]


def _without_dead_ends(connections: _Connections, is_output: NDArray[np.bool_]) -> _Connections:
    """Connections without those to nodes from which no path leads to an output."""
    source, destination, weights = connections
    while True:
        leads_on = is_output.copy()
        leads_on[source] = True
        is_alive = leads_on[destination]
        if is_alive.all():
            return source, destination, weights
        source, destination, weights = source[is_alive], destination[is_alive], weights[is_alive]


def _by_destination(destination: Indices, weights: NDArray[np.float32], ids: Indices) -> Indices:
    """The order of connections by destination, then weight, then the id of the source."""
    bits = (weights + np.float32(0)).view(np.int32)  # -0.0 counts as 0.0
    ascending = (bits ^ (bits >> 31 | np.int32(-(1 << 31)))).view(np.uint32)
    keys = destination << 32 | ascending
    order = np.argsort(keys)
    if (np.diff(keys[order]) == 0).any():
        return np.lexsort((ids, weights, destination))
    return order


def coordinates(height: int, width: int, kind: str, native: tuple[int, int] | None = None) -> NDArray[np.float32]:
    """The four inputs at every pixel, shape (4, height * width), float32, row-major.

    Args:
        height, width: size of the picture in pixels.
        kind: "unit": x and y run from -1 to 1; "raw": they are pixel indices (2015 code, phen_color_image.hpp). The
            distance d is sqrt(x**2 + y**2) on the unit grid in both.
        native: (height, width) for which raw indices are meant, so that a larger picture is the same picture.
    """
    unit_y, unit_x = (np.linspace(-1.0, 1.0, size) if size > 1 else np.zeros(1) for size in (height, width))
    y, x = unit_y, unit_x
    if kind == "raw":
        native_height, native_width = native or (height, width)
        y, x = (unit_y + 1) / 2 * (native_height - 1), (unit_x + 1) / 2 * (native_width - 1)
    grid = np.empty((4, height, width), dtype=np.float64)
    grid[0], grid[1] = x[None, :], y[:, None]
    grid[2] = np.sqrt(unit_x[None, :] ** 2 + unit_y[:, None] ** 2)
    grid[3] = 1.0
    return grid.reshape(4, -1).astype(np.float32)


@lru_cache(maxsize=8)
def distinct(height: int, width: int, kind: str) -> tuple[NDArray[np.float32], Indices]:
    """The distinct values of every input over a picture, and where each pixel's are among them.

    Returns:
        (4, most) float32, the last one repeated, and (4, height * width) int64 columns of it.
    """
    inputs = [np.unique(row.view(np.int32), return_inverse=True) for row in coordinates(height, width, kind)]
    most = max(len(bits) for bits, _ in inputs)
    values = np.stack([np.pad(bits.view(np.float32), (0, most - len(bits)), mode="edge") for bits, _ in inputs])
    return values, np.stack([columns for _, columns in inputs])
