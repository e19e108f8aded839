"""Variation: how offspring come from parents, a whole generation at once.

`initial`, `mate` and `mutate` draw every number from its address (rng.py) and hand it to the pure operators of
arrays.py and graphs.py, so a child is a function of (seed, generation, slot, parents).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evofool import rng
from evofool.config import VariationConfig
from evofool.encoding import CppnEncoding, DirectEncoding, Encoding
from evofool.encoding.cppn import Graphs
from evofool.encoding.pictures import PictureEncoding
from evofool.variation import arrays, graphs

__all__ = ["OPERATORS", "initial", "mate", "mutate", "operator_names"]

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
    return [name for i, name in enumerate(OPERATORS) if bits >> i & 1]


def operator_bit(name: str) -> np.uint32:
    """The bit of one operator."""
    return np.uint32(1 << OPERATORS.index(name))


def initial(encoding: Encoding | PictureEncoding, seed: int, generation: int, rows: int) -> Any:
    """A batch of `rows` random genomes."""
    draws = encoding.draws_of_initial()
    return encoding.initial(
        *(rng.uniforms(seed, f"initial.{i}", generation, (rows, count)) for i, count in enumerate(draws))
    )


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
        flat = first.reshape(n, -1)
        uniform = rng.uniforms(seed, "mate.genes", generation, (n, flat.shape[1], 3))
        crossed = arrays.crossover(flat[apply], second.reshape(n, -1)[apply], uniform[apply], eta=config.crossover_eta)
        children = first.copy()
        children[apply] = crossed.reshape(-1, *first.shape[1:])
        return children, apply
    genes, nodes = (
        rng.uniforms(seed, f"mate.{name}", generation, (ids.shape[1], n)).T
        for name, ids in (("genes", first.connection_ids), ("nodes", first.node_ids))
    )
    return graphs.crossover(first, second, apply, genes, nodes), apply


def mutate(
    encoding: Encoding, config: VariationConfig, seed: int, generation: int, genomes: Any
) -> tuple[Any, NDArray[np.uint32]]:
    """Apply the mutation operators to every genome.

    Returns:
        The mutated batch and, (n,) uint32, the bit set of the operators that took effect on each.
    """
    if isinstance(encoding, DirectEncoding):
        return _mutate_pixels(config, seed, generation, genomes)
    assert isinstance(encoding, CppnEncoding)
    return _mutate_graphs(encoding, config, seed, generation, genomes)


def _mutate_pixels(
    config: VariationConfig, seed: int, generation: int, genomes: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.uint32]]:
    flat = genomes.reshape(len(genomes), -1)
    mutated, chosen = arrays.mutate(
        flat,
        rng.uniforms(seed, "mutate.pixels", generation, flat.shape),
        rate=config.mutation_rate,
        eta=config.mutation_eta,
        kind=config.mutation,
    )
    bits = np.where(chosen.any(axis=1), operator_bit("mutate_pixels"), np.uint32(0))
    return mutated.reshape(genomes.shape), bits


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
