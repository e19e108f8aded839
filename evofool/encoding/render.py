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
            return _quantise(_to_rgb(values, encoding.colour))
        assert isinstance(encoding, CppnEncoding)
        values = _evaluate(programs.compile(genomes), encoding, device)
        values = values.abs() if encoding.output == "absolute" else (values + 1) / 2
        values = torch.nan_to_num(values, nan=0.0).clamp(0, 1)
        pixels = encoding.height * encoding.width
        images = _quantise(_to_rgb(values.unsqueeze(-1), encoding.colour))  # (n, padded pixels, 1, channels)
        return images[:, :pixels].reshape(len(genomes), encoding.height, encoding.width, -1)


def _evaluate(program: Program, encoding: CppnEncoding, device: str) -> torch.Tensor:
    """Output values of every genome, (n, channels, pixels padded to whole blocks), float32."""
    inputs = programs.coordinates(encoding.height, encoding.width, encoding.coordinates)
    padded = -(-inputs.shape[1] // _BLOCK) * _BLOCK
    grid = torch.zeros((len(inputs), padded), device=device)
    grid[:, : inputs.shape[1]] = torch.from_numpy(inputs)
    rows = len(inputs) + len(program.fan_in)
    tile = max(_BLOCK, _STATE_BYTES // (4 * rows) // _BLOCK * _BLOCK)
    steps = [_Step(program, first, last, device) for first, last in zip(program.levels[:-1], program.levels[1:])]
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

    def __init__(self, program: Program, first: int, last: int, device: str) -> None:
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
            (ACTIVATIONS[cppn.ACTIVATIONS[code]], torch.from_numpy(np.nonzero(codes == code)[0]).to(device))
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


def _to_rgb(values: torch.Tensor, colour: str) -> torch.Tensor:
    """(n, 1 or 3, ...) in the genome's colour space to grey or RGB, all in [0, 1]."""
    if colour != "hsv":
        return values
    hue, saturation, value = values.unbind(1)
    channels = []
    for offset in (5, 3, 1):
        k = (offset + hue * 6) % 6
        channels.append(value - value * saturation * torch.minimum(k, 4 - k).clamp(0, 1))
    return torch.stack(channels, dim=1)


def _quantise(values: torch.Tensor) -> NDArray[np.uint8]:
    """(n, channels, h, w) in [0, 1] to (n, h, w, channels) uint8, rounded half up."""
    return torch.floor(values * 255 + 0.5).to(torch.uint8).movedim(1, -1).contiguous().cpu().numpy()
