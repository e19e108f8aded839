"""Variation: how offspring come from parents, a whole generation at once.

`initial`, `mate` and `mutate` draw every number from its address (rng.py) and hand it to the pure operators of
numbers.py and cppn/operators.py, so a child is a function of (seed, generation, slot, parents).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evofool.base import rng
from evofool.config import VariationConfig
from evofool.encoding import numbers as arrays
from evofool.encoding.cppn import operators as graphs
from evofool.encoding.cppn.genome import CppnEncoding
from evofool.encoding.cppn.graphs import Graphs
from evofool.encoding.direct.genome import DirectEncoding
from evofool.encoding.kinds import Encoding
from evofool.encoding.pictures import PictureEncoding

__all__ = ["OPERATORS", "initial", "mate", "mutate", "operator_names"]

_GENES = 1 << 15  # of direct genomes, worked on at a time

# An individual stores which of these made it as a bit set, so entries are only ever appended.
OPERATORS = (
    "initial",
    "seed",
    "crossover",
    "mutate_pixels",
    "mutate_weights",
    "mutate_activations",
    "add_connection",
    "delete_connection",
    "rewire_connection",
    "split_connection",
    "delete_node",
    "own",
)


def operator_names(bits: int) -> list[str]:
    """Names of the operators in a bit set."""
    return list(_names(bits))


@lru_cache(maxsize=1 << len(OPERATORS))
def _names(bits: int) -> tuple[str, ...]:
    return tuple(name for i, name in enumerate(OPERATORS) if bits >> i & 1)


def operator_bit(name: str) -> np.uint32:
    """The bit of one operator."""
    return np.uint32(1 << OPERATORS.index(name))


def initial(encoding: Encoding | PictureEncoding, seed: int, generation: int, rows: int) -> Any:
    """A batch of `rows` random genomes."""
    draws = encoding.draws_of_initial()

    def some(first: int, last: int) -> Any:
        shapes = [(last - first, count) for count in draws]
        numbers = [
            rng.uniforms(seed, f"initial.{i}", generation, shape, start=first * shape[1])
            for i, shape in enumerate(shapes)
        ]
        return encoding.initial(*numbers)

    if not isinstance(encoding, DirectEncoding):
        return some(0, rows)
    genomes = encoding.empty(rows)
    for first, last in _blocks(rows, draws[0]):
        genomes[first:last] = some(first, last)
    return genomes


def mate(
    encoding: Encoding, config: VariationConfig, seed: int, generation: int, first: Any, second: Any
) -> tuple[Any, NDArray[np.bool_]]:
    """Cross the pairs that chance picks; the others are copies of their first parent.

    Returns:
        A batch of children and, (n,) bool, which of them have two parents.
    """
    n = len(first)
    apply = rng.uniforms(seed, "mate.apply", generation, (n,)) < config.crossover_rate
    if not apply.any():
        return first, apply
    if isinstance(encoding, DirectEncoding):
        children = first.copy()
        genes, others, size = children.reshape(-1), second.reshape(-1), int(np.prod(encoding.shape))
        for begin, end in _blocks(n * size, 2):  # three numbers for every other gene
            places, uniform = rng.chosen(
                seed, "mate.genes", generation, end - begin, arrays.CROSSED, width=3, start=3 * begin
            )
            places += begin
            if not apply.all():
                kept = apply[places // size]
                places, uniform = places[kept], uniform[kept]
            arrays.cross(genes, others, places, uniform, eta=config.crossover_eta)
        return children, apply
    of_genes, of_nodes = (
        rng.uniforms(seed, f"mate.{name}", generation, (ids.shape[1], n)).T
        for name, ids in (("genes", first.connection_ids), ("nodes", first.node_ids))
    )
    return graphs.crossover(first, second, apply, of_genes, of_nodes), apply


def mutate(
    encoding: Encoding, config: VariationConfig, seed: int, generation: int, genomes: Any, *, overwrite: bool = False
) -> tuple[Any, NDArray[np.uint32]]:
    """Apply the mutation operators to every genome.

    Args:
        overwrite: nobody needs `genomes` any more. Copies of large direct genomes take longer than their mutation.

    Returns:
        The mutated batch and, (n,) uint32, the bit set of the operators that took effect on each.
    """
    if isinstance(encoding, DirectEncoding):
        return _mutate_pixels(config, seed, generation, genomes if overwrite else genomes.copy())
    assert isinstance(encoding, CppnEncoding)
    return _mutate_graphs(encoding, config, seed, generation, genomes)


def _blocks(count: int, size: int = 1) -> Iterator[tuple[int, int]]:
    """(first, last) of as many things of `size` genes as are worked on at a time, to stay in cache."""
    step = max(1, _GENES // size)
    for first in range(0, count, step):
        yield first, min(first + step, count)


def _mutate_pixels(
    config: VariationConfig, seed: int, generation: int, genomes: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.uint32]]:
    """`arrays.mutate` of all genes, in place, with numbers made only for those that mutate."""
    genes = genomes.reshape(-1)
    bits = np.zeros(len(genomes), dtype=np.uint32)
    size, rate = genes.size // max(1, len(genomes)), config.mutation_rate
    for first, last in _blocks(genes.size):
        places, uniform = rng.chosen(seed, "mutate.pixels", generation, last - first, rate, start=first)
        places += first
        genes[places] = arrays.MUTATIONS[config.mutation](
            genes[places].astype(np.float64), uniform[:, 0] / rate, config.mutation_eta
        )
        bits[places // size] = operator_bit("mutate_pixels")
    return genomes, bits


def _mutate_graphs(
    encoding: CppnEncoding, config: VariationConfig, seed: int, generation: int, genomes: Any
) -> tuple[Any, NDArray[np.uint32]]:
    n, limit = len(genomes), encoding.weight_limit
    bits = np.zeros(n, dtype=np.uint32)

    def per_gene(domain: str, width: int) -> NDArray[np.float64]:
        # Drawn gene by gene, so that the numbers of one genome do not depend on how long the others are.
        return rng.uniforms(seed, domain, generation, (width, n)).T

    def per_genome(name: str, count: int, rate: float) -> tuple[NDArray[np.bool_], list[NDArray[np.float64]]]:
        uniform = rng.uniforms(seed, f"mutate.{name}", generation, (n, count + 1))
        return uniform[:, 0] < rate, [uniform[:, 1 + i] for i in range(count)]

    genomes, done = graphs.mutate_weights(
        genomes,
        per_gene("mutate.weights", genomes.connection_ids.shape[1]),
        rate=config.mutation_rate,
        eta=config.mutation_eta,
        kind=config.mutation,
        limit=limit,
    )
    bits |= done * operator_bit("mutate_weights")
    genomes, done = graphs.mutate_activations(
        genomes,
        per_gene("mutate.activations", genomes.node_ids.shape[1]),
        rate=config.activation_rate,
        codes=encoding.activation_codes,
    )
    bits |= done * operator_bit("mutate_activations")

    apply, uniform = per_genome("add_connection", 3, config.add_connection)
    genomes, done = graphs.add_connection(genomes, apply, *uniform, limit=limit, parallel=config.parallel_connections)
    bits |= done * operator_bit("add_connection")

    def split(batch: Graphs, apply: NDArray[np.bool_], which: NDArray[np.float64]) -> tuple[Graphs, Any]:
        drawn = None
        if config.split == "both_halves":
            uniform = rng.uniforms(seed, "mutate.split_activation", generation, (n,))
            drawn = encoding.activation_codes[(uniform * len(encoding.activation_codes)).astype(np.int64)]
        return graphs.split_connection(batch, apply, which, drawn)

    operators: tuple[tuple[str, Callable[..., Any], int, float], ...] = (
        ("delete_connection", graphs.delete_connection, 1, config.delete_connection),
        ("rewire_connection", graphs.rewire_connection, 3, config.rewire_connection),
        ("split_connection", split, 1, config.split_connection),
        ("delete_node", graphs.delete_node, 1, config.delete_node),
    )
    for name, operator, count, rate in operators:
        apply, uniform = per_genome(name, count, rate)
        if apply.any():
            genomes, done = operator(genomes, apply, *uniform)
            bits |= done * operator_bit(name)
    return genomes, bits
