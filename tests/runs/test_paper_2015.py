"""The operators of the 2015 code, each against a slow plain re-statement of what that code does.

What it does: Nguyen, Yosinski and Clune's repository, as listed in their files phen_color_image.hpp, gen_dnn.hpp,
gen_dnn_ff.hpp, evo_float_image.hpp, phen_image_direct.hpp and af_cppn.hpp. The unbounded polynomial mutation and the
simulated binary crossover have their re-statements in test_variation.py.
"""

from __future__ import annotations

import colorsys
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT
from handmade import graph
from numpy.typing import NDArray

from evofool.config import flatten, load_config
from evofool.config.sections import VariationConfig
from evofool.encoding import variation
from evofool.encoding.cppn import operators
from evofool.encoding.cppn.genome import CppnEncoding
from evofool.encoding.cppn.graphs import FIRST_HIDDEN, PAD, Graphs, node_ids
from evofool.encoding.direct.genome import DirectEncoding
from evofool.encoding.drawing import reference, render

CONFIGS = ROOT / "configs"
HLS = CppnEncoding(9, 12, "hls2015", coordinates="raw", output="absolute", quantisation="truncate")
GREY = CppnEncoding(28, 28, "grey", coordinates="raw", output="absolute", quantisation="truncate")
CODE = VariationConfig(
    mutation="polynomial_clipped",
    split="both_halves",
    parallel_connections=True,
    add_connection=0.9,
    delete_connection=0.1,
)
F = np.float32  # the code computes in floats, in which a sigmoid reaches 1
PLAIN = {
    "sine": lambda p: np.sin(p),
    "sigmoid": lambda p: F(2) / (F(1) + np.exp(-np.maximum(p, F(-80)))) - F(1),
    "gaussian": lambda p: np.exp(-p * p),
    "linear": lambda p: max(F(-3), min(F(3), p)) / F(3),
    "identity": lambda p: p,
}


def numbers(*shape: int, seed: int = 1) -> NDArray[np.float64]:
    return np.random.Generator(np.random.PCG64(seed)).random(shape)


def grown(encoding: CppnEncoding, rows: int, generations: int = 15) -> Graphs:
    genomes = variation.initial(encoding, 3, 0, rows)
    for generation in range(generations):
        genomes, _ = variation.mutate(encoding, CODE, 3, generation, genomes)
    return genomes


# ----------------------------------------------------------------------------------------------- colour and pixels


def opencv_hls(hue: int, lightness: int, saturation: int) -> tuple[int, ...]:
    """A pixel of bytes as OpenCV turns it: hue counts 2 degrees, and one beyond 180 goes round again."""
    rgb = colorsys.hls_to_rgb((2 * hue % 360) / 360, lightness / 255, saturation / 255)
    return tuple(math.floor(channel * 255 + 0.5) for channel in rgb)


def test_hls2015_is_opencvs_with_a_hue_that_wraps() -> None:
    levels = (numbers(3000, 3) * 256).astype(np.uint8)
    levels[:6] = [[0, 0, 0], [255, 255, 255], [179, 128, 255], [180, 128, 255], [30, 127, 255], [90, 128, 0]]
    expected = np.array([opencv_hls(*(int(v) for v in row)) for row in levels])
    found = reference.hls2015(levels).astype(int)
    assert np.abs(found - expected).max() <= 1  # float32 against float64 at a half
    assert (found == expected).mean() > 0.999
    wrapped = np.array([[h, 100, 200] for h in range(180, 256)], dtype=np.uint8)
    unwrapped = wrapped - np.array([180, 0, 0], dtype=np.uint8)
    assert np.array_equal(reference.hls2015(wrapped), reference.hls2015(unwrapped))


def test_direct_pixels_are_truncated_bytes_of_hue_lightness_and_saturation() -> None:
    encoding = DirectEncoding(8, 9, "hls2015", "truncate")
    genomes = numbers(3, 8, 9, 3).astype(np.float32)
    found = render.render(encoding, genomes).astype(int)
    for genome, image in zip(genomes, found):
        for y in range(8):
            for x in range(9):
                expected = opencv_hls(*(int(np.float32(v) * np.float32(255)) for v in genome[y, x]))
                assert np.abs(image[y, x] - expected).max() <= 1


@pytest.mark.parametrize("quantisation", ["round", "truncate"])
def test_truncation_is_that_of_an_int_cast(quantisation: str) -> None:
    encoding = DirectEncoding(16, 16, "grey", quantisation)
    genomes = numbers(1, 16, 16, 1).astype(np.float32)
    genomes[0, 0, :4, 0] = [0.0, 1.0, 254.9 / 255, 0.5 / 255]
    half = 0.5 if quantisation == "round" else 0.0
    expected = [int(np.float32(v) * np.float32(255) + np.float32(half)) for v in genomes.ravel()]
    assert render.render(encoding, genomes).ravel().tolist() == expected
    assert reference.render(encoding, genomes, 0).ravel().tolist() == expected


