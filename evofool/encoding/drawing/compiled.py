"""Rendering compiled by numba, on CPUs: CPPNs of `encoding.arithmetic: portable`, and colours of direct genomes.

These are the pictures of render.py with the same arithmetic (portable.py), bit for bit, which tests hold. Here one
genome is drawn after the other, as in reference.py: the values of all its nodes for one tile of pixels stay in the
nearest cache, and no array operation has a price of its own. It shares no code with `programs.compile`, whose
array-wide steps would cost more than the drawing.

Functions that numba compiles say nothing of types; they are annotated where Python calls them.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, misc"

from __future__ import annotations

from functools import lru_cache
from typing import TypeVar

import numpy as np
from numba import njit
from numpy.typing import NDArray

from evofool.base.jit import compiled
from evofool.encoding.contract import Encoding
from evofool.encoding.cppn import programs
from evofool.encoding.cppn.genome import ACTIVATIONS, CppnEncoding
from evofool.encoding.cppn.graphs import BIAS, CYCLE, FIRST_HIDDEN, FIRST_OUTPUT, PAD, Graphs, flat_edges
from evofool.encoding.direct.genome import DirectEncoding
from evofool.encoding.drawing import portable
from evofool.encoding.drawing.compiled_colours import COLOURS, all_to_bytes, finish
from evofool.errors import InvalidGenome

__all__ = ["exponential", "quantised", "render", "sine", "supports"]

f32, i32 = np.float32, np.int32
_Number = TypeVar("_Number", bound=np.generic)

_TILE = 784  # pixels: some ten nodes of a tile fill the nearest cache
_IDENTITY, _SINE, _SIGMOID, _GAUSSIAN, _LINEAR = range(len(ACTIVATIONS))
_X, _Y, _D = 1, 2, 4  # the coordinates that a value depends on, as bits
_ONE = np.array([bits in (0, _X, _Y, _D) for bits in range(8)])  # whether that is one coordinate at most

_inlined = njit(error_model="numpy", inline="always")


def supports(encoding: CppnEncoding) -> bool:
    """Whether all activations are built-in ones; the user's own are Python functions, which numba cannot call."""
    return all(name in ACTIVATIONS for name in encoding.activations)


def render(encoding: CppnEncoding, graphs: Graphs) -> NDArray[np.uint8]:
    """Pictures of a batch of genomes at the encoding's size.

    Returns:
        (n, height, width, 1 or 3) uint8, grey or RGB.

    Raises:
        InvalidGenome: a genome has a cycle among nodes that lead to an output, or that only hand on a value.
    """
    images = np.empty((len(graphs), encoding.height * encoding.width, encoding.channels), dtype=np.uint8)
    live = graphs.connection_ids != PAD
    source, destination = flat_edges(graphs)
    is_drawn = _pictures(
        images,
        encoding.width,
        _pixels(encoding.height, encoding.width, encoding.coordinates),
        _read_only(graphs.node_ids),
        _read_only(graphs.activations),
        np.concatenate([[0], np.cumsum(live.sum(axis=1))]),
        source,
        destination,
        graphs.weights[live],
        (encoding.output == "absolute", *_ending(encoding)),
    )
    if not is_drawn:
        raise InvalidGenome(CYCLE)
    return images.reshape(len(graphs), encoding.height, encoding.width, encoding.channels)


