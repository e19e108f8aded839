"""Variation: how offspring come from parents, a whole generation at once.

Numbers are drawn by their address (rng.py) in the `breeding.py` of each kind of genome, and handed to pure operators
(numbers.py, cppn/operators.py), so the children of a generation are a function of (seed, generation, parents).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from evofool.base import rng
from evofool.config.sections import VariationConfig
from evofool.encoding.contract import Encoding
from evofool.encoding.kinds import kind_of
from evofool.records import Genomes

__all__ = ["initial", "mate", "mutate"]


def initial(encoding: Encoding, seed: int, generation: int, rows: int) -> Genomes:
    """A batch of `rows` random genomes."""
    return kind_of(encoding).initial(encoding, seed, generation, rows)


def mate(
    encoding: Encoding, config: VariationConfig, seed: int, generation: int, first: Genomes, second: Genomes
) -> tuple[Genomes, NDArray[np.bool_]]:
    """Cross each pair with the probability `crossover_rate`; the children of the others are their first parents.

    Returns:
        A batch of children, which is `first` itself where none is crossed, and, (n,) bool, which have two parents.
    """
    apply = rng.uniforms(seed, "mate.apply", generation, (len(first),)) < config.crossover_rate
    if not apply.any():
        return first, apply
    return kind_of(encoding).mate(encoding, config, seed, generation, first, second, apply), apply


def mutate(
    encoding: Encoding,
    config: VariationConfig,
    seed: int,
    generation: int,
    genomes: Genomes,
    *,
    overwrite: bool = False,
) -> tuple[Genomes, NDArray[np.uint32]]:
    """Apply the mutation operators to every genome.

    Args:
        overwrite: nobody needs `genomes` any more. Copies of large direct genomes take longer than their mutation.

    Returns:
        The mutated batch and, (n,) uint32, the bit set of the operators that took effect on each.
    """
    return kind_of(encoding).mutate(encoding, config, seed, generation, genomes, overwrite=overwrite)
