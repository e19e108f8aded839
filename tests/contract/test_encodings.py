"""What every kind of genomes promises: children by address, batches, bytes and JSON that go round, pictures that stand
alone, and runs that resume and prove themselves.

A new row of ENCODINGS is tried here without a word more.
"""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import evofool
from evofool.base.registry import ENCODINGS
from evofool.config import Config, load_config
from evofool.config.sections import EncodingConfig, VariationConfig
from evofool.encoding import exchange, variation
from evofool.encoding.contract import Encoding
from evofool.encoding.kinds import draw, make_encoding, redraw
from evofool.encoding.names import operator_names
from evofool.errors import InvalidGenome

BUSY = VariationConfig(crossover_rate=0.5, mutation_rate=0.3, add_connection=0.9, split_connection=0.9)
SIZE = (9, 7)
ROWS = 12


@pytest.fixture(params=[(kind, channels) for kind in ENCODINGS for channels in (1, 3)], ids="{0[0]}-{0[1]}".format)
def encoding(request: pytest.FixtureRequest) -> Encoding:
    kind, channels = request.param
    return make_encoding(EncodingConfig(kind=kind), SIZE, channels)


def evolved(encoding: Encoding, seed: int = 1, rows: int = ROWS) -> Any:
    genomes = variation.initial(encoding, seed, 0, rows)
    for generation in range(1, 6):
        genomes, _ = variation.mutate(encoding, BUSY, seed, generation, genomes)
    return genomes


def blobs(encoding: Encoding, genomes: Any) -> list[bytes]:
    return [encoding.to_bytes(genomes, row) for row in range(len(genomes))]


def test_an_encoding_is_what_the_configuration_asks_for(encoding: Encoding) -> None:
    assert encoding.kind in ENCODINGS and (encoding.height, encoding.width) == SIZE
    assert encoding.channels == (1 if encoding.colour == "grey" else 3)
    assert encoding == make_encoding(EncodingConfig(kind=encoding.kind), SIZE, encoding.channels)
    assert encoding != make_encoding(EncodingConfig(kind=encoding.kind), (8, 8), encoding.channels)


def test_random_genomes_are_a_function_of_their_address(encoding: Encoding) -> None:
    genomes = blobs(encoding, variation.initial(encoding, 1, 0, ROWS))
    assert len(set(genomes)) == ROWS
    assert genomes[:5] == blobs(encoding, variation.initial(encoding, 1, 0, 5)), "a slot does not know of those behind"
    for seed, generation in ((2, 0), (1, 1)):
        assert not set(genomes) & set(blobs(encoding, variation.initial(encoding, seed, generation, ROWS)))


def test_children_are_a_function_of_generation_and_parents(encoding: Encoding) -> None:
    first, second = evolved(encoding, 1), evolved(encoding, 2)
    before = blobs(encoding, first), blobs(encoding, second)
    crossed, are_crossed = variation.mate(encoding, BUSY, 3, 9, first, second)
    children, operators = variation.mutate(encoding, BUSY, 3, 9, first)
    assert (blobs(encoding, first), blobs(encoding, second)) == before, "parents stay as they are"
    assert 0 < are_crossed.sum() < ROWS and operators.dtype == np.uint32 and operators.any()
    for row in range(ROWS):
        if not are_crossed[row]:
            assert encoding.to_bytes(crossed, row) == before[0][row]
        if encoding.to_bytes(children, row) != before[0][row]:
            assert operator_names(int(operators[row])), "whoever differs was changed by an operator"
    np.random.seed(0)  # noqa: NPY002 - whoever drew from a global generator would give other children now
    again, _ = variation.mate(encoding, BUSY, 3, 9, first, second)
    assert blobs(encoding, again) == blobs(encoding, crossed)
    overwritten, _ = variation.mutate(encoding, BUSY, 3, 9, copy.deepcopy(first), overwrite=True)
    assert blobs(encoding, overwritten) == blobs(encoding, children)
    for seed, generation in ((4, 9), (3, 10)):
        other, _ = variation.mutate(encoding, BUSY, seed, generation, first)
        assert blobs(encoding, other) != blobs(encoding, children)


