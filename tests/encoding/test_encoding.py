"""Encodings: ids, bytes and JSON and what they refuse, `locate` and `compile` against slow oracles, GenomeTable."""

from __future__ import annotations

import base64
import copy
import functools
import itertools
import json
import struct
import time
import tracemalloc
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from handmade import genomes_by_hand, graph
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from evofool.base import rng
from evofool.config.sections import EncodingConfig, VariationConfig
from evofool.encoding import exchange, variation
from evofool.encoding.contract import Encoding, genome_sha256
from evofool.encoding.cppn import genome as cppn
from evofool.encoding.cppn import programs
from evofool.encoding.cppn.genome import CppnEncoding
from evofool.encoding.cppn.graphs import (
    FIRST_HIDDEN,
    PAD,
    Graphs,
    canonical,
    connection_ids,
    flat_edges,
    locate,
    node_ids,
)
from evofool.encoding.direct.genome import DirectEncoding
from evofool.encoding.drawing import reference
from evofool.encoding.kinds import make_encoding
from evofool.encoding.table import GenomeTable
from evofool.errors import ConfigError, InvalidGenome

GREY = CppnEncoding(28, 28, "grey")
HSV = CppnEncoding(12, 20, "hsv")
PIXELS = DirectEncoding(5, 4, "rgb")
BUSY = VariationConfig(add_connection=0.9, split_connection=0.9, delete_connection=0.1, rewire_connection=0.3)
HEADER = struct.Struct("<4sBBII")

Connection = tuple[int, int, float]


@functools.cache
def _evolved(encoding: Encoding, seed: int, rows: int, generations: int) -> Any:
    genomes = variation.initial(encoding, seed, 0, rows)
    for generation in range(generations):
        genomes, _ = variation.mutate(encoding, BUSY, seed, generation, genomes)
    return genomes


def evolved(encoding: Encoding, seed: int = 1, rows: int = 20, generations: int = 25) -> Any:
    """A batch of grown genomes; a copy, since `replace` works in place."""
    return copy.deepcopy(_evolved(encoding, seed, rows, generations))


def blob(
    nodes: list[int],
    connections: list[tuple[int, int, int, float]],
    activations: list[int] | None = None,
    channels: int = 1,
) -> bytes:
    """Canonical bytes written field by field, so that any rule can be broken."""
    ids, sources, destinations, weights = ([c[i] for c in connections] for i in range(4))
    return b"".join(
        [
            HEADER.pack(b"cppn", 1, channels, len(nodes), len(connections)),
            np.array(nodes, dtype="<i8").tobytes(),
            bytes(activations or [1] * len(nodes)),
            np.array(ids, dtype="<i8").tobytes(),
            np.array(sources, dtype="<i8").tobytes(),
            np.array(destinations, dtype="<i8").tobytes(),
            np.array(weights, dtype="<f4").tobytes(),
        ]
    )


def assert_refused(encoding: Encoding, data: bytes, message: str) -> None:
    """InvalidGenome, exit code 4, one sentence that matches."""
    with pytest.raises(InvalidGenome, match=message) as caught:
        encoding.from_bytes([data])
    assert caught.value.exit_code == 4
    sentence = str(caught.value)
    assert sentence.startswith("a genome")
    assert sentence.endswith(".")
    assert "\n" not in sentence


# ------------------------------------------------------------------------------------------------------------ ids


def slow_id(tag: int, source: int, destination: int, ordinal: int) -> int:
    """A gene's id, restated in plain integers."""
    mask, state = 2**64 - 1, 0
    for part in (tag, source, destination, ordinal):
        state = (state + part + 0x9E3779B97F4A7C15) & mask
        state = ((state ^ state >> 30) * 0xBF58476D1CE4E5B9) & mask
        state = ((state ^ state >> 27) * 0x94D049BB133111EB) & mask
        state ^= state >> 31
    return state >> 2 | 2**62


def test_ids_are_the_golden_ones() -> None:
    # Archives hold these ids, so they may never change.
    found = [int(node_ids(0, 4, 0)), int(node_ids(3, 4, 1)), int(connection_ids(0, 4, 0))]
    found.append(int(connection_ids(found[0], 4, 0)))
    assert [f"{value:016x}" for value in found] == [
        "61f6ce40c4eabf38",
        "4cfef62d42bd836a",
        "483501d1ae21071a",
        "439f8c6da6bcffcd",
    ]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, PAD), st.integers(0, PAD), st.integers(0, 1000))
def test_ids_equal_a_slow_restatement_and_lie_above_first_hidden(source: int, destination: int, ordinal: int) -> None:
    for tag, function in ((1, node_ids), (2, connection_ids)):
        found = int(function(source, destination, ordinal))
        assert found == slow_id(tag, source, destination, ordinal)
        assert FIRST_HIDDEN <= found < PAD


def test_ids_of_arrays_are_those_of_their_elements() -> None:
    sources = np.array([[0, 1], [FIRST_HIDDEN + 9, 3]])
    found = connection_ids(sources, np.array([4, 5]), 2)
    assert found.tolist() == [[slow_id(2, int(sources[i, j]), 4 + j, 2) for j in range(2)] for i in range(2)]


ENDS = np.meshgrid(np.arange(64), np.arange(64), np.arange(4), indexing="ij")


@pytest.mark.parametrize("function", [node_ids, connection_ids])
def test_no_two_structures_of_one_kind_have_the_same_id(function: Any) -> None:
    assert len(np.unique(function(*ENDS))) == 64 * 64 * 4


def test_no_node_has_the_id_of_a_connection() -> None:
    assert not np.intersect1d(node_ids(*ENDS), connection_ids(*ENDS)).size


# ----------------------------------------------------------------------------------------------- canonical, locate


def test_canonical_sorts_genes_drops_pad_and_trims() -> None:
    genes = Graphs(
        np.array([[9, PAD, 4], [PAD, PAD, 4]]),
        np.array([[2, 7, 1], [7, 7, 3]], dtype=np.uint8),
        np.array([[PAD, 30, 20, 10], [PAD, PAD, 8, PAD]]),
        np.array([[99, 0, 1, 2], [99, 99, 3, 99]]),
        np.array([[99, 4, 9, 9], [99, 99, 4, 99]]),
        np.array([[99, 0.5, 1.5, 2.5], [99, 99, 3.5, 99]], dtype=np.float32),
    )
    found = canonical(genes)
    assert found.node_ids.tolist() == [[4, 9], [4, PAD]]
    assert found.activations.tolist() == [[1, 2], [3, 0]]
    assert found.connection_ids.tolist() == [[10, 20, 30], [8, PAD, PAD]]
    assert found.sources.tolist() == [[2, 1, 0], [3, 0, 0]]
    assert found.destinations.tolist() == [[9, 9, 4], [4, 0, 0]]
    assert found.weights.tolist() == [[2.5, 1.5, 0.5], [3.5, 0, 0]]
    assert [array.dtype for array in found.arrays()] == ["i8", "u1", "i8", "i8", "i8", "f4"]


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.sets(st.integers(0, 40), max_size=20), min_size=1, max_size=4), st.integers(0, 9), st.randoms())
def test_locate_equals_a_slow_search(rows: list[set[int]], wanted: int, random: Any) -> None:
    width = max(map(len, rows))
    table = [sorted(row) + [PAD] * (width - len(row)) for row in rows]
    ids = [[random.choice([*range(42), -1, PAD]) for _ in range(wanted)] for _ in rows]
    expected = [[row.index(i) if i in row and i != PAD else -1 for i in sought] for row, sought in zip(table, ids)]
    found = locate(np.array(table, dtype=np.int64), np.array(ids, dtype=np.int64).reshape(len(rows), wanted))
    assert found.tolist() == expected


