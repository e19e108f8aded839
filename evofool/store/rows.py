"""Rows of the run directory's tables, from results and back."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from evofool.archive.scores import confidence as confidence_of
from evofool.encoding.names import operator_names
from evofool.records import NO_PARENT, Cells, Facts, GenerationResult, Placements, individual_id

__all__ = ["Rows", "individual_rows", "placement_rows", "placements_of"]

Rows = dict[str, list[Facts]]  # of each table


def placements_of(generation: int, rows: list[Facts]) -> Placements:
    """The placements of a generation that these rows hold."""

    def column(name: str, dtype: Any, null: Any = None) -> Any:
        return np.array([null if r[name] is None else r[name] for r in rows], dtype=dtype)

    return Placements(
        generation=generation,
        cells=column("cell", np.int32),
        slots=(column("individual_id", np.int64) & 0xFFFFFF).astype(np.int32),
        log_odds=column("log_odds", np.float32),
        displaced=column("displaced_id", np.int64, NO_PARENT),
        displaced_log_odds=column("displaced_log_odds", np.float32, -np.inf),
        objective=column("objective", np.float32),
    )


def individual_rows(result: GenerationResult) -> Iterator[Facts]:
    """Everyone who took a cell in a generation."""
    generation = result.placements.generation
    for slot in sorted(result.genomes):
        nodes, connections = result.sizes[slot]
        origins = result.offspring.origins
        yield {
            "individual_id": int(individual_id(generation, slot)),
            "generation": generation,
            "slot": slot,
            "parent_ids": [int(p) for p in result.offspring.parents[slot] if p != NO_PARENT],
            "operators": operator_names(int(result.offspring.operators[slot])),
            "origin": origins[slot] if origins else None,
            "nodes": nodes,
            "connections": connections,
            "top1_class_index": int(result.scores.top1_class[slot]),
            "top1_confidence": float(result.scores.top1_confidence[slot]),
            "genome_sha256": hashlib.sha256(result.genomes[slot]).hexdigest(),
            "image_sha256": result.scores.image_sha256[slot].tobytes().hex(),
        }


def placement_rows(result: GenerationResult, cells: Cells) -> Iterator[Facts]:
    """Every cell that was taken in a generation."""
    p = result.placements
    # As lists, since a number at a time is slow to come by.
    ids, class_indices = individual_id(p.generation, p.slots.astype(np.int64)).tolist(), cells.class_indices.tolist()
    displaced = zip(p.displaced.tolist(), p.displaced_log_odds.tolist())
    values = zip(p.log_odds.tolist(), confidence_of(p.log_odds).tolist(), p.objective.tolist())
    for cell, identity, (old, old_log_odds), (log_odds, confidence, objective) in zip(
        p.cells.tolist(), ids, displaced, values
    ):
        empty = old == NO_PARENT
        yield {
            "generation": p.generation,
            "cell": cell,
            "class_index": class_indices[cell],
            "individual_id": identity,
            "log_odds": log_odds,
            "confidence": confidence,
            "displaced_id": None if empty else old,
            "displaced_log_odds": None if empty else old_log_odds,
            "objective": objective,
        }
