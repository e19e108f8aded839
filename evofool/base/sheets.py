"""Sheets of pictures, each with a few words below it, as one PIL image; and names of files and percentages for them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from evofool.base.streams import printable

__all__ = ["percent", "png_name", "sheet"]

PICTURE, GAP, LINE = 112, 12, 16  # pixels


def percent(confidence: float) -> str:
    """Confidence as people read it, never rounded up to 100 %."""
    if confidence >= 0.9999:
        return ">= 99.99 %"
    return f"{math.floor(confidence * 1e4) / 100:.2f} %"


def png_name(class_index: int, class_name: str) -> str:
    """The name of the file of an elite's picture: safe on any file system, and in the order of the classes."""
    safe = "".join(c if c.isalnum() and c.isascii() else "_" for c in class_name)
    return f"{class_index:04d}_{safe[:40]}.png"


def sheet(pictures: Sequence[NDArray[np.uint8]], captions: Sequence[Sequence[str]], columns: int) -> Image.Image:
    """Pictures in rows, from the left to the right.

    Args:
        pictures: (height, width, 1 or 3) uint8. Small ones are enlarged by whole factors without smoothing, so that
            pixels stay pixels.
        captions: of each the lines below it, as many for all; they are shortened to the width of a picture.
        columns: pictures in a row, at most.
    """
    columns = max(1, min(columns, len(pictures)))
    rows = max(1, math.ceil(len(pictures) / columns))
    cell_width, cell_height = PICTURE + GAP, PICTURE + max(map(len, captions), default=0) * LINE + GAP
    whole = Image.new("RGB", (GAP + columns * cell_width, GAP + rows * cell_height), "white")
    draw = ImageDraw.Draw(whole)
    font = ImageFont.load_default(12)
    for i, (pixels, lines) in enumerate(zip(pictures, captions)):
        picture = _fit(Image.fromarray(np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels))
        left, top = GAP + i % columns * cell_width, GAP + i // columns * cell_height
        whole.paste(picture, (left + (PICTURE - picture.width) // 2, top + (PICTURE - picture.height) // 2))
        for j, text in enumerate(lines):
            at = (left, top + PICTURE + 2 + j * LINE)
            draw.text(at, _shorten(draw, text, font), fill="dimgrey" if j else "black", font=font)
    return whole


def _fit(picture: Image.Image) -> Image.Image:
    factor = PICTURE // max(picture.size)
    if factor >= 1:
        return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    picture.thumbnail((PICTURE, PICTURE), Image.Resampling.LANCZOS)
    return picture


def _shorten(draw: ImageDraw.ImageDraw, text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    text = printable(text)
    if draw.textlength(text, font=font) <= PICTURE:
        return text
    while text and draw.textlength(text + "…", font=font) > PICTURE:
        text = text[:-1]
    return text + "…"
