"""The state that a search resumes from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evofool.archive.cells import Archive
from evofool.records import Placements, Statistics

__all__ = ["State"]


@dataclass(frozen=True)
class State:
    """What a search needs in order to go on after its last commit."""

    generation: int
    archive_hash: bytes
    statistics: Statistics
    start: Archive  # after generation `generation - lag + 1` (empty if that is negative)
    start_hash: bytes  # the archive hash of `start`
    pending: list[tuple[Placements, NDArray[np.bool_]]]  # placements and top-1 flags of each generation after `start`
    genomes: dict[int, bytes]  # individual id -> canonical bytes, of all elites from `start` to the last generation
    parents: dict[int, int]  # of the same individuals: the first parent, NO_PARENT where there is none