@pytest.mark.parametrize("width", [*range(10), 31, 32, 33])
def test_locate_finds_every_column_and_nothing_between(width: int) -> None:
    table = np.arange(width, dtype=np.int64)[None] * 2 + FIRST_HIDDEN
    assert locate(table, table).tolist() == [list(range(width))]
    assert locate(table, table + 1).tolist() == [[-1] * width]
    assert locate(table, np.array([[FIRST_HIDDEN - 1, PAD]])).tolist() == [[-1, -1]]


def test_flat_edges_index_the_table_of_inputs_and_nodes() -> None:
    both = HSV.from_bytes([HSV.to_bytes(evolved(HSV), row) for row in (3, 11)])
    stride = 4 + both.node_ids.shape[1]
    names = [[0, 1, 2, 3, *row] for row in both.node_ids.tolist()]
    sources, destinations = flat_edges(both)
    found = [
        (d // stride, names[s // stride][s % stride], names[d // stride][d % stride])
        for s, d in zip(sources.tolist(), destinations.tolist())
    ]
    genes = [(row, gene) for row in range(2) for gene in HSV.genes(both, row) if gene["gene"] == "connection"]
    assert found == [(row, gene["source"], gene["destination"]) for row, gene in genes]
    assert np.array_equal(sources // stride, destinations // stride)


# -------------------------------------------------------------------------------------------------------- compile


def slow_compile(encoding: CppnEncoding, graphs: Graphs) -> dict[str, Any]:
    """A Program, restated gene by gene."""
    stages: list[list[tuple[int, int, int, int]]] = [[], []]  # (level, activation, genome, node)
    arrivals, needs, crossing = {}, {}, set()
    for row in range(len(graphs)):
        genes = encoding.genes(graphs, row)
        activation = {g["id"]: g["activation"] for g in genes if g["gene"] == "node"}
        wires: dict[int, list[tuple[float, int]]] = defaultdict(list)
        for gene in genes:
            if gene["gene"] == "connection":
                wires[gene["destination"]].append((gene["weight"], gene["source"]))

        def origin(node: int, wires: Any = wires, activation: dict[int, str] = activation) -> int:
            """The node whose value a fresh split, or a chain of them, hands on."""
            if node >= FIRST_HIDDEN and activation[node] == "identity" and [w for w, _ in wires[node]] == [1.0]:
                return origin(wires[node][0][1])
            return node

        arriving = {
            node: sorted((weight, origin(source)) for weight, source in wires[node]) or [(0.0, 3)]
            for node in activation
        }
        level = dict.fromkeys(range(4), 0)
        needs.update({(row, 0): "x", (row, 1): "y", (row, 2): "d", (row, 3): ""})

        def visit(
            node: int, row: int = row, arriving: Any = arriving, activation: Any = activation, level: Any = level
        ) -> None:
            sources = [source for _, source in arriving[node]]
            for source in sources:
                if source not in level:
                    visit(source)
            needs[row, node] = "".join(sorted({letter for source in sources for letter in needs[row, source]}))
            stage = len(needs[row, node]) > 1
            same = [level[source] for source in sources if (len(needs[row, source]) > 1) == stage]
            level[node] = 1 + max(same, default=0)
            arrivals[row, node] = arriving[node]
            stages[stage].append((level[node], cppn.ACTIVATIONS.index(activation[node]), row, node))
            if stage:
                crossing.update((row, source) for source in sources if source >= 4 and len(needs[row, source]) < 2)

        for output in range(4, 4 + encoding.channels):
            if output not in level:
                visit(output)
            if len(needs[row, output]) < 2:
                crossing.add((row, output))

    def stage_of(nodes: list[tuple[int, int, int, int]], place: dict[tuple[int, int], int], given: int) -> Any:
        place |= {(row, node): given + i for i, (_, _, row, node) in enumerate(nodes)}
        depth = max((entry[0] for entry in nodes), default=0)
        return {
            "levels": [sum(entry[0] < level for entry in nodes) for level in range(1, depth + 2)],
            "activations": [entry[1] for entry in nodes],
            "arrivals": [
                [(place[row, source], weight) for weight, source in arrivals[row, node]] for _, _, row, node in nodes
            ],
        }

    place = {(row, i): i for row in range(len(graphs)) for i in range(4)}
    first = stage_of(sorted(stages[0]), place, 4)
    # In the order of the genomes' nodes, which is that of their ids.
    groups = [sorted(one for one in crossing if needs[one] in letters) for letters in (("", "x"), ("y",), ("d",))]
    handed_on = [[place[one] for one in group] for group in groups]
    leaving = [one for group in groups for one in group]
    place |= {one: 4 + i for i, one in enumerate(leaving)}
    second = stage_of(sorted(stages[1]), place, 4 + len(leaving))
    outputs = [[place[row, 4 + channel] for channel in range(encoding.channels)] for row in range(len(graphs))]
    return {"first": first, "handed on": handed_on, "second": second, "outputs": outputs}


def stage_as_lists(stage: programs.Stage) -> dict[str, Any]:
    sizes = stage.counts.sum(axis=1)
    arrivals = [[pair] for pair in zip(stage.sources.tolist(), stage.weights.tolist())]
    begin = np.repeat(np.cumsum(sizes) - sizes, stage.other_counts)
    for node, *pair in zip((begin + stage.into).tolist(), stage.other_sources.tolist(), stage.other_weights.tolist()):
        arrivals[node].append(tuple(pair))
    return {
        "levels": [0, *np.cumsum(sizes).tolist()],
        "activations": [code for row in stage.counts for code, n in zip(stage.activations, row) for _ in range(n)],
        "arrivals": arrivals,
    }


def as_lists(program: programs.Program) -> dict[str, Any]:
    assert program.first.inputs == 4
    assert program.second.inputs == 4 + sum(map(len, program.handed_on))
    return {
        "first": stage_as_lists(program.first),
        "handed on": [rows.tolist() for rows in program.handed_on],
        "second": stage_as_lists(program.second),
        "outputs": program.outputs.tolist(),
    }


NOTHING: dict[str, Any] = {"levels": [0], "activations": [], "arrivals": []}


@pytest.mark.parametrize("encoding", [GREY, HSV], ids=["grey", "hsv"])
@pytest.mark.parametrize("rows", [1, 20])
def test_compile_equals_a_slow_topological_oracle(encoding: CppnEncoding, rows: int) -> None:
    for seed in range(2):
        graphs = evolved(encoding, seed, rows)
        program = programs.compile(graphs)
        assert program.outputs.shape == (rows, encoding.channels)
        assert as_lists(program) == slow_compile(encoding, graphs)


def test_compile_drops_what_reaches_no_output() -> None:
    a, b, c = (FIRST_HIDDEN + i for i in range(3))
    genome = graph(
        {4: "sine", a: "linear", b: "gaussian", c: "identity"},
        [(0, a, 2.0), (a, 4, 3.0), (a, b, 4.0), (b, c, 5.0), (3, c, 6.0)],
    )
    linear, sine = (cppn.ACTIVATIONS.index(name) for name in ("linear", "sine"))
    assert as_lists(programs.compile(genome)) == {
        "first": {"levels": [0, 1, 2], "activations": [linear, sine], "arrivals": [[(0, 2.0)], [(4, 3.0)]]},
        "handed on": [[5], [], []],
        "second": NOTHING,
        "outputs": [[4]],
    }


def test_compile_computes_for_every_pixel_only_what_needs_two_coordinates() -> None:
    a, b, c, d = (FIRST_HIDDEN + i for i in range(4))
    wires = [(0, a, 1.5), (3, a, 2.0), (a, b, 3.0), (1, c, 4.0), (b, d, 5.0), (c, d, 6.0)]
    wires += [(d, 4, 7.0), (c, 5, 8.0), (2, 6, 9.0)]
    found = as_lists(programs.compile(graph(dict.fromkeys((4, 5, 6, a, b, c, d), "sine"), wires)))
    # Of x: a, and b behind it; of y: c, and the output 5; of d: the output 6. Of both x and y: d, and the output 4.
    assert found["first"]["arrivals"] == [
        [(2, 9.0)], [(0, 1.5), (3, 2.0)], [(1, 4.0)],
        [(6, 8.0)], [(5, 3.0)],
    ]  # fmt: skip
    assert found["handed on"] == [[8], [7, 6], [4]]  # b; the output 5 and c; the output 6
    assert found["second"]["arrivals"] == [[(4, 5.0), (6, 6.0)], [(8, 7.0)]]
    assert found["outputs"] == [[9, 5, 7]]


def test_compile_takes_connections_in_ascending_order_of_weight_and_then_of_source() -> None:
    genome = graph({4: "sine"}, [(0, 4, 7.0), (1, 4, 7.0), (2, 4, 7.0), (3, 4, -9.0)])
    assert as_lists(programs.compile(genome))["second"]["arrivals"] == [[(3, -9.0), (0, 7.0), (1, 7.0), (2, 7.0)]]


def test_compile_bypasses_nodes_that_only_hand_a_value_on_and_no_others() -> None:
    a, b, c, d, e, f = (FIRST_HIDDEN + i for i in range(6))
    identities = dict.fromkeys((a, b, c, d, e), "identity")
    wires = [(2, a, 1.0), (a, b, 1.0)]  # a chain of two that hand d on
    wires += [(1, c, 2.0)]  # not of weight 1
    wires += [(0, d, 1.0), (1, d, 1.0)]  # two connections
    wires += [(0, f, 1.0)]  # no identity; and nothing arrives at e
    wires += [(node, 4, float(i)) for i, node in enumerate((b, c, d, e, f))] + [(3, 5, 1.0), (2, 6, 1.0)]
    genome = graph({4: "sine", 5: "identity", 6: "sine", f: "sine"} | identities, wires)
    found = as_lists(programs.compile(genome))
    assert found == slow_compile(HSV, genome)
    assert found["first"]["arrivals"] == [[(3, 1.0)], [(1, 2.0)], [(3, 0.0)], [(2, 1.0)], [(0, 1.0)]]  # 5, c, e, 6, f
    assert found["second"]["arrivals"] == [[(0, 1.0), (1, 1.0)], [(2, 0.0), (7, 1.0), (9, 2.0), (5, 3.0), (6, 4.0)]]
    assert found["outputs"] == [[10, 4, 8]]


def test_compile_of_a_genome_without_connections_keeps_its_outputs() -> None:
    program = programs.compile(graph({4: "sine", 5: "gaussian", 6: "linear"}, []))
    zero_from_the_bias = [(3, 0.0)]
    assert as_lists(program) == {
        "first": {"levels": [0, 3], "activations": [1, 3, 4], "arrivals": [zero_from_the_bias] * 3},
        "handed on": [[4, 5, 6], [], []],
        "second": NOTHING,
        "outputs": [[4, 5, 6]],
    }


@pytest.mark.parametrize("kinds", [("sine", "sine"), ("identity", "sine"), ("identity", "identity")], ids="-".join)
@pytest.mark.parametrize("entered", [True, False], ids=["entered", "closed"])
def test_compile_refuses_a_cycle(kinds: tuple[str, str], entered: bool) -> None:
    a, b = FIRST_HIDDEN, FIRST_HIDDEN + 1
    wires = [(a, b, 1.0), (b, a, 1.0), (b, 4, 1.0), *([(0, a, 1.0)] if entered else [])]
    with pytest.raises(InvalidGenome, match="cycle"):
        programs.compile(graph({4: "sine", a: kinds[0], b: kinds[1]}, wires))


@pytest.mark.parametrize("length", [1, 2, 3, 7, 8, 9, 200])
def test_compile_of_a_chain_puts_every_node_on_its_own_level_but_bypasses_fresh_splits(length: int) -> None:
    chain = [0, *(FIRST_HIDDEN + i for i in range(length)), 4]
    wires = [(a, b, 1.0) for a, b in itertools.pairwise(chain)]
    whole = as_lists(programs.compile(graph(dict.fromkeys(chain[1:], "sine"), wires)))
    assert whole["first"]["levels"] == list(range(length + 2))
    bypassed = programs.compile(graph({4: "sine"} | dict.fromkeys(chain[1:-1], "identity"), wires))
    found = as_lists(bypassed)["first"]
    assert found == {"levels": [0, 1], "activations": [1], "arrivals": [[(0, 1.0)]]}


# ---------------------------------------------------------------------------------------------------------- bytes


def slow_bytes(encoding: CppnEncoding, genes: list[dict[str, Any]]) -> bytes:
    nodes = [gene for gene in genes if gene["gene"] == "node"]
    connections = [gene for gene in genes if gene["gene"] == "connection"]
    return b"".join(
        [
            struct.pack("<4sBBII", b"cppn", 1, encoding.channels, len(nodes), len(connections)),
            *(struct.pack("<q", gene["id"]) for gene in nodes),
            *(struct.pack("<B", cppn.ACTIVATIONS.index(gene["activation"])) for gene in nodes),
            *(struct.pack("<q", gene["id"]) for gene in connections),
            *(struct.pack("<q", gene["source"]) for gene in connections),
            *(struct.pack("<q", gene["destination"]) for gene in connections),
            *(struct.pack("<f", gene["weight"]) for gene in connections),
        ]
    )


def test_bytes_of_a_genome_are_the_golden_ones() -> None:
    # Stored genomes have this layout; a change of it needs another version byte.
    hidden = int(node_ids(0, 4, 0))
    genome = graph({4: "gaussian", hidden: "sine"}, [(0, hidden, 1.0), (hidden, 4, -2.5)])
    assert GREY.to_bytes(genome, 0).hex() == (
        "6370706e01010200000002000000"
        "040000000000000038bfeac440cef661"
        "0301"
        "cdffbca66d8c9f430678e8b289335663"
        "38bfeac440cef6610000000000000000"
        "040000000000000038bfeac440cef661"
        "000020c00000803f"
    )
    direct = np.array([[[[0.0], [0.5]]]], dtype=np.float32)
    golden = "7069786c01010100000002000000" + "000000000000003f"
    assert DirectEncoding(1, 2, "grey").to_bytes(direct, 0).hex() == golden


@pytest.mark.parametrize("encoding", [GREY, HSV], ids=["grey", "hsv"])
def test_to_bytes_equals_a_slow_restatement(encoding: CppnEncoding) -> None:
    graphs = evolved(encoding)
    for row in range(len(graphs)):
        assert encoding.to_bytes(graphs, row) == slow_bytes(encoding, encoding.genes(graphs, row))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(genomes_by_hand([GREY, HSV]))
def test_cppn_bytes_go_round(case: tuple[CppnEncoding, Graphs]) -> None:
    encoding, batch = case
    blobs = [encoding.to_bytes(batch, row) for row in range(len(batch))]
    again = encoding.from_bytes(blobs)
    for name, old, new in zip(Graphs.__dataclass_fields__, batch.arrays(), again.arrays()):
        assert new.dtype == old.dtype
        assert new.tobytes() == old.tobytes(), name
    assert [encoding.to_bytes(again, row) for row in range(len(batch))] == blobs
    assert as_lists(programs.compile(batch)) == slow_compile(encoding, batch)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(st.data())
def test_direct_bytes_go_round(data: st.DataObject) -> None:
    colour = data.draw(st.sampled_from(["grey", "hsv", "rgb"]))
    encoding = DirectEncoding(data.draw(st.integers(1, 4)), data.draw(st.integers(1, 4)), colour)
    count = int(np.prod(encoding.shape))
    rows = data.draw(st.lists(st.lists(st.floats(0, 1, width=32), min_size=count, max_size=count), max_size=3))
    batch = np.array(rows, dtype=np.float32).reshape(len(rows), *encoding.shape)
    blobs = [encoding.to_bytes(batch, row) for row in range(len(batch))]
    assert [one[14:] for one in blobs] == [struct.pack(f"<{count}f", *row) for row in rows]
    again = encoding.from_bytes(blobs)
    assert again.dtype == np.float32
    assert again.shape == batch.shape
    assert again.tobytes() == batch.tobytes()


@pytest.mark.parametrize("encoding", [GREY, HSV, PIXELS], ids=["grey", "hsv", "pixels"])
def test_from_bytes_of_no_genomes_is_an_empty_batch(encoding: Encoding) -> None:
    assert len(encoding.from_bytes([])) == 0


def test_bytes_do_not_depend_on_the_padding_of_the_batch() -> None:
    graphs = evolved(HSV)
    sizes = {HSV.size(graphs, row) for row in range(len(graphs))}
    assert len(sizes) > 3
    for row in range(len(graphs)):
        alone = HSV.take(graphs, [row])
        assert alone.node_ids.shape[1] == HSV.size(graphs, row)[0] - 4
        assert alone.connection_ids.shape[1] == HSV.size(graphs, row)[1]
        assert HSV.to_bytes(alone, 0) == HSV.to_bytes(graphs, row)
        assert genome_sha256(HSV, alone, 0) == genome_sha256(HSV, graphs, row)


def test_genome_sha256_differs_between_genomes() -> None:
    graphs = evolved(HSV)
    assert len({genome_sha256(HSV, graphs, row) for row in range(len(graphs))}) == len(graphs)


# ---------------------------------------------------------------------------------------------------- refused bytes

H = int(node_ids(0, 4, 0))
K = int(node_ids(1, 4, 0))
C = FIRST_HIDDEN  # ids of connections, where only their order matters


def wired(connections: list[Connection], hidden: str = "sine") -> bytes:
    """Bytes of a genome of the nodes 4, H and K."""
    return GREY.to_bytes(graph({4: "sine", H: hidden, K: hidden}, connections), 0)


VALID = wired([(0, H, 1.0), (H, K, 1.0), (K, 4, 1.0)])

REFUSED: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "0 bytes is too short"),
    "half a header": (VALID[:10], "10 bytes is too short"),
    "cut off": (VALID[:-1], "does not fit"),
    "one byte too many": (VALID + b"\0", "does not fit"),
    "header only": (VALID[:14], "does not fit"),
    "other magic": (b"cppm" + VALID[4:], "does not begin as a CPPN"),
    "a direct genome": (b"pixl" + VALID[4:], "does not begin as a CPPN"),
    "version 0": (VALID[:4] + b"\0" + VALID[5:], "does not begin as a CPPN of version 1"),
    "version 2": (VALID[:4] + b"\2" + VALID[5:], "does not begin as a CPPN of version 1"),
    "three channels": (blob([4, 5, 6], [], channels=3), "has 3 outputs where the encoding has 1"),
    "a million nodes": (HEADER.pack(b"cppn", 1, 1, 1_000_000, 3), "1000000 nodes .* limits are 4096"),
    "4097 nodes": (blob([4, *(C + i for i in range(4096))], []), "4097 nodes"),
    "65537 connections": (blob([4], [(C + i, 0, 4, 0.0) for i in range(65537)]), "65537 connections"),
    "2**32 - 1 of both": (HEADER.pack(b"cppn", 1, 1, 2**32 - 1, 2**32 - 1), "4294967295 connections"),
    "NaN": (blob([4], [(C, 0, 4, float("nan"))]), "weight that is not finite"),
    "inf": (blob([4], [(C, 0, 4, float("inf"))]), "weight that is not finite"),
    "-inf": (blob([4], [(C, 0, 4, float("-inf"))]), "weight that is not finite"),
    "huge weight": (blob([4], [(C, 0, 4, -1.1e6)]), "beyond 1e6"),
    "self loop": (wired([(H, H, 1.0)]), "cycle"),
    "cycle": (wired([(H, K, 1.0), (K, H, 1.0), (K, 4, 1.0)]), "cycle"),
    "cycle apart": (wired([(H, K, 1.0), (K, H, 1.0), (0, 4, 1.0)]), "cycle"),
    "cycle of fresh splits": (wired([(H, K, 1.0), (K, H, 1.0), (K, 4, 1.0)], "identity"), "cycle"),
    "cycle through the output": (wired([(H, 4, 1.0), (4, H, 1.0)]), "cycle"),
    "node twice": (blob([4, H, H], []), "node ids are not unique and ascending"),
    "output twice": (blob([4, 4], []), "exactly the outputs"),
    "nodes out of order": (blob([4, *sorted([H, K], reverse=True)], []), "node ids are not unique and ascending"),
    "output behind hidden": (blob([H, 4], []), "node ids are not unique and ascending"),
    "PAD for a node": (blob([4, PAD], []), "node ids are not unique and ascending"),
    "connection twice": (blob([4], [(C, 0, 4, 1.0), (C, 1, 4, 1.0)]), "connection ids are not unique"),
    "connections out of order": (blob([4], [(C + 1, 0, 4, 1.0), (C, 1, 4, 1.0)]), "connection ids are not unique"),
    "PAD for a connection": (blob([4], [(PAD, 0, 4, 1.0)]), "connection ids are not unique"),
    "unknown activation": (blob([4, H], [], activations=[1, 5]), r"unknown activation \(code 5\)"),
    "activation 255": (blob([4, H], [], activations=[255, 1]), r"unknown activation \(code 255\)"),
    "no node at all": (blob([], []), "exactly the outputs"),
    "no output": (blob([H], []), "exactly the outputs"),
    "one output too many": (blob([4, 5], []), "exactly the outputs"),
    "an input for a node": (blob([3, 4], []), "exactly the outputs"),
    "a negative node": (blob([-1, 4], []), "exactly the outputs"),
    "from nowhere": (blob([4], [(C, H, 4, 1.0)]), "not there"),
    "to nowhere": (blob([4], [(C, 0, H, 1.0)]), "not there"),
    "to an input": (blob([4], [(C, 0, 3, 1.0)]), "not there"),
    "from a negative node": (blob([4], [(C, -1, 4, 1.0)]), "not there"),
    "from PAD": (blob([4, H], [(C, PAD, 4, 1.0)]), "not there"),
    "to PAD": (blob([4, H], [(C, 0, PAD, 1.0)]), "not there"),
}


