"""Rendering on a device: genomes of any topology in one batch.

A picture must not depend on which genomes it is rendered with, since an elite is rendered again later on its own.
Every operation here is elementwise along pixels, and every block is a whole number of 64 pixels, so that vectorised
loops have no remainder that another code path would handle.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import threshold_

from evofool.encoding import Encoding, cppn, programs
from evofool.encoding.activations import own
from evofool.encoding.cppn import CppnEncoding
from evofool.encoding.pictures import PictureEncoding
from evofool.encoding.programs import Program

__all__ = ["ACTIVATIONS", "render"]

_BLOCK = 64  # pixels that a tile is a whole number of
_GENOMES = 128  # compiled and drawn at a time
_SCRATCH_BYTES = 8 << 20  # node values held at a time, to stay in cache; the tile of pixels shrinks as genomes grow


# As tensors, since torch converts a Python number to one, and to float32, at every use.
_1, _2, _3, _255 = (torch.tensor(float(value)) for value in (1, 2, 3, 255))


# On CPUs exp takes ten times as long where its result is 0, subnormal or infinite. So such numbers do not come to it
# where that changes no bit: 1 + exp(-87) is 1, 1 / (1 + exp(88)) - 1 is -1, and exp(-104) is 0.


def _sigmoid(p: torch.Tensor) -> None:
    p.clamp_(-88, 87).neg_().exp_().add_(_1).reciprocal_().mul_(_2).sub_(_1)  # 2 / (1 + exp(-p)) - 1


def _gaussian(p: torch.Tensor) -> None:
    threshold_(p.mul_(p).neg_(), -104.0, 1.0)  # what is to become 0 is marked: no other result exceeds 1
    threshold_(p.exp_().neg_(), -2.0, -0.0).neg_()


# Each works in place. The plain definitions: reference.ACTIVATIONS.
ACTIVATIONS: dict[str, Callable[[torch.Tensor], object]] = {
    "identity": lambda p: None,
    "sine": torch.sin_,
    "sigmoid": _sigmoid,
    "gaussian": _gaussian,
    "linear": lambda p: p.clamp_(-3, 3).div_(_3),
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
    n, pixels = len(genomes), encoding.height * encoding.width
    images = np.empty((n, pixels, encoding.channels), dtype=np.uint8)
    with torch.inference_mode():
        for first in range(0, n, _GENOMES):
            rows = slice(first, min(first + _GENOMES, n))
            for tile, values in _tiles(encoding, encoding.take(genomes, rows), device):
                planes = _quantised(values, encoding).cpu().numpy()
                for channel, plane in enumerate(planes):
                    images[rows, tile, channel] = plane[:, : min(tile.stop, pixels) - tile.start]
    return images.reshape(n, encoding.height, encoding.width, encoding.channels)


def _tiles(encoding: Encoding, genomes: Any, device: str) -> Iterator[tuple[slice, torch.Tensor]]:
    """(pixels, values): values are (channels, n, pixels) float32 in [0, 1] and in the genome's colour space.

    Their memory is used again for the next tile, and may be overwritten.
    """
    if isinstance(encoding, CppnEncoding):
        for tile, values in _evaluate(programs.compile(genomes), encoding, device):
            values = values.abs_() if encoding.output == "absolute" else values.add_(1).mul_(0.5)
            yield tile, values.nan_to_num_(nan=0.0).clamp_(0, 1)
        return
    n, channels = len(genomes), encoding.channels
    flat = torch.from_numpy(genomes.reshape(n, -1, channels))
    tile_size = max(_BLOCK, _SCRATCH_BYTES // (8 * max(1, n) * channels) // _BLOCK * _BLOCK)
    for start in range(0, flat.shape[1], tile_size):
        part = flat[:, start : start + tile_size].to(device).permute(2, 0, 1)
        yield slice(start, start + tile_size), part.clone(memory_format=torch.contiguous_format)


def _evaluate(program: Program, encoding: CppnEncoding, device: str) -> Iterator[tuple[slice, torch.Tensor]]:
    """Output values of every genome, (channels, n, pixels of the tile) float32."""
    inputs = programs.coordinates(encoding.height, encoding.width, encoding.coordinates)
    padded = -(-inputs.shape[1] // _BLOCK) * _BLOCK
    grid = torch.zeros((len(inputs), padded), device=device)
    grid[:, : inputs.shape[1]] = torch.from_numpy(inputs)
    room = _SCRATCH_BYTES // (4 * (program.rows + program.other_counts.max(initial=0) + program.outputs.size))
    tile = min(padded, max(_BLOCK, room // _BLOCK * _BLOCK))
    state = torch.empty((program.rows, tile), device=device)
    steps = _steps(program, encoding, state)
    outputs = torch.from_numpy(program.outputs.T.ravel()).to(device)
    values = torch.empty((len(outputs), tile), device=device)
    for start in range(0, padded, tile):
        part = grid[:, start : start + tile]
        state[: len(inputs), : part.shape[1]] = part  # behind the last pixel lies what was there: nobody looks
        for step in steps:
            step()
        torch.index_select(state, 0, outputs, out=values)
        yield slice(start, start + tile), values.view(encoding.channels, -1, tile)


@dataclass(frozen=True)
class _Step:
    """Evaluates the nodes of one level; always as many tensor operations, however many nodes."""

    before: torch.Tensor  # rows of the state
    nodes: torch.Tensor  # the rows behind them
    sources: torch.Tensor  # of the first addends; the weights are columns
    weights: torch.Tensor
    addends: torch.Tensor  # room for the others
    other_sources: torch.Tensor
    other_weights: torch.Tensor
    into: torch.Tensor
    groups: list[tuple[Callable[[torch.Tensor], object], torch.Tensor]]  # each activation with its rows of `nodes`

    def __call__(self) -> None:
        torch.index_select(self.before, 0, self.sources, out=self.nodes)
        self.nodes.mul_(self.weights)
        torch.index_select(self.before, 0, self.other_sources, out=self.addends)
        self.addends.mul_(self.other_weights)
        self.nodes.index_add_(0, self.into, self.addends)  # adds in the order given
        for function, rows in self.groups:
            function(rows)


def _steps(program: Program, encoding: CppnEncoding, state: torch.Tensor) -> list[_Step]:
    """One step for each level of a program, with views into `state`; made together, which is cheaper."""
    counts, others = program.counts.sum(axis=1).tolist(), program.other_counts.tolist()
    functions = [_activation(encoding.activation_names[code]) for code in program.activations]

    def parts(array: NDArray[Any], sizes: list[int]) -> tuple[torch.Tensor, ...]:
        return torch.from_numpy(array).to(state.device).split(sizes)

    room = torch.empty((max(others, default=0), state.shape[1]), device=state.device)
    nodes = state[len(cppn.INPUTS) :]
    rows, kinds = nodes.split(counts), iter(nodes.split(program.counts.ravel().tolist()))
    sources, weights = parts(program.sources, counts), parts(program.weights[:, None], counts)
    other_sources, into = parts(program.other_sources, others), parts(program.into, others)
    other_weights = parts(program.other_weights[:, None], others)
    steps, begin = [], len(cppn.INPUTS)
    for i, count in enumerate(counts):
        steps.append(
            _Step(
                before=state[:begin],
                nodes=rows[i],
                sources=sources[i],
                weights=weights[i],
                addends=room[: others[i]],
                other_sources=other_sources[i],
                other_weights=other_weights[i],
                into=into[i],
                groups=[(function, next(kinds)) for function in functions],
            )
        )
        begin += count
    return steps


def _activation(name: str) -> Callable[[torch.Tensor], object]:
    if name in ACTIVATIONS:
        return ACTIVATIONS[name]
    function = own(name)
    # A sum of nothing but -0.0 is -0.0 here and 0.0 in the reference; adding 0.0 makes them one.
    return lambda p: p.copy_(torch.nan_to_num(function(p + 0.0, torch)))


# ------------------------------------------------------------------------------------------------ to bytes


def _quantised(values: torch.Tensor, encoding: Encoding) -> torch.Tensor:
    """(channels, n, pixels) numbers in [0, 1] to uint8, grey or RGB; overwrites them."""
    if encoding.colour == "hsv":
        values = _hsv(values)
    levels = _levels(values, encoding.quantisation)
    if encoding.colour == "hls2015":
        levels = _levels(_hls2015(levels), "round")
    return levels.to(torch.int32).to(torch.uint8)  # twice as fast as in one step


def _levels(values: torch.Tensor, quantisation: str) -> torch.Tensor:
    """[0, 1] to whole numbers 0 .. 255, in place."""
    return values.mul_(_255).add_(0.5 if quantisation == "round" else 0.0).floor_()


def _period6(k: torch.Tensor, scratch: torch.Tensor) -> torch.Tensor:
    """k % 6 for k in [0, 12), in place: exact, since k - 6 is; and 6 * (1 / 6) is no less than 1 in float32."""
    torch.mul(k, 1 / 6, out=scratch)
    return k.sub_(scratch.floor_().mul_(6))


def _hsv(values: torch.Tensor) -> torch.Tensor:
    """Hue, saturation and value to RGB, all in [0, 1], channels first."""
    hue, saturation, value = values
    sixths, depth = hue.mul_(6), saturation.mul_(value)
    result, scratch = torch.empty_like(values), torch.empty_like(hue)
    for channel, offset in zip(result, (5, 3, 1)):
        k = _period6(torch.add(sixths, offset, out=channel), scratch)
        torch.neg(k, out=scratch).add_(4)
        torch.minimum(k, scratch, out=k).clamp_(0, 1).mul_(depth)
        torch.sub(value, k, out=k)
    return result


def _hls2015(levels: torch.Tensor) -> torch.Tensor:
    """Hue, lightness and saturation bytes to RGB in [0, 1], channels first; see `reference.hls2015`."""
    hue, lightness, saturation = levels[0] / 30, levels[1] / 255, levels[2] / 255
    high = torch.where(lightness <= 0.5, lightness * (1 + saturation), lightness + saturation - lightness * saturation)
    low = 2 * lightness - high
    channels = []
    for offset in (2, 0, 4):
        k = (offset + hue) % 6
        channels.append(low + (high - low) * torch.minimum(k, 4 - k).clamp(0, 1))
    return torch.stack(channels).clamp(0, 1)
