"""CPPNs to be rendered and varied, grown to a number of hidden nodes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from evofool.base import rng
from evofool.encoding import variation
from evofool.encoding.cppn import operators
from evofool.encoding.cppn.genome import CppnEncoding
from evofool.encoding.cppn.graphs import FIRST_HIDDEN, PAD, Graphs
from evofool.errors import EvofoolError

__all__ = ["grown", "hidden_nodes"]

TRIES = 10  # splits for each hidden node; one fails only where the new node would have the id of another


def hidden_nodes(genomes: Graphs) -> NDArray[np.int64]:
    """(n,) hidden nodes of each CPPN."""
    return np.asarray(((genomes.node_ids != PAD) & (genomes.node_ids >= FIRST_HIDDEN)).sum(axis=1))


def grown(encoding: CppnEncoding, rows: int, hidden: int, seed: int = 0) -> Graphs:
    """CPPNs with exactly `hidden` hidden nodes each, as evolution's own operators make them.

    Random genomes whose connections are split, with activations drawn from the encoding's, until each has its nodes;
    beside every split one genome in two tries a new connection.

    Raises:
        EvofoolError: the operators do not make as many.
    """
    genomes = variation.initial(encoding, seed, 0, rows)
    codes = encoding.activation_codes
    for step in range(TRIES * hidden):
        short = hidden_nodes(genomes) < hidden
        if not short.any():
            break
        which, kind, chance, *ends = rng.uniforms(seed, "bench.grown", step, (6, rows))
        genomes, _ = operators.split_connection(genomes, short, which, codes[(kind * len(codes)).astype(np.int64)])
        genomes, _ = operators.add_connection(genomes, short & (chance < 0.5), *ends, limit=encoding.weight_limit)
    if not (hidden_nodes(genomes) == hidden).all():
        raise EvofoolError(f"CPPNs could not be grown to {hidden} hidden nodes.")
    return genomes