def quantised(encoding: DirectEncoding, genomes: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Pictures of direct genomes, (n, height, width, channels) uint8, grey or RGB."""
    pixels = _read_only(genomes).reshape(len(genomes), -1, encoding.channels)
    images = np.empty(pixels.shape, dtype=np.uint8)
    all_to_bytes(images, pixels, *_ending(encoding))
    return images.reshape(genomes.shape)


def _read_only(array: NDArray[_Number]) -> NDArray[_Number]:
    """A view of one kind, contiguous and read-only, since numba compiles for each kind; Ray gives read-only arrays."""
    view = np.ascontiguousarray(array).view()
    view.flags.writeable = False
    return view


def _ending(encoding: Encoding) -> tuple[int, np.float32]:
    return COLOURS[encoding.colour], f32(0.5 if encoding.quantisation == "round" else 0)


@lru_cache(maxsize=8)
def _pixels(
    height: int, width: int, kind: str
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64], NDArray[np.int32]]:
    """The inputs at every pixel, and what those nodes are computed for that need one coordinate at most.

    Returns:
        (4, pixels) inputs; (8, 4, most) inputs along x, along y, and at the distinct distances from the centre, and
        (8,) how many of each, both by the bits of the coordinates; (pixels,) which distance each pixel has.
    """
    inputs = programs.coordinates(height, width, kind)
    values, places = programs.distinct(height, width, kind)
    distances = int(places[2].max()) + 1
    most = max(height, width, distances)
    lengths = np.array([most, width, height, 0, distances, 0, 0, 0])
    axes = np.zeros((8, FIRST_OUTPUT, most), dtype=np.float32)
    axes[:, BIAS] = inputs[BIAS, 0]
    axes[_X, 0, :width] = inputs[0, :width]
    axes[_Y, 1, :height] = inputs[1, ::width]
    axes[_D, 2, :distances] = values[2, :distances]
    return inputs, axes, lengths, places[2].astype(np.int32)


# ------------------------------------------------------------------------------------------------ arithmetic


@_inlined
def sine(x):
    """As portable.py defines it, of a float32."""
    near = portable.LARGEST_ANGLE if x > portable.LARGEST_ANGLE else x
    wide = np.float64(-portable.LARGEST_ANGLE if near < -portable.LARGEST_ANGLE else near)
    n = (wide * portable.ONE_OVER_TWO_PI + portable.WHOLE_FLOAT64) - portable.WHOLE_FLOAT64
    r = f32((wide - n * portable.TWO_PI_HIGH) - n * portable.TWO_PI_LOW)
    mirrored = portable.PI - r
    r = r if r < mirrored else mirrored
    mirrored = -portable.PI - r
    r = mirrored if r < mirrored else r
    square = r * r
    p = ((portable.SINE[3] * square + portable.SINE[2]) * square + portable.SINE[1]) * square + portable.SINE[0]
    return (r + r * (square * p)) + (x - x)


@_inlined
def exponential(x):
    """As portable.py defines it, of a float32."""
    shifted = f32(x * portable.ONE_OVER_LN2 + portable.WHOLE)
    n = shifted - portable.WHOLE
    r = (x - n * portable.LN2_HIGH) - n * portable.LN2_LOW
    q = portable.EXPONENTIAL[4] * r + portable.EXPONENTIAL[3]
    q = ((q * r + portable.EXPONENTIAL[2]) * r + portable.EXPONENTIAL[1]) * r + portable.EXPONENTIAL[0]
    power = i32((shifted.view(i32) << 23) + portable.ONE_BITS).view(f32)
    return (f32(1) + (r + (r * r) * q)) * power


@compiled
def _activate(kind, row):
    """Each number's activation, in place. A comparison with NaN is false, so NaN stays NaN."""
    if kind == _SINE:
        for i in range(row.size):
            row[i] = sine(row[i])
    elif kind == _SIGMOID:
        for i in range(row.size):
            p = row[i]
            p = portable.LARGEST_EXPONENT if p > portable.LARGEST_EXPONENT else p
            p = -portable.LARGEST_EXPONENT if p < -portable.LARGEST_EXPONENT else p
            row[i] = f32(2) / (f32(1) + exponential(-p)) - f32(1)
    elif kind == _GAUSSIAN:
        for i in range(row.size):
            q = -(row[i] * row[i])
            e = exponential(-portable.LARGEST_EXPONENT if q < -portable.LARGEST_EXPONENT else q)
            row[i] = f32(0) if q < -portable.LARGEST_EXPONENT else e
    elif kind == _LINEAR:
        for i in range(row.size):
            p = row[i]
            p = f32(3) if p > f32(3) else p
            p = f32(-3) if p < f32(-3) else p
            row[i] = p / f32(3)


@compiled
def _node(row, kind, sources, weights, row_of, state, inputs, start):
    """The values of a node for the pixels from `start` on, from those of its sources."""
    row[:] = 0
    for e in range(sources.size):
        source, weight = sources[e], weights[e]
        if source < FIRST_OUTPUT:
            values = inputs[source, start : start + row.size]
        else:
            values = state[row_of[source], : row.size]
        if e == 0:
            for i in range(row.size):
                row[i] = values[i] * weight
        else:
            for i in range(row.size):
                row[i] += values[i] * weight
    _activate(kind, row)


@compiled
def _copy(row, values):
    """As `row[:] = values`, which takes numba seconds to compile."""
    for i in range(row.size):
        row[i] = values[i]


# ------------------------------------------------------------------------------------------------ one genome


@compiled
def _arrange(source, destination, weights, ids, activations):
    """The connections of a genome by destination, each destination's in the order of its sum; see `programs.compile`.

    Args:
        source, destination: places: inputs, then nodes.

    Returns:
        Where the connections to each place begin, their sources and weights; no sources at all if nodes that only hand
        on a value form a cycle.
    """
    places = FIRST_OUTPUT + ids.size
    begin = np.zeros(places + 1, np.int64)
    for e in range(destination.size):
        begin[destination[e] + 1] += 1
    begin = np.cumsum(begin)
    fill = begin[:-1].copy()
    sources, sorted_weights = np.empty_like(source), np.empty_like(weights)
    for e in range(destination.size):
        at = fill[destination[e]]
        sources[at], sorted_weights[at] = source[e], weights[e]
        fill[destination[e]] += 1

    comes_from = np.arange(places)  # further back where a node only hands on a value
    for i in range(ids.size):
        at = begin[FIRST_OUTPUT + i]
        is_alone = ids[i] >= FIRST_HIDDEN and begin[FIRST_OUTPUT + i + 1] == at + 1
        if is_alone and activations[i] == _IDENTITY and sorted_weights[at] == 1:
            comes_from[FIRST_OUTPUT + i] = sources[at]
    for e in range(sources.size):
        for _ in range(ids.size + 1):
            sources[e], before = comes_from[sources[e]], sources[e]
            if sources[e] == before:
                break
        else:
            return begin, sources[:0], sorted_weights

    for place in range(FIRST_OUTPUT, places):  # insertion sort by weight, then by the id of the source
        for last in range(begin[place] + 1, begin[place + 1]):
            one, weight, at = sources[last], sorted_weights[last], last
            identity = one if one < FIRST_OUTPUT else ids[one - FIRST_OUTPUT]
            while at > begin[place]:
                other = sources[at - 1]
                if sorted_weights[at - 1] < weight:
                    break
                other_identity = other if other < FIRST_OUTPUT else ids[other - FIRST_OUTPUT]
                if sorted_weights[at - 1] == weight and other_identity <= identity:
                    break
                sources[at], sorted_weights[at] = other, sorted_weights[at - 1]
                at -= 1
            sources[at], sorted_weights[at] = one, weight
    return begin, sources, sorted_weights


@compiled
def _ordered(begin, sources, outputs):
    """The places of nodes that outputs need, each behind its sources; none at all if such nodes form a cycle."""
    order, count = np.empty(begin.size - 1, np.int64), 0
    next_source = begin[:-1].copy()
    is_open, is_done = np.zeros(begin.size - 1, np.bool_), np.zeros(begin.size - 1, np.bool_)
    is_done[:FIRST_OUTPUT] = True
    path = np.empty(begin.size - 1, np.int64)
    for output in range(FIRST_OUTPUT, FIRST_OUTPUT + outputs):
        depth = 0
        if not is_done[output]:
            path[0], depth, is_open[output] = output, 1, True
        while depth:
            place = path[depth - 1]
            if next_source[place] < begin[place + 1]:
                source = sources[next_source[place]]
                next_source[place] += 1
                if is_open[source]:
                    return order[:0]
                if not is_done[source]:
                    path[depth], is_open[source] = source, True
                    depth += 1
            else:
                is_open[place], is_done[place] = False, True
                order[count] = place
                count += 1
                depth -= 1
    return order[:count]


@compiled
def _picture(image, width, pixels, begin, sources, weights, order, kinds, tile, ending):
    """Draw one genome.

    Args:
        image: (pixels, channels) uint8; all of it is written.
        pixels: as `_pixels`.
        order: places of its nodes.
        kinds: their activations, by place.
        tile: pixels; whole rows of the picture.
        ending: (absolute, colour, half), see `finish`.
    """
    inputs, axes, lengths, places_of_d = pixels
    places = begin.size - 1
    needs = np.zeros(places, np.int64)
    needs[0], needs[1], needs[2] = _X, _Y, _D
    for place in order:
        for e in range(begin[place], begin[place + 1]):
            needs[place] |= needs[sources[e]]

    # Nodes that need one coordinate at most, along its axis; which of them the pixels' nodes and the outputs need.
    along, row_along = np.empty((order.size, axes.shape[2]), np.float32), np.zeros(places, np.int64)
    is_needed = np.zeros(places, np.bool_)
    is_needed[FIRST_OUTPUT : FIRST_OUTPUT + image.shape[1]] = True
    for at in range(order.size):
        place = order[at]
        part = slice(begin[place], begin[place + 1])
        if _ONE[needs[place]]:
            row_along[place] = at
            row = along[at, : lengths[needs[place]]]
            _node(row, kinds[place], sources[part], weights[part], row_along, along, axes[needs[place]], 0)
        else:
            is_needed[place] = True
            for e in range(begin[place], begin[place + 1]):
                is_needed[sources[e]] = True
    row_of, rows = np.zeros(places, np.int64), 0
    for place in order:
        if is_needed[place]:
            row_of[place] = rows
            rows += 1

    state = np.empty((rows, tile), np.float32)
    for start in range(0, image.shape[0], tile):
        size = min(tile, image.shape[0] - start)
        for place in order:
            if not is_needed[place]:
                continue
            row, need = state[row_of[place], :size], needs[place]
            if not _ONE[need]:
                part = slice(begin[place], begin[place + 1])
                _node(row, kinds[place], sources[part], weights[part], row_of, state, inputs, start)
                continue
            values_along = along[row_along[place]]
            if need == _D:
                for i in range(size):
                    row[i] = values_along[places_of_d[start + i]]
            elif need == _Y:
                for first in range(0, size, width):
                    row[first : first + width] = values_along[(start + first) // width]
            else:
                for first in range(0, size, width):
                    _copy(row[first : first + width], values_along)
        values = np.empty((image.shape[1], size), np.float32)
        for channel in range(image.shape[1]):
            _copy(values[channel], state[row_of[FIRST_OUTPUT + channel]])
        finish(image[start : start + size], values, ending)


@compiled
def _pictures(images, width, pixels, node_ids, kinds, edges, source, destination, weights, ending):
    """Draw every genome; False if one has a cycle.

    Args:
        images: (n, pixels, channels) uint8.
        edges: (n + 1,) where each genome's connections begin in `source`, `destination` and `weights`.
    """
    n, size, channels = images.shape
    places = FIRST_OUTPUT + node_ids.shape[1]
    tile = width * max(1, min(_TILE, size) // width)
    kinds_of_places = np.zeros(places, np.uint8)
    for g in range(n):
        part, first = slice(edges[g], edges[g + 1]), g * places
        begin, sources, sorted_weights = _arrange(
            source[part] - first, destination[part] - first, weights[part], node_ids[g], kinds[g]
        )
        order = _ordered(begin, sources, channels)
        if (begin[-1] and not sources.size) or not order.size:
            return False
        _copy(kinds_of_places[FIRST_OUTPUT:], kinds[g])
        _picture(images[g], width, pixels, begin, sources, sorted_weights, order, kinds_of_places, tile, ending)
    return True
