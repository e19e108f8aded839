"""What a run begins from and goes on from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from evofool.archive import cells as archives
from evofool.records import Placements, Statistics

__all__ = ["Seeds", "State"]


@dataclass(frozen=True)
class Seeds:
    """Genomes that start a run in place of generation 0's random ones."""

    genomes: list[bytes]
    origins: list[str]  # "RUN_ID:INDIVIDUAL_ID"

    def sha256(self) -> str:
        """sha256 (hex) of all genomes in order."""
        digest = hashlib.sha256()
        for genome in self.genomes:
            digest.update(hashlib.sha256(genome).digest())
        return digest.hexdigest()


@dataclass(frozen=True)
class State:
    """What a search needs to go on after its last commit."""

    generation: int
    archive_hash: bytes
    statistics: Statistics
    start: archives.Archive  # after generation `generation - lag + 1` (empty if that is negative)
    start_hash: bytes  # the archive hash then
    pending: list[tuple[Placements, Any]]  # (placements, top1) of the generations from there to `generation`
    genomes: dict[int, bytes]  # individual id -> canonical bytes, of everyone those archives hold