def test_the_genome_that_the_refused_ones_differ_from_is_valid() -> None:
    assert GREY.to_bytes(GREY.from_bytes([VALID]), 0) == VALID


@pytest.mark.parametrize("name", REFUSED)
def test_from_bytes_refuses(name: str) -> None:
    data, message = REFUSED[name]
    assert_refused(GREY, data, message)


def test_from_bytes_refuses_a_missing_output_of_three() -> None:
    assert_refused(HSV, blob([4, 6], [], channels=3), "exactly the outputs")
    assert_refused(HSV, VALID, "has 1 outputs where the encoding has 3")


def test_from_bytes_refuses_one_bad_genome_among_good_ones() -> None:
    with pytest.raises(InvalidGenome, match="cycle"):
        GREY.from_bytes([VALID, REFUSED["cycle"][0], VALID])


A_THIRD = 2**64 // 3  # three such steps come back to where they began, and each looks like a step upwards


@pytest.mark.parametrize(
    "ids", [[C + 5, -(2**63)], [C + 5, C + 5 + A_THIRD - 2**64, C + 5 + 2 * A_THIRD - 2**64, C + 5]]
)
def test_from_bytes_refuses_connection_ids_out_of_order_even_where_their_differences_overflow(ids: list[int]) -> None:
    connections = [(i, source, 4, 1.0) for source, i in enumerate(ids)]
    assert_refused(GREY, blob([4], connections), "connection ids are not unique and ascending")