def plain_pixel(genes: list[dict[str, Any]], x: int, y: int, height: int, width: int) -> list[Any]:
    """|output| of every output node at one pixel: raw indices, the distance on [-1, 1], and a bias of 1."""
    unit_x, unit_y = x / (width - 1) * 2 - 1, y / (height - 1) * 2 - 1
    known = {0: F(x), 1: F(y), 2: F(math.hypot(unit_x, unit_y)), 3: F(1)}
    kinds = {g["id"]: g["activation"] for g in genes if g["gene"] == "node"}

    def value(node: int) -> Any:
        if node not in known:
            arriving = [(g["weight"], g["source"]) for g in genes if g.get("destination") == node and "weight" in g]
            known[node] = PLAIN[kinds[node]](sum((F(w) * value(s) for w, s in arriving), F(0)))
        return known[node]

    return [abs(value(4 + i)) for i in range(sum(node < FIRST_HIDDEN for node in kinds))]


def test_a_cppn_picture_is_the_absolute_output_at_raw_pixel_indices_truncated() -> None:
    genomes = grown(HLS, 8)
    images = render.render(HLS, genomes).astype(int)
    equal = total = 0
    for row in range(len(genomes)):
        genes = HLS.genes(genomes, row)
        for y in range(HLS.height):
            for x in range(HLS.width):
                levels = [int(min(v, F(1)) * F(255)) for v in plain_pixel(genes, x, y, HLS.height, HLS.width)]
                equal += tuple(images[row, y, x]) == opencv_hls(*levels)
                total += 1
    # A number that float32 puts across the edge of a byte shows as another level; most are far from any edge.
    assert equal / total > 0.97


# -------------------------------------------------------------------------------------------------------- operators

START = graph({4: "sine"}, [(0, 4, 2.5), (1, 4, -3.0), (2, 4, 0.5)])


def test_a_split_keeps_the_weight_in_both_halves_and_draws_an_activation() -> None:
    codes = GREY.activation_codes
    for which in (0.0, 0.4, 0.9):
        for code in codes:
            old = sorted(zip(START.connection_ids[0], START.sources[0], START.destinations[0], START.weights[0]))
            chosen = old[int(which * 3)]
            child, done = operators.split_connection(START, np.array([True]), np.array([which]), np.array([code]))
            assert done.all()
            node = int(node_ids(chosen[1], chosen[2], 0))
            wires = {
                (int(s), int(d)): float(w) for s, d, w in zip(child.sources[0], child.destinations[0], child.weights[0])
            }
            expected = {(int(s), int(d)): float(w) for _, s, d, w in old if (s, d) != (chosen[1], chosen[2])}
            expected |= {(int(chosen[1]), node): float(chosen[3]), (node, int(chosen[2])): float(chosen[3])}
            assert wires == expected
            assert child.activations[0][child.node_ids[0] == node] == code


def test_new_nodes_draw_each_activation_evenly_and_identity_never() -> None:
    config = VariationConfig(
        **dict.fromkeys(
            ("mutation_rate", "activation_rate", "add_connection", "delete_connection", "delete_node"), 0.0
        ),
        split_connection=1.0,
        split="both_halves",
    )
    genomes, _ = variation.mutate(GREY, config, 1, 0, variation.initial(GREY, 1, 0, 4000))
    hidden = genomes.activations[(genomes.node_ids >= FIRST_HIDDEN) & (genomes.node_ids != PAD)]
    share = np.bincount(hidden, minlength=5) / 4000
    assert share[0] == 0
    assert np.abs(share[1:] - 0.25).max() < 0.03


def test_parallel_connections_are_added_and_count_twice() -> None:
    apply = np.array([True])
    # The source is drawn among x, y, d, bias; the only destination is the output: (0, 4) is there already.
    once, done = operators.add_connection(START, apply, np.array([0.1]), np.array([0.0]), np.array([0.7]), limit=10.0)
    assert not done.any() and once.connection_ids.shape == (1, 3)
    twice, done = operators.add_connection(
        START, apply, np.array([0.1]), np.array([0.0]), np.array([0.7]), limit=10.0, parallel=True
    )
    thrice, again = operators.add_connection(
        twice, apply, np.array([0.1]), np.array([0.0]), np.array([0.2]), limit=10.0, parallel=True
    )
    assert done.all() and again.all()
    weights = sorted(float(w) for s, w in zip(thrice.sources[0], thrice.weights[0]) if s == 0)
    assert weights == pytest.approx(sorted([2.5, 4.0, -6.0]))
    assert len(set(thrice.connection_ids[0].tolist())) == 5
    summed = graph({4: "sine"}, [(0, 4, 2.5 + 4.0 - 6.0), (1, 4, -3.0), (2, 4, 0.5)])
    a, b = render.render(GREY, thrice).astype(int), render.render(GREY, summed).astype(int)
    assert np.abs(a - b).max() <= 1
    GREY.from_bytes([GREY.to_bytes(thrice, 0)])  # it can be stored and read again


