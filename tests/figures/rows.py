"""Rows of docs/results/NAME.csv: written as they come, none computed twice; when and on what, measured.csv says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd

import evofool
from evofool.base.provenance import facts, versions

RESULTS = Path("docs/results")
MEASURED = "measured"  # the table of tables


def read(name: str) -> pd.DataFrame:
    """The rows so far; keys that look like numbers stay text."""
    path = RESULTS / f"{name}.csv"
    return pd.read_csv(path, dtype={"lenet": str, "level": str}) if path.is_file() else pd.DataFrame()


def have(name: str, key: Mapping[str, Any], make: Callable[[], list[dict[str, Any]] | dict[str, Any]]) -> None:
    """See to it that a table has the rows of a key, {column: value}: they are computed unless they are there."""
    frame = read(name)
    if not frame.empty and (frame[list(key)].astype(str) == [str(value) for value in key.values()]).all(axis=1).any():
        return
    made = make()
    rows = [{**key, **row} for row in (made if isinstance(made, list) else [made])]
    _put(name, pd.concat([frame, pd.DataFrame(rows)], ignore_index=True))
    note(name, added=True)
    print(name, *key.values(), flush=True)


def write(name: str, frame: pd.DataFrame) -> None:
    """Write a whole table, and note when and on what."""
    _put(name, frame)
    note(name)


def note(name: str, *, added: bool = False) -> None:
    """Have measured.csv say that a table was written today, here; or added to, if others were first."""
    noted = {"table": name, "date": date.today().isoformat(), "evofool": evofool.__version__}
    noted["machine"] = f"{here()}, torch {versions()['torch']}"
    before = read(MEASURED)
    old = [] if before.empty else before.to_dict("records")
    rows = [row for row in old if row["table"] != name or (added and row["machine"] != noted["machine"])]
    _put(MEASURED, pd.DataFrame(sorted([*rows, noted], key=lambda row: row["table"])))


def here() -> str:
    """The processor, and how many of its cores this process may use."""
    found = facts()
    return f"{found['processor']}, {found['cores']} core{'s' * (found['cores'] != 1)}"


def _put(name: str, frame: pd.DataFrame) -> None:
    RESULTS.mkdir(parents=True, exist_ok=True)
    part = RESULTS / f"{name}.csv.part"
    frame.to_csv(part, index=False, float_format="%.9g", lineterminator="\n")
    part.replace(RESULTS / f"{name}.csv")
