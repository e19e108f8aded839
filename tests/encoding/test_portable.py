"""`encoding.arithmetic: portable`: torch and numba draw the same bits, and nearly the pictures of anyone's sine."""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT
from handmade import genomes_by_hand, graph
from hypothesis import given, settings
from numpy.typing import NDArray

import evofool
from evofool.base import jit
from evofool.config import Config, load_config
from evofool.config.sections import VariationConfig
from evofool.encoding import variation
from evofool.encoding.cppn.genome import ACTIVATIONS, CppnEncoding
from evofool.encoding.cppn.graphs import FIRST_HIDDEN, Graphs
from evofool.encoding.direct.genome import DirectEncoding
from evofool.encoding.drawing import compiled, portable, reference, render
from evofool.errors import IncompatibleRun, InvalidGenome
from evofool.evaluate import resolving
from evofool.runs.observers.observer import Warned

BUSY = VariationConfig(
    mutation_eta=15.0, add_connection=0.9, split_connection=0.9, delete_connection=0.1, parallel_connections=True
)
portable_encoding = functools.partial(CppnEncoding, arithmetic="portable")
ENCODINGS = [
    *(
        portable_encoding(21, 30, colour, coordinates, output, quantisation=quantisation)
        for colour, coordinates, output, quantisation in itertools.product(
            ("grey", "hsv", "rgb", "hls2015"), ("unit", "raw"), ("shifted", "absolute"), ("round", "truncate")
        )
    ),
    # One pixel, one row, one column; rows wider than a tile; several tiles, the last of which is smaller.
    *(portable_encoding(height, width, "hsv") for height, width in ((1, 1), (1, 40), (40, 1), (5, 1000), (60, 30))),
]

PIXELS = DirectEncoding(5, 6, "hsv")

pytestmark = pytest.mark.usefixtures("one_thread")


@functools.cache
def evolved(encoding: CppnEncoding) -> Graphs:
    genomes = variation.initial(encoding, 1, 0, 16)
    for generation in range(25):
        genomes, _ = variation.mutate(encoding, BUSY, 1, generation, genomes)
    return genomes


def by_torch(encoding: CppnEncoding, genomes: Graphs) -> NDArray[np.uint8]:
    return render._render(encoding, genomes, "cpu")


def same_bits(a: NDArray[np.float32], b: NDArray[np.float32]) -> bool:
    """Whether all numbers have the same bits; which NaN it is does not matter."""
    return bool(((a.view(np.int32) == b.view(np.int32)) | (np.isnan(a) & np.isnan(b))).all())


def numbers() -> NDArray[np.float32]:
    """Any bits at all, usual arguments, and those where something changes."""
    rng = np.random.default_rng(1)
    edges = [0, 2**28, 2**28 + 32, 86.99999, 87, 87.00001, 9.327379, 9.32738, 3, np.pi, np.pi / 2, np.inf, np.nan]
    edges += [float(np.finfo(np.float32).tiny), 1e-45, 3.4e38]
    both = np.array([*edges, *(-edge for edge in edges)], dtype=np.float32)
    near = np.concatenate([np.nextafter(both, np.float32(towards)) for towards in (-np.inf, np.inf)])
    any_bits = rng.integers(0, 1 << 32, 1 << 18, dtype=np.uint64).astype(np.uint32).view(np.float32)
    found = np.concatenate([both, near, any_bits, (rng.normal(size=1 << 16) * 5).astype(np.float32)])
    return np.ascontiguousarray(found)


# ---------------------------------------------------------------------------------------------------------- arithmetic


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_torch_and_numba_agree_in_every_bit_of_an_activation(name: str) -> None:
    tensors, rows = torch.from_numpy(numbers()), numbers()
    render.ACTIVATIONS["portable"][name](tensors)
    compiled._activate(ACTIVATIONS.index(name), rows)
    assert same_bits(tensors.numpy(), rows)


