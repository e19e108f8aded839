"""CPPNs as people render them without evofool: one genome at a time, with torch or with neat-python's network.

Both start from a genome in plain Python objects (made outside of what is timed), put it into topological order and
leave out what reaches no output. Neither shares code with evofool's rendering.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from neat.nn import FeedForwardNetwork
from numpy.typing import NDArray

from evofool.encoding.cppn import graphs
from evofool.encoding.cppn.genome import CppnEncoding
from evofool.encoding.cppn.graphs import Graphs

__all__ = ["PlainGenome", "neat_network", "neat_picture", "ordered", "pixel_inputs", "plain", "torch_picture"]

Node = tuple[int, str, list[tuple[int, float]]]  # id, activation, (source, weight) of each connection


@dataclass(frozen=True)
class PlainGenome:
    """One CPPN: activations by node id, the connections that arrive at each node, and the outputs in channel order."""

    activations: dict[int, str]
    arriving: dict[int, list[tuple[int, float]]]
    outputs: list[int]


def plain(encoding: CppnEncoding, genomes: Graphs, row: int) -> PlainGenome:
    """One genome of a batch as plain Python objects."""
    genes = encoding.genes(genomes, row)
    activations = {gene["id"]: gene["activation"] for gene in genes if gene["gene"] == "node"}
    arriving: dict[int, list[tuple[int, float]]] = {node: [] for node in activations}
    for gene in genes:
        if gene["gene"] == "connection":
            arriving[gene["destination"]].append((gene["source"], gene["weight"]))
    return PlainGenome(activations, arriving, sorted(node for node in activations if node < graphs.FIRST_HIDDEN))


def ordered(genome: PlainGenome) -> list[Node]:
    """The nodes that outputs need, each after all it needs itself."""
    order: list[Node] = []
    seen = set(range(len(graphs.INPUTS)))
    stack = list(genome.outputs)
    while stack:
        node = stack[-1]
        missing = [] if node in seen else [source for source, _ in genome.arriving[node] if source not in seen]
        if missing:
            stack += missing
            continue
        stack.pop()
        if node not in seen:
            seen.add(node)
            order.append((node, genome.activations[node], genome.arriving[node]))
    return order


# ------------------------------------------------------------------------------------------------------------- torch

_TORCH: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "identity": lambda p: p,
    "sine": torch.sin,
    "sigmoid": lambda p: torch.tanh(p / 2),
    "gaussian": lambda p: torch.exp(-p.square()),
    "linear": lambda p: p.clamp(-3, 3) / 3,
}


def pixel_inputs(side: int) -> torch.Tensor:
    """x, y, distance from the centre and bias at each pixel of a square picture, (4, side * side) float32."""
    line = torch.linspace(-1, 1, side, dtype=torch.float64)
    y, x = torch.meshgrid(line, line, indexing="ij")
    return torch.stack([x, y, torch.hypot(x, y), torch.ones_like(x)]).reshape(4, -1).float()


@torch.inference_mode()
def torch_picture(genome: PlainGenome, inputs: torch.Tensor) -> NDArray[np.uint8]:
    """One picture, (pixels, 1 or 3) uint8, grey or RGB from hue, saturation and value."""
    known = dict(enumerate(inputs))
    for node, activation, arriving in ordered(genome):
        total = torch.zeros_like(inputs[0])
        for source, weight in arriving:
            total.add_(known[source], alpha=weight)
        known[node] = _TORCH[activation](total)
    values = torch.stack([known[node] for node in genome.outputs]).add_(1).div_(2).clamp_(0, 1)
    if len(values) == 3:
        values = _rgb(*values)
    return values.mul(255).round_().to(torch.uint8).T.contiguous().numpy()


def _rgb(hue: torch.Tensor, saturation: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Three channels of RGB."""
    k = (torch.tensor([[5.0], [3.0], [1.0]]) + 6 * hue) % 6
    return value - value * saturation * torch.minimum(k, 4 - k).clamp_(0, 1)


# ------------------------------------------------------------------------------------------------------- neat-python


def _sigmoid(p: float) -> float:
    return math.tanh(p / 2)


def _gaussian(p: float) -> float:
    return math.exp(-p * p)


def _linear(p: float) -> float:
    return max(-3.0, min(3.0, p)) / 3


def _identity(p: float) -> float:
    return p


_SCALAR: dict[str, Callable[[float], float]] = {
    "identity": _identity,
    "sine": math.sin,
    "sigmoid": _sigmoid,
    "gaussian": _gaussian,
    "linear": _linear,
}


def neat_network(genome: PlainGenome) -> FeedForwardNetwork:
    """neat-python's network of a genome: our bias is an input, so its nodes have bias 0 and response 1."""
    nodes = [(node, _SCALAR[activation], sum, 0.0, 1.0, arriving) for node, activation, arriving in ordered(genome)]
    return FeedForwardNetwork(list(range(len(graphs.INPUTS))), genome.outputs, nodes)


def neat_picture(genome: PlainGenome, pixels: list[list[float]]) -> NDArray[np.uint8]:
    """One grey picture, (pixels, 1) uint8, from the four inputs of each pixel."""
    network = neat_network(genome)
    values = np.array([network.activate(inputs) for inputs in pixels])
    return np.round(np.clip((values + 1) / 2, 0, 1) * 255).astype(np.uint8)
