"""Networks as SVG: every gene is there once, no line runs through a node, and names are text."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree

import pytest

from evofool.encoding.cppn.genome import CppnEncoding
from evofool.errors import ConfigError, InvalidGenome
from evofool.machines.bench.genomes import grown
from evofool.report import graph

SVG = "{http://www.w3.org/2000/svg}"


def genome(hidden: int, seed: int = 0) -> dict[str, Any]:
    encoding = CppnEncoding(8, 8, "hsv")
    return json.loads(json.dumps(encoding.to_json(grown(encoding, 1, hidden, seed), 0)))


@pytest.mark.parametrize("hidden", [0, 5, 40])
def test_every_gene_is_drawn_once(hidden: int) -> None:
    data = genome(hidden)
    root = ElementTree.fromstring(graph.network_svg(data))
    lines, nodes = root.findall(f"{SVG}g")[:2], root.findall(f"{SVG}g")[2]
    assert sum(len(group) for group in lines) == len(data["connections"])
    assert len(nodes) == len(data["nodes"]) + 4
    assert [label.text for label in nodes.iter(f"{SVG}text")].count("saturation") == 1


def test_lines_go_from_left_to_right_and_through_no_node() -> None:
    data = genome(40)
    plan = graph.layout(data)
    for index, points in plan.paths:
        ends = {data["connections"][index][end] for end in ("source", "destination")}
        assert all(after[0] > before[0] for before, after in pairwise(points))
        others = [place for node, place in plan.places.items() if node not in ends]
        assert all(math.dist(point, place) > graph.RADIUS for point in points for place in others)
    inside = [0 <= x <= plan.width and 0 <= y <= plan.height for _, points in plan.paths for x, y in points]
    assert all(inside)


def test_a_node_that_leads_nowhere_is_told_apart() -> None:
    data = genome(3)
    data["nodes"].append({"id": f"{(1 << 62) + 5:x}", "activation": "sine"})
    data["connections"].append(
        {"id": "ff", "source": "0", "destination": data["nodes"][-1]["id"], "weight": 1.0},
    )
    assert graph.layout(data).dead == {data["nodes"][-1]["id"]}
    assert "opacity" in graph.network_svg(data)


def test_hostile_names_are_text() -> None:
    data = genome(3)
    name = "</title><script>alert(1)</script>\"'&\x00\u202e<img onerror=x>"
    data["nodes"][0]["activation"] = name
    text = graph.network_svg(data, title=name)
    assert "<script" not in text and "<img" not in text and "\x00" not in text and "\u202e" not in text
    assert ElementTree.fromstring(text).attrib["aria-label"].startswith("</title><script>")


def test_a_network_too_large_to_be_read_says_what_it_leaves_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph, "MOST_CONNECTIONS", 10)
    data = genome(20)
    assert f"{len(data['connections']) - 10} connections of smaller weights" in graph.network_svg(data)


def test_what_is_no_network_is_refused() -> None:
    with pytest.raises(ConfigError, match="no network"):
        graph.network_svg({"encoding": "direct"})
    cyclic = genome(0)
    cyclic["connections"] += [
        {"id": "fe", "source": "4", "destination": "5", "weight": 1.0},
        {"id": "ff", "source": "5", "destination": "4", "weight": 1.0},
    ]
    lost = genome(0)
    lost["connections"][0]["source"] = "77"
    for damaged in (cyclic, lost, "{", [], {"encoding": "cppn"}, {**genome(0), "colour": "ultraviolet"}):
        with pytest.raises(InvalidGenome):
            graph.network_svg(damaged)  # type: ignore[arg-type]
