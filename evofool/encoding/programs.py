"""CPPN genomes made ready to render: `compile` once, render many times, at any size; and the pixels' coordinates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evofool.encoding.graphs import BIAS, FIRST_HIDDEN, FIRST_OUTPUT, PAD, Graphs, flat_edges
from evofool.errors import InvalidGenome

__all__ = ["Program", "compile", "coordinates"]

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Program:
    """Genomes made ready to render: what does not reach an output is dropped, the rest is in topological order.

    State rows 0 .. 3 are the inputs, shared by all genomes; behind them lie the nodes, by level, activation and genome.
    The nodes of one level need only rows before them. A node's value is its activation of a sum, whose first addend
    and others are apart: every node has a first, and the others of a level are added in the order given.
    """

    activations: list[int]  # the codes that occur, ascending
    counts: NDArray[np.int64]  # (levels, activations) nodes
    sources: Indices  # (nodes,) state rows of first addends
    weights: NDArray[np.float32]  # (nodes,)
    other_counts: NDArray[np.int64]  # (levels,)
    other_sources: Indices  # (others,) state rows
    other_weights: NDArray[np.float32]  # (others,)
    into: Indices  # (others,) which node of its level
    outputs: Indices  # (genomes, channels) state rows

    @property
    def rows(self) -> int:
        """Of the state."""
        return FIRST_OUTPUT + len(self.sources)


def compile(graphs: Graphs) -> Program:
    """Compile n genomes array-wide.

    A node that only hands on one value (identity, one connection of weight 1: a fresh split) is bypassed, and a node's
    connections are summed in ascending order of weight, then of the id of the node the value comes from. A split
    changes neither, so it changes no bit of the picture.

    Raises:
        InvalidGenome: a genome has a cycle; `CppnEncoding.check` finds those that this overlooks.
    """
    n, width = graphs.node_ids.shape
    stride = FIRST_OUTPUT + width
    # Inputs and nodes of all genomes, one behind the other, are the places that `source` and `destination` index.
    ids = np.empty((n, stride), dtype=np.int64)
    ids[:, :FIRST_OUTPUT], ids[:, FIRST_OUTPUT:] = np.arange(FIRST_OUTPUT), graphs.node_ids
    ids = ids.ravel()
    is_output = (ids >= FIRST_OUTPUT) & (ids < FIRST_HIDDEN)
    activations = np.zeros((n, stride), dtype=np.uint8)
    activations[:, FIRST_OUTPUT:] = graphs.activations
    activations = activations.ravel()

    source, destination = flat_edges(graphs)
    weights = graphs.weights[graphs.connection_ids != PAD]
    source, destination, weights = _without_bypassed(source, destination, weights, activations, is_output)
    source, destination, weights = _without_dead_ends(source, destination, weights, is_output)

    # A node where nothing arrives gets a zero from the bias, so that every node has a first addend.
    needed, has = is_output.copy(), np.zeros(n * stride, dtype=bool)
    needed[source[ids[source] >= FIRST_OUTPUT]] = True
    has[destination] = True
    bare = np.nonzero(needed & ~has)[0]
    source = np.concatenate([source, bare // stride * stride + BIAS])
    destination = np.concatenate([destination, bare])
    weights = np.concatenate([weights, np.zeros(len(bare), dtype=np.float32)])
    order = _by_destination(destination, weights, ids[source])
    source, destination, weights = source[order], destination[order], weights[order]

    nodes = np.nonzero(needed)[0]
    first = np.searchsorted(destination, nodes)
    number = np.zeros(n * stride, dtype=np.int64)  # of a node, 1 and up; 0: an input
    number[nodes] = np.arange(1, len(nodes) + 1)
    level = _levels(number[source], first)

    kinds, kind = np.unique(activations[nodes], return_inverse=True)
    key = (level - 1) * len(kinds) + kind
    order = np.argsort(key, kind="stable")
    depth = int(level.max(initial=0))
    counts = np.bincount(key, minlength=depth * len(kinds)).reshape(depth, -1 if len(kinds) else 0)
    state = np.tile(np.arange(stride), n)  # inputs are shared
    state[nodes[order]] = FIRST_OUTPUT + np.arange(len(nodes))

    sources = state[source]
    is_other = np.ones(len(source), dtype=bool)
    is_other[first] = False
    others = np.nonzero(is_other)[0]
    level_of = level[number[destination[others]] - 1]
    by_level = np.argsort(level_of, kind="stable")
    others, level_of = others[by_level], level_of[by_level]
    begin = FIRST_OUTPUT + np.concatenate([[0], np.cumsum(counts.sum(axis=1))])
    return Program(
        activations=kinds.tolist(),
        counts=counts,
        sources=sources[first][order],
        weights=weights[first][order],
        other_counts=np.bincount(level_of - 1, minlength=depth),
        other_sources=sources[others],
        other_weights=weights[others],
        into=state[destination[others]] - begin[level_of - 1],
        outputs=state[np.nonzero(is_output)[0]].reshape(n, -1 if n else 0),  # ascending ids: the order of channels
    )


def _without_bypassed(
    source: Indices,
    destination: Indices,
    weights: NDArray[np.float32],
    activations: NDArray[np.uint8],
    is_output: NDArray[np.bool_],
) -> tuple[Indices, Indices, NDArray[np.float32]]:
    """Connections with those nodes left out that only hand on a value."""
    arrivals = np.bincount(destination, minlength=len(is_output))
    hands_on = (weights == 1) & (arrivals[destination] == 1) & (activations[destination] == 0)
    hands_on &= ~is_output[destination]
    if not hands_on.any():
        return source, destination, weights
    comes_from = np.arange(len(is_output))
    comes_from[destination[hands_on]] = source[hands_on]
    for _ in range(len(is_output).bit_length()):  # each round doubles how far a chain of them is followed
        further = comes_from[comes_from]
        if np.array_equal(further, comes_from):
            break
        comes_from = further
    bypassed = np.zeros(len(is_output), dtype=bool)
    bypassed[destination[hands_on]] = True
    if bypassed[comes_from].any():
        raise _cycle()
    kept = ~hands_on
    return comes_from[source[kept]], destination[kept], weights[kept]


def _without_dead_ends(
    source: Indices, destination: Indices, weights: NDArray[np.float32], is_output: NDArray[np.bool_]
) -> tuple[Indices, Indices, NDArray[np.float32]]:
    """Connections without those to nodes that reach no output."""
    while True:
        leads_on = is_output.copy()
        leads_on[source] = True
        kept = leads_on[destination]
        if kept.all():
            return source, destination, weights
        source, destination, weights = source[kept], destination[kept], weights[kept]


def _by_destination(destination: Indices, weights: NDArray[np.float32], ids: Indices) -> Indices:
    """The order of connections by destination, then weight, then the id of the source."""
    bits = (weights + np.float32(0)).view(np.int32)  # -0.0 counts as 0.0
    ascending = (bits ^ (bits >> 31 | np.int32(-(1 << 31)))).view(np.uint32)
    keys = destination << 32 | ascending
    order = np.argsort(keys)
    if (np.diff(keys[order]) == 0).any():
        return np.lexsort((ids, weights, destination))
    return order


def _levels(source: Indices, first: Indices) -> Indices:
    """The longest path from an input to each node.

    Args:
        source: (edges,) by destination; 0 an input, i node i - 1.
        first: (nodes,) where each node's connections begin.
    """
    level = np.zeros(1 + len(first), dtype=np.int64)
    if not len(first):
        return level[1:]
    for _ in range(len(first) + 1):
        lifted = np.maximum.reduceat(level[source], first)
        lifted += 1
        if np.array_equal(lifted, level[1:]):
            return lifted
        level[1:] = lifted
    raise _cycle()


def _cycle() -> InvalidGenome:
    return InvalidGenome("a genome has a cycle; a CPPN must be acyclic.")


def coordinates(height: int, width: int, kind: str, native: tuple[int, int] | None = None) -> NDArray[np.float32]:
    """The four inputs at every pixel, shape (4, height * width), float32, row-major.

    Args:
        height, width: size of the picture in pixels.
        kind: "unit": x and y run from -1 to 1; "raw": they are pixel indices (2015 code, phen_color_image.hpp). The
            distance d is sqrt(x**2 + y**2) on the unit grid in both.
        native: (height, width) for which raw indices are meant, so that a larger picture is the same picture.
    """
    unit_y, unit_x = (np.linspace(-1.0, 1.0, size) if size > 1 else np.zeros(1) for size in (height, width))
    native_height, native_width = native or (height, width)
    y, x = unit_y, unit_x
    if kind == "raw":
        y = (unit_y + 1) / 2 * (native_height - 1)
        x = (unit_x + 1) / 2 * (native_width - 1)
    grid = np.empty((4, height, width), dtype=np.float64)
    grid[0], grid[1] = x[None, :], y[:, None]
    grid[2] = np.sqrt(unit_x[None, :] ** 2 + unit_y[:, None] ** 2)
    grid[3] = 1.0
    return grid.reshape(4, -1).astype(np.float32)