@pytest.mark.parametrize(("name", "function"), [("sine", compiled.sine), ("exponential", compiled.exponential)])
def test_what_numba_makes_of_them_is_what_the_source_says(name: str, function: Any) -> None:
    """Number by number in Python, where nothing is fused or reordered; `_activate` has it from numba."""
    arguments = numbers()[:400:3]
    with np.errstate(all="ignore"):
        if name == "sine":
            expected, found = [function.py_func(x) for x in arguments], arguments.copy()
            compiled._activate(ACTIVATIONS.index("sine"), found)
        else:
            arguments = np.abs(arguments[np.abs(arguments) < 9])
            expected, found = [function.py_func(-(x * x)) for x in arguments], arguments.copy()
            compiled._activate(ACTIVATIONS.index("gaussian"), found)
    assert len(found) > 20
    assert same_bits(np.array(expected, dtype=np.float32), found)


def test_sine_and_exponential_are_as_near_as_the_definition_says() -> None:
    rng = np.random.default_rng(2)
    angles = np.concatenate([rng.uniform(-s, s, 20_000) for s in (2, 100, 1e5, 2.0**28)]).astype(np.float32)
    found = angles.copy()
    compiled._activate(ACTIVATIONS.index("sine"), found)
    assert np.abs(found - np.sin(angles.astype(np.float64))).max() <= 2.5e-7
    assert np.abs(found).max() <= 1
    far = np.array([portable.LARGEST_ANGLE, 3e8, 3e38], dtype=np.float32)
    compiled._activate(ACTIVATIONS.index("sine"), far)
    assert (far == far[0]).all()
    exponents = rng.uniform(-87, 87, 100_000).astype(np.float32)
    powers = render._portable_exponential(torch.from_numpy(exponents)).numpy()
    assert np.abs(powers / np.exp(exponents.astype(np.float64)) - 1).max() <= 2.5e-7


def test_the_constants_are_what_they_are_called() -> None:
    assert float(portable.TWO_PI_HIGH) + float(portable.TWO_PI_LOW) == 2 * np.pi
    assert (float(portable.TWO_PI_HIGH) * 2**24).is_integer()
    assert float(portable.LARGEST_ANGLE) * float(portable.ONE_OVER_TWO_PI) < 2**26  # times 27 bits: exact
    assert np.float32(float(portable.LN2_HIGH) + float(portable.LN2_LOW)) == np.float32(np.log(2))
    assert (float(portable.LN2_HIGH) * 2**16).is_integer()
    assert np.float32(1).view(np.int32) == portable.ONE_BITS
    assert np.float32(np.pi) == portable.PI


# ------------------------------------------------------------------------------------------------------------ pictures


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ENCODINGS, ids=lambda e: "-".join(str(v) for v in vars(e).values()))
def test_torch_and_numba_draw_the_same_pictures(encoding: CppnEncoding) -> None:
    genomes = evolved(encoding)
    assert render.render(encoding, genomes).tobytes() == by_torch(encoding, genomes).tobytes()


@pytest.mark.slow
def test_pictures_are_the_same_on_every_machine(request: pytest.FixtureRequest) -> None:
    file = ROOT / "tests" / "golden" / "portable.json"
    found = {
        "-".join(str(value) for value in vars(encoding).values() if isinstance(value, str | int)): hashlib.sha256(
            render.render(encoding, evolved(encoding)).tobytes()
        ).hexdigest()
        for encoding in ENCODINGS
    }
    assert len(found) == len(ENCODINGS)
    if request.config.getoption("--bless"):
        file.write_text(json.dumps(found, indent=1) + "\n")
    assert found == json.loads(file.read_text())


SMALL = [
    portable_encoding(5, 7, "grey"),
    portable_encoding(4, 6, "hsv", "raw"),
    portable_encoding(6, 3, "hls2015", output="absolute"),
]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(genomes_by_hand(SMALL))
def test_torch_and_numba_draw_the_same_of_any_genomes(case: tuple[CppnEncoding, Graphs]) -> None:
    encoding, genomes = case
    assert compiled.render(encoding, genomes).tobytes() == by_torch(encoding, genomes).tobytes()


