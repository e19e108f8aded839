"""What studies left in the folder of a run, read with care: a question, a sentence, a picture, rows about elites."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from evofool.errors import CorruptData, EvofoolError
from evofool.records import Facts
from evofool.store import files, schemas
from evofool.store.reader import Run
from evofool.store.remote.working_copy import named

__all__ = ["StudyFindings", "studies"]

LARGEST_STUDY = 8 << 20  # bytes of a picture or a record of a study
MOST_TEXT = 400  # characters of a value
MOST_ROWS = 40  # of a study for one elite
_DIGESTS = ("_fingerprint", "_sha256", "_hash")
_IDS = ("run_id", "archive_hash", "as_of_generation", "individual_id", "class_index", "class_name", "bin")


@dataclass
class StudyFindings:
    """What a study left in the folder of the run.

    Attributes:
        picture: its SVG, as it is.
        columns, rows: of its table, by the id of the elite's individual and its class.
    """

    name: str
    facts: Facts
    picture: bytes
    columns: list[str]
    rows: dict[tuple[int, int], list[list[Any]]]


def studies(run: Run, left_out: list[str]) -> list[StudyFindings]:
    """The studies of a run by name; a sentence about each that cannot be read goes to `left_out`."""
    found = []
    for record in sorted((run.path / "_studies").glob("*.json")):
        try:
            found.append(_study(record, run.provenance["run_id"]))
        except (EvofoolError, OSError, ValueError, KeyError, TypeError) as error:
            text = error.message if isinstance(error, EvofoolError) else f"{type(error).__name__}: {error}"
            left_out.append(f"the study {record.stem} could not be read ({named(text)}).")
    return found


def _study(record: Path, run_id: str) -> StudyFindings:
    for path in (record, picture := record.with_suffix(".svg")):
        if path.stat().st_size > LARGEST_STUDY:
            raise CorruptData(f"{path.name} has over {LARGEST_STUDY >> 20} MiB")
    facts = files.read_json(record)
    if not all(isinstance(facts.get(name), str) for name in ("question", "sentence")):
        raise CorruptData(f"{record.name} has no question, or no sentence")
    table = record.with_suffix(".parquet")
    columns, rows = _rows(table, run_id) if table.is_file() else ([], {})
    return StudyFindings(record.stem, facts, picture.read_bytes(), columns, rows)


def _rows(table: Path, run_id: str) -> tuple[list[str], dict[tuple[int, int], list[list[Any]]]]:
    """Of a study's table the rows about single elites: those of the newest archive it has of this run.

    Columns that say the same in every row, and those that name the elite, are left out.
    """
    frame = schemas.any_table(table).to_pandas()
    if not {"individual_id", "class_index"} <= set(frame.columns) or frame.empty:
        return [], {}
    if "run_id" in frame.columns:
        frame = frame[frame["run_id"] == run_id]
    if "as_of_generation" in frame.columns and len(frame):
        frame = frame[frame["as_of_generation"] == frame["as_of_generation"].max()]
    names = [name for name in frame.columns if name not in _IDS and not name.endswith(_DIGESTS)]
    told = [name for name in names if _is_told(frame[name])]
    groups = frame.groupby(["individual_id", "class_index"])
    if (groups.size() > 1).any():  # what is the same in all rows of an elite is about the elite, and said elsewhere
        told = [name for name in told if (groups[name].nunique(dropna=False) > 1).any()]
    rows: dict[tuple[int, int], list[list[Any]]] = {}
    for key, values in zip(
        zip(frame["individual_id"].tolist(), frame["class_index"].tolist()),
        frame[told].itertuples(index=False, name=None),
    ):
        mine = rows.setdefault(key, [])
        if len(mine) < MOST_ROWS:
            mine.append([_plain(value) for value in values])
    return told, rows


def _is_told(column: pd.Series) -> bool:
    kinds = (str, int, float, bool, np.generic)
    values = column.dropna()
    return all(isinstance(value, kinds) for value in values) and column.astype(str).nunique() > 1


def _plain(value: Any) -> Any:
    """A value as JSON has it; None for what is missing or not finite."""
    if value is pd.NA or value is None:
        return None
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, str):
        return value[:MOST_TEXT]
    return None if isinstance(value, float) and not math.isfinite(value) else value
