"""CPPN genomes made ready to render: `compile` once, render many times, at any size; and the pixels' coordinates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evofool.encoding.cppn import FIRST_HIDDEN, FIRST_OUTPUT, PAD, Graphs, flat_edges
from evofool.errors import InvalidGenome

__all__ = ["Program", "compile", "coordinates"]


@dataclass(frozen=True)
class Program:
    """Genomes made ready to render: what does not reach an output is dropped, the rest is in topological order.

    State rows 0 .. 3 are the inputs, shared by all genomes; row 4 + i is node i. Nodes are sorted by level, so the
    nodes of one level need only rows before them.
    """

    genomes: int
    levels: NDArray[np.int64]  # (L + 1,) where each level's nodes begin
    activations: NDArray[np.uint8]  # (nodes,)
    fan_in: NDArray[np.int64]  # (nodes,) descending inside a level
    first_edge: NDArray[np.int64]  # (nodes,) a node's connections lie side by side ...
    sources: NDArray[np.int64]  # (edges,) state rows
    weights: NDArray[np.float32]  # (edges,) ... in ascending order of weight
    outputs: NDArray[np.int64]  # (genomes, channels) state rows


def compile(graphs: Graphs) -> Program:
    """Compile n genomes array-wide.

    A node that only hands on one value (identity, one connection of weight 1: a fresh split) is bypassed, and a node's
    connections are summed in ascending order of weight, then of the id of the node the value comes from. A split
    changes neither, so it changes no bit of the picture.

    Raises:
        InvalidGenome: a cycle reaches an output; `CppnEncoding.check` finds the others.
    """
    n, width = graphs.node_ids.shape
    stride = FIRST_OUTPUT + width
    _, source, destination = flat_edges(graphs)
    weights = graphs.weights[graphs.connection_ids != PAD]

    exists = np.zeros((n, stride), dtype=bool)
    exists[:, FIRST_OUTPUT:] = graphs.node_ids != PAD
    is_output = np.zeros((n, stride), dtype=bool)
    is_output[:, FIRST_OUTPUT:] = exists[:, FIRST_OUTPUT:] & (graphs.node_ids < FIRST_HIDDEN)
    activations = np.zeros((n, stride), dtype=np.uint8)
    activations[:, FIRST_OUTPUT:] = graphs.activations
    ids = np.empty((n, stride), dtype=np.int64)
    ids[:, :FIRST_OUTPUT], ids[:, FIRST_OUTPUT:] = np.arange(FIRST_OUTPUT), graphs.node_ids

    arrivals = np.bincount(destination, minlength=n * stride)
    hands_on = (arrivals[destination] == 1) & (weights == 1) & (activations.ravel()[destination] == 0)
    hands_on &= ~is_output.ravel()[destination]
    comes_from = np.arange(n * stride)
    comes_from[destination[hands_on]] = source[hands_on]
    for _ in range(max(1, width).bit_length()):  # each round doubles how far a chain of them is followed
        comes_from = comes_from[comes_from]
    if np.isin(comes_from, destination[hands_on]).any():
        raise InvalidGenome("a genome has a cycle; a CPPN must be acyclic.")
    source, destination, weights = comes_from[source[~hands_on]], destination[~hands_on], weights[~hands_on]

    useful = is_output.ravel().copy()
    while True:
        new = source[useful[destination] & ~useful[source]]
        if not len(new):
            break
        useful[new] = True
    keep = useful[destination]
    source, destination, weights = source[keep], destination[keep], weights[keep]

    order = np.lexsort((ids.ravel()[source], weights, destination))
    source, destination, weights = source[order], destination[order], weights[order]
    heads, first = np.unique(destination, return_index=True)
    level = np.zeros(n * stride, dtype=np.int64)
    level.reshape(n, stride)[:, FIRST_OUTPUT:] = 1
    for _ in range(width + 1):
        lifted = np.maximum.reduceat(level[source], first) + 1 if len(first) else level[heads]
        if np.array_equal(lifted, level[heads]):
            break
        level[heads] = lifted
    else:
        raise InvalidGenome("a genome has a cycle; a CPPN must be acyclic.")

    fan_in = np.zeros(n * stride, dtype=np.int64)
    fan_in[heads] = np.diff(first, append=len(source))
    first_edge = np.zeros(n * stride, dtype=np.int64)
    first_edge[heads] = first

    nodes = np.nonzero(useful & exists.ravel())[0]
    nodes = nodes[np.lexsort((nodes, -fan_in[nodes], level[nodes]))]
    state = np.tile(np.arange(stride), n)  # inputs are shared
    state[nodes] = FIRST_OUTPUT + np.arange(len(nodes))
    depth = int(level[nodes].max(initial=0))
    output_rows = np.nonzero(is_output.ravel())[0].reshape(n, -1 if n else 0)  # ascending ids: channel order
    return Program(
        genomes=n,
        levels=np.searchsorted(level[nodes], np.arange(1, depth + 2)),
        activations=activations.ravel()[nodes],
        fan_in=fan_in[nodes],
        first_edge=first_edge[nodes],
        sources=state[source],
        weights=weights,
        outputs=state[output_rows],
    )


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
