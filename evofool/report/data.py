"""What the script of a page needs of a run: facts as JSON, and genomes as bytes, from which it draws."""

from __future__ import annotations

import base64
import json
import math
import struct

from markupsafe import Markup

from evofool.records import Facts
from evofool.report.findings import Ancestor, Elite, Findings
from evofool.report.formula import FUNCTIONS, Network, formula
from evofool.report.pictures import Shown, fit
from evofool.store.reader import answers

__all__ = ["as_json", "cut", "run_data", "study_rows"]

LONGEST = 400  # characters of a name
CLASSES = 12  # that an ancestor's entry names
ROOM_FOR_ANCESTORS = 4 << 20  # bytes of pictures of ancestors that no script can draw, of all runs of a page


def cut(text: object, most: int = LONGEST) -> str:
    """Text of a run, shortened where it is absurdly long."""
    text = str(text)
    return text if len(text) <= most else f"{text[: most - 1]}…"


def as_json(data: object) -> Markup:
    """Data as JSON that may stand in an HTML script element: nothing in it ends that, or begins another."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)  # letters beyond ASCII become \\u....
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def run_data(found: Findings, runs: int) -> tuple[Facts, str]:
    """The facts of a run, and the genomes of its elites and ancestors, base64 of `_packed`.

    Args:
        runs: that the page shows, which share its room.
    """
    config, facts = found.run.config.encoding, found.run.provenance
    places = {identity: i for i, identity in enumerate(found.ancestors)}
    networks = _networks(found)
    others = {node.activation for graph in networks.values() for node in graph.nodes} - FUNCTIONS.keys()
    activations = [*FUNCTIONS, *sorted(others)]  # codes of nodes are places in it
    offsets, genomes = _packed(networks, activations)
    pictures = _pictures(found, runs)
    told = {
        "name": cut(found.name),
        "undrawn": found.undrawn,
        "encoding": {
            "kind": config.kind,
            "colour": found.colour,
            "coordinates": config.coordinates,
            "output": config.output,
            "quantisation": config.quantisation,
            "arithmetic": config.arithmetic,
            "height": facts["image_size"][0],
            "width": facts["image_size"][1],
            "activations": [cut(name) for name in activations],
        },
        "elites": [_elite(found, elite, places) for elite in found.elites],
        "people": [
            _person(one, places)
            | ({"genome": offsets[identity]} if identity in offsets else {})
            | ({"picture": pictures[identity].uri} if identity in pictures else {})
            for identity, one in found.ancestors.items()
        ],
        "studies": [{"name": cut(s.name), "columns": [cut(name) for name in s.columns]} for s in found.studies],
    }
    return told, base64.b64encode(genomes).decode()


def study_rows(found: Findings) -> Markup:
    """For each study, {number of an elite: its rows}, as JSON."""
    elites = [(int(e.row["individual_id"]), int(e.row["class_index"])) for e in found.elites]
    return as_json(
        [{i: study.rows[key] for i, key in enumerate(elites) if key in study.rows} for study in found.studies]
    )


def _elite(found: Findings, elite: Elite, places: dict[int, int]) -> Facts:
    row, names = elite.row, found.run.output_names
    return {
        "name": cut(row["class_name"]),
        "class": int(row["class_index"]),
        **({"bin": int(row["bin"])} if "bin" in row else {}),
        "group": elite.group,
        **(
            {"activation": _finite(row["objective"])}
            if found.run.store.cells.units
            else {"confidence": _finite(row["confidence"]), "logOdds": _finite(row["log_odds"])}
        ),
        "top": [
            [cut(names.get(top["class_index"], f"output {top['class_index']}")), _finite(top["confidence"])]
            for top in answers(row)
        ],
        "generation": int(row["generation"]),
        "nodes": int(row["nodes"]),
        "connections": int(row["connections"]),
        "sha256": cut(row["image_sha256"]),
        "person": places[int(row["individual_id"])],
        "formula": formula(elite.network, found.colour) if elite.network else "",
    }


def _person(one: Ancestor, places: dict[int, int]) -> Facts:
    row = one.row
    return {
        "id": f"{int(row['individual_id']):x}",
        "generation": int(row["generation"]),
        "slot": int(row["slot"]),
        "operators": [cut(name) for name in row["operators"]],
        "parents": [f"{int(parent):x}" for parent in row["parent_ids"]],
        "took": [cut(name) for name in one.classes[:CLASSES]],
        "tookAll": len(one.classes),
        **({"parent": places[one.parent], "between": one.between} if one.parent is not None else {}),
    }


def _pictures(found: Findings, runs: int) -> dict[int, Shown]:
    """Pictures of ancestors that no script can draw."""
    images = {str(i): one.image for i, one in found.ancestors.items() if one.image is not None}
    return {int(i): shown for i, shown in fit(images, ROOM_FOR_ANCESTORS // runs, small=True).items()}


def _networks(found: Findings) -> dict[int, Network]:
    elites = {int(e.row["individual_id"]): e.network for e in found.elites if e.network}
    return {i: n for i, one in found.ancestors.items() if (n := one.network or elites.get(i))}


def _packed(networks: dict[int, Network], activations: list[str]) -> tuple[dict[int, int], bytes]:
    """Where each individual's genome begins, and the genomes one behind the other.

    A genome, little-endian: numbers of nodes and of outputs (uint16), the outputs' places (uint16); of each node the
    code of its activation (uint8) and the number of its addends (uint32); of each addend its place (uint16) and weight
    (float32).
    """
    codes = {name: code for code, name in enumerate(activations)}
    offsets, packed = dict[int, int](), bytearray()
    for identity, graph in networks.items():
        offsets[identity] = len(packed)
        packed += struct.pack(f"<HH{len(graph.outputs)}H", len(graph.nodes), len(graph.outputs), *graph.outputs)
        for node in graph.nodes:
            packed += struct.pack("<BI", codes[node.activation], len(node.addends))
        for node in graph.nodes:
            for weight, place in node.addends:
                packed += struct.pack("<Hf", place, weight)
    return offsets, bytes(packed)


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
