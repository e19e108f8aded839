"""Genes of a CPPN knocked out one by one: genomes like another but for one gene, which are drawn as any genome is.

A connection is deleted. A node is frozen at its mean over the picture: it gets the activation identity and one
connection, from the bias, with that weight. An output likewise, so that for colours hue, saturation and value go one
by one. A sine gets the activation `linear`, clip(p, -3, 3) / 3: the range of a sine, and nothing repeats.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from evofool.encoding.cppn import programs
from evofool.encoding.cppn.genome import MAX_WEIGHT, CppnEncoding
from evofool.encoding.cppn.graphs import BIAS, FIRST_HIDDEN, PAD, Graphs, canonical, connection_ids
from evofool.encoding.drawing.reference import node_values

__all__ = ["CHANGES", "Knockout", "enlarged", "knockouts"]

CHANGES = ("connection", "node", "output", "sine")


@dataclass(frozen=True)
class Knockout:
    """One gene knocked out.

    Attributes:
        change: one of CHANGES.
        gene: the id of the connection or node.
        activation: of the node before; "" of a connection.
        genome: a batch of one.
    """

    change: str
    gene: int
    activation: str
    genome: Graphs


def knockouts(encoding: CppnEncoding, genomes: Graphs) -> Iterator[Knockout]:
    """Every gene of a genome knocked out: connections first, then nodes and outputs, then sines; by id each.

    Args:
        genomes: a batch of one.
    """
    values = _means(encoding, genomes)
    nodes, connections = genomes.node_ids[0], genomes.connection_ids[0]
    names = [encoding.activation_names[int(code)] for code in genomes.activations[0]]
    for column, gene in enumerate(connections.tolist()):
        yield Knockout("connection", gene, "", _deleted(genomes, np.arange(len(connections)) == column))
    for column, gene in enumerate(nodes.tolist()):
        change = "node" if gene >= FIRST_HIDDEN else "output"
        yield Knockout(change, gene, names[column], _frozen(encoding, genomes, column, values[gene]))
    for column, gene in enumerate(nodes.tolist()):
        if names[column] == "sine":
            yield Knockout("sine", gene, "sine", _with_activation(encoding, genomes, column, "linear"))


def _means(encoding: CppnEncoding, genomes: Graphs) -> dict[int, float]:
    """The mean of each node over the picture, by id; as the weights of genes are: finite, float32."""
    inputs = programs.coordinates(encoding.height, encoding.width, encoding.coordinates)
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        values = node_values(encoding, genomes, 0, inputs)
    means = {node: float(np.nan_to_num(v).astype(np.float64).mean()) for node, v in values.items()}
    return {node: min(MAX_WEIGHT, max(-MAX_WEIGHT, mean)) for node, mean in means.items()}


def _deleted(genomes: Graphs, which: NDArray[np.bool_]) -> Graphs:
    """A genome without some connections."""
    return canonical(replace(genomes, connection_ids=np.where(which[None], PAD, genomes.connection_ids)))


def _with_activation(encoding: CppnEncoding, genomes: Graphs, column: int, name: str) -> Graphs:
    activations = genomes.activations.copy()
    activations[0, column] = encoding.codes[name]
    return replace(genomes, activations=activations)


def _frozen(encoding: CppnEncoding, genomes: Graphs, column: int, value: float) -> Graphs:
    """A genome in which a node always has one value."""
    node = genomes.node_ids[:, column : column + 1]
    held = _deleted(_with_activation(encoding, genomes, column, "identity"), genomes.destinations[0] == node[0, 0])
    bias = np.full_like(node, BIAS)
    return canonical(
        replace(
            held,
            connection_ids=np.append(held.connection_ids, connection_ids(bias, node, 0), axis=1),
            sources=np.append(held.sources, bias, axis=1),
            destinations=np.append(held.destinations, node, axis=1),
            weights=np.append(held.weights, np.array([[value]], dtype=np.float32), axis=1),
        )
    )


def enlarged(encoding: CppnEncoding, genomes: Graphs, factor: float) -> Graphs | None:
    """A genome that draws the plane further out, so that what repeats does so more often; None where coordinates are
    raw, which begin in a corner.

    Args:
        genomes: a batch of one.
        factor: 1.5 for [-1.5, 1.5] in the place of [-1, 1].
    """
    if encoding.coordinates != "unit":
        return None
    scale = np.where(genomes.sources < BIAS, np.float32(factor), np.float32(1))
    return replace(genomes, weights=np.clip(genomes.weights * scale, -MAX_WEIGHT, MAX_WEIGHT).astype(np.float32))
