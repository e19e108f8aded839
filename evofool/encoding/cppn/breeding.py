"""How CPPNs vary: numbers drawn by address, handed to the pure operators of operators.py."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from evofool.base import rng
from evofool.config.sections import VariationConfig
from evofool.encoding.cppn import operators
from evofool.encoding.cppn.genome import CppnEncoding
from evofool.encoding.cppn.graphs import FIRST_OUTPUT, PAD, Graphs, Ids
from evofool.encoding.names import operator_bit

__all__ = ["initial", "mate", "mutate"]

Mask = NDArray[np.bool_]


def initial(encoding: CppnEncoding, seed: int, generation: int, rows: int) -> Graphs:
    """A batch of `rows` random genomes."""
    weights = rng.uniforms(seed, "initial.0", generation, (rows, FIRST_OUTPUT * encoding.channels))
    activations = rng.uniforms(seed, "initial.1", generation, (rows, encoding.channels))
    return encoding.initial(weights, activations)


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
    genes = _per_gene(seed, "mate.genes", generation, first.connection_ids)
    nodes = _per_gene(seed, "mate.nodes", generation, first.node_ids)
    return operators.crossover(first, second, apply, genes, nodes)


def mutate(
    encoding: CppnEncoding, config: VariationConfig, seed: int, generation: int, genomes: Graphs, *, overwrite: bool
) -> tuple[Graphs, NDArray[np.uint32]]:
    """Every operator once, in the order of the configuration's keys; see `variation.mutate`."""
    n, limit, codes = len(genomes), encoding.weight_limit, encoding.activation_codes
    most = config.full_rate_up_to
    uniform = _rarer(
        _per_gene(seed, "mutate.weights", generation, genomes.connection_ids), genomes.connection_ids, most
    )
    genomes, is_changed = operators.mutate_weights(
        genomes, uniform, rate=config.mutation_rate, eta=config.mutation_eta, kind=config.mutation, limit=limit
    )
    bits = is_changed * operator_bit("mutate_weights")
    uniform = _rarer(_per_gene(seed, "mutate.activations", generation, genomes.node_ids), genomes.node_ids, most)
    genomes, is_changed = operators.mutate_activations(genomes, uniform, rate=config.activation_rate, codes=codes)
    bits |= is_changed * operator_bit("mutate_activations")

    def split(batch: Graphs, apply: Mask, which: NDArray[np.float64]) -> tuple[Graphs, Mask]:
        if config.split != "both_halves":
            return operators.split_connection(batch, apply, which)
        uniform = rng.uniforms(seed, "mutate.split_activation", generation, (n,))
        return operators.split_connection(batch, apply, which, codes[(uniform * len(codes)).astype(np.int64)])

    add = partial(operators.add_connection, limit=limit, parallel=config.parallel_connections)
    # Each with how many numbers it needs of a genome, beside the one that is compared with the rate.
    structural: tuple[tuple[str, Callable[..., tuple[Graphs, Mask]], int, float], ...] = (
        ("add_connection", add, 3, config.add_connection),
        ("delete_connection", operators.delete_connection, 1, config.delete_connection),
        ("rewire_connection", operators.rewire_connection, 3, config.rewire_connection),
        ("split_connection", split, 1, config.split_connection),
        ("delete_node", operators.delete_node, 1, config.delete_node),
    )
    for name, operator, count, rate in structural:
        chance, *numbers = rng.uniforms(seed, f"mutate.{name}", generation, (n, 1 + count)).T
        genomes, is_changed = operator(genomes, chance < rate, *numbers)
        bits |= is_changed * operator_bit(name)
    return genomes, bits


def _per_gene(seed: int, domain: str, generation: int, ids: Ids) -> NDArray[np.float64]:
    """Uniform numbers in the shape of `ids`, drawn so that those of a genome do not depend on the lengths of others."""
    return rng.uniforms(seed, domain, generation, ids.T.shape).T


def _rarer(uniform: NDArray[np.float64], ids: Ids, most: int | None) -> NDArray[np.float64]:
    """The numbers of `_per_gene`, so much larger in genomes of over `most` genes that as few are below a rate.

    A rate k / `most` is then the chance k / genes of each gene of a larger genome (1 / genes: Mühlenbein 1992, "How
    genetic algorithms really work"). Those below the rate are uniform below it, as they were.
    """
    if most is None:
        return uniform
    genes = (ids != PAD).sum(axis=1, keepdims=True)
    return uniform * (np.maximum(genes, most) / most)
