"""The contact sheet: every elite's picture with its class and confidence below, as one PNG."""

from __future__ import annotations

import pandas as pd
from PIL import Image

from evofool.base.png import decode_png
from evofool.base.sheets import percent, sheet

__all__ = ["contact_sheet"]


def contact_sheet(elites: pd.DataFrame, columns: int = 10) -> Image.Image:
    """A picture of all elites, in class order.

    Args:
        elites: rows of the elites table.
        columns: pictures in a row, at most.
    """
    rows = elites.sort_values("class_index").to_dict("records")
    pictures = [decode_png(row["image"]["bytes"], f"class {row['class_name']}") for row in rows]
    captions = [(str(row["class_name"]), percent(row["confidence"])) for row in rows]
    return sheet(pictures, captions, columns)
