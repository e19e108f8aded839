"""Rendering: the batched renderer against plain numpy, scalar arithmetic and itself in other batches; golden files."""

from __future__ import annotations

import colorsys
import functools
import itertools
import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT
from handmade import graph, values_before_rounding
from numpy.typing import NDArray
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode

from evofool.config.sections import VariationConfig
from evofool.encoding import variation
from evofool.encoding.contract import Encoding
from evofool.encoding.cppn import genome as cppn
from evofool.encoding.cppn import programs
from evofool.encoding.cppn.genome import CppnEncoding
from evofool.encoding.cppn.graphs import FIRST_HIDDEN, PAD, Graphs
from evofool.encoding.direct.genome import DirectEncoding
from evofool.encoding.drawing import reference, render
from evofool.errors import InvalidGenome

GOLDEN = ROOT / "tests" / "golden"
BUSY = VariationConfig(add_connection=0.9, split_connection=0.9, delete_connection=0.1)
COLOURS = ("grey", "hsv", "rgb")
CPPNS = [
    CppnEncoding(21, 30, colour, coordinates, output)
    for colour, coordinates, output in itertools.product(COLOURS, ("unit", "raw"), ("shifted", "absolute"))
]
DIRECTS = [DirectEncoding(21, 30, colour) for colour in COLOURS]


def name_of(encoding: Encoding) -> str:
    return "-".join(str(value) for value in vars(encoding).values() if isinstance(value, str))


every_cppn = pytest.mark.parametrize("encoding", CPPNS, ids=name_of)
every_encoding = pytest.mark.parametrize("encoding", [*CPPNS, *DIRECTS], ids=name_of)


pytestmark = pytest.mark.usefixtures("one_thread")


@functools.cache
def evolved(encoding: Encoding, rows: int = 16, generations: int = 25) -> Any:
    genomes = variation.initial(encoding, 1, 0, rows)
    for generation in range(generations):
        genomes, _ = variation.mutate(encoding, BUSY, 1, generation, genomes)
    return genomes


def references(encoding: Encoding, genomes: Any) -> NDArray[np.uint8]:
    return np.stack([reference.render(encoding, genomes, row) for row in range(len(genomes))])


