"""The contact sheet: every elite's picture, with its class and confidence below, as one PNG; and names of PNGs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFont

from evofool.base.png import decode_png
from evofool.base.streams import printable

__all__ = ["contact_sheet", "percent", "png_name", "strength"]

PICTURE, GAP, LINE = 112, 12, 16  # pixels


def percent(confidence: float) -> str:
    """Confidence as people read it, never rounded up to 100 %."""
    if confidence >= 0.9999:
        return ">= 99.99 %"
    return f"{math.floor(confidence * 1e4) / 100:.2f} %"


def strength(row: Mapping[str, Any]) -> str:
    """What an elite has in its cell, as people read it: its confidence; of a unit, which has none, the activation."""
    if "confidence" not in row:
        return ""
    sure, other = row["confidence"], row.get("objective")
    if sure is not None and sure == sure:
        return percent(sure)
    return "" if other is None else f"{other:.4g}"


def contact_sheet(elites: pd.DataFrame, columns: int = 10) -> Image.Image:
    """A picture of all elites, in class order.

    Args:
        elites: rows of the elites table.
        columns: pictures in a row, at most.

    Returns:
        A PIL image. Small pictures are enlarged by whole factors without smoothing, so that pixels stay pixels.
    """
    columns = max(1, min(columns, len(elites)))
    rows = max(1, math.ceil(len(elites) / columns))
    cell_width, cell_height = PICTURE + GAP, PICTURE + 2 * LINE + GAP
    sheet = Image.new("RGB", (GAP + columns * cell_width, GAP + rows * cell_height), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(12)
    for i, row in enumerate(elites.sort_values("class_index").to_dict("records")):
        pixels = decode_png(row["image"]["bytes"], f"class {row['class_name']}")
        picture = _fit(Image.fromarray(np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels))
        left, top = GAP + i % columns * cell_width, GAP + i // columns * cell_height
        sheet.paste(picture, (left + (PICTURE - picture.width) // 2, top + (PICTURE - picture.height) // 2))
        draw.text((left, top + PICTURE + 2), _shorten(draw, str(row["class_name"]), font), fill="black", font=font)
        draw.text((left, top + PICTURE + 2 + LINE), strength(row), fill="dimgrey", font=font)
    return sheet


def _fit(picture: Image.Image) -> Image.Image:
    factor = PICTURE // max(picture.size)
    if factor >= 1:
        return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    picture.thumbnail((PICTURE, PICTURE), Image.Resampling.LANCZOS)
    return picture


def png_name(class_index: int, class_name: str) -> str:
    """The name of the file of an elite's picture: safe on any file system, and in the order of the classes."""
    safe = "".join(c if c.isalnum() and c.isascii() else "_" for c in class_name)
    return f"{class_index:04d}_{safe[:40]}.png"


def _shorten(draw: ImageDraw.ImageDraw, text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    text = printable(text)
    if draw.textlength(text, font=font) <= PICTURE:
        return text
    while text and draw.textlength(text + "…", font=font) > PICTURE:
        text = text[:-1]
    return text + "…"
