"""CPPNs of a given size: what rendering and variation are measured on."""

from __future__ import annotations

import numpy as np

from evofool.encoding import CppnEncoding, cppn
from evofool.encoding.cppn import Graphs
from evofool.variation import graphs

__all__ = ["grown", "hidden_nodes"]


def hidden_nodes(genomes: Graphs) -> np.ndarray:
    """How many hidden nodes each genome has, (n,)."""
    return np.asarray(((genomes.node_ids != cppn.PAD) & (genomes.node_ids >= cppn.FIRST_HIDDEN)).sum(axis=1))


def grown(encoding: CppnEncoding, n: int, hidden: int, seed: int = 0) -> Graphs:
    """Random genomes with exactly `hidden` hidden nodes each, and about half as many connections more than splits make.

    Nodes get drawn activations, not the identity of neutral splits, which rendering would not have to compute.

    Raises:
        RuntimeError: some connection could not be split that often.
    """
    random = np.random.default_rng(seed)
    genomes = encoding.initial(*(random.random((n, count)) for count in encoding.draws_of_initial()))
    codes = encoding.activation_codes
    for _ in range(10 * hidden):
        short = hidden_nodes(genomes) < hidden
        if not short.any():
            break
        drawn = codes[random.integers(0, len(codes), n)]
        genomes, _ = graphs.split_connection(genomes, short, random.random(n), drawn)
        ends = (random.random(n) for _ in range(3))
        genomes, _ = graphs.add_connection(genomes, random.random(n) < 0.5, *ends, limit=encoding.weight_limit)
    if (hidden_nodes(genomes) != hidden).any():
        raise RuntimeError(f"not every genome grew to {hidden} hidden nodes.")
    return genomes
