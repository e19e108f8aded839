"""From numbers to bytes and colours, compiled by numba: the last step of compiled.py. As `render._quantised`."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, misc"

from __future__ import annotations

import numpy as np

from evofool.base.jit import compiled

__all__ = ["COLOURS", "all_to_bytes", "finish"]

f32, i32 = np.float32, np.int32

_TILE = 784  # pixels
_PLAIN, _HSV, _HLS2015 = range(3)
COLOURS = {"grey": _PLAIN, "rgb": _PLAIN, "hsv": _HSV, "hls2015": _HLS2015}


@compiled
def finish(image, values, ending):
    """Outputs, (channels, pixels), to bytes, (pixels, channels); overwrites them.

    Args:
        ending: whether an output v becomes |v| rather than (v + 1) / 2; and as `_to_bytes`.
    """
    is_absolute, colour, half = ending
    for channel in range(len(values)):
        row = values[channel]
        if is_absolute:
            for i in range(row.size):
                row[i] = abs(row[i])
        else:
            for i in range(row.size):
                row[i] = (row[i] + f32(1)) * f32(0.5)
        for i in range(row.size):  # NaN becomes 0
            v = row[i] if row[i] > f32(0) else f32(0)
            row[i] = v if v < f32(1) else f32(1)
    _to_bytes(image, values, colour, half)


@compiled
def _to_bytes(image, values, colour, half):
    """Numbers in [0, 1], (channels, pixels), to bytes, (pixels, channels). As `render._quantised`.

    Args:
        colour: the colour space.
        half: 0.5 to round, 0 to truncate.
    """
    if colour == _HSV:
        values = _hsv(values)
    if colour == _HLS2015:
        values = _hls2015(_levels(values, half))
        half = f32(0.5)
    levels = _levels(values, half)
    for i in range(image.shape[0]):
        for channel in range(image.shape[1]):
            image[i, channel] = levels[channel, i]


@compiled
def all_to_bytes(images, genomes, colour, half):
    """`_to_bytes` of (n, pixels, channels), tile by tile."""
    for g in range(len(genomes)):
        for start in range(0, genomes.shape[1], _TILE):
            part = genomes[g, start : start + _TILE]
            values = np.empty((part.shape[1], len(part)), np.float32)
            for i in range(len(part)):
                for channel in range(part.shape[1]):
                    values[channel, i] = part[i, channel]
            _to_bytes(images[g, start : start + _TILE], values, colour, half)


@compiled
def _levels(values, half):
    """[0, 1] to 0 .. 255."""
    levels = np.empty(values.shape, np.uint8)
    for channel in range(len(values)):
        row, to = values[channel], levels[channel]
        for i in range(row.size):
            to[i] = np.uint8(i32(row[i] * f32(255) + half))
    return levels


@compiled
def _hsv(values):
    """Hue, saturation and value to RGB, in [0, 1]."""
    hue, saturation, value = values[0], values[1], values[2]
    result = np.empty_like(values)
    for channel in range(3):
        row, offset = result[channel], f32(5 - 2 * channel)
        for i in range(row.size):
            k = hue[i] * f32(6) + offset
            k = k - (f32(6) if k >= f32(6) else f32(0))
            k = k if k < f32(4) - k else f32(4) - k
            k = f32(0) if k < f32(0) else k
            row[i] = value[i] - (f32(1) if k > f32(1) else k) * (saturation[i] * value[i])
    return result


@compiled
def _hls2015(levels):
    """Hue, lightness and saturation bytes to RGB in [0, 1]; see `reference.hls2015`."""
    result = np.empty(levels.shape, np.float32)
    for i in range(levels.shape[1]):
        hue, lightness = f32(levels[0, i]) / f32(30), f32(levels[1, i]) / f32(255)
        saturation = f32(levels[2, i]) / f32(255)
        if lightness <= f32(0.5):
            high = lightness * (f32(1) + saturation)
        else:
            high = lightness + saturation - lightness * saturation
        low = f32(2) * lightness - high
        for channel in range(3):
            k = f32((2, 0, 4)[channel]) + hue
            k = k - f32(6) if k >= f32(6) else k
            k = k - f32(6) if k >= f32(6) else k
            k = k if k < f32(4) - k else f32(4) - k
            k = f32(0) if k < f32(0) else k
            v = low + (high - low) * (f32(1) if k > f32(1) else k)
            v = f32(0) if v < f32(0) else v
            result[channel, i] = f32(1) if v > f32(1) else v
    return result
