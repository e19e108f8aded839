"""Rendering on a device: genomes of any topology in one batch.

Its sine and exponential are torch's, or those of portable.py (`encoding.arithmetic`); the latter are drawn by
compiled.py where that is possible, with the same bits.

A picture must not depend on which genomes it is rendered with, since an elite is rendered again later on its own.
Every operation here is elementwise along pixels, and memory is a whole number of 64 pixels, so that vectorised
loops have no remainder that another code path would handle.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from types import ModuleType

import numpy as np
import torch
from numpy.typing import NDArray

from evofool.encoding.contract import Encoding
from evofool.encoding.cppn import programs
from evofool.encoding.cppn.genome import CppnEncoding
from evofool.encoding.cppn.programs import Program, Stage
from evofool.encoding.direct.genome import DirectEncoding
from evofool.encoding.drawing import portable
from evofool.records import Genomes

__all__ = ["ACTIVATIONS", "has_compiler", "render"]

Activation = Callable[[torch.Tensor], object]  # works in place

_BLOCK = 64  # the memory of a tile is a whole number of so many pixels
_GENOMES = 256  # compiled and drawn at a time
# Node values held at a time; the tile of pixels shrinks as genomes grow. A processor's stay in its cache; a GPU's time
# goes into launching operations, so tiles are few.
_SCRATCH_BYTES = {"cpu": 8 << 20, "cuda": 256 << 20}

# As tensors, since torch converts a Python number to one, and to float32, at every use.
_1, _2, _3, _255 = (torch.tensor(float(value)) for value in (1, 2, 3, 255))


# On CPUs exp takes ten times as long where its result is 0, subnormal or infinite. So such numbers do not come to it
# where that changes no bit: 1 + exp(-87) is 1, 1 / (1 + exp(88)) - 1 is -1, and exp(-104) is 0.


def _sigmoid(p: torch.Tensor) -> None:
    p.clamp_(-88, 87).neg_().exp_().add_(_1).reciprocal_().mul_(_2).sub_(_1)  # 2 / (1 + exp(-p)) - 1


def _gaussian(p: torch.Tensor) -> None:
    torch.threshold_(p.mul_(p).neg_(), -104.0, 1.0)  # what is to become 0 is marked: no other result exceeds 1
    torch.threshold_(p.exp_().neg_(), -2.0, -0.0).neg_()


_f = float  # torch takes Python's numbers


def _portable_sine(p: torch.Tensor) -> None:
    wide = p.clamp(-_f(portable.LARGEST_ANGLE), _f(portable.LARGEST_ANGLE)).double()
    n = (wide * _f(portable.ONE_OVER_TWO_PI) + _f(portable.WHOLE_FLOAT64)) - _f(portable.WHOLE_FLOAT64)
    r = ((wide - n * _f(portable.TWO_PI_HIGH)) - n * _f(portable.TWO_PI_LOW)).float()
    r = torch.minimum(r, _f(portable.PI) - r)
    r = torch.maximum(r, -_f(portable.PI) - r)
    square = r * r
    p.sub_(p).add_(r + r * (square * _polynomial(portable.SINE, square)))


def _portable_exponential(x: torch.Tensor) -> torch.Tensor:
    shifted = x * _f(portable.ONE_OVER_LN2) + _f(portable.WHOLE)
    n = shifted - _f(portable.WHOLE)
    r = (x - n * _f(portable.LN2_HIGH)) - n * _f(portable.LN2_LOW)
    power = ((shifted.view(torch.int32) << 23) + int(portable.ONE_BITS)).view(torch.float32)
    return ((r + (r * r) * _polynomial(portable.EXPONENTIAL, r)) + 1) * power


def _polynomial(coefficients: tuple[np.float32, ...], x: torch.Tensor) -> torch.Tensor:
    """Horner's rule, without fused operations."""
    *rest, highest = coefficients
    result = torch.full_like(x, _f(highest))
    for coefficient in reversed(rest):
        result = result.mul_(x).add_(_f(coefficient))
    return result


def _portable_sigmoid(p: torch.Tensor) -> None:
    p.clamp_(-_f(portable.LARGEST_EXPONENT), _f(portable.LARGEST_EXPONENT)).neg_()
    torch.add(_portable_exponential(p), _1, out=p).reciprocal_().mul_(_2).sub_(_1)


