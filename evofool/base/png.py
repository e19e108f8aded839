"""Images as PNG bytes and back."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from evofool.errors import CorruptData

__all__ = ["MAX_PIXELS", "decode_png", "encode_png"]

MAX_PIXELS = 1 << 24  # of an elite: 4096 x 4096


def encode_png(image: NDArray[np.uint8]) -> bytes:
    """PNG bytes of (height, width, 1 or 3) uint8, at zlib level 1: half the time, and no more bytes for our images."""
    sink = io.BytesIO()
    Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).save(sink, format="PNG", compress_level=1)
    return sink.getvalue()


def decode_png(data: bytes, where: str) -> NDArray[np.uint8]:
    """(height, width, 1 or 3) uint8 of PNG bytes.

    Raises:
        CorruptData: not a PNG, damaged, or of an absurd size.
    """
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as picture:
            if picture.width * picture.height > MAX_PIXELS or picture.mode not in ("L", "RGB"):
                raise CorruptData(
                    f"{where}: a PNG of {picture.width} x {picture.height} {picture.mode} is not an elite's."
                )
            array = np.asarray(picture)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise CorruptData(f"{where}: its image is not a PNG ({error}).") from None
    return np.atleast_3d(array)
