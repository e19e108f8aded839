"""The network of a CPPN as a drawing: layers from left to right, activations as symbols. Needs the genome's JSON alone.

Layers are those of longest paths; the order within them follows the mean place of neighbours, and what a connection
passes on its way gets a place of its own, so that no curve runs through a node (Sugiyama, Tagawa and Toda 1981). The
SVG has no style sheet, script, font or id: any number of them fit on a page whose rules forbid all that.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise
from statistics import fmean
from typing import Any, TypeAlias

from evofool.base.streams import printable
from evofool.errors import ConfigError, InvalidGenome
from evofool.report.formula import CHANNELS, INPUTS

__all__ = ["COLOURS", "SYMBOLS", "Layout", "layout", "network_svg"]

Point: TypeAlias = tuple[float, float]

INPUT_IDS = {f"{number:x}": name for number, name in enumerate(INPUTS)}  # as the JSON has them
# The curve of each activation, in a square from -8 to 8 whose y runs downwards.
SYMBOLS = {
    "identity": "M-6 6L6-6",
    "sine": "M-7 0C-5-8-2-8 0 0S5 8 7 0",
    "sigmoid": "M-7 5C1 5-1-5 7-5",
    "gaussian": "M-7 5C-2 5-3-6 0-6S2 5 7 5",
    "linear": "M-7 5H-4L4-5H7",
}
OWN = "M-2 7C1 7 0-7 3-7M-4-1H4"  # an f, for functions of the user's own
COLOURS = {True: "#2f7fc1", False: "#c8641e"}  # of weights >= 0 and below; both are told apart by the colour-blind
NEUTRAL = "#767676"  # 4.5 to 1 on white and on black
MOST_CONNECTIONS = 1000  # that are drawn: those of the largest weights
RADIUS, LAYER, GAP, PASSING, MARGIN, LABEL = 11.0, 78.0, 34.0, 8.0, 20.0, 74.0  # pixels
SWEEPS = 12


@dataclass
class Layout:
    """Where everything lies, in pixels; y runs downwards.

    Attributes:
        places: (x, y) of each node, by its id as the JSON has it; inputs are "0" to "3".
        paths: of each connection that is drawn, its index in the JSON and the points that its curve runs through.
        dead: ids of nodes from which no path leads to an output: they change nothing in the picture.
        left_out: how many connections are not drawn, since there are too many.
    """

    width: float
    height: float
    places: dict[str, Point] = field(default_factory=dict)
    paths: list[tuple[int, list[Point]]] = field(default_factory=list)
    dead: set[str] = field(default_factory=set)
    left_out: int = 0


def network_svg(genome: str | Mapping[str, Any], title: str = "", width: int | None = None) -> str:
    """The network of a genome as an SVG element, for a file of its own or to be set into a page.

    Lines, symbols and words have the colour of the text around them (`currentColor`; grey in a file of its own).
    Positive weights are blue, negative ones orange and dashed; the wider, the larger. Names are escaped.

    Args:
        genome: the `genome_json` of an elite, as text or parsed.
        title: what the picture shows, in a few words, for those who cannot see it.
        width: in pixels; by default as wide as it takes.

    Raises:
        ConfigError: the genome is pixels, which are no network.
        InvalidGenome: not the JSON of a CPPN.
    """
    data = _parsed(genome)
    plan = layout(data)
    told = _text(title or _sentence(data))
    scale = width / plan.width if width else 1
    box = f'viewBox="0 0 {plan.width:.0f} {plan.height:.0f}"'
    size = f'width="{scale * plan.width:.0f}" height="{scale * plan.height:.0f}"'
    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {box} {size} role="img" aria-label="{told}" color="{NEUTRAL}" '
        'font-family="sans-serif" font-size="12">',
        f"<title>{told}</title>",
        *_connections(data, plan),
        *_nodes(data, plan),
    ]
    if plan.left_out:
        drawn.append(
            f'<text x="{MARGIN:g}" y="{plan.height - 6:.0f}" fill="currentColor">'
            f"{plan.left_out} connections of smaller weights are not drawn</text>"
        )
    return "\n".join([*drawn, "</svg>"])


def _connections(data: Mapping[str, Any], plan: Layout) -> Iterator[str]:
    names = _names(data)
    genes = [(data["connections"][index], points) for index, points in plan.paths]
    largest = max((abs(gene["weight"]) for gene, _ in genes), default=1) or 1
    for positive in (True, False):
        dashes = "" if positive else ' stroke-dasharray="5 3"'
        yield f'<g fill="none" stroke="{COLOURS[positive]}"{dashes}>'
        for gene, points in genes:
            if (gene["weight"] >= 0) == positive:
                curve = _curve(points, start=4 if gene["source"] in INPUT_IDS else RADIUS + 1)
                width = 0.6 + 2.9 * abs(gene["weight"]) / largest
                told = f"{names[gene['source']]} to {names[gene['destination']]}: {gene['weight']:.4g}"
                faded = _FADED if gene["destination"] in plan.dead else ""
                yield f'<path d="{curve}" stroke-width="{width:.1f}"{faded}><title>{_text(told)}</title></path>'
        yield "</g>"


def _nodes(data: Mapping[str, Any], plan: Layout) -> Iterator[str]:
    names, outputs = _names(data), _outputs(data)
    activations = {node["id"]: str(node["activation"]) for node in data["nodes"]}
    yield '<g fill="none" stroke="currentColor" stroke-width="1.5">'
    for node, (x, y) in plan.places.items():
        faded = _FADED if node in plan.dead else ""
        yield f'<g transform="translate({x:.0f} {y:.0f})"{faded}><title>{_text(names[node])}</title>'
        if node in INPUT_IDS:
            yield f'<circle r="3" fill="currentColor"/>{_label(INPUT_IDS[node], -12, "end")}'
        else:
            yield f'<circle r="{RADIUS:g}"/><path d="{SYMBOLS.get(activations[node], OWN)}"/>'
        if node in outputs:
            yield _label(outputs[node], RADIUS + 6, "start")
        yield "</g>"
    yield "</g>"


def _label(text: str, x: float, anchor: str) -> str:
    return f'<text x="{x:g}" y="4" text-anchor="{anchor}" fill="currentColor" stroke="none">{text}</text>'


_FADED = ' opacity=".35"'


def layout(genome: str | Mapping[str, Any]) -> Layout:
    """Where the nodes of a genome lie and its connections run. Arguments and errors: as `network_svg`.

    Equal genomes get equal layouts.
    """
    data = _parsed(genome)
    genes = enumerate(data["connections"])
    every = [(index, str(gene["source"]), str(gene["destination"])) for index, gene in genes]
    edges = sorted(sorted(every, key=lambda edge: -abs(data["connections"][edge[0]]["weight"]))[:MOST_CONNECTIONS])
    outputs = _outputs(data)
    layer = _layers([*INPUT_IDS, *(str(node["id"]) for node in data["nodes"])], edges, outputs)
    rows: list[list[str]] = [[] for _ in range(max(layer.values()) + 1)]
    for node in layer:
        rows[layer[node]].append(node)
    chains, links = _chains(edges, layer, rows)
    _order(rows, links, [*outputs])
    heights = _heights(rows, links)
    top = min(heights.values())
    # A gap of its own for every layer; the more curves change places in it, the wider.
    x, steps = LABEL, []
    for row in rows:
        steps.append(x)
        x += LAYER + 2.0 * min(len(row), 40)
    places = {node: (steps[at], heights[node] - top + MARGIN) for node, at in layer.items()}
    points = {name: (steps[at], heights[name] - top + MARGIN) for at, row in enumerate(rows) for name in row}
    plan = Layout(
        steps[-1] + LABEL + 24,
        max(heights.values()) - top + 2 * MARGIN,
        places,
        [(index, [points[name] for name in chain]) for index, chain in chains],
        _dead(layer, every, outputs),
        len(every) - len(edges),
    )
    plan.height += MARGIN if plan.left_out else 0
    return plan


def _parsed(genome: str | Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        data = json.loads(genome) if isinstance(genome, str) else genome
        if data["encoding"] != "cppn":
            raise ConfigError("the genome is pixels and no network: --format png draws it.")
        ids = [*INPUT_IDS, *(str(node["id"]) for node in data["nodes"])]
        ends = {str(gene[end]) for gene in data["connections"] for end in ("source", "destination")}
        if len(set(ids)) < len(ids) or not ends <= set(ids) or not _outputs(data).keys() <= set(ids):
            raise InvalidGenome("a genome has a node twice, or a connection from or to a node that is not there.")
        if not all(abs(gene["weight"]) <= 1e6 for gene in data["connections"]):
            raise InvalidGenome("a genome has a weight that is not finite or beyond 1e6.")
        return data
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InvalidGenome(f"not the JSON of a CPPN ({type(error).__name__}: {str(error)[:200]}).") from None


def _outputs(data: Mapping[str, Any]) -> dict[str, str]:
    return {f"{number:x}": name for number, name in enumerate(CHANNELS[data["colour"]], len(INPUTS))}


def _layers(nodes: Sequence[str], edges: Sequence[tuple[int, str, str]], outputs: Iterable[str]) -> dict[str, int]:
    """The layer of each node: the longest path to it; that of an output is the last, unless others go on from it."""
    leaving: dict[str, list[str]] = {node: [] for node in nodes}
    pending = dict.fromkeys(nodes, 0)
    for _, source, destination in edges:
        leaving[source].append(destination)
        pending[destination] += 1
    layer = {node: 0 if node in INPUT_IDS else 1 for node in nodes}
    ready = [node for node in nodes if not pending[node]]
    for node in ready:  # grows while it is read
        for after in leaving[node]:
            layer[after] = max(layer[after], layer[node] + 1)
            pending[after] -= 1
            if not pending[after]:
                ready.append(after)
    if len(ready) < len(nodes):
        raise InvalidGenome("a genome has a cycle; a CPPN must be acyclic.")
    last = max(layer.values())
    return layer | {node: last for node in outputs if not leaving[node]}


def _dead(nodes: Iterable[str], edges: Sequence[tuple[int, str, str]], outputs: Iterable[str]) -> set[str]:
    arriving: dict[str, list[str]] = {}
    for _, source, destination in edges:
        arriving.setdefault(destination, []).append(source)
    alive, frontier = set(outputs), list(outputs)
    while frontier:
        found = set(arriving.get(frontier.pop(), ())) - alive
        alive |= found
        frontier += found
    return set(nodes) - alive - INPUT_IDS.keys()


def _chains(
    edges: Sequence[tuple[int, str, str]], layer: Mapping[str, int], rows: list[list[str]]
) -> tuple[list[tuple[int, list[str]]], list[tuple[str, str]]]:
    """Connections as chains of neighbours in adjacent layers; `rows` gets the places that they pass on the way."""
    chains: list[tuple[int, list[str]]] = []
    links: list[tuple[str, str]] = []
    for index, source, destination in edges:
        passed = range(layer[source] + 1, layer[destination])
        chain = [source, *(f"passing {index} {at}" for at in passed), destination]
        for at, name in zip(passed, chain[1:]):
            rows[at].append(name)
        chains.append((index, chain))
        links += pairwise(chain)
    return chains, links


def _neighbours(links: Sequence[tuple[str, str]]) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    before: dict[str, list[str]] = {}
    after: dict[str, list[str]] = {}
    for source, destination in links:
        after.setdefault(source, []).append(destination)
        before.setdefault(destination, []).append(source)
    return before, after


def _order(rows: list[list[str]], links: Sequence[tuple[str, str]], outputs: Sequence[str]) -> None:
    """Sort each layer by the mean place of neighbours in the layers before and behind, in turns.

    Inputs and outputs keep their order, so that networks can be compared.
    """
    before, after = _neighbours(links)
    place = {name: i / max(1, len(row) - 1) for row in rows for i, name in enumerate(row)}
    for sweep in range(SWEEPS):
        beside, order = (before, rows) if sweep % 2 == 0 else (after, rows[::-1])
        for row in order:
            wish = {name: fmean(place[n] for n in beside[name]) if name in beside else place[name] for name in row}
            for fixed in ([*INPUT_IDS], outputs):
                here = [name for name in fixed if name in wish]
                wish |= zip(here, sorted(wish[name] for name in here))
            row.sort(key=wish.__getitem__)
            place |= {name: i / max(1, len(row) - 1) for i, name in enumerate(row)}


def _heights(rows: list[list[str]], links: Sequence[tuple[str, str]]) -> dict[str, float]:
    """The y of everything: near its neighbours, in order, and far enough from one another."""
    before, after = _neighbours(links)
    heights: dict[str, float] = {}
    for row in rows:
        steps = _steps(row)
        heights |= {name: step - steps[-1] / 2 for name, step in zip(row, steps)}
    for sweep in range(SWEEPS):
        for row in rows if sweep % 2 == 0 else rows[::-1]:
            wish = [_mean([heights[n] for n in (*before.get(m, ()), *after.get(m, ()))], heights[m]) for m in row]
            heights |= zip(row, _spread(wish, _steps(row)))
    return heights


def _mean(values: list[float], otherwise: float) -> float:
    return fmean(values) if values else otherwise


def _steps(row: Sequence[str]) -> list[float]:
    """How far below the first of a layer each has to be at least."""
    sizes = [PASSING if name.startswith("passing") else GAP for name in row]
    steps = [0.0]
    for one, other in pairwise(sizes):
        steps.append(steps[-1] + (one + other) / 2)
    return steps


def _spread(wish: Sequence[float], steps: Sequence[float]) -> list[float]:
    """The numbers nearest to `wish` (least squares) that differ by those of `steps` at least; wishes are in order.

    Without the steps they have to ascend: neighbours that do not are pooled at their mean (Ayer et al. 1955).
    """
    pools: list[tuple[float, int]] = []  # mean, members
    for value, step in zip(wish, steps):
        mean, members = value - step, 1
        while pools and pools[-1][0] > mean:
            other, more = pools.pop()
            mean, members = (mean * members + other * more) / (members + more), members + more
        pools.append((mean, members))
    flat = [mean for mean, members in pools for _ in range(members)]
    return [value + step for value, step in zip(flat, steps)]


def _curve(points: Sequence[Point], start: float) -> str:
    """A smooth line through points, which begins `start` pixels behind the first and ends at the last one's edge.

    Between two points it does not leave their heights.
    """
    (x, y), (last, end) = points[0], points[-1]
    points = [(x + start, y), *points[1:-1], (last - RADIUS - 1, end)]
    rises = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in pairwise(points)]
    slopes = [0.0, *(min(a, b, key=abs) if a * b > 0 else 0.0 for a, b in pairwise(rises)), 0.0]
    d = f"M{x + start:.0f} {y:.0f}"
    for (x, y), (to_x, to_y), slope, to_slope in zip(points, points[1:], slopes, slopes[1:]):
        third = (to_x - x) * 0.4
        near, far = y + slope * third, to_y - to_slope * third
        d += f"C{x + third:.0f} {near:.0f} {to_x - third:.0f} {far:.0f} {to_x:.0f} {to_y:.0f}"
    return d


def _names(data: Mapping[str, Any]) -> dict[str, str]:
    """What each node is called, by its id."""
    outputs = _outputs(data)
    return INPUT_IDS | {
        node["id"]: f"{outputs.get(node['id'], node['id'][-4:])} ({node['activation']})" for node in data["nodes"]
    }


def _sentence(data: Mapping[str, Any]) -> str:
    nodes, connections = len(data["nodes"]) + len(INPUT_IDS), len(data["connections"])
    return f"A network of {nodes} nodes and {connections} connections, from x, y, d and bias to the colour of a pixel"


def _text(text: str) -> str:
    """Foreign text for XML, without characters that are not shown."""
    return escape(printable(text[:200]))