def _portable_gaussian(p: torch.Tensor) -> None:
    p.mul_(p).neg_()
    is_small = p < -_f(portable.LARGEST_EXPONENT)
    p.copy_(_portable_exponential(p.clamp(min=-_f(portable.LARGEST_EXPONENT)))).masked_fill_(is_small, 0.0)


def _portable_linear(p: torch.Tensor) -> None:
    p.clamp_(-3, 3).div_(_divisor(3, p))


def _divisor(value: float, like: torch.Tensor) -> torch.Tensor:
    """A number to divide by, on the device: a GPU multiplies by the inverse of one elsewhere, which rounds twice."""
    return like.new_full((1,), value)


# By what `encoding.arithmetic` names. The plain definitions: reference.ACTIVATIONS.
ACTIVATIONS: dict[str, dict[str, Activation]] = {
    "torch": {
        "identity": lambda p: None,
        "sine": torch.sin_,
        "sigmoid": _sigmoid,
        "gaussian": _gaussian,
        "linear": lambda p: p.clamp_(-3, 3).div_(_3),
    },
    "portable": {
        "identity": lambda p: None,
        "sine": _portable_sine,
        "sigmoid": _portable_sigmoid,
        "gaussian": _portable_gaussian,
        "linear": _portable_linear,
    },
}


@functools.cache
def has_compiler() -> bool:
    """Whether numba is installed, which compiled.py needs."""
    return find_spec("numba") is not None


def _compiled(device: str) -> ModuleType | None:
    """compiled.py for a CPU, or None; numba takes half a second to load."""
    if device != "cpu" or not has_compiler():
        return None
    from evofool.encoding.drawing import compiled

    return compiled


def render(encoding: Encoding, genomes: Genomes, device: str = "cpu") -> NDArray[np.uint8]:
    """Pictures of a batch of genomes at the encoding's size.

    Returns:
        (n, height, width, 1 or 3) uint8, grey or RGB.

    Raises:
        InvalidGenome: a CPPN has a cycle.
    """
    if isinstance(encoding, DirectEncoding) and encoding.channels == 3 and (fast := _compiled(device)):
        return np.asarray(fast.quantised(encoding, genomes))
    is_portable = isinstance(encoding, CppnEncoding) and encoding.arithmetic == "portable"
    if is_portable and (fast := _compiled(device)) and fast.supports(encoding):
        return np.asarray(fast.render(encoding, genomes))
    return _render(encoding, genomes, device)


def _render(encoding: Encoding, genomes: Genomes, device: str) -> NDArray[np.uint8]:
    """As `render`, by torch."""
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


