"""How pixels, and other arrays of numbers in [0, 1], vary.

Numbers are drawn by address and handed to the pure operators of numbers.py, a block of genes at a time.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from evofool.base import rng
from evofool.config.sections import VariationConfig
from evofool.encoding import numbers
from evofool.encoding.arrays import ArrayEncoding, Numbers
from evofool.encoding.names import operator_bit

__all__ = ["initial", "mate", "mutate"]

_GENES = 1 << 15  # worked on at a time, to stay in cache


def initial(encoding: ArrayEncoding, seed: int, generation: int, rows: int) -> Numbers:
    """A batch of `rows` random genomes."""
    genomes = encoding.empty(rows)
    genes = genomes.reshape(-1)
    for first, last in _blocks(genes.size):
        genes[first:last] = rng.uniforms(seed, "initial.0", generation, (last - first,), start=first)
    return genomes


def mate(
    encoding: ArrayEncoding,
    config: VariationConfig,
    seed: int,
    generation: int,
    first: Numbers,
    second: Numbers,
    apply: NDArray[np.bool_],
) -> Numbers:
    """Children of the pairs that `apply` picks; the others are copies of their first parent."""
    children = first.copy()
    genes, others, size = children.reshape(-1), second.reshape(-1), int(np.prod(encoding.shape))
    for begin, end in _blocks(len(first) * size, 2):  # half as many: a chosen gene takes three numbers, not one
        places, uniform = rng.chosen(
            seed, "mate.genes", generation, end - begin, numbers.CROSSED, width=3, start=3 * begin
        )
        places += begin
        if not apply.all():
            crossed = apply[places // size]
            places, uniform = places[crossed], uniform[crossed]
        numbers.cross(genes, others, places, uniform, eta=config.crossover_eta)
    return children


def mutate(
    encoding: ArrayEncoding, config: VariationConfig, seed: int, generation: int, genomes: Numbers, *, overwrite: bool
) -> tuple[Numbers, NDArray[np.uint32]]:
    """`numbers.mutate` of all genes, with numbers made only for those that mutate; see `variation.mutate`."""
    genomes = genomes if overwrite else genomes.copy()
    genes = genomes.reshape(-1)
    bits = np.zeros(len(genomes), dtype=np.uint32)
    operator = operator_bit("mutate_pixels" if encoding.kind == "direct" else "mutate")
    size, rate = genes.size // max(1, len(genomes)), config.mutation_rate
    for first, last in _blocks(genes.size):
        places, uniform = rng.chosen(seed, "mutate.pixels", generation, last - first, rate, start=first)
        places += first
        genes[places] = numbers.MUTATIONS[config.mutation](
            genes[places].astype(np.float64), uniform[:, 0] / rate, config.mutation_eta
        )
        bits[places // size] = operator
    return genomes, bits


def _blocks(count: int, share: int = 1) -> Iterator[tuple[int, int]]:
    """The bounds, [first, last), of consecutive blocks of at most `_GENES // share` genes, of `count` in all."""
    step = max(1, _GENES // share)
    for first in range(0, count, step):
        yield first, min(first + step, count)
