"""Elites as another target sees them: the archived picture made to fit, or the genome drawn at the target's size."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from evofool.base.png import decode_png, encode_png
from evofool.encoding import exchange
from evofool.errors import CorruptData
from evofool.records import Facts

__all__ = ["archived", "fitted", "redrawn", "thumbnail"]


def archived(elite: Facts) -> NDArray[np.uint8]:
    """The picture in a row of the elites table, (height, width, 1 or 3) uint8, as it was scored.

    Raises:
        CorruptData: it is damaged.
    """
    where = f"the image of class {elite['class_name']}"
    image = decode_png(elite["image"]["bytes"], where)
    if hashlib.sha256(image.tobytes()).hexdigest() != elite["image_sha256"]:
        raise CorruptData(f"{where} is not the one that was scored (a pixel differs).")
    return image


def fitted(image: NDArray[np.uint8], size: tuple[int, int], channels: int) -> NDArray[np.uint8]:
    """A picture as a target takes it, (height, width, channels) uint8; the whole of it, nothing cropped.

    Grey is repeated for red, green and blue; colour becomes luma (ITU-R BT.601, as PIL's mode "L"). Then bilinear with
    antialiasing, where the size differs.

    Args:
        image: (h, w, 1 or 3) uint8.
        size: (height, width) in pixels.
        channels: 1 or 3.
    """
    picture = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).convert("L" if channels == 1 else "RGB")
    height, width = size
    pixels = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))
    return pixels.reshape(height, width, channels)


def redrawn(elite: Facts, size: tuple[int, int], code: Callable[[], Mapping[str, str]]) -> NDArray[np.uint8]:
    """The genome in a row of the elites table, drawn at another size: a CPPN is a formula, pixels are repeated.

    At the size it was evolved at this is the archived picture, bit for bit.

    Args:
        size: (height, width) in pixels.
        code: gives the sha256 (hex) of the files of the user's own activations, by spec; see `exchange.render`.

    Returns:
        (height, width, 1 or 3) uint8, in the genome's own channels.
    """
    image = archived(elite)
    height, width = image.shape[:2]
    if size == (height, width):
        return image
    if elite["encoding"] != "direct":
        return exchange.render(elite["genome_json"], size, code=code())
    rows, columns = np.arange(size[0]) * height // size[0], np.arange(size[1]) * width // size[1]
    return image[rows][:, columns]


def thumbnail(image: NDArray[np.uint8], side: int = 28) -> bytes:
    """A picture (height, width, 1 or 3) uint8 as PNG, made smaller where a side has more pixels than `side`."""
    height, width, channels = image.shape
    if max(height, width) > side:
        smaller = [max(1, round(each * side / max(height, width))) for each in (height, width)]
        picture = Image.fromarray(image[:, :, 0] if channels == 1 else image)
        image = np.asarray(picture.resize((smaller[1], smaller[0]), Image.Resampling.BOX))
    return encode_png(image.reshape(*image.shape[:2], channels))