def _tiles(encoding: Encoding, genomes: Genomes, device: str) -> Iterator[tuple[slice, torch.Tensor]]:
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
    tile_size = max(_BLOCK, _SCRATCH_BYTES[device] // (8 * max(1, n) * channels) // _BLOCK * _BLOCK)
    for start in range(0, flat.shape[1], tile_size):
        part = flat[:, start : start + tile_size].to(device).permute(2, 0, 1)
        yield slice(start, start + tile_size), part.clone(memory_format=torch.contiguous_format)


def _evaluate(program: Program, encoding: CppnEncoding, device: str) -> Iterator[tuple[slice, torch.Tensor]]:
    """Output values of every genome, (channels, n, pixels of the tile) float32; tiles are whole rows of the picture."""
    size, width = (encoding.height, encoding.width, encoding.coordinates), encoding.width
    values, columns = (torch.from_numpy(array).to(device) for array in programs.distinct(*size))
    of_x, of_y, of_d = (torch.from_numpy(rows).to(device) for rows in program.handed_on)
    handed_on = torch.cat([of_x, of_y, of_d])
    ready = torch.empty((len(handed_on), values.shape[1]), device=device)
    for tile, state in _states(program.first, encoding, values, 1, 0, lambda tile, rows: None):
        ready[:, tile] = state.index_select(0, handed_on)
    by_x, by_y, by_d = ready.split([len(of_x), len(of_y), len(of_d)])
    by_x, by_y = by_x.index_select(1, columns[0, :width]), by_y.index_select(1, columns[1, ::width])

    def spread(tile: slice, rows: torch.Tensor) -> None:
        xs, ys, ds = rows.split([len(by_x), len(by_y), len(by_d)])
        xs.unflatten(1, (-1, width)).copy_(by_x[:, None])
        ys.unflatten(1, (-1, width)).copy_(by_y[:, tile.start // width : tile.stop // width, None])
        torch.gather(by_d, 1, columns[2, tile].expand(len(ds), -1), out=ds)

    outputs = torch.from_numpy(program.outputs.T.ravel()).to(device)
    room = torch.empty(0, device=device)
    inputs = torch.from_numpy(programs.coordinates(*size)).to(device)
    for tile, state in _states(program.second, encoding, inputs, width, len(outputs), spread):
        room = torch.index_select(state, 0, outputs, out=room.resize_(len(outputs), state.shape[1]))
        yield tile, room.view(encoding.channels, -1, state.shape[1])


def _states(
    stage: Stage,
    encoding: CppnEncoding,
    inputs: torch.Tensor,
    unit: int,
    room: int,
    fill: Callable[[slice, torch.Tensor], None],
) -> Iterator[tuple[slice, torch.Tensor]]:
    """The state of a stage, tile by tile of the columns of `inputs`; its memory is used again for the next tile.

    Args:
        inputs: (4, columns) x, y, d and bias.
        unit: a tile is a whole number of so many columns.
        room: rows that will be needed beside the state.
        fill: writes a tile of the stage's other inputs, into the rows behind `inputs`.
    """
    columns = inputs.shape[1]
    room += stage.rows + stage.other_counts.max(initial=0)
    tile = min(columns, max(1, _SCRATCH_BYTES[inputs.device.type] // (4 * room) // unit) * unit)
    memory = torch.empty((stage.rows, -(-tile // _BLOCK) * _BLOCK), device=inputs.device)
    memory[:, tile:] = 0
    steps = _steps(stage, encoding, memory)
    for start in range(0, columns, tile):
        part = slice(start, min(start + tile, columns))
        state = memory[:, : part.stop - start]
        state[: len(inputs)] = inputs[:, part]
        fill(part, state[len(inputs) : stage.inputs])
        for step in steps:  # on all of the memory, whatever lies behind the last column
            step()
        yield part, state


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
    groups: list[tuple[Activation, torch.Tensor]]  # each activation with its rows of `nodes`

    def __call__(self) -> None:
        torch.index_select(self.before, 0, self.sources, out=self.nodes)
        self.nodes.mul_(self.weights)
        torch.index_select(self.before, 0, self.other_sources, out=self.addends)
        self.addends.mul_(self.other_weights)
        self.nodes.index_add_(0, self.into, self.addends)  # one after the other, in the order of `into`
        for function, rows in self.groups:
            function(rows)


def _steps(stage: Stage, encoding: CppnEncoding, state: torch.Tensor) -> list[_Step]:
    """One step for each level of a stage, with views into `state`; made together, which is cheaper."""
    counts, others = stage.counts.sum(axis=1).tolist(), stage.other_counts.tolist()
    functions = [_activation(encoding, encoding.activation_names[code]) for code in stage.activations]

    def parts(array: NDArray[np.generic], sizes: list[int]) -> tuple[torch.Tensor, ...]:
        return torch.from_numpy(array).to(state.device).split(sizes)

    room = torch.empty((max(others, default=0), state.shape[1]), device=state.device)
    nodes = state[stage.inputs :]
    rows, kinds = nodes.split(counts), iter(nodes.split(stage.counts.ravel().tolist()))
    sources, weights = parts(stage.sources, counts), parts(stage.weights[:, None], counts)
    other_sources, into = parts(stage.other_sources, others), parts(stage.into, others)
    other_weights = parts(stage.other_weights[:, None], others)
    steps, begin = [], stage.inputs
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


def _activation(encoding: CppnEncoding, name: str) -> Activation:
    built_in = ACTIVATIONS[encoding.arithmetic]
    if name in built_in:
        return built_in[name]
    function = encoding.own(name)
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
    by_30, by_255 = _divisor(30, levels), _divisor(255, levels)
    hue, lightness, saturation = levels[0] / by_30, levels[1] / by_255, levels[2] / by_255
    high = torch.where(lightness <= 0.5, lightness * (1 + saturation), lightness + saturation - lightness * saturation)
    low = 2 * lightness - high
    channels = []
    for offset in (2, 0, 4):
        k = (offset + hue) % 6
        channels.append(low + (high - low) * torch.minimum(k, 4 - k).clamp(0, 1))
    return torch.stack(channels).clamp(0, 1)
