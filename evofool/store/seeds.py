"""What a run begins from, where that is not random."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

__all__ = ["Seeds"]


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
