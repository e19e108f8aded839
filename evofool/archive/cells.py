"""The archive: cells of classes (records.Cells), and one elite in each.

Index and score arrays in and out. The archive knows no image, network or Ray; it holds individual ids, not genomes.
MAP-Elites: Mouret and Clune 2015, "Illuminating search spaces by mapping elites"; with classes as cells: Nguyen,
Yosinski and Clune, CVPR 2015, section 2.2.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evofool.archive.scores import confidence
from evofool.records import NO_PARENT, Cells, Placements, Scores, Statistics, individual_id

__all__ = ["Archive", "chain_hash", "empty", "place", "restore", "statistics"]


@dataclass(frozen=True)
class Archive:
    """The elites of C cells; where a cell is empty the elite is NO_PARENT and the log-odds are -inf."""

    elites: NDArray[np.int64]  # (C,) individual ids
    log_odds: NDArray[np.float32]  # (C,)
    objective: NDArray[np.float32]  # (C,) what cells rank by
    top1: NDArray[np.bool_]  # (C,) whether the elite's top-1 class is the cell's

    @property
    def filled(self) -> NDArray[np.bool_]:
        """(C,) which cells have an elite."""
        return self.elites != NO_PARENT


def empty(cells: int) -> Archive:
    """An archive of empty cells."""
    return Archive(
        np.full(cells, NO_PARENT, dtype=np.int64),
        np.full(cells, -np.inf, dtype=np.float32),
        np.full(cells, -np.inf, dtype=np.float32),
        np.zeros(cells, dtype=bool),
    )


def place(
    archive: Archive,
    scores: Scores,
    *,
    generation: int,
    cells: Cells,
    insertion: str = "every_class",
    own: NDArray[np.int64] | None = None,
) -> tuple[Archive, Placements]:
    """Let one generation compete for the cells.

    An individual takes a cell if its objective there is strictly greater than the elite's, and the greatest of its
    generation; of several equally great ones, that of the lowest slot: at most one placement a cell. An elite is not
    displaced by an equal, since then neutral copies would displace elites for ever. An individual with any log-odds
    that are not finite, or any objective that is NaN, takes no cell.

    Args:
        scores: of the generation; log_odds and objective (n, K) float32. An individual competes in the cells of its
            bin.
        cells: the C cells of the archive.
        insertion: "every_class", or "argmax": an individual competes only for the class of its greatest objective
            (on a tie, for the first of them).
        own: (n,) the class, 0 .. K - 1, that each individual is tried for, and for no other; None: all of them.

    Returns:
        The new archive and its placements, in cell order. `archive` is left as it is.
    """
    sound = np.isfinite(scores.log_odds).all(axis=1, keepdims=True)
    sound &= ~np.isnan(scores.objective).any(axis=1, keepdims=True)
    values = np.where(sound, scores.objective, np.float32(-np.inf))
    for only in (values.argmax(axis=1) if insertion == "argmax" else None, own):
        if only is not None:
            values = np.where(only[:, None] == np.arange(values.shape[1]), values, np.float32(-np.inf))
    columns = cells.columns
    if scores.bins is not None:
        values = np.where(scores.bins[:, None] == cells.bin_indices, values[:, columns], np.float32(-np.inf))
    best = values.argmax(axis=0)  # the first of equals: the lowest slot
    offered = values[best, np.arange(len(cells))]
    won = np.flatnonzero(offered > archive.objective)
    slots = best[won].astype(np.int32)
    placements = Placements(
        generation=generation,
        cells=won.astype(np.int32),
        slots=slots,
        log_odds=scores.log_odds[slots, columns[won]],
        displaced=archive.elites[won],
        displaced_log_odds=archive.log_odds[won],
        objective=offered[won],
    )
    top1 = np.zeros(len(won), bool) if cells.units else scores.top_classes[slots, 0] == cells.class_indices[won]
    return restore(archive, placements, top1), placements


def restore(archive: Archive, placements: Placements, top1: NDArray[np.bool_]) -> Archive:
    """The archive with the placements applied; `top1`: of each, whether the cell's class is the individual's top-1."""
    elites, log_odds = archive.elites.copy(), archive.log_odds.copy()
    objective, is_top1 = archive.objective.copy(), archive.top1.copy()
    elites[placements.cells] = individual_id(placements.generation, placements.slots.astype(np.int64))
    log_odds[placements.cells] = placements.log_odds
    objective[placements.cells] = placements.objective
    is_top1[placements.cells] = top1
    return Archive(elites, log_odds, objective, is_top1)


def statistics(
    archive: Archive,
    placements: Placements,
    *,
    offspring: int,
    non_finite: int,
    previous: Statistics | None,
    units: bool = False,
    seconds: float = 0.0,
) -> Statistics:
    """The counters after a generation.

    Args:
        offspring, non_finite: individuals of the generation, and those with a score that is not finite.
        previous: the counters of the generation before.
        units: whether cells are of units.
    """
    filled = archive.filled
    values = np.where(filled, archive.log_odds, np.float32(np.nan)) if units else confidence(archive.log_odds)
    nothing = float("nan") if units else 0.0
    count = int(filled.sum())
    return Statistics(
        generation=placements.generation,
        offspring=offspring,
        evaluations=offspring + (previous.evaluations if previous else 0),
        placements=len(placements),
        placements_total=len(placements) + (previous.placements_total if previous else 0),
        non_finite=non_finite,
        filled=count,
        unique_elites=len(np.unique(archive.elites[filled])),
        median=float(np.median(values[filled])) if count else nothing,
        minimum=float(values.min()),
        classes_99=0 if units else int((values >= np.float32(0.99)).sum()),
        classes_9999=0 if units else int((values >= np.float32(0.9999)).sum()),
        top1_share=float(archive.top1[filled].mean()) if count else 0.0,
        stale=0 if len(placements) else 1 + (previous.stale if previous else 0),
        seconds=seconds,
    )


_ROW = struct.Struct("<III32s32s4s")


def chain_hash(previous: bytes, placements: Placements, image_sha256: list[bytes], genome_sha256: list[bytes]) -> bytes:
    """h_g = sha256(h_(g-1) || rows of generation g): names an archive by all that ever entered it.

    One row for each placement, in cell order, 80 bytes, little-endian: generation uint32, slot uint32, cell uint32,
    sha256 of the image's bytes (height, width, channels; row-major uint8), sha256 of the genome's canonical bytes,
    bits of the float32 log-odds. h_(-1) is 32 zero bytes. A generation without placements still advances the chain.

    Args:
        image_sha256, genome_sha256: 32 bytes for each placement.
    """
    digest = hashlib.sha256(previous)
    for cell, slot, value, image, genome in zip(
        placements.cells, placements.slots, placements.log_odds, image_sha256, genome_sha256
    ):
        digest.update(_ROW.pack(placements.generation, slot, cell, image, genome, np.float32(value).tobytes()))
    return digest.digest()
