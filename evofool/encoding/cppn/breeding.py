"""How CPPNs vary: numbers drawn by address, handed to the pure operators of operators.py."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from evofool.base import rng
from evofool.config import VariationConfig
from evofool.encoding.cppn import operators
from evofool.encoding.cppn.genome import CppnEncoding
from evofool.encoding.cppn.graphs import Graphs
from evofool.encoding.names import operator_bit

__all__ = ["initial", "mate", "mutate"]

Mask = NDArray[np.bool_]


def initial(encoding: CppnEncoding, seed: int, generation: int, rows: int) -> Graphs:
    """A batch of `rows` random genomes."""
    widths = encoding.draws_of_initial()
    return encoding.initial(
        *(rng.uniforms(seed, f"initial.{i}", generation, (rows, width)) for i, width in enumerate(widths))
    )


def mate(
    encoding: CppnEncoding,
    config: VariationConfig,
    seed: int,
    generation: int,
    first: Graphs,
    second: Graphs,
    apply: Mask,
) -> Graphs:
    """Children of the pairs that `apply` picks; the others are copies of their first parent."""
    of_genes, of_nodes = (
        rng.uniforms(seed, f"mate.{name}", generation, (ids.shape[1], len(first))).T
        for name, ids in (("genes", first.connection_ids), ("nodes", first.node_ids))
    )
    return operators.crossover(first, second, apply, of_genes, of_nodes)


def mutate(
    encoding: CppnEncoding,
    config: VariationConfig,
    seed: int,
    generation: int,
    genomes: Graphs,
    *,
    overwrite: bool = False,
) -> tuple[Graphs, NDArray[np.uint32]]:
    """Every operator once, in the order of the configuration's keys; see `variation.mutate`."""
    n, limit = len(genomes), encoding.weight_limit
    bits = np.zeros(n, dtype=np.uint32)

    def per_gene(domain: str, width: int) -> NDArray[np.float64]:
        # Drawn gene by gene, so that the numbers of one genome do not depend on how long the others are.
        return rng.uniforms(seed, domain, generation, (width, n)).T

    def per_genome(name: str, count: int, rate: float) -> tuple[Mask, list[NDArray[np.float64]]]:
        uniform = rng.uniforms(seed, f"mutate.{name}", generation, (n, count + 1))
        return uniform[:, 0] < rate, [uniform[:, 1 + i] for i in range(count)]

    genomes, done = operators.mutate_weights(
        genomes,
        per_gene("mutate.weights", genomes.connection_ids.shape[1]),
        rate=config.mutation_rate,
        eta=config.mutation_eta,
        kind=config.mutation,
        limit=limit,
    )
    bits |= done * operator_bit("mutate_weights")
    genomes, done = operators.mutate_activations(
        genomes,
        per_gene("mutate.activations", genomes.node_ids.shape[1]),
        rate=config.activation_rate,
        codes=encoding.activation_codes,
    )
    bits |= done * operator_bit("mutate_activations")

    apply, uniform = per_genome("add_connection", 3, config.add_connection)
    genomes, done = operators.add_connection(
        genomes, apply, *uniform, limit=limit, parallel=config.parallel_connections
    )
    bits |= done * operator_bit("add_connection")

    def split(batch: Graphs, apply: Mask, which: NDArray[np.float64]) -> tuple[Graphs, Mask]:
        drawn = None
        if config.split == "both_halves":
            uniform = rng.uniforms(seed, "mutate.split_activation", generation, (n,))
            drawn = encoding.activation_codes[(uniform * len(encoding.activation_codes)).astype(np.int64)]
        return operators.split_connection(batch, apply, which, drawn)

    structural: tuple[tuple[str, Callable[..., tuple[Graphs, Mask]], int, float], ...] = (
        ("delete_connection", operators.delete_connection, 1, config.delete_connection),
        ("rewire_connection", operators.rewire_connection, 3, config.rewire_connection),
        ("split_connection", split, 1, config.split_connection),
        ("delete_node", operators.delete_node, 1, config.delete_node),
    )
    for name, operator, count, rate in structural:
        apply, uniform = per_genome(name, count, rate)
        if apply.any():
            genomes, done = operator(genomes, apply, *uniform)
            bits |= done * operator_bit(name)
    return genomes, bits
