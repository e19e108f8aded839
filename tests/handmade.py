"""Genomes and networks written by hand, for several test files."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

from evofool.encoding.cppn import genome, graphs, programs
from evofool.encoding.cppn.genome import CppnEncoding
from evofool.encoding.cppn.graphs import FIRST_HIDDEN, PAD, Graphs
from evofool.encoding.drawing import render
from evofool.store.commits import CommitLog


def graph(nodes: dict[int, str], connections: list[tuple[int, int, float]]) -> Graphs:
    """One genome by hand; outputs are among the nodes."""
    source, destination = (np.array([[c[i] for c in connections]], dtype=np.int64) for i in (0, 1))
    genes = Graphs(
        np.array([list(nodes)], dtype=np.int64),
        np.array([[genome.ACTIVATIONS.index(name) for name in nodes.values()]], dtype=np.uint8),
        graphs.connection_ids(source, destination, 0).reshape(source.shape),
        source,
        destination,
        np.array([[c[2] for c in connections]], dtype=np.float32),
    )
    return graphs.canonical(genes)


@st.composite
def genomes_by_hand(draw: Any, encodings: list[CppnEncoding]) -> tuple[CppnEncoding, Graphs]:
    """A batch of valid CPPNs that evolution need not have made: any order of nodes, any weights, outputs as sources."""
    encoding = draw(st.sampled_from(encodings))
    rows = []
    for _ in range(draw(st.integers(1, 3))):
        outputs = list(range(4, 4 + encoding.channels))
        hidden = draw(st.sets(st.integers(FIRST_HIDDEN, PAD - 1), max_size=6))
        order = draw(st.permutations([*outputs, *hidden]))
        pairs = [(s, d) for i, d in enumerate(order) for s in (0, 1, 2, 3, *order[:i])]
        chosen = draw(st.lists(st.sampled_from(pairs), unique=True, max_size=12))
        weight = st.floats(-1e6, 1e6, width=32)
        names = st.sampled_from(genome.ACTIVATIONS)
        rows.append(graph({node: draw(names) for node in order}, [(s, d, draw(weight)) for s, d in chosen]))
    batch = encoding.empty(len(rows))
    for i, one in enumerate(rows):
        batch = encoding.replace(batch, np.array([i]), one, np.array([0]))
    return encoding, batch


def values_before_rounding(encoding: CppnEncoding, genomes: Graphs) -> NDArray[np.float32]:
    """What the batched renderer draws before colours and rounding, (n, channels, pixels)."""
    drawn = render._evaluate(programs.compile(genomes), encoding, "cpu")
    tiles = [values.numpy().copy() for _, values in drawn]
    pixels = encoding.height * encoding.width
    return np.concatenate(tiles, axis=2)[:, :, :pixels].transpose(1, 0, 2)


class Do(nn.Module):
    """A network that is one function."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> Any:
        return self.function(x)


def verify_files(log: CommitLog) -> None:
    """Compare every table of a run with its commit, as whoever reads them does."""
    log.doubt()
    for table in log.live_files():
        log.read(*table)
