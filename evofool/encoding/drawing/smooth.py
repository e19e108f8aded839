"""Drawing CPPNs so that a gradient reaches their weights: beside the bit-exact drawing, which stays free of it.

The functions are torch's own, not those of portable.py, and nothing is rounded to whole grey levels. Rounded, a smooth
picture is the bit-exact one, or a grey level beside it where a number lay between two; tests/encoding/test_smooth.py
holds that for genomes of evolved sizes. What is archived of a smooth picture is the rounded picture itself, as pixels.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from evofool.encoding.cppn import programs
from evofool.encoding.cppn.genome import CppnEncoding
from evofool.encoding.cppn.graphs import CYCLE, FIRST_OUTPUT, PAD, Graphs
from evofool.errors import ConfigError, InvalidGenome

__all__ = ["Smooth"]

_ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "identity": lambda p: p,
    "sine": torch.sin,
    "sigmoid": lambda p: torch.tanh(p / 2),  # 2 / (1 + exp(-p)) - 1
    "gaussian": lambda p: torch.exp(-p * p),
    "linear": lambda p: p.clamp(-3, 3) / 3,
}
_Plan = list[tuple[int, str, list[tuple[int, int]]]]  # nodes in their order: id, activation, (source, column) of each


class Smooth:
    """Genomes whose structure is fixed, and whose weights are what is drawn by.

    Args:
        graphs: a batch of genomes of the encoding.

    Raises:
        ConfigError: its colours are counted in whole hues, through which no gradient goes.
        InvalidGenome: a genome has a cycle.
    """

    def __init__(self, encoding: CppnEncoding, graphs: Graphs) -> None:
        if encoding.colour == "hls2015":
            raise ConfigError(
                "encoding.colour: hls2015 counts hues in whole bytes, through which no gradient goes; take a run with "
                "hsv, rgb or grey."
            )
        self.encoding, self.weights = encoding, torch.from_numpy(graphs.weights.copy())  # (n, M)
        self._plans = [_plan(encoding, graphs, row) for row in range(len(graphs))]
        size = (encoding.height, encoding.width, encoding.coordinates)
        self._inputs = dict(enumerate(torch.from_numpy(programs.coordinates(*size))))

    def draw(self, weights: torch.Tensor) -> torch.Tensor:
        """Pictures, (n, height, width, 1 or 3) float32 from 0 to 255, of weights (n, M) like the batch's own."""
        return torch.stack([self._draw(plan, row) for plan, row in zip(self._plans, weights, strict=True)])

    def _draw(self, plan: _Plan, weights: torch.Tensor) -> torch.Tensor:
        of, encoding = dict(self._inputs), self.encoding
        for node, activation, edges in plan:
            total = torch.zeros_like(of[0])
            for source, column in edges:
                total = total + weights[column] * of[source]
            of[node] = self._activation(activation)(total)
        values = torch.stack([of[FIRST_OUTPUT + channel] for channel in range(encoding.channels)], dim=-1)
        values = values.abs() if encoding.output == "absolute" else (values + 1) / 2
        values = values.nan_to_num(nan=0.0).clamp(0, 1)
        levels = 255 * (_rgb(values) if encoding.colour == "hsv" else values)
        if encoding.quantisation == "truncate":
            levels = (levels - 0.5).clamp(min=0)  # so that rounding gives what truncating would have
        return levels.reshape(encoding.height, encoding.width, -1)

    def _activation(self, name: str) -> Callable[[torch.Tensor], torch.Tensor]:
        if name in _ACTIVATIONS:
            return _ACTIVATIONS[name]
        function = self.encoding.own(name)
        return lambda p: torch.nan_to_num(function(p, torch))


def _plan(encoding: CppnEncoding, graphs: Graphs, row: int) -> _Plan:
    """The nodes of a genome that its outputs need, each behind those that it needs itself."""
    names = encoding.activation_names
    nodes = [int(i) for i in graphs.node_ids[row] if i != PAD]
    kinds = {node: names[int(code)] for node, code in zip(nodes, graphs.activations[row])}
    edges: dict[int, list[tuple[int, int]]] = {node: [] for node in nodes}
    for column, identity in enumerate(graphs.connection_ids[row]):
        if identity != PAD:
            edges[int(graphs.destinations[row, column])].append((int(graphs.sources[row, column]), column))
    plan: _Plan = []
    done: set[int] = set(range(FIRST_OUTPUT))
    todo = [(FIRST_OUTPUT + channel, False) for channel in range(encoding.channels)]
    under_way: set[int] = set()
    while todo:
        node, has_sources = todo.pop()
        if has_sources:
            under_way.discard(node)
            done.add(node)
            plan.append((node, kinds[node], edges[node]))
        elif node not in done:
            if node in under_way:
                raise InvalidGenome(CYCLE)
            under_way.add(node)
            todo.append((node, True))
            todo += [(source, False) for source, _ in edges[node] if source not in done]
    return plan


def _rgb(values: torch.Tensor) -> torch.Tensor:
    """Hue, saturation and value in [0, 1], (..., 3), to RGB; as reference.to_rgb."""
    hue, saturation, value = values.unbind(-1)
    channels = []
    for offset in (5, 3, 1):
        k = (offset + hue * 6) % 6
        channels.append(value - value * saturation * torch.minimum(k, 4 - k).clamp(0, 1))
    return torch.stack(channels, dim=-1)
