"""Genomes and networks written by hand, for several test files."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from evofool.encoding import CppnEncoding, cppn, programs, render
from evofool.encoding.cppn import Graphs


def graph(nodes: dict[int, str], connections: list[tuple[int, int, float]]) -> Graphs:
    """One genome by hand; outputs are among the nodes."""
    source, destination = (np.array([[c[i] for c in connections]], dtype=np.int64) for i in (0, 1))
    return cppn.canonical(
        np.array([list(nodes)], dtype=np.int64),
        np.array([[cppn.ACTIVATIONS.index(name) for name in nodes.values()]], dtype=np.uint8),
        cppn.connection_ids(source, destination, 0).reshape(source.shape),
        source,
        destination,
        np.array([[c[2] for c in connections]], dtype=np.float32),
    )


def values_before_rounding(encoding: CppnEncoding, genomes: Graphs) -> NDArray[np.float32]:
    """What the batched renderer draws before colours and rounding, (n, channels, pixels)."""
    tiles = [values.numpy().copy() for _, values in render._evaluate(programs.compile(genomes), encoding, "cpu")]
    pixels = encoding.height * encoding.width
    return np.concatenate(tiles, axis=2)[:, :, :pixels].transpose(1, 0, 2)


class Do(nn.Module):
    """A network that is one function."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> Any:
        return self.function(x)