@pytest.mark.parametrize("nodes", [1_000_000, 4096])
def test_a_huge_claim_is_refused_at_once_and_without_memory_for_it(nodes: int) -> None:
    data = HEADER.pack(b"cppn", 1, 1, nodes, 0) + bytes(100)
    tracemalloc.start()
    began = time.perf_counter()
    with pytest.raises(InvalidGenome):
        GREY.from_bytes([data])
    seconds, (_, peak) = time.perf_counter() - began, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 64 << 10
    assert seconds < 0.5


def test_the_largest_genome_is_read() -> None:
    hidden = [FIRST_HIDDEN + i for i in range(cppn.MAX_NODES - 1)]
    pairs = itertools.islice(itertools.product(hidden[:20], hidden[20:]), cppn.MAX_CONNECTIONS)
    genome = graph(dict.fromkeys((4, *hidden), "sine"), [(a, b, 1.0) for a, b in pairs])
    data = GREY.to_bytes(genome, 0)
    assert GREY.size(GREY.from_bytes([data]), 0) == (cppn.MAX_NODES + 4, cppn.MAX_CONNECTIONS)
    assert GREY.to_bytes(GREY.from_bytes([data]), 0) == data


@pytest.mark.parametrize(
    "pixel", [-1e-6, 1.0000001, 2.0, float("nan"), float("inf"), float("-inf")], ids=lambda value: f"{value}"
)
def test_a_direct_genome_with_a_pixel_outside_the_unit_interval_is_refused(pixel: float) -> None:
    pixels = np.full((1, *PIXELS.shape), 0.25, dtype=np.float32)
    good = PIXELS.to_bytes(pixels, 0)
    assert len(PIXELS.from_bytes([good])) == 1
    pixels[0, 3, 1, 2] = pixel
    assert_refused(PIXELS, PIXELS.to_bytes(pixels, 0), "pixel outside")


