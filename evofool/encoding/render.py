"""Rendering on a device: genomes of any topology in one batch.

A picture must not depend on which genomes it is rendered with, since an elite is rendered again later on its own.
Every operation here is elementwise along pixels, and every block is a whole number of 64 pixels, so that vectorised
loops have no remainder that another code path would handle.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from evofool.encoding import Encoding, cppn, programs
from evofool.encoding.activations import own
from evofool.encoding.cppn import CppnEncoding
from evofool.encoding.direct import DirectEncoding
from evofool.encoding.pictures import PictureEncoding
from evofool.encoding.programs import Program

__all__ = ["ACTIVATIONS", "render"]

_BLOCK = 64
_STATE_BYTES = 1 << 20  # node values held at a time, to stay in cache; the tile of pixels shrinks as genomes grow

ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "identity": lambda p: p,
    "sine": torch.sin,
    "sigmoid": lambda p: 2 / (1 + torch.exp(-p)) - 1,
    "gaussian": lambda p: torch.exp(-(p * p)),
    "linear": lambda p: torch.clamp(p, -3, 3) / 3,
}


def render(encoding: Encoding | PictureEncoding, genomes: Any, device: str = "cpu") -> NDArray[np.uint8]:
    """Pictures of a batch of genomes at the encoding's size.

    Returns:
        (n, height, width, 1 or 3) uint8, grey or RGB.

    Raises:
        InvalidGenome: a CPPN has a cycle.
    """
    if isinstance(encoding, PictureEncoding):
        return np.asarray(genomes)
    with torch.inference_mode():
        if isinstance(encoding, DirectEncoding):
            values = torch.as_tensor(genomes, device=device).movedim(-1, 1)  # (n, channels, h, w)
            return _pixels(values, encoding)
        assert isinstance(encoding, CppnEncoding)
        values = _evaluate(programs.compile(genomes), encoding, device)
        values = values.abs() if encoding.output == "absolute" else (values + 1) / 2
        values = torch.nan_to_num(values, nan=0.0).clamp(0, 1)
        pixels = encoding.height * encoding.width
        images = _pixels(values.unsqueeze(-1), encoding)  # (n, padded pixels, 1, channels)
        return images[:, :pixels].reshape(len(genomes), encoding.height, encoding.width, -1)


def _evaluate(program: Program, encoding: CppnEncoding, device: str) -> torch.Tensor:
    """Output values of every genome, (n, channels, pixels padded to whole blocks), float32."""
    inputs = programs.coordinates(encoding.height, encoding.width, encoding.coordinates)
    padded = -(-inputs.shape[1] // _BLOCK) * _BLOCK
    grid = torch.zeros((len(inputs), padded), device=device)
    grid[:, : inputs.shape[1]] = torch.from_numpy(inputs)
    rows = len(inputs) + len(program.fan_in)
    tile = max(_BLOCK, _STATE_BYTES // (4 * rows) // _BLOCK * _BLOCK)
    names = encoding.activation_names
    steps = [_Step(program, names, first, last, device) for first, last in zip(program.levels[:-1], program.levels[1:])]
    outputs = torch.from_numpy(program.outputs).to(device)
    result = torch.empty((*outputs.shape, padded), device=device)
    for start in range(0, padded, tile):
        part = grid[:, start : start + tile]
        state = torch.empty((rows, part.shape[1]), device=device)
        state[: len(inputs)] = part
        for step in steps:
            step(state)
        result[:, :, start : start + tile] = state[outputs]
    return result


class _Step:
    """Evaluates the nodes of one level: the k-th connections of all nodes at once, then each activation."""

    def __init__(self, program: Program, names: dict[int, str], first: int, last: int, device: str) -> None:
        base = len(cppn.INPUTS)
        self.rows = slice(base + first, base + last)
        fan_in, edges = program.fan_in[first:last], program.first_edge[first:last]
        self.arrivals = []
        for k in range(int(fan_in.max(initial=0))):
            edge = edges[: int((fan_in > k).sum())] + k  # nodes are in descending order of fan-in
            sources = torch.from_numpy(program.sources[edge]).to(device)
            self.arrivals.append((sources, torch.from_numpy(program.weights[edge]).to(device)[:, None]))
        codes = program.activations[first:last]
        self.groups = [
            (_activation(names[int(code)]), torch.from_numpy(np.nonzero(codes == code)[0]).to(device))
            for code in np.unique(codes)
        ]

    def __call__(self, state: torch.Tensor) -> None:
        total = state[self.rows]  # a view: sums are made in place
        total.zero_()
        for sources, weights in self.arrivals:
            total[: len(sources)] += state[sources] * weights
        if len(self.groups) == 1:
            total.copy_(self.groups[0][0](total))
            return
        for function, nodes in self.groups:
            total[nodes] = function(total[nodes])


def _activation(name: str) -> Callable[[torch.Tensor], torch.Tensor]:
    if name in ACTIVATIONS:
        return ACTIVATIONS[name]
    function = own(name)
    return lambda p: torch.nan_to_num(function(p, torch))


def _pixels(values: torch.Tensor, encoding: Encoding) -> NDArray[np.uint8]:
    """(n, channels, h, w) numbers in [0, 1] in the genome's colour space to (n, h, w, channels) uint8 grey or RGB."""
    if encoding.colour == "hls2015":
        levels = _hls2015(_levels(values, encoding.quantisation))
    elif encoding.colour == "hsv":
        levels = _levels(_hsv(values), encoding.quantisation)
    else:
        levels = _levels(values, encoding.quantisation)
    return levels.to(torch.uint8).movedim(1, -1).contiguous().cpu().numpy()


def _levels(values: torch.Tensor, quantisation: str) -> torch.Tensor:
    """[0, 1] to whole numbers 0 .. 255."""
    return torch.floor(values * 255 + (0.5 if quantisation == "round" else 0.0))


def _hsv(values: torch.Tensor) -> torch.Tensor:
    """Hue, saturation and value to RGB, all in [0, 1]."""
    hue, saturation, value = values.unbind(1)
    channels = []
    for offset in (5, 3, 1):
        k = (offset + hue * 6) % 6
        channels.append(value - value * saturation * torch.minimum(k, 4 - k).clamp(0, 1))
    return torch.stack(channels, dim=1)


def _hls2015(levels: torch.Tensor) -> torch.Tensor:
    """Hue, lightness and saturation bytes to RGB levels; see `reference.hls2015`."""
    hue, lightness, saturation = levels[:, 0] / 30, levels[:, 1] / 255, levels[:, 2] / 255
    high = torch.where(lightness <= 0.5, lightness * (1 + saturation), lightness + saturation - lightness * saturation)
    low = 2 * lightness - high
    channels = []
    for offset in (2, 0, 4):
        k = (offset + hue) % 6
        channels.append(low + (high - low) * torch.minimum(k, 4 - k).clamp(0, 1))
    return _levels(torch.stack(channels, dim=1).clamp(0, 1), "round")