def difference(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> NDArray[np.int64]:
    assert a.shape == b.shape
    assert a.dtype == b.dtype == np.uint8
    return np.abs(a.astype(np.int64) - b)


# ---------------------------------------------------------------------------------------- against the plain renderers


@every_encoding
def test_the_batched_renderer_agrees_with_the_reference(encoding: Encoding) -> None:
    genomes = evolved(encoding)
    images = render.render(encoding, genomes)
    assert images.shape == (16, 21, 30, encoding.channels)
    assert (difference(images, references(encoding, genomes)) <= 1).mean() >= 0.999
    # The agreement is about pictures, not about flat areas.
    assert sum(len(np.unique(image)) > 10 for image in images) >= 6


SCALAR = {
    "identity": lambda p: p,
    "sine": math.sin,
    "sigmoid": lambda p: math.tanh(p / 2),  # 2 / (1 + exp(-p)) - 1
    "gaussian": lambda p: math.exp(-p * p),
    "linear": lambda p: max(-1.0, min(1.0, p / 3)),
}


def scalar_picture(encoding: CppnEncoding, graphs: Graphs, row: int) -> NDArray[np.uint8]:
    """One genome drawn pixel by pixel, node by node, in float64."""
    genes = encoding.genes(graphs, row)
    activation = {gene["id"]: gene["activation"] for gene in genes if gene["gene"] == "node"}
    connections = [gene for gene in genes if gene["gene"] == "connection"]
    image = np.zeros((encoding.height, encoding.width, encoding.channels), dtype=np.uint8)
    for i, j in itertools.product(range(encoding.height), range(encoding.width)):
        y, x = 2 * i / (encoding.height - 1) - 1, 2 * j / (encoding.width - 1) - 1
        d = math.hypot(x, y)
        known = {0: j, 1: i, 2: d, 3: 1.0} if encoding.coordinates == "raw" else {0: x, 1: y, 2: d, 3: 1.0}

        def value(node: int, known: dict[int, float] = known) -> float:
            if node not in known:
                total = math.fsum(c["weight"] * value(c["source"]) for c in connections if c["destination"] == node)
                known[node] = SCALAR[activation[node]](total)
            return known[node]

        outputs = [value(4 + channel) for channel in range(encoding.channels)]
        outputs = [abs(v) if encoding.output == "absolute" else (v + 1) / 2 for v in outputs]
        outputs = [max(0.0, min(1.0, v)) for v in outputs]
        if encoding.colour == "hsv":
            outputs = list(colorsys.hsv_to_rgb(*outputs))
        image[i, j] = [math.floor(v * 255 + 0.5) for v in outputs]
    return image


@pytest.mark.slow
@every_cppn
def test_pictures_agree_with_scalar_arithmetic(encoding: CppnEncoding) -> None:
    small = CppnEncoding(7, 10, encoding.colour, encoding.coordinates, encoding.output)
    genomes = evolved(small)
    images = render.render(small, genomes)
    rows = [0, 5, 10, 15]
    expected = np.stack([scalar_picture(small, genomes, row) for row in rows])
    # float32 against float64: where weights multiply, some pixels move by more than a grey level
    assert (difference(images[rows], expected) <= 1).mean() >= 0.99


def test_x_runs_to_the_right_y_downwards_and_d_outwards() -> None:
    encoding = CppnEncoding(4, 6, "rgb")
    genome = graph({4: "linear", 5: "linear", 6: "linear"}, [(0, 4, 3.0), (1, 5, 3.0), (2, 6, 1.5)])
    red, green, blue = np.moveaxis(render.render(encoding, genome)[0].astype(int), -1, 0)
    assert np.abs(red - np.arange(6) * 51).max() <= 1  # (x + 1) / 2
    assert np.abs(green - np.arange(4)[:, None] * 85).max() <= 1
    x, y = np.linspace(-1, 1, 6), np.linspace(-1, 1, 4)[:, None]
    assert np.abs(blue - 255 * (np.hypot(x, y) / 2 + 1) / 2).max() <= 1


def test_coordinates_are_the_documented_ones() -> None:
    x, y, d, bias = programs.coordinates(3, 5, "unit").reshape(4, 3, 5)
    assert x.tolist() == [[-1, -0.5, 0, 0.5, 1]] * 3
    assert y.tolist() == [[-1] * 5, [0] * 5, [1] * 5]
    assert d[1].tolist() == [1, 0.5, 0, 0.5, 1]
    assert d[0, 0] == np.float32(math.sqrt(2))
    assert bias.tolist() == [[1] * 5] * 3
    assert programs.coordinates(3, 5, "unit").dtype == np.float32


@pytest.mark.parametrize("size", [(28, 28), (33, 224), (1, 7), (227, 2)])
def test_raw_coordinates_are_whole_pixel_indices_and_keep_the_unit_distance(size: tuple[int, int]) -> None:
    height, width = size
    x, y, d, bias = programs.coordinates(height, width, "raw").reshape(4, height, width)
    assert (x == np.arange(width)).all()
    assert (y == np.arange(height)[:, None]).all()
    unit = programs.coordinates(height, width, "unit").reshape(4, height, width)
    assert np.array_equal(d, unit[2])
    assert np.array_equal(bias, unit[3])


def test_a_side_of_one_pixel_lies_in_the_middle() -> None:
    assert programs.coordinates(1, 1, "unit").ravel().tolist() == [0, 0, 0, 1]
    assert programs.coordinates(1, 1, "raw", (5, 9)).ravel().tolist() == [4, 2, 0, 1]


# ------------------------------------------------------------------------------------------------- activations, colour


@pytest.mark.parametrize("arithmetic", render.ACTIVATIONS)
@pytest.mark.parametrize("name", cppn.ACTIVATIONS)
def test_activations_of_both_renderers_are_the_scalar_definitions(name: str, arithmetic: str) -> None:
    inputs = np.concatenate([np.linspace(-20, 20, 401), [-1e4, 1e4, -87.5, 88.0]]).astype(np.float32)
    expected = [SCALAR[name](float(p)) for p in inputs]
    with np.errstate(over="ignore", under="ignore"):
        plain = reference.ACTIVATIONS[name](inputs)
    batched = inputs.copy()
    render.ACTIVATIONS[arithmetic][name](torch.from_numpy(batched))
    for found in (plain, batched):
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=2e-7)