def direct_blob(height: int, width: int, channels: int, magic: bytes = b"pixl", version: int = 1) -> bytes:
    return HEADER.pack(magic, version, channels, height, width) + bytes(4 * height * width * channels)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        direct_blob(5, 4, 3)[:-1],
        direct_blob(5, 4, 3) + b"\0",
        direct_blob(5, 4, 3)[:14],
        direct_blob(5, 4, 3, magic=b"cppn"),
        direct_blob(5, 4, 3, version=2),
        direct_blob(4, 5, 3),
        direct_blob(5, 4, 1),
        direct_blob(20, 3, 1),
        HEADER.pack(b"pixl", 1, 3, 2**32 - 1, 2**32 - 1),
        VALID,
    ],
    ids=lambda data: data[:14].hex() or "nothing",
)
def test_direct_bytes_of_another_shape_or_kind_are_refused(data: bytes) -> None:
    PIXELS.from_bytes([direct_blob(5, 4, 3)])
    assert_refused(PIXELS, data, "not 5 x 4 x 3 pixels in 254 bytes")


# -------------------------------------------------------------------------------------------------- damaged bytes


def assert_valid(encoding: CppnEncoding, genes: list[dict[str, Any]]) -> None:
    """The rules of a genome, restated without arrays."""
    nodes = [gene["id"] for gene in genes if gene["gene"] == "node"]
    connections = [gene for gene in genes if gene["gene"] == "connection"]
    ids = [gene["id"] for gene in connections]
    for found in (nodes, ids):
        assert all(a < b for a, b in itertools.pairwise(found))
        assert PAD not in found
    assert [node for node in nodes if node < FIRST_HIDDEN] == list(range(4, 4 + encoding.channels))
    leaving = defaultdict(list)
    for gene in connections:
        assert gene["source"] in range(4) or gene["source"] in nodes
        assert gene["destination"] in nodes
        assert abs(gene["weight"]) <= 1e6
        leaving[gene["source"]].append(gene["destination"])
    state: dict[int, str] = {}

    def visit(node: int) -> None:
        assert state.get(node) != "open", "cycle"
        if node not in state:
            state[node] = "open"
            for following in leaving[node]:
                visit(following)
            state[node] = "done"

    for node in nodes:
        visit(node)


