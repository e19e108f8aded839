"""Rows of the run directory's tables, from results and back; and the seeds that a run may start from."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from evofool.archive.scores import confidence as confidence_of
from evofool.config.sections import OF_CLASSES
from evofool.encoding.names import operator_names
from evofool.records import (
    NO_PARENT,
    Cells,
    Facts,
    GenerationResult,
    Placements,
    Statistics,
    address_of,
    individual_id,
)

__all__ = [
    "Rows",
    "Seeds",
    "counters_of",
    "individual_rows",
    "placement_rows",
    "placements_of",
    "statistics_of",
]

Rows = dict[str, list[Facts]]  # table -> its rows
_Number = TypeVar("_Number", bound=np.generic)


@dataclass(frozen=True)
class Seeds:
    """Genomes that start a run in place of generation 0's random ones."""

    genomes: list[bytes]
    origins: list[str]  # "RUN_ID:INDIVIDUAL_ID"

    def sha256(self) -> str:
        """sha256 (hex) of the sha256 of each genome, in order."""
        digest = hashlib.sha256()
        for genome in self.genomes:
            digest.update(hashlib.sha256(genome).digest())
        return digest.hexdigest()


def placements_of(generation: int, rows: list[Facts]) -> Placements:
    """The placements of a generation, from its rows of the table of placements."""

    def column(name: str, dtype: type[_Number], null: float | None = None) -> NDArray[_Number]:
        return np.array([null if row[name] is None else row[name] for row in rows], dtype=dtype)

    return Placements(
        generation=generation,
        cells=column("cell", np.int32),
        slots=np.array([address_of(row["individual_id"])[1] for row in rows], dtype=np.int32),
        # Units have no log-odds; what they rank by takes their place.
        log_odds=np.array([r["objective"] if r["log_odds"] is None else r["log_odds"] for r in rows], np.float32),
        displaced=column("displaced_id", np.int64, NO_PARENT),
        displaced_log_odds=column("displaced_log_odds", np.float32, -np.inf),
        objective=column("objective", np.float32),
    )


def individual_rows(result: GenerationResult) -> Iterator[Facts]:
    """A row for each individual that took a cell in a generation, by slot."""
    generation, origins = result.placements.generation, result.offspring.origins
    for slot in sorted(result.genomes):
        nodes, connections = result.sizes[slot]
        answers = zip(result.scores.top_classes[slot].tolist(), result.scores.top_confidences[slot].tolist())
        top = [{"class_index": index, "confidence": confidence} for index, confidence in answers]
        yield {
            "individual_id": int(individual_id(generation, slot)),
            "generation": generation,
            "slot": slot,
            "parent_ids": [int(p) for p in result.offspring.parents[slot] if p != NO_PARENT],
            "operators": operator_names(int(result.offspring.operators[slot])),
            "origin": origins[slot] if origins else None,
            "nodes": nodes,
            "connections": connections,
            "top1_class_index": top[0]["class_index"],
            "top1_confidence": top[0]["confidence"],
            "top5": [answer for answer in top if answer["class_index"] >= 0],
            "genome_sha256": hashlib.sha256(result.genomes[slot]).hexdigest(),
            "image_sha256": result.scores.image_sha256[slot].tobytes().hex(),
        }


def placement_rows(result: GenerationResult, cells: Cells) -> Iterator[Facts]:
    """A row for each cell that got a new elite in a generation, by cell."""
    p, class_indices = result.placements, cells.class_indices.tolist()
    ids = individual_id(p.generation, p.slots.astype(np.int64))
    columns = (p.cells, ids, p.displaced, p.displaced_log_odds, p.log_odds, confidence_of(p.log_odds), p.objective)
    # As lists, since numbers of an array are slow to fetch one by one.
    for cell, identity, displaced, displaced_log_odds, log_odds, confidence, objective in zip(
        *(column.tolist() for column in columns)
    ):
        empty = displaced == NO_PARENT
        odds: Facts = {
            "log_odds": log_odds,
            "confidence": confidence,
            "displaced_log_odds": None if empty else displaced_log_odds,
        }
        yield {
            "generation": p.generation,
            "cell": cell,
            "class_index": class_indices[cell],
            "individual_id": identity,
            "displaced_id": None if empty else displaced,
            "objective": objective,
            **(dict.fromkeys(odds) if cells.units else odds),
        }


def counters_of(s: Statistics, cells: Cells) -> Facts:
    """The counters of a generation as a row of the history has them: null where units have none."""
    row = asdict(s)
    if cells.units:
        row |= dict.fromkeys(OF_CLASSES)
        row |= {name: None for name in ("median", "minimum") if math.isnan(row[name])}
    return row


def statistics_of(row: Facts) -> Statistics:
    """The counters of a row of the history."""
    kept = {name: value for name, value in row.items() if value is not None}
    return Statistics(**{"median": math.nan, "minimum": math.nan, **dict.fromkeys(OF_CLASSES, 0), **kept})