def test_batches_are_taken_apart_and_put_together(encoding: Encoding) -> None:
    genomes, other = evolved(encoding, 1), evolved(encoding, 2, rows=4)
    expected = blobs(encoding, genomes)
    rows = np.array([7, 7, 0])
    assert blobs(encoding, encoding.take(genomes, rows)) == [expected[row] for row in rows]
    assert blobs(encoding, encoding.take(genomes, slice(2, 5))) == expected[2:5]
    mixed = encoding.replace(genomes, np.array([1, 5]), other, np.array([3, 0]))
    expected[1], expected[5] = encoding.to_bytes(other, 3), encoding.to_bytes(other, 0)
    assert blobs(encoding, mixed) == expected
    assert len(encoding.empty(3)) == 3 and genomes.nbytes > 0
    assert all(n >= 0 for row in range(ROWS) for n in encoding.size(genomes, row))


def test_bytes_and_json_go_round(encoding: Encoding) -> None:
    genomes = evolved(encoding)
    expected = blobs(encoding, genomes)
    assert blobs(encoding, encoding.from_bytes(expected)) == expected
    for row in range(ROWS):
        assert isinstance(encoding.genes(genomes, row), list)
        found, batch = exchange.from_json(json.dumps(encoding.to_json(genomes, row)))
        assert found.to_bytes(batch, 0) == expected[row]
        assert (found.kind, found.height, found.width) == (encoding.kind, *SIZE)


def test_damaged_bytes_and_json_are_a_genome_or_refused_and_nothing_else(encoding: Encoding) -> None:
    genomes, random = evolved(encoding, rows=1), np.random.default_rng(0)
    blob, text = encoding.to_bytes(genomes, 0), json.dumps(encoding.to_json(genomes, 0))
    for _ in range(200):
        place = int(random.integers(len(blob)))
        for damaged in (blob[:place], blob[:place] + random.bytes(1) + blob[place + 1 :], random.bytes(len(blob))):
            try:
                assert blobs(encoding, encoding.from_bytes([damaged])) == [damaged]
            except InvalidGenome as error:
                assert str(error).startswith("a genome") and "\n" not in str(error)
        cut = int(random.integers(len(text)))
        with pytest.raises(InvalidGenome):
            exchange.from_json(text[:cut])


def test_a_picture_is_that_of_its_genome_alone(encoding: Encoding) -> None:
    genomes = evolved(encoding)
    images = draw(encoding, genomes)
    assert images.shape == (ROWS, *SIZE, encoding.channels) and images.dtype == np.uint8
    order = np.random.default_rng(0).permutation(ROWS)
    assert np.array_equal(draw(encoding, encoding.take(genomes, order)), images[order])
    for row in range(ROWS):
        assert np.array_equal(draw(encoding, encoding.take(genomes, np.array([row])))[0], images[row])
        again = redraw(encoding, genomes, row)
        assert again.shape == images[row].shape
        assert (np.abs(again.astype(int) - images[row]) <= 1).mean() > 0.98
    larger = redraw(encoding, genomes, 0, (40, 21))
    assert larger.shape == (40, 21, encoding.channels) and larger.dtype == np.uint8


@pytest.mark.slow
@pytest.mark.parametrize("kind", ENCODINGS)
def test_genomes_are_read_and_drawn_at_any_size_without_torch(kind: str) -> None:
    encoding = make_encoding(EncodingConfig(kind=kind), SIZE, 1)
    text = json.dumps(encoding.to_json(evolved(encoding, rows=1), 0))
    code = "import sys; sys.modules.update(torch=None, ray=None)\n"
    code += "import evofool; print(evofool.render(sys.stdin.read(), 30).shape)"
    result = subprocess.run([sys.executable, "-c", code], input=text, capture_output=True, text=True)
    assert result.stdout.strip() == "(30, 30, 1)", result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("kind", ENCODINGS)
def test_a_run_resumes_and_proves_itself(kind: str, config: Config, tmp_path: Path) -> None:
    settings = load_config({**config.model_dump(), "encoding": {"kind": kind}})
    whole = evofool.run(settings, ["search.generations=4", "variation.crossover_rate=0.5"], out=tmp_path / "whole")
    parts = evofool.run(settings, ["search.generations=2", "variation.crossover_rate=0.5"], out=tmp_path / "parts")
    parts = evofool.resume(tmp_path / "parts", ["search.generations=4"])
    assert parts.archive_hash == whole.archive_hash
    evofool.verify(tmp_path / "parts", replay=4)
    assert whole.elites()["encoding"].eq(kind).all() and whole.image("3", size=64).shape == (64, 64, 1)
