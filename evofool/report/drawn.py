"""A CPPN as a Python program that needs numpy alone: it draws the picture of its genome at any size.

It does what encoding/drawing/reference.py does, in the same order, so that it gives the same bits; of a run with
`encoding.arithmetic: portable` those of the archived image, by the definitions of encoding/drawing/portable.py.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from typing import Any

import numpy as np

from evofool.base.streams import printable
from evofool.encoding.drawing import portable
from evofool.encoding.exchange import from_json
from evofool.errors import ConfigError, InvalidGenome, first_line
from evofool.report.formula import CHANNELS, lines, network_of

__all__ = ["python_text"]

WIDTH = 100  # characters of a line of the formula, where it has several addends


def python_text(
    genome: str | Mapping[str, Any], *, is_portable: bool, size: tuple[int, int] | None = None, about: str = ""
) -> str:
    """A program that draws the picture of a CPPN; `picture(height, width)` in it gives the array.

    Args:
        genome: the `genome_json` of an elite, as text or parsed.
        is_portable: whether its run has `encoding.arithmetic: portable`.
        size: (height, width) that it draws unless told otherwise; by default that of the archived image.
        about: what the picture is, in a line; any text.

    Raises:
        ConfigError: a genome of another kind; or one with activations of the user's own, whose code no archive holds.
        InvalidGenome: not the JSON of a genome.
    """
    data = _checked(genome)
    outputs = CHANNELS[data["colour"]]
    # Addends are in the order in which images are drawn.
    told = [
        f"{name} = {_call(activation, [_term(weight, source) for weight, source in addends])}"
        for name, activation, addends in lines(network_of(json.dumps(data)), outputs)
    ]
    functions = _ACTIVATIONS["portable" if is_portable else "torch"]
    called = [name for name in functions if any(f"= {name}(" in line for line in told)]
    height, width = size or data["image_size"]
    native_height, native_width = data["image_size"]
    blocks = [
        _HEAD.format(about=printable(about[:300]), height=height, width=width),
        *([_PORTABLE] if is_portable and {*called} - {"linear"} else []),
        *(functions[name] for name in called),
        _FORMULA.format(
            lines=textwrap.indent("\n".join(told), "    "),
            outputs=", ".join(outputs) if len(outputs) > 1 else "(grey,)",
        ),
        *([_COLOURS[data["colour"]]] if data["colour"] in _COLOURS else []),
        _PICTURE.format(
            raw=_RAW.format(x=native_width - 1, y=native_height - 1) if data["coordinates"] == "raw" else "",
            channels=len(outputs),
            grey_or_rgb="RGB" if len(outputs) > 1 else "grey",
            drawn="np.abs(values)" if data["output"] == "absolute" else "(values + np.float32(1)) / np.float32(2)",
            levels={"hsv": "levels(rgb(values))", "hls2015": "levels(rgb(levels(values)), 0.5)"}.get(
                data["colour"], "levels(values)"
            ),
            half=0.5 if data.get("quantisation", "round") == "round" else 0.0,
        ),
        _PNG,
    ]
    return "\n\n\n".join(block.strip("\n") for block in blocks) + "\n"


def _checked(genome: str | Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        data = json.loads(genome) if isinstance(genome, str) else genome
        kind, activations = data["encoding"], {str(node["activation"]) for node in data.get("nodes", ())}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InvalidGenome(f"not the JSON of a genome ({first_line(error)}).") from None
    if kind != "cppn":
        raise ConfigError("the genome is pixels and no formula: --format png draws it, --json prints them.")
    if own := activations - {"identity", *_ACTIVATIONS["torch"]}:
        raise ConfigError(
            f"the genome has an activation of your own ({min(own)[:80]}), whose code is not in the archive: "
            "--format png --allow-code draws it."
        )
    from_json(data)  # raises where the genome breaks a rule
    return data


def _term(weight: float, name: str) -> str:
    value = np.float32(weight)
    digits = str(abs(value))
    if np.float32(float(digits)) != abs(value):  # which a decimal number may be, rounded twice
        digits = repr(float(abs(value)))
    return f"{'-' if np.signbit(value) else '+'} {digits} * {name}"


def _call(activation: str, terms: list[str]) -> str:
    first, *others = terms or ["+ 0.0 * bias"]
    terms = [first.removeprefix("+ ").replace("- ", "-", 1), *others]
    text = " ".join(terms)
    if len(text) > WIDTH:
        text = "\n    " + "\n    ".join(terms) + "\n"
    elif activation == "identity":
        return text
    return f"{'' if activation == 'identity' else activation}({text})"


_HEAD = """
# {about}
#
#   python THIS_FILE [PICTURE.png [HEIGHT [WIDTH]]]
#
# Needs numpy. The picture is a function of the coordinates of a pixel, so any size shows the same one.

import struct
import sys
import zlib

import numpy as np

HEIGHT, WIDTH = {height}, {width}
"""

_ACTIVATIONS = {
    "torch": {
        "sine": """
def sine(p):
    return np.sin(p)
""",
        "sigmoid": """
def sigmoid(p):
    return np.float32(2) / (np.float32(1) + np.exp(-p)) - np.float32(1)
""",
        "gaussian": """
def gaussian(p):
    return np.exp(-(p * p))
""",
        "linear": """
def linear(p):
    return np.clip(p, np.float32(-3), np.float32(3)) / np.float32(3)
""",
    }
}

_PORTABLE = f"""
# Sine and exponential of additions, multiplications and powers of two alone, which give the same bits everywhere.
SINE = {[float(c) for c in portable.SINE]}
EXPONENTIAL = {[float(c) for c in portable.EXPONENTIAL]}