def test_pictures_are_nearly_those_of_the_reference() -> None:
    for encoding in ENCODINGS[::5]:
        genomes = evolved(encoding)
        images = render.render(encoding, genomes).astype(int)
        expected = np.stack([reference.render(encoding, genomes, row) for row in range(len(genomes))])
        turned = encoding.colour == "hls2015"  # a level of hue or saturation can be several of a colour
        assert (np.abs(images - expected) <= (8 if turned else 1)).mean() >= 0.998, encoding


def test_a_picture_does_not_depend_on_the_batch() -> None:
    encoding = portable_encoding(21, 30, "hsv")
    genomes = evolved(encoding)
    images = compiled.render(encoding, genomes)
    for row in range(16):
        assert compiled.render(encoding, encoding.take(genomes, [row])).tobytes() == images[row].tobytes()
    assert not compiled.render(encoding, encoding.take(genomes, [])).size


def test_a_genome_without_connections_has_the_activation_of_zero_everywhere() -> None:
    genome = graph({4: "sine", 5: "gaussian", 6: "linear"}, [])
    image = compiled.render(CppnEncoding(6, 9, "rgb"), genome)
    assert image.reshape(-1, 3).tolist() == [[128, 255, 128]] * 54


A, B, C = FIRST_HIDDEN, FIRST_HIDDEN + 1, FIRST_HIDDEN + 2


@pytest.mark.parametrize(
    ("hidden", "connections"),
    [
        ({A: "sine"}, [(4, A, 1.0), (A, 4, 1.0)]),
        ({A: "sine", B: "sine"}, [(0, 4, 1.0), (A, B, 1.0), (B, A, 2.0), (B, 4, 1.0)]),
        ({A: "identity", B: "identity"}, [(0, 4, 1.0), (A, B, 1.0), (B, A, 1.0), (B, 4, 1.0)]),
        ({A: "sine"}, [(0, A, 1.0), (A, A, 1.0), (A, 4, 1.0)]),
    ],
)
def test_a_cycle_is_refused(hidden: dict[int, str], connections: list[tuple[int, int, float]]) -> None:
    encoding = CppnEncoding(4, 4, "grey")
    good = graph({4: "sine", C: "sine"}, [(0, C, 1.0), (C, 4, 1.0)])
    both = encoding.replace(encoding.empty(2), np.array([0]), good, np.array([0]))
    both = encoding.replace(both, np.array([1]), graph({4: "sine"} | hidden, connections), np.array([0]))
    with pytest.raises(InvalidGenome, match="cycle"):
        compiled.render(encoding, both)


def test_what_no_output_needs_is_left_alone() -> None:
    genome = graph({4: "sine", A: "sine", B: "sine"}, [(0, 4, 1.0), (4, A, 1.0), (A, B, 1.0)])
    alone = graph({4: "sine"}, [(0, 4, 1.0)])
    encoding = CppnEncoding(4, 4, "grey")
    assert compiled.render(encoding, genome).tobytes() == compiled.render(encoding, alone).tobytes()


def test_a_split_changes_no_bit() -> None:
    encoding = CppnEncoding(9, 9, "grey")
    before = graph({4: "sine"}, [(0, 4, 1.7), (1, 4, -0.3), (3, 4, 1.7)])
    after = graph({4: "sine", A: "identity"}, [(0, A, 1.0), (A, 4, 1.7), (1, 4, -0.3), (3, 4, 1.7)])
    assert compiled.render(encoding, before).tobytes() == compiled.render(encoding, after).tobytes()


def test_numba_compiles_once_whatever_kind_of_arrays_come() -> None:
    encoding = ENCODINGS[0]
    genomes = evolved(encoding)
    once = compiled.render(encoding, genomes), compiled.quantised(PIXELS, np.zeros((2, *PIXELS.shape), np.float32))
    known = [len(function.signatures) for function in (compiled._pictures, compiled.all_to_bytes)]
    wider = encoding.replace(encoding.empty(16), np.arange(16), genomes, np.arange(16))
    frozen = Graphs(*(array[:, : array.shape[1]].copy() for array in wider.arrays()))
    for array in frozen.arrays():
        array.flags.writeable = False
    sliced = Graphs(*(np.concatenate([array, array], axis=1)[:, : array.shape[1]] for array in wider.arrays()))
    for same in (frozen, sliced):
        assert compiled.render(encoding, same).tobytes() == once[0].tobytes()
    fixed = np.zeros((2, *PIXELS.shape), np.float32)
    fixed.flags.writeable = False
    assert compiled.quantised(PIXELS, fixed).tobytes() == once[1].tobytes()
    assert [len(f.signatures) for f in (compiled._pictures, compiled.all_to_bytes)] == known