def assert_valid_or_refused(encoding: Encoding, data: bytes) -> bool:
    """Whether it was accepted; any other error than InvalidGenome is let through."""
    try:
        batch = encoding.from_bytes([data])
    except InvalidGenome:
        return False
    assert encoding.to_bytes(batch, 0) == data
    if isinstance(encoding, CppnEncoding):
        assert_valid(encoding, encoding.genes(batch, 0))
        programs.compile(batch)
    else:
        assert np.all((batch >= 0) & (batch <= 1))
    return True


Damage = Callable[[bytearray, np.random.Generator], None]
DAMAGE: dict[str, Damage] = {}


def damage(function: Damage) -> Damage:
    DAMAGE[function.__name__.strip("_")] = function
    return function


@damage
def _bit(data: bytearray, random: np.random.Generator) -> None:
    data[random.integers(len(data))] ^= 1 << int(random.integers(8))


@damage
def _byte(data: bytearray, random: np.random.Generator) -> None:
    data[random.integers(len(data))] = random.choice([0, 1, 127, 128, 255, random.integers(256)])


@damage
def _cut(data: bytearray, random: np.random.Generator) -> None:
    del data[random.integers(len(data)) :]


@damage
def _insert(data: bytearray, random: np.random.Generator) -> None:
    at = random.integers(len(data))
    data[at:at] = random.bytes(int(random.integers(1, 30)))


@damage
def _copy_eight_bytes(data: bytearray, random: np.random.Generator) -> None:
    # Moves ids about among genes where it meets their grid, which is where cycles and repeated ids come from.
    words = (len(data) - 14) // 8
    start, end = (14 + 8 * int(i) for i in random.integers(words, size=2))
    data[end : end + 8] = data[start : start + 8]


@damage
def _swap_ids(data: bytearray, random: np.random.Generator) -> None:
    *_, nodes, connections = HEADER.unpack_from(data)
    ends = 14 + 9 * nodes + 8 * connections
    a, b = (ends + 8 * int(i) for i in random.integers(2 * connections, size=2))
    data[a : a + 8], data[b : b + 8] = data[b : b + 8], data[a : a + 8]


@pytest.mark.parametrize("kind", DAMAGE)
@pytest.mark.parametrize("encoding", [GREY, HSV], ids=["grey", "hsv"])
def test_damaged_cppn_bytes_are_valid_or_refused_and_nothing_else(encoding: CppnEncoding, kind: str) -> None:
    graphs, random = evolved(encoding), np.random.default_rng(4)
    outcomes = []
    for i in range(150):
        data = bytearray(encoding.to_bytes(graphs, i % len(graphs)))
        DAMAGE[kind](data, random)
        outcomes.append(assert_valid_or_refused(encoding, bytes(data)))
    assert not all(outcomes)
    assert any(outcomes) or kind in ("cut", "insert")


@pytest.mark.parametrize("kind", ["bit", "byte", "cut", "insert"])
def test_damaged_direct_bytes_are_valid_or_refused_and_nothing_else(kind: str) -> None:
    genomes, random = evolved(PIXELS), np.random.default_rng(4)
    outcomes = []
    for i in range(300):
        data = bytearray(PIXELS.to_bytes(genomes, i % len(genomes)))
        DAMAGE[kind](data, random)
        outcomes.append(assert_valid_or_refused(PIXELS, bytes(data)))
    assert not all(outcomes)
    assert any(outcomes) or kind in ("cut", "insert")


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.binary(max_size=200), st.integers(0, 3), st.integers(0, 4))
def test_any_bytes_behind_a_plausible_header_are_valid_or_refused(tail: bytes, nodes: int, connections: int) -> None:
    body = (tail + bytes(200))[: 9 * nodes + 28 * connections]
    assert_valid_or_refused(GREY, HEADER.pack(b"cppn", 1, 1, nodes, connections) + body)
    assert_valid_or_refused(GREY, tail)
    assert_valid_or_refused(PIXELS, direct_blob(5, 4, 3)[:14] + (tail + bytes(240))[:240])


# ----------------------------------------------------------------------------------------- initial, take, replace


@pytest.mark.parametrize("encoding", [GREY, HSV], ids=["grey", "hsv"])
def test_initial_cppns_connect_every_input_to_every_output_and_have_no_hidden_node(encoding: CppnEncoding) -> None:
    graphs = variation.initial(encoding, 1, 0, 300)
    outputs = list(range(4, 4 + encoding.channels))
    assert graphs.node_ids.tolist() == [outputs] * 300
    wanted = sorted((slow_id(2, s, d, 0), s, d) for s in range(4) for d in outputs)
    for row in (0, 299):
        genes = [gene for gene in encoding.genes(graphs, row) if gene["gene"] == "connection"]
        assert [(gene["id"], gene["source"], gene["destination"]) for gene in genes] == wanted
    assert set(np.unique(graphs.activations).tolist()) == {1, 2, 3, 4}
    assert np.abs(graphs.weights).max() <= 10
    assert np.abs(graphs.weights).max() > 9.5
    assert abs(graphs.weights.mean()) < 0.5
    assert encoding.size(graphs, 0) == (4 + encoding.channels, 4 * encoding.channels)