def test_a_connection_to_a_predecessor_or_an_input_is_never_made() -> None:
    genomes = grown(GREY, 200, 30)
    for row in range(len(genomes)):
        GREY.check(GREY.take(genomes, [row]))  # refuses cycles and connections into inputs
    pairs = [tuple(p) for p in zip(genomes.sources[:, :].ravel(), genomes.destinations.ravel(), strict=True)]
    assert len(set(pairs)) < len(pairs)


def test_the_picture_of_grown_genomes_is_that_of_the_plain_renderer() -> None:
    genomes = grown(GREY, 60, 25)
    images = render.render(GREY, genomes).astype(int)
    for row in range(len(genomes)):
        plain = reference.render(GREY, genomes, row).astype(int)
        assert (np.abs(images[row] - plain) <= 1).mean() > 0.99  # a sine of a large sum may be rounded differently


# ---------------------------------------------------------------------------------------------------------- presets

EVERY = {
    "variation.mutation": "polynomial_clipped",
    "variation.mutation_rate": 0.1,
    "variation.mutation_eta": 15.0,
    "search.lag": 1,
    "search.insertion": "every_class",
    "search.selection": "cells",
    "search.objective": "log_odds",
}
GRAPHS = {
    "encoding.kind": "cppn",
    "encoding.activations": ["sine", "sigmoid", "gaussian", "linear"],
    "encoding.weight_limit": 10.0,
    "variation.crossover_rate": 0.0,
    "variation.activation_rate": 0.1,
    "variation.add_connection": 0.5,
    "variation.delete_connection": 0.3,
    "variation.rewire_connection": 0.0,
    "variation.split_connection": 0.5,
    "variation.delete_node": 0.2,
}
OF_THE_CODE = {"encoding.quantisation": "truncate", "variation.schedules": {}}
OF_THE_TEXT = {"variation.schedules": {"mutation_rate": {"kind": "halving", "every": 1000, "floor": 0.0}}}
PRESETS: dict[str, dict[str, Any]] = {
    "nguyen2015_mnist_cppn": {
        **GRAPHS,
        **OF_THE_CODE,
        "encoding.coordinates": "raw",
        "encoding.output": "absolute",
        "variation.split": "both_halves",
        "variation.parallel_connections": True,
        "search.offspring": 200,
    },
    "nguyen2015_mnist_direct": {
        **OF_THE_CODE,
        "encoding.kind": "direct",
        "variation.crossover_rate": 0.5,
        "variation.crossover_eta": 10.0,
        "search.offspring": 200,
    },
    "nguyen2015_mnist_cppn_text": {**GRAPHS, **OF_THE_TEXT, "encoding.coordinates": "unit", "search.offspring": 200},
    "nguyen2015_mnist_direct_text": {**OF_THE_TEXT, "encoding.kind": "direct", "variation.crossover_rate": 0.0},
}
for _name, _generations, _offspring, _colour in (
    ("cppn", 5000, 400, "hls2015"),
    ("direct", 20_000, 200, "hls2015"),
    ("cppn_text", 5000, 400, "hsv"),
    ("direct_text", 20_000, 200, "hsv"),
):
    PRESETS[f"nguyen2015_imagenet_{_name}"] = {
        **PRESETS[f"nguyen2015_mnist_{_name}"],
        "target.spec": "torchvision:alexnet",
        "target.crops": 10,
        "encoding.colour": _colour,
        "search.offspring": _offspring,
        "search.generations": _generations,
    }


@pytest.mark.parametrize("name", PRESETS)
def test_preset_has_the_parameters_of_the_paper(name: str) -> None:
    values = flatten(load_config(CONFIGS / f"{name}.yaml"))
    wanted = {**EVERY, **PRESETS[name]}
    assert {key: values[key] for key in wanted} == wanted
    assert values["search.initial"] == values["search.offspring"]
    assert values["name"] == f"{name}-{{seed}}"


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_config_that_is_shipped_can_be_read(path: Path) -> None:
    load_config(path)
    assert path.read_text().startswith("# ")
