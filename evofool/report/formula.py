"""A CPPN as what it computes: its nodes in the order of evaluation, and as a formula for people to read."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evofool.errors import InvalidGenome

__all__ = ["CHANNELS", "FUNCTIONS", "INPUTS", "Network", "Node", "formula", "lines", "network", "network_of"]

INPUTS = ("x", "y", "d", "bias")
FIRST_HIDDEN = 1 << 62  # ids of nodes below it are those of outputs
MOST_JSON, MOST_NODES, MOST_CONNECTIONS, MOST_WEIGHT = 8 << 20, 4096, 65536, 1e6
CHANNELS = {
    "grey": ("grey",),
    "hsv": ("hue", "saturation", "value"),
    "rgb": ("red", "green", "blue"),
    "hls2015": ("hue", "lightness", "saturation"),
}
FUNCTIONS = {  # what they compute of p, in the notation of the formula
    "sine": "sin(p)",
    "sigmoid": "2 / (1 + exp(-p)) - 1",
    "gaussian": "exp(-p**2)",
    "linear": "min(max(p, -3), 3) / 3",
    "identity": "p",
}


@dataclass(frozen=True)
class Node:
    """A node: its activation of the sum of its addends.

    Attributes:
        addends: (weight, place) in the order in which pictures add them up; places 0 to 3 are the inputs, 4 + i is the
            i-th node of the network.
    """

    activation: str
    addends: tuple[tuple[float, int], ...]


@dataclass(frozen=True)
class Network:
    """The nodes in an order in which each comes after all that it needs, and the places of the outputs, by channel."""

    nodes: tuple[Node, ...]
    outputs: tuple[int, ...]

    def needed(self) -> list[bool]:
        """Of each node, whether an output depends on it."""
        first = len(INPUTS)
        found = [first + i in self.outputs for i in range(len(self.nodes))]
        for i in reversed(range(len(self.nodes))):
            for _, place in self.nodes[i].addends if found[i] else ():
                if place >= first:
                    found[place - first] = True
        return found


def network_of(genome_json: str) -> Network:
    """The network of a `genome_json` of the elites.

    Raises:
        InvalidGenome: no such JSON, or no CPPN.
    """
    try:
        if len(genome_json) > MOST_JSON:
            raise InvalidGenome(f"a genome of {len(genome_json)} characters is too long.")
        data: Mapping[str, Any] = json.loads(genome_json)
        return network(
            ((int(node["id"], 16), str(node["activation"])) for node in data["nodes"]),
            ((int(c["source"], 16), int(c["destination"], 16), float(c["weight"])) for c in data["connections"]),
        )
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InvalidGenome(f"not the JSON of a CPPN ({type(error).__name__}: {str(error)[:200]}).") from None


def network(nodes: Iterable[tuple[int, str]], connections: Iterable[tuple[int, int, float]]) -> Network:
    """The network of a genome.

    Args:
        nodes: (id, activation) of outputs and hidden nodes.
        connections: (source, destination, weight).

    Raises:
        InvalidGenome: a node is missing or twice there, there is a cycle, a weight that is not finite, or too much.
    """
    kinds = dict(pairs := list(nodes))
    edges = list(connections)
    if len(pairs) > MOST_NODES or len(edges) > MOST_CONNECTIONS or len(kinds) < len(pairs):
        raise InvalidGenome("a genome has too many nodes or connections, or one of them twice.")
    arriving: dict[int, list[tuple[float, int]]] = {node: [] for node in kinds}
    for source, destination, weight in edges:
        known = (source in kinds or 0 <= source < len(INPUTS)) and destination in kinds
        if not known or not math.isfinite(weight) or abs(weight) > MOST_WEIGHT:
            raise InvalidGenome("a genome has a connection of a node that is not there, or a weight beyond 1e6.")
        arriving[destination].append((weight, source))
    order = _order(arriving)
    place = {node: i for i, node in enumerate([*range(len(INPUTS)), *order])}
    handed_on = _handed_on(kinds, arriving, order)
    return Network(
        tuple(
            Node(
                kinds[node],
                # As programs.compile sorts them: by weight, then by the node that the value comes from.
                tuple((w, place[s]) for w, _, s in sorted((w, handed_on.get(s, s), s) for w, s in arriving[node])),
            )
            for node in order
        ),
        tuple(place[node] for node in sorted(kinds) if node < FIRST_HIDDEN),
    )


def _order(arriving: Mapping[int, list[tuple[float, int]]]) -> list[int]:
    """The nodes, each after its sources."""
    leads_to: dict[int, list[int]] = {node: [] for node in arriving}
    waits_for = dict.fromkeys(arriving, 0)
    for node, edges in arriving.items():
        for source in {s for _, s in edges if s in arriving}:
            leads_to[source].append(node)
            waits_for[node] += 1
    order = sorted(node for node, count in waits_for.items() if not count)
    for node in order:  # grows meanwhile
        for other in leads_to[node]:
            waits_for[other] -= 1
            if not waits_for[other]:
                order.append(other)
    if len(order) < len(arriving):
        raise InvalidGenome("a genome has a cycle; a CPPN must be acyclic.")
    return order


def _handed_on(
    kinds: Mapping[int, str], arriving: Mapping[int, list[tuple[float, int]]], order: list[int]
) -> dict[int, int]:
    """Of each node that only hands on a value (a fresh split), the node whose value it is."""
    found: dict[int, int] = {}
    for node in order:
        if node >= FIRST_HIDDEN and kinds[node] == "identity" and [w for w, _ in arriving[node]] == [1.0]:
            source = arriving[node][0][1]
            found[node] = found.get(source, source)
    return found


def formula(of: Network, colour: str, digits: int = 4) -> str:
    """A line for each node that counts, e.g. `grey = sine(1.5*x - 0.25*n1 + 2)`; FUNCTIONS says what names mean.

    Args:
        colour: "grey", "hsv", "rgb" or "hls2015", which names the outputs.
        digits: of weights.

    A node that only hands on a value has no line: its source stands in its place.
    """
    told = []
    for name, activation, addends in lines(of, CHANNELS[colour]):
        value = _sum(addends, digits)
        told.append(f"{name} = {value if activation == 'identity' else f'{activation}({value})'}")
    return "\n".join(told)


def lines(of: Network, outputs: Sequence[str]) -> Iterator[tuple[str, str, list[tuple[float, str]]]]:
    """Name, activation and (weight, name) of the addends of each node that counts, in the order of evaluation.

    Hidden nodes are n1, n2, ...; one that only hands on a value is not there: its source stands in its place.
    """
    names: dict[int, str] = dict(enumerate(INPUTS)) | dict(zip(of.outputs, outputs))
    hidden = 0
    for place, (node, is_needed) in enumerate(zip(of.nodes, of.needed()), len(INPUTS)):
        if not is_needed:
            continue
        if place not in names:
            if node.activation == "identity" and [weight for weight, _ in node.addends] == [1.0]:
                names[place] = names[node.addends[0][1]]
                continue
            hidden += 1
            names[place] = f"n{hidden}"
        yield names[place], node.activation, [(weight, names[source]) for weight, source in node.addends]


def _sum(addends: list[tuple[float, str]], digits: int) -> str:
    """Terms in the order of the inputs' names, the constant last."""
    text = ""
    for weight, name in sorted(addends, key=lambda addend: addend[1] == "bias"):
        size = f"{abs(weight):.{digits}g}"
        term = size if name == "bias" else name if size == "1" else f"{size}*{name}"
        text += f" {'-' if weight < 0 else '+'} {term}" if text else f"{'-' if weight < 0 else ''}{term}"
    return text or "0"
