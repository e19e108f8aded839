"""Rendering in plain numpy, one genome at a time, at any size: the oracle of render.py, and what exports use.

It shares no code with `programs.compile` or render.py beyond the coordinates, so that agreement means something. They
may differ by a grey level where a sine or an exponential was rounded differently; what an archive is judged by is the
stored image.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from evofool.encoding.contract import Encoding
from evofool.encoding.cppn import programs
from evofool.encoding.cppn.genome import CppnEncoding
from evofool.encoding.cppn.graphs import CYCLE, FIRST_HIDDEN, FIRST_OUTPUT, Graphs
from evofool.encoding.direct.genome import DirectEncoding
from evofool.errors import InvalidGenome
from evofool.records import Genomes

__all__ = ["ACTIVATIONS", "node_values", "quantise", "render", "to_rgb"]

Array = NDArray[np.float32]

_AT_ONCE = 1 << 18  # pixels: the values of all nodes are held, which at 4096 x 4096 are 64 MiB each

# The four of Nguyen et al. 2015 (sferes, af_cppn.hpp), and the identity of split nodes.
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "identity": lambda p: p,
    "sine": np.sin,
    "sigmoid": lambda p: np.float32(2) / (np.float32(1) + np.exp(-p)) - np.float32(1),
    "gaussian": lambda p: np.exp(-(p * p)),
    "linear": lambda p: np.clip(p, np.float32(-3), np.float32(3)) / np.float32(3),
}


def render(encoding: Encoding, genomes: Genomes, row: int, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """The picture of one genome.

    Args:
        genomes: a batch of the encoding.
        row: which of them.
        size: (height, width); the encoding's own by default. A direct genome is enlarged by nearest neighbour.

    Returns:
        (height, width, 1 or 3) uint8, grey or RGB.
    """
    height, width = size or (encoding.height, encoding.width)
    if isinstance(encoding, DirectEncoding):
        rows = np.arange(height) * encoding.height // height
        columns = np.arange(width) * encoding.width // width
        return pixels(genomes[row][rows][:, columns], encoding)
    assert isinstance(encoding, CppnEncoding)
    inputs = programs.coordinates(height, width, encoding.coordinates, (encoding.height, encoding.width))
    image = np.empty((height * width, encoding.channels), dtype=np.uint8)
    for start in range(0, len(image), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        with np.errstate(over="ignore", invalid="ignore", under="ignore"):
            values = _evaluate(encoding, genomes, row, inputs[:, part])
        values = np.abs(values) if encoding.output == "absolute" else (values + np.float32(1)) / np.float32(2)
        image[part] = pixels(np.ascontiguousarray(np.clip(np.nan_to_num(values, nan=0.0), 0, 1).T), encoding)
    return image.reshape(height, width, -1)


def _evaluate(encoding: CppnEncoding, graphs: Graphs, row: int, inputs: Array) -> Array:
    """Output values, (channels, pixels)."""
    values = node_values(encoding, graphs, row, inputs)
    return np.stack([values[FIRST_OUTPUT + channel] for channel in range(encoding.channels)])


def node_values(encoding: CppnEncoding, graphs: Graphs, row: int, inputs: Array) -> dict[int, Array]:
    """The values of inputs and nodes by id, (pixels,) each: evaluates every node whose sources all have values, until
    no node is left.

    Args:
        inputs: (4, pixels) x, y, d and bias.
    """
    value_of: dict[int, Array] = dict(enumerate(inputs))
    genes = encoding.genes(graphs, row)
    waiting = {g["id"]: g["activation"] for g in genes if g["gene"] == "node"}
    arriving: dict[int, list[tuple[float, int]]] = {node: [] for node in waiting}
    for gene in genes:
        if gene["gene"] == "connection":
            arriving[gene["destination"]].append((gene["weight"], gene["source"]))

    def comes_from(node: int) -> int:
        """The node whose value `node` only hands on; see `programs.compile` on the order of sums."""
        for _ in range(len(kinds)):
            if kinds.get(node) != "identity" or len(arriving[node]) != 1 or arriving[node][0][0] != 1:
                break
            node = arriving[node][0][1]
        return node

    kinds = {node: kind for node, kind in waiting.items() if node >= FIRST_HIDDEN}
    order = {node: sorted((w, comes_from(s), s) for w, s in edges) for node, edges in arriving.items()}
    while waiting:
        ready = [node for node in waiting if all(source in value_of for _, source in arriving[node])]
        if not ready:
            raise InvalidGenome(CYCLE)
        for node in ready:
            total = np.zeros(inputs.shape[1], dtype=np.float32)
            for weight, _, source in order[node]:
                total += np.float32(weight) * value_of[source]
            value_of[node] = _activation(encoding, waiting.pop(node))(total)
    return value_of


def _activation(encoding: CppnEncoding, name: str) -> Callable[[Array], Array]:
    if name in ACTIVATIONS:
        return ACTIVATIONS[name]
    function = encoding.own(name)
    return lambda p: np.nan_to_num(np.asarray(function(p, np), dtype=np.float32))


def pixels(values: Array, encoding: Encoding) -> NDArray[np.uint8]:
    """Numbers in [0, 1] in the genome's colour space, (..., 1 or 3), to grey or RGB uint8."""
    if encoding.colour == "hls2015":
        return hls2015(quantise(values, encoding.quantisation))
    return quantise(to_rgb(values, encoding.colour), encoding.quantisation)


def to_rgb(values: Array, colour: str) -> Array:
    """Numbers in [0, 1], (..., 1 or 3), to grey or RGB in [0, 1]. Hue 0 and 1 are both red."""
    if colour != "hsv":
        return values
    hue, saturation, value = (values[..., i] for i in range(3))
    channels = []
    for offset in (5, 3, 1):  # k = (offset + 6 h) mod 6; channel = v - v s max(0, min(k, 4 - k, 1))
        k = (np.float32(offset) + hue * np.float32(6)) % np.float32(6)
        channels.append(value - value * saturation * np.clip(np.minimum(k, np.float32(4) - k), 0, 1))
    return np.stack(channels, axis=-1)


def hls2015(levels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Hue, lightness and saturation bytes, (..., 3), to RGB, as the 2015 code gave them to OpenCV.

    OpenCV counts hue in steps of 2 degrees, 0 .. 179, and the code never scaled it, so bytes 180 .. 255 repeat the
    hues 0 .. 150 degrees (phen_color_image.hpp, fit_map_deep_learning.hpp).
    """
    hue = levels[..., 0].astype(np.float32) / np.float32(30)  # sextants of the colour circle
    lightness, saturation = (levels[..., i].astype(np.float32) / np.float32(255) for i in (1, 2))
    dark = lightness <= np.float32(0.5)
    high = np.where(dark, lightness * (1 + saturation), lightness + saturation - lightness * saturation)
    low = np.float32(2) * lightness - high
    channels = []
    for offset in (2, 0, 4):
        k = (np.float32(offset) + hue) % np.float32(6)
        channels.append(low + (high - low) * np.clip(np.minimum(k, np.float32(4) - k), 0, 1))
    return quantise(np.clip(np.stack(channels, axis=-1), 0, 1))


def quantise(values: Array, quantisation: str = "round") -> NDArray[np.uint8]:
    """[0, 1] to 0 .. 255, rounded half up or truncated."""
    half = np.float32(0.5 if quantisation == "round" else 0.0)
    return np.floor(values * np.float32(255) + half).astype(np.uint8)
