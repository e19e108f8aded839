"""Numbers and tables as docs/results.md shows them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from evofool.records import Facts


def markdown(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"|{'|'.join(_cell(cell) for cell in line)}|" for line in lines)


def _cell(cell: object) -> str:
    text = "" if cell is None or cell != cell else str(cell).replace("|", "\\|")
    return text if text == "---" else f" {text} " if text else " "


def number(value: float | None, digits: int = 3) -> str:
    """In so many decimals; never rounded up to 1; "never" for infinity."""
    if value is None or np.isnan(value):
        return ""
    if np.isinf(value):
        return "never"
    text = f"{value:,.{digits}f}"
    return text if value >= 1 or float(text) < 1 else f"{math.floor(value * 10**digits) / 10**digits:.{digits}f}"


def spread(values: Iterable[float], digits: int = 3) -> str:
    """Median and range."""
    found = [float(value) for value in values]
    middle, least, most = (number(value, digits) for value in (np.median(found), min(found), max(found)))
    return middle if least == most else f"{middle} ({least} to {most})"


def interval(value: float | None, low: float | None, high: float | None, digits: int = 3, sign: str = "") -> str:
    """A value with its interval of 95 %, if it has one."""
    shown = [f"{v:{sign},.{digits}f}" if sign else number(v, digits) for v in (value, low, high) if not missing(v)]
    return shown[0] + (f" ({shown[1]} to {shown[2]})" if len(shown) == 3 else "") if shown else ""


def missing(value: float | None) -> bool:
    return value is None or bool(np.isnan(value))


def percent(value: float | None, digits: int = 1) -> str:
    """A share."""
    return "" if missing(value) else f"{100 * value:.{digits}f} %"  # type: ignore[operator]


def share(row: Any) -> str:
    """A share with its interval."""
    return f"{percent(row['value'])} ({100 * row['low']:.1f} to {100 * row['high']:.1f})"


def figure(value: float | None) -> str:
    """Any number, in four digits; one below 1 is never shown as 1."""
    if value is None or np.isnan(value):
        return ""
    if np.isinf(value):
        return "never"
    text = f"{value:.4g}"
    return text if abs(value) >= 1 or abs(float(text)) < 1 else f"{math.floor(value * 1e6) / 1e6:.6f}"


def records(frame: Any) -> list[Facts]:
    """The rows of a DataFrame."""
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]
