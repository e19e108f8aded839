"""Pictures inside a page: as they are where that is little, else smaller ones."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from evofool.base.png import encode_png

__all__ = ["Shown", "data_uri", "fit"]

THUMBNAIL = 112  # pixels; larger pictures that need not be whole are made as small
QUALITY = 72  # of WebP


class Shown:
    """A picture as a page holds it.

    Attributes:
        uri: a data: URI.
        exact: whether it has every bit of the picture.
    """

    def __init__(self, data: bytes, kind: str, exact: bool) -> None:
        self.uri, self.exact = data_uri(data, kind), exact


def data_uri(data: bytes, kind: str) -> str:
    """Bytes of a media type, e.g. "image/png", as a URI that holds them."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def fit(pictures: Mapping[str, NDArray[np.uint8]], room: int, *, small: bool) -> dict[str, Shown]:
    """Pictures for a page: PNGs where they all fit, else WebP, with losses.

    Args:
        pictures: (height, width, 1 or 3) uint8 each, by a key.
        room: bytes that all PNGs together may take.
        small: whether thumbnails will do where they do not fit.
    """
    pngs: dict[str, bytes] = {}
    total = 0
    for key, image in pictures.items():
        if total <= room:
            pngs[key] = encode_png(image)
            total += len(pngs[key])
    if total <= room:
        return {key: Shown(png, "image/png", True) for key, png in pngs.items()}
    return {key: Shown(_webp(image, small), "image/webp", False) for key, image in pictures.items()}


def _webp(image: NDArray[np.uint8], small: bool) -> bytes:
    picture = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).convert("RGB")
    if small and max(picture.size) > THUMBNAIL:
        picture.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
    sink = io.BytesIO()
    picture.save(sink, format="WEBP", quality=QUALITY, method=4)
    return sink.getvalue()
