"""The contact sheet: every elite's picture with its class and confidence below, as one PNG."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from PIL import Image

from evofool.base.png import decode_png
from evofool.base.sheets import percent, sheet

__all__ = ["contact_sheet", "strength"]


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
    """
    rows = elites.sort_values("class_index").to_dict("records")
    pictures = [decode_png(row["image"]["bytes"], f"class {row['class_name']}") for row in rows]
    captions = [(str(row["class_name"]), strength(row)) for row in rows]
    return sheet(pictures, captions, columns)