def test_both_renderers_know_every_activation() -> None:
    for known in (reference.ACTIVATIONS, *render.ACTIVATIONS.values(), SCALAR):
        assert set(known) == set(cppn.ACTIVATIONS)


def hsv_cube() -> NDArray[np.float32]:
    hues = [*np.linspace(0, 1, 61), 1 / 6, 1 / 3, 0.5, 2 / 3, 5 / 6, np.nextafter(1, 0)]
    sides = [0.0, 0.25, 0.6, 1.0]
    return np.array(list(itertools.product(hues, sides, sides)), dtype=np.float32)


def test_hsv_is_that_of_colorsys_in_both_renderers() -> None:
    cube = hsv_cube()
    expected = np.array([colorsys.hsv_to_rgb(*map(float, colour)) for colour in cube])
    np.testing.assert_allclose(reference.to_rgb(cube, "hsv"), expected, atol=2e-6)
    encoding = DirectEncoding(1, len(cube), "hsv")
    image = render.render(encoding, cube.reshape(1, 1, -1, 3))[0, 0]
    assert difference(image, np.floor(expected * 255 + 0.5).astype(np.uint8)).max() <= 1


def test_known_colours() -> None:
    colours = [(0, 1, 1), (1, 1, 1), (1 / 3, 1, 1), (2 / 3, 1, 1), (1 / 6, 1, 1)]
    colours += [(0.4, 0, 1), (0.7, 1, 0), (0.9, 0, 0.5)]
    pixels = np.array(colours, dtype=np.float32).reshape(1, 1, -1, 3)
    expected = [
        [255, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0], [255] * 3, [0] * 3, [128] * 3,
    ]  # fmt: skip
    encoding = DirectEncoding(1, len(colours), "hsv")
    assert render.render(encoding, pixels)[0, 0].tolist() == expected
    assert reference.render(encoding, pixels, 0)[0].tolist() == expected


@pytest.mark.parametrize("colour", ["grey", "rgb"])
def test_grey_and_rgb_levels_are_rounded_half_up(colour: str) -> None:
    levels = np.arange(256)
    values = np.concatenate([levels / 255, (levels[1:] - 0.51) / 255, (levels[1:] - 0.49) / 255])
    expected = np.concatenate([levels, levels[:-1], levels[1:]])
    encoding = DirectEncoding(1, len(values), colour)
    pixels = np.repeat(values.astype(np.float32), encoding.channels).reshape(1, 1, -1, encoding.channels)
    for image in (render.render(encoding, pixels)[0], reference.render(encoding, pixels, 0)):
        assert (image[0] == expected[:, None]).all()
    assert reference.quantise(np.float32([0.5 / 255, 0.0, 1.0])).tolist() == [1, 0, 255]


@pytest.mark.parametrize(("output", "expected"), [("shifted", [0, 0, 64, 128, 191, 255, 255]), ("absolute", None)])
def test_outputs_become_levels_as_configured(output: str, expected: list[int] | None) -> None:
    expected = expected or [255, 255, 128, 0, 128, 255, 255]
    encoding = CppnEncoding(1, 7, "grey", output=output)
    genome = graph({4: "identity"}, [(0, 4, 1.5)])  # -1.5, -1, -0.5, 0, 0.5, 1, 1.5
    assert render.render(encoding, genome).ravel().tolist() == expected
    assert reference.render(encoding, genome, 0).ravel().tolist() == expected


