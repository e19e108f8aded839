"""Names of the operators that make individuals."""

from __future__ import annotations

import numpy as np

__all__ = ["OPERATORS", "operator_bit", "operator_names"]

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
    "mutate",  # of kinds with a single way to mutate
)


def operator_names(bits: int) -> list[str]:
    """Names of the operators in a bit set."""
    return [name for i, name in enumerate(OPERATORS) if bits >> i & 1]


def operator_bit(name: str) -> np.uint32:
    """The bit of one operator."""
    return np.uint32(1 << OPERATORS.index(name))