def polynomial(coefficients, p):
    *rest, highest = coefficients
    result = np.full_like(p, highest)
    for c in reversed(rest):
        result = result * p + np.float32(c)
    return result


def exponential(p):
    shifted = p * np.float32({float(portable.ONE_OVER_LN2)!r}) + np.float32({float(portable.WHOLE)!r})
    n = shifted - np.float32({float(portable.WHOLE)!r})
    r = (p - n * np.float32({float(portable.LN2_HIGH)!r})) - n * np.float32({float(portable.LN2_LOW)!r})
    power = ((shifted.view(np.int32) << 23) + np.int32({int(portable.ONE_BITS)})).view(np.float32)
    return ((r + (r * r) * polynomial(EXPONENTIAL, r)) + np.float32(1)) * power
"""

_LARGEST = f"np.float32({float(portable.LARGEST_EXPONENT)!r})"
_ACTIVATIONS["portable"] = {
    "sine": f"""
def sine(p):
    pi, largest = np.float32({float(portable.PI)!r}), np.float32({float(portable.LARGEST_ANGLE)!r})
    whole = {float(portable.WHOLE_FLOAT64)!r}
    wide = np.clip(p, -largest, largest).astype(np.float64)
    n = (wide * {float(portable.ONE_OVER_TWO_PI)!r} + whole) - whole
    r = ((wide - n * {float(portable.TWO_PI_HIGH)!r}) - n * {float(portable.TWO_PI_LOW)!r}).astype(np.float32)
    r = np.minimum(r, pi - r)
    r = np.maximum(r, -pi - r)
    return (p - p) + (r + r * ((r * r) * polynomial(SINE, r * r)))
""",
    "sigmoid": f"""
def sigmoid(p):
    largest = {_LARGEST}
    return np.float32(2) / (np.float32(1) + exponential(-np.clip(p, -largest, largest))) - np.float32(1)
""",
    "gaussian": f"""
def gaussian(p):
    largest, q = {_LARGEST}, -(p * p)
    return np.where(q < -largest, np.float32(0), exponential(np.maximum(q, -largest)))
""",
    "linear": _ACTIVATIONS["torch"]["linear"],
}

_FORMULA = '''
def formula(x, y, d, bias):
    """The picture: x and y are where a pixel is, d its distance from the centre, bias is 1; float32 arrays."""
{lines}
    return {outputs}
'''

_COLOURS = {
    "hsv": '''
def rgb(values):
    """Hue, saturation and value as red, green and blue; all in [0, 1]."""
    hue, saturation, value = (values[..., i] for i in range(3))
    channels = []
    for offset in (5, 3, 1):
        k = (np.float32(offset) + hue * np.float32(6)) % np.float32(6)
        channels.append(value - value * saturation * np.clip(np.minimum(k, np.float32(4) - k), 0, 1))
    return np.stack(channels, axis=-1)
''',
    "hls2015": '''
def rgb(levels):
    """Hue, lightness and saturation, 0 .. 255, as red, green and blue in [0, 1], in the way of Nguyen et al. 2015."""
    hue = levels[..., 0].astype(np.float32) / np.float32(30)
    lightness, saturation = (levels[..., i].astype(np.float32) / np.float32(255) for i in (1, 2))
    dark = lightness <= np.float32(0.5)
    high = np.where(dark, lightness * (1 + saturation), lightness + saturation - lightness * saturation)
    low = np.float32(2) * lightness - high
    channels = []
    for offset in (2, 0, 4):
        k = (np.float32(offset) + hue) % np.float32(6)
        channels.append(low + (high - low) * np.clip(np.minimum(k, np.float32(4) - k), 0, 1))
    return np.clip(np.stack(channels, axis=-1), 0, 1)
''',
}

_RAW = "\n    y, x = (unit_y + 1) / 2 * {y}, (unit_x + 1) / 2 * {x}"

_PICTURE = '''
def levels(values, half={half}):
    """[0, 1] as 0 .. 255."""
    return np.floor(values * np.float32(255) + np.float32(half)).astype(np.uint8)


def picture(height=HEIGHT, width=WIDTH):
    """(height, width, {channels}) uint8, {grey_or_rgb}; a few rows at a time, for large ones."""
    unit_y, unit_x = (np.linspace(-1.0, 1.0, side) if side > 1 else np.zeros(1) for side in (height, width))
    y, x = unit_y, unit_x{raw}
    image = np.empty((height, width, {channels}), dtype=np.uint8)
    for first in range(0, height, 64):
        rows = slice(first, first + 64)
        d = np.sqrt(unit_x[None, :] ** 2 + unit_y[rows, None] ** 2)
        inputs = (a.astype(np.float32) for a in (x[None, :], y[rows, None], d, np.ones((1, 1))))
        with np.errstate(all="ignore"):
            channels = np.broadcast_arrays(*formula(*inputs), d.astype(np.float32))[:-1]
            values = np.stack(channels, axis=-1)
            values = {drawn}
        values = np.clip(np.nan_to_num(values, nan=0.0), 0, 1)
        image[rows] = {levels}
    return image
'''

_PNG = """
def write_png(path, image):
    height, width, channels = image.shape

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2 if channels == 3 else 0, 0, 0, 0)
    rows = zlib.compress(b"".join(b"\\0" + row.tobytes() for row in image))
    with open(path, "wb") as file:
        file.write(b"\\x89PNG\\r\\n\\x1a\\n")
        file.write(chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))


if __name__ == "__main__":
    path, *size = sys.argv[1:] or ["picture.png"]
    height, width = (int(size[0]), int(size[-1])) if size else (HEIGHT, WIDTH)
    write_png(path, picture(height, width))
    print(f"{path}: {height} x {width} pixels")
"""