def test_initial_draws_weights_within_the_limit_and_activations_among_those_asked_for() -> None:
    encoding = CppnEncoding(8, 8, "grey", activations=("linear", "sine"), weight_limit=0.5)
    graphs = encoding.initial(np.array([[0.0, 0.25, 0.5, 1 - 2**-53], [0.5] * 4]), np.array([[0.49999], [1 - 2**-53]]))
    weights = {gene["source"]: gene["weight"] for gene in encoding.genes(graphs, 0) if gene["gene"] == "connection"}
    assert weights == {0: -0.5, 1: -0.25, 2: 0.0, 3: 0.5}
    assert [encoding.genes(graphs, row)[0]["activation"] for row in range(2)] == ["linear", "sine"]


def test_initial_direct_genomes_are_the_numbers_drawn() -> None:
    drawn = rng.uniforms(1, "initial.0", 2, (7, 60))
    genomes = variation.initial(PIXELS, 1, 2, 7)
    assert genomes.shape == (7, 5, 4, 3)
    assert genomes.dtype == np.float32
    assert np.array_equal(genomes.ravel(), drawn.ravel().astype(np.float32))
    assert PIXELS.size(genomes, 0) == (60, 0)
    assert PIXELS.genes(genomes, 0) == []


def blobs_of(encoding: Encoding, batch: Any) -> list[bytes]:
    return [encoding.to_bytes(batch, row) for row in range(len(batch))]


@pytest.mark.parametrize("encoding", [GREY, HSV, PIXELS], ids=["grey", "hsv", "pixels"])
@pytest.mark.parametrize("rows", [[], [3], [5, 5, 0], [19, 2], slice(4, 9)], ids=str)
def test_take_gives_the_genomes_asked_for(encoding: Encoding, rows: Any) -> None:
    batch = evolved(encoding)
    wanted = list(range(20))[rows] if isinstance(rows, slice) else rows
    index = rows if isinstance(rows, slice) else np.array(rows, dtype=np.int64)
    assert blobs_of(encoding, encoding.take(batch, index)) == [encoding.to_bytes(batch, row) for row in wanted]


@pytest.mark.parametrize("encoding", [GREY, HSV, PIXELS], ids=["grey", "hsv", "pixels"])
@pytest.mark.parametrize("wide_first", [True, False])
def test_replace_overwrites_rows_whichever_batch_is_wider(encoding: Encoding, wide_first: bool) -> None:
    batches = [evolved(encoding), evolved(encoding, seed=2, generations=0)]
    target, source = batches if wide_first else batches[::-1]
    expected, new = blobs_of(encoding, target), blobs_of(encoding, source)
    for row, source_row in ((4, 7), (0, 7), (19, 1)):
        expected[row] = new[source_row]
    result = encoding.replace(target, np.array([4, 0, 19]), source, np.array([7, 7, 1]))
    assert blobs_of(encoding, result) == expected
    assert blobs_of(encoding, source) == new
    if isinstance(result, Graphs):  # what lies behind PAD is zero
        assert not result.activations[result.node_ids == PAD].any()
        assert not np.any([a[result.connection_ids == PAD] for a in result.arrays()[3:]])


def test_json_of_a_cppn_has_hex_ids_and_its_hash() -> None:
    graphs = evolved(HSV)
    data, genes = HSV.to_json(graphs, 5), HSV.genes(graphs, 5)
    assert data["sha256"] == genome_sha256(HSV, graphs, 5).hex()
    assert (data["encoding"], data["colour"], data["image_size"]) == ("cppn", "hsv", [12, 20])
    assert [int(node["id"], 16) for node in data["nodes"]] == [g["id"] for g in genes if g["gene"] == "node"]
    assert [
        (int(c["id"], 16), int(c["source"], 16), int(c["destination"], 16), c["weight"]) for c in data["connections"]
    ] == [(g["id"], g["source"], g["destination"], g["weight"]) for g in genes if g["gene"] == "connection"]


def test_json_of_a_direct_genome_holds_its_pixels_up_to_16_kib() -> None:
    small = evolved(PIXELS)
    data = PIXELS.to_json(small, 3)
    assert np.frombuffer(base64.b64decode(data["float32_base64"]), "<f4").tolist() == small[3].ravel().tolist()
    assert data["shape"] == [5, 4, 3]
    for height, kept in ((64, True), (65, False)):
        encoding = DirectEncoding(height, 64, "grey")
        assert ("float32_base64" in encoding.to_json(encoding.empty(1), 0)) == kept


@pytest.mark.parametrize("encoding", [GREY, HSV, PIXELS], ids=["grey", "hsv", "pixels"])
def test_json_goes_round_through_text(encoding: Encoding) -> None:
    genomes = evolved(encoding)
    for row in range(len(genomes)):
        data = encoding.to_json(genomes, row)
        for given_as in (json.dumps(data), data):
            made, batch = exchange.from_json(given_as)
            assert blobs_of(made, batch) == [encoding.to_bytes(genomes, row)]
            assert (made.kind, made.colour, made.height, made.width) == (
                encoding.kind, encoding.colour, encoding.height, encoding.width,
            )  # fmt: skip
        if row % 5 == 0:
            for size in (None, (9, 14)):
                drawn = exchange.render(data, size)
                assert np.array_equal(drawn, reference.render(encoding, genomes, row, size))
    assert exchange.render(data, 6).shape == (6, 6, encoding.channels)


@pytest.mark.parametrize("size", [0, (0, 5), (-1, -1), (8193, 8192)], ids=str)
def test_a_size_that_cannot_be_drawn_is_refused(size: Any) -> None:
    with pytest.raises(ConfigError, match="cannot be drawn"):
        exchange.render(PIXELS.to_json(evolved(PIXELS), 0), size)


ODD_VALUES = [
    None, True, -1, 0, 5, 3.5, float("inf"), float("nan"), 10**400, 2**63, "", "zz", "-5", "4", "f" * 16,
    "7" + "f" * 15, "AAAA", "\ud800", "direct", "cppn", "grey", [], [1], [[1]], {}, {"id": 1}, 8192, 8193, b"x",
]  # fmt: skip