@pytest.mark.parametrize("quantisation", ["round", "truncate"])
@pytest.mark.parametrize("colour", ["hsv", "rgb", "hls2015"])
@pytest.mark.parametrize("size", [(1, 1), (9, 7), (60, 30)])
def test_torch_and_numba_give_direct_genomes_the_same_colours(
    colour: str, quantisation: str, size: tuple[int, int]
) -> None:
    encoding = DirectEncoding(*size, colour, quantisation)
    rng = np.random.default_rng(3)
    levels = rng.integers(0, 511, (6, *encoding.shape)) / np.float32(510)  # where rounding and colours turn
    for genomes in (rng.random((6, *encoding.shape), dtype=np.float32), levels.astype(np.float32)):
        by_numba = render.render(encoding, genomes)
        assert by_numba.tobytes() == render._render(encoding, genomes, "cpu").tobytes()
        assert by_numba.shape == genomes.shape
        backwards = genomes[:, ::-1]
        assert np.array_equal(render.render(encoding, backwards), by_numba[:, ::-1])


# ---------------------------------------------------------------------------------------------- where numba cannot help


def test_without_a_place_to_keep_it_what_is_compiled_is_used_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    from numba.core import caching

    monkeypatch.setattr(caching.CompileResultCacheImpl, "_locator_classes", [])
    twice = jit.compiled(lambda x: x + x)
    assert twice(4) == 8 and twice.signatures


def test_own_activations_are_drawn_by_torch() -> None:
    evofool.register_activation("wobble", lambda p, xp: xp.abs(p) - 0.5)
    encoding = portable_encoding(8, 9, "grey", activations=("wobble", "sine"))
    genomes = variation.initial(encoding, 1, 0, 20)
    assert not compiled.supports(encoding)
    assert (genomes.activations == encoding.codes["wobble"]).any()
    assert render.render(encoding, genomes).tobytes() == by_torch(encoding, genomes).tobytes()


def test_without_numba_torch_draws_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    encoding = ENCODINGS[0]
    genomes = evolved(encoding)
    expected = compiled.render(encoding, genomes)
    monkeypatch.setattr(render, "has_compiler", lambda: False)
    monkeypatch.delattr(compiled, "render")
    assert render.render(encoding, genomes).tobytes() == expected.tobytes()


@pytest.mark.slow
def test_one_is_told_where_numba_would_help(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    class Listener(evofool.Observer):
        def on_warning(self, event: Warned) -> None:
            told.append(event.text)

    def run(name: str, *overrides: str) -> None:
        evofool.run(load_config(config, overrides), out=tmp_path / name, observers=[Listener()])

    run("a")
    monkeypatch.setattr(resolving, "has_compiler", lambda: False)
    run("b", "encoding.arithmetic=torch")
    assert not told
    run("c")
    assert len(told) == 1 and "pip install numba" in told[0]


# ---------------------------------------------------------------------------------------------------------------- runs


@pytest.mark.slow
def test_a_portable_run_is_verified_and_goes_on_as_it_began(config: Config, tmp_path: Path) -> None:
    settings = load_config(config, ["search.generations=12"])
    whole = evofool.run(settings, out=tmp_path / "whole")
    assert evofool.verify(whole.path)["bit_for_bit"] == 10
    evofool.run(load_config(settings, ["search.generations=5"]), out=tmp_path / "pieces")
    with pytest.raises(IncompatibleRun, match=r"encoding\.arithmetic"):
        evofool.resume(tmp_path / "pieces", ["encoding.arithmetic=torch"], allow_numerics_change=True)
    assert evofool.resume(tmp_path / "pieces", ["search.generations=12"]).archive_hash == whole.archive_hash