# ------------------------------------------------------------------------------------------------ batch independence


def assert_independent_of_the_batch(encoding: Encoding, rows: Iterable[int]) -> None:
    genomes = evolved(encoding)
    images = render.render(encoding, genomes)
    for row in rows:
        alone = render.render(encoding, encoding.take(genomes, np.array([row])))
        assert alone.tobytes() == images[row].tobytes()
    order = np.random.default_rng(2).permutation(16)
    assert render.render(encoding, encoding.take(genomes, order)).tobytes() == images[order].tobytes()
    many = np.concatenate([order, np.arange(16), order[:5], np.full(16, 3)])
    assert render.render(encoding, encoding.take(genomes, many)).tobytes() == images[many].tobytes()


@every_encoding
def test_a_picture_does_not_depend_on_the_batch(encoding: Encoding) -> None:
    assert_independent_of_the_batch(encoding, range(16))


@pytest.mark.slow
@pytest.mark.parametrize("encoding", [CPPNS[5], DIRECTS[1]], ids=name_of)
def test_a_picture_does_not_depend_on_the_batch_under_two_threads(encoding: Encoding) -> None:
    torch.set_num_threads(2)
    assert_independent_of_the_batch(encoding, (0, 7, 15))


@pytest.mark.parametrize("encoding", CPPNS[4:6], ids=name_of)
def test_no_bit_of_the_values_before_rounding_depends_on_the_batch(encoding: CppnEncoding) -> None:
    genomes = evolved(encoding)

    together = values_before_rounding(encoding, genomes)
    for rows in ([0], [7], [15, 3, 3], list(range(15, -1, -1))):
        alone = values_before_rounding(encoding, encoding.take(genomes, np.array(rows)))
        assert alone.tobytes() == together[rows].tobytes()