def places(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [path, *(place for key, value in inner for place in places(value, (*path, key)))]


@pytest.mark.parametrize("encoding", [GREY, PIXELS], ids=["grey", "pixels"])
def test_json_with_an_odd_value_anywhere_is_valid_or_refused_and_nothing_else(encoding: Encoding) -> None:
    data = encoding.to_json(evolved(encoding, generations=2), 3)
    for place, odd in itertools.product(places(data)[1:], ODD_VALUES):
        damaged = copy.deepcopy(data)
        inner = damaged
        for key in place[:-1]:
            inner = inner[key]
        inner[place[-1]] = odd
        try:
            made, batch = exchange.from_json(damaged)
        except InvalidGenome:
            continue
        assert assert_valid_or_refused(made, made.to_bytes(batch, 0))


@pytest.mark.parametrize(
    "text",
    ["", "null", "[]", "{}", "1", "{", '"cppn"', "[" * 100_000, '{"encoding": "direct"}'],
    ids=lambda text: text[:22] or "nothing",
)
def test_text_that_is_no_genome_is_refused(text: str) -> None:
    with pytest.raises(InvalidGenome) as caught:
        exchange.from_json(text)
    assert str(caught.value).endswith(".")


def test_json_of_an_unknown_encoding_is_refused() -> None:
    data = GREY.to_json(evolved(GREY), 0) | {"encoding": "hypercube"}
    with pytest.raises(InvalidGenome, match="hypercube"):
        exchange.from_json(data)


# ---------------------------------------------------------------------------------------------------- GenomeTable


@pytest.mark.parametrize("encoding", [GREY, HSV, PIXELS], ids=["grey", "hsv", "pixels"])
@pytest.mark.parametrize("room", [0, 1, 6, 50])
def test_a_genome_table_behaves_as_a_dictionary(encoding: Encoding, room: int) -> None:
    table, model = GenomeTable(encoding, room), {}
    random, next_id = np.random.default_rng(room), 0
    # Early batches are narrow and later ones wide, so that rows are reused by larger and by smaller genomes.
    batches = [evolved(encoding, seed, generations=generations) for seed, generations in enumerate((0, 25, 5, 0, 25))]
    for turn in range(24):
        batch = batches[turn % len(batches)]
        rows = random.choice(len(batch), size=random.integers(0, 9), replace=False)
        ids = np.arange(next_id, next_id + len(rows)) * 7
        next_id += len(rows)
        table.add(ids, batch, rows)
        model |= {int(i): encoding.to_bytes(batch, int(row)) for i, row in zip(ids, rows)}
        if turn % 3 == 2:
            alive = [i for i in model if random.random() < 0.5]
            table.keep([*alive, -1, *alive])
            model = {i: model[i] for i in alive}
        asked = [*model, *list(model)[:2]]
        random.shuffle(asked)
        assert blobs_of(encoding, table.take(np.array(asked, dtype=np.int64))) == [model[i] for i in asked]
    assert next_id > 60


@pytest.mark.parametrize("encoding", [HSV, PIXELS], ids=["hsv", "pixels"])
def test_a_genome_table_forgets_whom_it_does_not_keep(encoding: Encoding) -> None:
    table = GenomeTable(encoding, 4)
    table.add([1, 2, 3], evolved(encoding), [0, 1, 2])
    table.keep([2])
    with pytest.raises(KeyError):
        table.take(np.array([1]))
    assert len(table.take(np.array([2]))) == 1


@pytest.mark.parametrize("encoding", [HSV, PIXELS], ids=["hsv", "pixels"])
def test_a_genome_table_keeps_the_genome_it_has_when_an_id_comes_again(encoding: Encoding) -> None:
    batch, table = evolved(encoding), GenomeTable(encoding, 4)
    table.add([1], batch, [0])
    table.add([1, 2], batch, [5, 6])
    assert blobs_of(encoding, table.take(np.array([1, 2]))) == [encoding.to_bytes(batch, row) for row in (0, 6)]


@pytest.mark.parametrize("encoding", [HSV, PIXELS], ids=["hsv", "pixels"])
def test_what_a_genome_table_gave_does_not_change_with_it(encoding: Encoding) -> None:
    batch, table = evolved(encoding), GenomeTable(encoding, 2)
    table.add([1, 2], batch, [0, 1])
    taken = table.take(np.array([1, 2]))
    before = blobs_of(encoding, taken)
    table.keep([])
    table.add([3, 4], batch, [8, 9])
    assert blobs_of(encoding, taken) == before
    assert blobs_of(encoding, batch)[:2] == before


def test_a_genome_table_reuses_its_rows() -> None:
    batch, table = evolved(PIXELS), GenomeTable(PIXELS, 4)
    for turn in range(50):
        table.keep([])
        table.add([10 * turn + i for i in range(4)], batch, [0, 1, 2, 3])
    assert len(table._genomes) == 4


# -------------------------------------------------------------------------------------------------- make_encoding


@pytest.mark.parametrize(
    ("channels", "colour", "expected"),
    [(1, "auto", "grey"), (1, "grey", "grey"), (3, "auto", "hsv"), (3, "hsv", "hsv"), (3, "rgb", "rgb")],
)
def test_make_encoding_chooses_the_colour_that_fits_the_target(channels: int, colour: Any, expected: str) -> None:
    for kind in ("direct", "cppn"):
        made = make_encoding(EncodingConfig(kind=kind, colour=colour), (30, 40), channels)
        assert (made.kind, made.height, made.width, made.colour, made.channels) == (kind, 30, 40, expected, channels)


def test_make_encoding_hands_the_cppn_settings_on() -> None:
    config = EncodingConfig(coordinates="raw", output="absolute", activations=["linear", "sine"], weight_limit=3.0)
    made = make_encoding(config, (3, 4), 1)
    assert made == CppnEncoding(3, 4, "grey", "raw", "absolute", ("linear", "sine"), 3.0)
    assert made.activation_codes.tolist() == [4, 1]


@pytest.mark.parametrize(
    ("channels", "colour", "message"),
    [
        (1, "hsv", r"encoding\.colour: hsv does not fit a target with 1 channel; say encoding\.colour=grey"),
        (1, "rgb", r"rgb does not fit a target with 1 channel;"),
        (3, "grey", r"grey does not fit a target with 3 channels; say encoding\.colour=hsv"),
    ],
)
@pytest.mark.parametrize("kind", ["direct", "cppn"])
def test_make_encoding_refuses_a_colour_that_does_not_fit(kind: Any, channels: int, colour: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        make_encoding(EncodingConfig(kind=kind, colour=colour), (8, 8), channels)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("name", ["relu", "identity", "Sine"])
def test_make_encoding_refuses_an_unknown_activation_and_names_the_known(name: str) -> None:
    with pytest.raises(ConfigError, match=f"'{name}' is unknown; known are sine, sigmoid, gaussian, linear") as caught:
        make_encoding(EncodingConfig(activations=["sine", name]), (8, 8), 1)
    assert caught.value.exit_code == 2


def test_the_activation_table_is_only_ever_appended_to() -> None:
    assert cppn.ACTIVATIONS[:5] == ("identity", "sine", "sigmoid", "gaussian", "linear")


def test_fields_of_graphs_have_the_documented_types() -> None:
    graphs: Graphs = evolved(HSV)
    arrays: tuple[NDArray[Any], ...] = graphs.arrays()
    assert [array.dtype for array in arrays] == ["i8", "u1", "i8", "i8", "i8", "f4"]
    assert {len(array) for array in arrays} == {20} == {len(graphs)}