@pytest.mark.parametrize("scratch_bytes", [1, 40_000, 1 << 30])
def test_a_picture_does_not_depend_on_the_tiles_it_is_drawn_in(
    scratch_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoding = CPPNS[4]
    genomes = evolved(encoding)
    before = render.render(encoding, genomes)
    monkeypatch.setattr(render, "_SCRATCH_BYTES", {"cpu": scratch_bytes})
    assert render.render(encoding, genomes).tobytes() == before.tobytes()


class Operations(TorchDispatchMode):
    """Counts tensor operations, and remembers the largest tensor that one gave."""

    count = largest = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        self.count += 1
        if isinstance(result, torch.Tensor):
            self.largest = max(self.largest, result.numel())
        return result


def operations(encoding: Encoding, genomes: Any) -> Operations:
    with Operations() as seen:
        render._render(encoding, genomes, "cpu")
    assert seen.count
    return seen


@pytest.mark.slow
def test_512_genomes_need_hardly_more_tensor_operations_than_the_deepest_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As many for each level, however many nodes, connections and activations are in it.

    There are two stages, and the genome that is deepest in one need not be so in the other.
    """
    encoding = CppnEncoding(8, 8, "hsv")
    genomes = evolved(encoding)
    every_kind = np.where(genomes.node_ids < PAD, np.arange(genomes.node_ids.shape[1]) % len(cppn.ACTIVATIONS), 0)
    genomes = replace(genomes, activations=every_kind.astype(np.uint8))
    genomes = encoding.take(genomes, np.arange(512) % 16)
    alone = [programs.compile(encoding.take(genomes, np.array([row]))) for row in range(16)]
    depths = [[len(stage.counts) for stage in (one.first, one.second)] for one in alone]
    deepest = encoding.take(genomes, np.argmax(depths, axis=0))
    assert np.min(np.max(depths, axis=0)) > 3
    monkeypatch.setattr(render, "_GENOMES", 512)
    assert operations(encoding, genomes).count <= 1.1 * operations(encoding, deepest).count


@pytest.mark.slow
@pytest.mark.parametrize("encoding", [CPPNS[4], DIRECTS[1]], ids=name_of)
def test_memory_does_not_grow_with_the_number_of_genomes(encoding: Encoding) -> None:
    genomes = evolved(encoding)
    some, many = (operations(encoding, encoding.take(genomes, np.arange(n) % 16)).largest for n in (256, 1024))
    assert many == some


def test_a_picture_does_not_depend_on_how_many_are_drawn_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    for encoding in (CPPNS[4], DIRECTS[1]):
        genomes = evolved(encoding)
        before = render._render(encoding, genomes, "cpu")
        with monkeypatch.context() as patch:
            patch.setattr(render, "_GENOMES", 3)
            assert render._render(encoding, genomes, "cpu").tobytes() == before.tobytes()


def test_rendering_leaves_the_genomes_as_they_were() -> None:
    for encoding in (CPPNS[0], DIRECTS[1]):
        genomes = evolved(encoding)
        before = [encoding.to_bytes(genomes, row) for row in range(16)]
        render.render(encoding, genomes)
        assert [encoding.to_bytes(genomes, row) for row in range(16)] == before


def test_a_genome_without_connections_has_the_activation_of_zero_everywhere() -> None:
    encoding = CppnEncoding(6, 9, "rgb")
    genome = graph({4: "sine", 5: "gaussian", 6: "linear"}, [])
    for image in (render.render(encoding, genome)[0], reference.render(encoding, genome, 0)):
        assert image.reshape(-1, 3).tolist() == [[128, 255, 128]] * 54


def test_a_cycle_is_refused() -> None:
    a = FIRST_HIDDEN
    with pytest.raises(InvalidGenome, match="cycle"):
        render.render(CppnEncoding(4, 4, "grey"), graph({4: "sine", a: "sine"}, [(4, a, 1.0), (a, 4, 1.0)]))


# --------------------------------------------------------------------------------------------------------- huge weights


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("output", ["shifted", "absolute"])
def test_huge_weights_are_clipped_and_what_is_not_a_number_counts_as_zero(colour: str, output: str) -> None:
    encoding = CppnEncoding(5, 9, colour, output=output)
    chain = [3, *(FIRST_HIDDEN + i for i in range(8))]  # 1e6 ** 8 overflows float32
    nodes = dict.fromkeys(chain[1:], "identity")
    connections = [(a, b, 1e6) for a, b in itertools.pairwise(chain)]
    last, other = chain[-1], FIRST_HIDDEN + 100
    nodes |= {other: "sine"}  # the sine of infinity is not a number
    connections += [(last, other, 1.0), (other, 4, 1.0), (last, 4, -1.0)]
    outputs = {4 + i: "identity" for i in range(encoding.channels)}
    genome = graph(nodes | outputs, [*connections, *((last, node, 1.0) for node in list(outputs)[1:])])
    images = render.render(encoding, genome)
    assert images.dtype == np.uint8
    # The first output is NaN, so 0; the others are infinite, so 1.
    expected = {"grey": [0], "rgb": [0, 255, 255], "hsv": [255, 0, 0]}[colour]
    assert images.reshape(-1, encoding.channels).tolist() == [expected] * 45
    assert np.array_equal(reference.render(encoding, genome, 0), images[0])


@pytest.mark.parametrize("activation", cppn.ACTIVATIONS)
def test_weights_of_a_million_give_finite_pictures(activation: str) -> None:
    encoding = CppnEncoding(16, 16, "hsv", weight_limit=1e6)
    genomes = variation.initial(encoding, 3, 0, 10)
    codes = np.full_like(genomes.activations, cppn.ACTIVATIONS.index(activation))
    genomes = Graphs(genomes.node_ids, codes, *genomes.arrays()[2:])
    images = render.render(encoding, genomes)
    with np.errstate(over="raise", invalid="raise"):
        expected = references(encoding, genomes)
    # One rounding in a sum of 1e6 is a twelfth of a turn of the sine, so there the two need not agree.
    assert activation == "sine" or (difference(images, expected) <= 1).mean() >= 0.999


# --------------------------------------------------------------------------------------------------------- other sizes


@every_cppn
def test_a_cppn_drawn_larger_is_the_same_picture(encoding: CppnEncoding) -> None:
    genomes = evolved(encoding)
    for row in range(4):
        native = reference.render(encoding, genomes, row)
        assert np.array_equal(reference.render(encoding, genomes, row, (21, 30)), native)
        # Every second pixel of 2 n - 1 lies where the n pixels of the small one do.
        twice = reference.render(encoding, genomes, row, (41, 59))
        assert twice.shape == (41, 59, encoding.channels)
        assert (difference(twice[::2, ::2], native) <= 1).mean() >= 0.999
        corners = reference.render(encoding, genomes, row, (50, 64))[[0, 0, -1, -1], [0, -1, 0, -1]]
        assert difference(corners, native[[0, 0, -1, -1], [0, -1, 0, -1]]).max() <= 1


def test_a_direct_genome_is_enlarged_by_nearest_neighbour() -> None:
    encoding = DIRECTS[2]
    genomes = evolved(encoding)
    native = reference.render(encoding, genomes, 3)
    twice = reference.render(encoding, genomes, 3, (42, 90))
    assert np.array_equal(twice, native.repeat(2, axis=0).repeat(3, axis=1))
    assert np.array_equal(reference.render(encoding, genomes, 3, (7, 10)), native[::3, ::3])


# ------------------------------------------------------------------------------------------------------ golden pictures


def rings() -> tuple[Encoding, Any]:
    return CppnEncoding(28, 28, "grey"), graph({4: "sine"}, [(2, 4, 9.0), (3, 4, -0.5)])


def flower() -> tuple[Encoding, Any]:
    # every activation, a node with two users, an identity as a split leaves it
    a, b, c, e = (FIRST_HIDDEN + i for i in range(4))
    return CppnEncoding(36, 48, "hsv"), graph(
        {4: "linear", 5: "sigmoid", 6: "gaussian", a: "sine", b: "gaussian", c: "linear", e: "identity"},
        [
            (0, a, 4.0), (2, a, 3.0), (1, b, 2.5), (a, b, 1.0), (2, c, 3.0), (b, c, -2.0), (a, e, 1.0),
            (a, 4, 2.5), (c, 4, -1.5), (b, 5, 2.0), (3, 5, 1.0), (2, 6, 0.9), (e, 6, 0.6),
        ],
    )  # fmt: skip


def weave() -> tuple[Encoding, Any]:
    a, b = FIRST_HIDDEN, FIRST_HIDDEN + 1
    return CppnEncoding(24, 32, "rgb", "raw", "absolute"), graph(
        {4: "sine", 5: "sine", 6: "sigmoid", a: "sine", b: "sine"},
        [(0, a, 0.5), (1, b, 0.35), (a, 4, 1.2), (b, 5, 1.2), (a, 6, 2.0), (b, 6, -2.0), (2, 4, 0.8)],
    )


def ramp() -> tuple[Encoding, Any]:
    hue, value = np.meshgrid(np.linspace(0, 1, 24), np.linspace(1, 0, 16))
    pixels = np.stack([hue, np.full_like(hue, 0.8), value], axis=-1)
    return DirectEncoding(16, 24, "hsv"), pixels[None].astype(np.float32)


@pytest.mark.parametrize("picture", [rings, flower, weave, ramp], ids=lambda function: function.__name__)
def test_a_golden_picture_is_drawn_again_within_one_grey_level(picture: Any, request: pytest.FixtureRequest) -> None:
    encoding, genome = picture()
    path = GOLDEN / f"{picture.__name__}.png"
    image = render.render(encoding, genome)[0]
    if request.config.getoption("--bless"):
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(image[..., 0] if encoding.channels == 1 else image).save(path, optimize=True)
    assert path.exists(), f"{path} is missing; write it with pytest --bless, and look at it"
    golden = np.atleast_3d(np.asarray(Image.open(path)))
    assert difference(image, golden).max() <= 1
    assert difference(reference.render(encoding, genome, 0), golden).max() <= 1
