"""Variation: array operators against DEAP's and scalar restatements; graph operators against dictionaries and rules."""

from __future__ import annotations

import copy
import functools
import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from deap import base, tools
from handmade import values_before_rounding
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binomtest, ks_2samp

from evofool.archive import cells as archives
from evofool.base import rng
from evofool.config import load_config
from evofool.config.sections import VariationConfig
from evofool.encoding import numbers as arrays
from evofool.encoding import variation
from evofool.encoding.contract import Encoding
from evofool.encoding.cppn import genome as cppn
from evofool.encoding.cppn import operators, programs
from evofool.encoding.cppn.genome import CppnEncoding
from evofool.encoding.cppn.graphs import FIRST_HIDDEN, FIRST_OUTPUT, PAD, Graphs, connection_ids, node_ids
from evofool.encoding.direct import breeding as direct_breeding
from evofool.encoding.direct.genome import DirectEncoding
from evofool.encoding.drawing import reference
from evofool.encoding.drawing import render as renderer
from evofool.encoding.names import OPERATORS, operator_bit, operator_names
from evofool.errors import InvalidGenome
from evofool.records import NO_PARENT, Cells
from evofool.search.breeding import Breeder

GREY = CppnEncoding(16, 16, "grey")
HSV = CppnEncoding(12, 20, "hsv")
PIXELS = DirectEncoding(6, 5, "rgb")
BUSY = VariationConfig(add_connection=0.9, split_connection=0.9, delete_connection=0.1, rewire_connection=0.3)
DRAWS = 50_000
JUST_BELOW_ONE = 1 - 2**-53
both_cppns = pytest.mark.parametrize("encoding", [GREY, HSV], ids=["grey", "hsv"])


pytestmark = pytest.mark.usefixtures("one_thread")


# ============================================================================================== arrays against DEAP


def numbers(*shape: int, seed: int = 1) -> NDArray[np.float64]:
    return np.random.default_rng(seed).random(shape)


@functools.cache
def deap_mutants(gene: float, eta: float) -> NDArray[np.float64]:
    """DRAWS mutants of one gene by DEAP, each mutated for certain."""
    random.seed(99)
    (mutants,) = tools.mutPolynomialBounded([gene] * DRAWS, eta, 0.0, 1.0, indpb=1.0)
    return np.array(mutants)


@pytest.mark.slow
@pytest.mark.parametrize("gene", [0.0, 0.05, 0.3, 0.5, 0.93, 1.0])
def test_polynomial_has_the_distribution_of_deap_and_no_other_eta_has(gene: float) -> None:
    ours = arrays.polynomial(np.full(DRAWS, gene), numbers(DRAWS), 15.0)
    assert ks_2samp(ours, deap_mutants(gene, 15.0)).pvalue > 0.001
    assert ks_2samp(ours, deap_mutants(gene, 20.0)).pvalue < 0.001
    assert ks_2samp(ours, deap_mutants(min(1.0, gene + 0.01) if gene < 1 else 0.99, 15.0)).pvalue < 0.001


def test_polynomial_has_the_distribution_of_deap_where_eta_gives_no_power_of_two() -> None:
    ours = arrays.polynomial(np.full(DRAWS, 0.3), numbers(DRAWS), 20.0)
    assert ks_2samp(ours, deap_mutants(0.3, 20.0)).pvalue > 0.001
    assert ks_2samp(ours, deap_mutants(0.3, 15.0)).pvalue < 0.001


@functools.cache
def deap_children(first: float, second: float, eta: float) -> NDArray[np.float32]:
    """The first of both children of one pair of genes, DRAWS times, by DEAP; float32 as ours are."""
    random.seed(98)
    child, _ = tools.cxSimulatedBinaryBounded([first] * DRAWS, [second] * DRAWS, eta, 0.0, 1.0)
    return np.array(child).astype(np.float32)


def crossover(
    first: NDArray[np.float32], second: NDArray[np.float32], uniform: NDArray[np.float64], *, eta: float
) -> NDArray[np.float32]:
    """Children of pairs of rows by `arrays.cross`, of three numbers for every gene."""
    children = first.copy()
    places = np.flatnonzero(uniform[..., 0] < arrays.CROSSED)
    arrays.cross(children.reshape(-1), second.ravel(), places, uniform.reshape(-1, 3)[places], eta=eta)
    return children


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "second"), [(0.05, 0.5), (0.5, 0.05), (0.5, 0.93), (0.93, 0.05), (0.45, 0.55), (0.0, 1.0), (0.0, 0.02)]
)
def test_crossover_has_the_distribution_of_deap_and_no_other_eta_has(first: float, second: float) -> None:
    a, b = (np.full((1, DRAWS), gene, dtype=np.float32) for gene in (first, second))
    ours = crossover(a, b, numbers(1, DRAWS, 3), eta=15.0)[0]
    assert ours.dtype == np.float32
    # DEAP gets the same rounded genes, so that uncrossed ones, half of all, are the same number on both sides.
    pair = float(a[0, 0]), float(b[0, 0])
    assert ks_2samp(ours, deap_children(*pair, 15.0)).pvalue > 0.001
    assert ks_2samp(ours, deap_children(*pair, 20.0)).pvalue < 0.001
    assert ks_2samp(ours, deap_children(*pair[::-1], 15.0)).pvalue < 0.001
    assert (ours == a[0]).mean() == pytest.approx(0.5, abs=0.01)


def test_crossover_has_the_distribution_of_deap_at_the_default_eta() -> None:
    a, b = (np.full((1, DRAWS), gene, dtype=np.float32) for gene in (0.3, 0.8))
    ours = crossover(a, b, numbers(1, DRAWS, 3), eta=VariationConfig().crossover_eta)[0]
    pair = float(a[0, 0]), float(b[0, 0])
    assert ks_2samp(ours, deap_children(*pair, 10.0)).pvalue > 0.001
    assert ks_2samp(ours, deap_children(*pair, 15.0)).pvalue < 0.001


def mutated_per_genome(rate: float, genomes: int = 2000, genes: int = 100) -> NDArray[np.int64]:
    parents = np.full((genomes, genes), 0.5, dtype=np.float32)
    children, chosen = arrays.mutate(parents, numbers(genomes, genes), rate=rate, eta=15.0, kind="polynomial")
    # A mutation too small for float32 changes nothing; there is about one in a hundred thousand.
    assert ((children != parents) & ~chosen).sum() == 0
    assert ((children == parents) & chosen).sum() <= 5
    return chosen.sum(axis=1)


def test_the_number_of_mutated_genes_is_that_of_deap_at_the_same_rate_and_of_no_other() -> None:
    random.seed(97)
    theirs = [
        sum(gene != 0.5 for gene in tools.mutPolynomialBounded([0.5] * 100, 15.0, 0.0, 1.0, indpb=0.1)[0])
        for _ in range(2000)
    ]
    assert ks_2samp(mutated_per_genome(0.1), theirs).pvalue > 0.001
    assert ks_2samp(mutated_per_genome(0.12), theirs).pvalue < 0.001


def test_the_number_of_mutated_genes_is_binomial() -> None:
    counts = mutated_per_genome(0.1)
    expected = np.random.default_rng(3).binomial(100, 0.1, 100_000)
    assert ks_2samp(counts, expected).pvalue > 0.001
    assert binomtest(int(counts.sum()), 200_000, 0.1).pvalue > 0.001
    assert binomtest(int(counts.sum()), 200_000, 0.12).pvalue < 0.001
    assert ks_2samp(mutated_per_genome(0.12), expected).pvalue < 0.001


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.7, 1.0])
def test_the_number_that_chose_a_gene_shapes_its_step_without_bias(rate: float) -> None:
    count = int(DRAWS / rate)
    genes = np.full((1, count), 0.5, dtype=np.float32)
    children, chosen = arrays.mutate(genes, numbers(1, count), rate=rate, eta=15.0, kind="polynomial")
    assert ks_2samp(children[chosen], deap_mutants(0.5, 15.0).astype(np.float32)).pvalue > 0.001
    assert ks_2samp(children[chosen], deap_mutants(0.5, 20.0).astype(np.float32)).pvalue < 0.001


def test_neighbouring_genes_mutate_independently_of_each_other() -> None:
    uniform = numbers(DRAWS, 2)
    children, chosen = arrays.mutate(
        np.full((DRAWS, 2), 0.5, dtype=np.float32), uniform, rate=0.5, eta=15.0, kind="polynomial"
    )
    both = chosen.all(axis=1)
    assert both.mean() == pytest.approx(0.25, abs=0.01)
    assert abs(np.corrcoef(children[both].T)[0, 1]) < 0.03


# ---------------------------------------------------------------------------------------- arrays, number by number


def slow_polynomial(gene: float, uniform: float, eta: float) -> float:
    if uniform < 0.5:
        share = 2 * uniform
        step = (share + (1 - share) * (1 - gene) ** (eta + 1)) ** (1 / (eta + 1)) - 1
        step = max(step, -gene)
    else:
        share = 2 * (1 - uniform)
        step = 1 - (share + (1 - share) * gene ** (eta + 1)) ** (1 / (eta + 1))
    return min(max(gene + step, 0.0), 1.0)


def slow_polynomial_clipped(gene: float, uniform: float, eta: float) -> float:
    if uniform < 0.5:
        step = (2 * uniform) ** (1 / (eta + 1)) - 1
    else:
        step = 1 - (2 * (1 - uniform)) ** (1 / (eta + 1))
    return min(max(gene + step, 0.0), 1.0)


SLOW = {"polynomial": slow_polynomial, "polynomial_clipped": slow_polynomial_clipped}


@pytest.mark.parametrize("kind", arrays.MUTATIONS)
@pytest.mark.parametrize("eta", [0.0, 1.0, 15.0, 20.0, 31.5])
def test_mutations_equal_a_slow_restatement(kind: str, eta: float) -> None:
    genes, uniform = numbers(3000, seed=2), numbers(3000, seed=3)
    genes[:60:3], genes[1:60:3] = 0.0, 1.0
    uniform[:4], uniform[4:8], uniform[8:12] = 0.0, 0.5, JUST_BELOW_ONE
    found = arrays.MUTATIONS[kind](genes, uniform, eta)
    expected = [SLOW[kind](g, u, eta) for g, u in zip(genes.tolist(), uniform.tolist())]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    assert found.min() >= 0
    assert found.max() <= 1


@pytest.mark.parametrize(
    ("gene", "bound", "share"), [(0.05, 0.0, 0.22), (0.95, 1.0, 0.22), (0.0, 0.0, 0.5), (0.5, 0.0, 0.0)]
)
def test_polynomial_clipped_lands_exactly_on_a_bound_as_often_as_the_formula_says(
    gene: float, bound: float, share: float
) -> None:
    # P(step <= -gene) = (1 - gene)^16 / 2: 0.22 for 0.05
    mutants = arrays.polynomial_clipped(np.full(DRAWS, gene), numbers(DRAWS), 15.0)
    assert (mutants == bound).mean() == pytest.approx(share, abs=0.006)
    bounded = arrays.polynomial(np.full(DRAWS, gene), numbers(DRAWS), 15.0)
    assert gene == bound or (bounded == bound).mean() == 0


@pytest.mark.parametrize("degree", [1.0, 2.0, 4.0, 16.0, 64.0])
def test_roots_and_powers_of_two_equal_numpys(degree: float) -> None:
    values = np.concatenate([[0.0, 1.0, 2.0], numbers(2000), 1 + 3 * numbers(100)])
    np.testing.assert_allclose(arrays._root(values, degree), np.power(values, 1 / degree), rtol=1e-12, atol=0)
    np.testing.assert_allclose(arrays._power(values, degree), np.power(values, degree), rtol=1e-12, atol=0)


@pytest.mark.parametrize("degree", [0.0, 0.5, 3.0, 11.0, 15.5, 48.0])
def test_other_roots_and_powers_are_numpys(degree: float) -> None:
    values = numbers(500) + 0.1
    assert np.array_equal(arrays._power(values, degree), np.power(values, degree))
    if degree:
        assert np.array_equal(arrays._root(values, degree), np.power(values, 1 / degree))


def test_roots_whose_degree_is_a_power_of_two_take_only_operations_that_are_exact_everywhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*arguments: Any) -> None:
        raise AssertionError("np.power is rounded differently from machine to machine")

    monkeypatch.setattr(arrays.np, "power", refuse)
    arrays.polynomial(numbers(5), numbers(5), 15.0)
    arrays.polynomial_clipped(numbers(5), numbers(5), 15.0)
    with pytest.raises(AssertionError, match="machine"):
        arrays.polynomial(numbers(5), numbers(5), 20.0)


def slow_child(first: float, second: float, cross: float, spread: float, side: float, eta: float) -> float:
    """One gene of a child of simulated binary crossover in [0, 1]."""
    if cross >= 0.5 or abs(first - second) <= 1e-14:
        return first
    low, high = min(first, second), max(first, second)
    gap = low if side < 0.5 else 1 - high
    alpha = 2 - (1 + 2 * gap / (high - low)) ** -(eta + 1)
    if spread <= 1 / alpha:
        beta = (spread * alpha) ** (1 / (eta + 1))
    else:
        beta = (1 / (2 - spread * alpha)) ** (1 / (eta + 1))
    half = beta * (high - low) / 2
    child = (low + high) / 2 - half if side < 0.5 else (low + high) / 2 + half
    return min(max(child, 0.0), 1.0)


@pytest.mark.parametrize("eta", [0.0, 1.0, 10.0, 15.0])
def test_crossover_equals_a_slow_restatement(eta: float) -> None:
    first, second = (numbers(40, 60, seed=seed).astype(np.float32) for seed in (1, 2))
    first[:, :3], second[:, 1:4] = 0.0, 1.0
    second[:, 5:8] = first[:, 5:8]
    uniform = numbers(40, 60, 3, seed=3)
    uniform[:, 10] = 0.0
    uniform[:, 11] = JUST_BELOW_ONE
    uniform[:, 12, 1] = JUST_BELOW_ONE
    found = crossover(first, second, uniform, eta=eta)
    flat = (values.reshape(-1).tolist() for values in (first, second))
    expected = [slow_child(a, b, *u, eta) for a, b, u in zip(*flat, uniform.reshape(-1, 3).tolist())]
    np.testing.assert_allclose(found.ravel(), np.float32(expected), rtol=0, atol=1e-6)
    assert found.min() >= 0
    assert found.max() <= 1
    assert np.array_equal(found[:, 5:8], first[:, 5:8])


def test_array_operators_leave_their_arguments_alone() -> None:
    first, second, uniform = np.float32(numbers(4, 5)), np.float32(numbers(4, 5, seed=2)), numbers(4, 5, 3, seed=3)
    before = first.copy(), second.copy(), uniform.copy()
    crossover(first, second, uniform, eta=10.0)
    arrays.mutate(first, uniform[..., 0], rate=0.9, eta=15.0, kind="polynomial")
    for old, new in zip(before, (first, second, uniform)):
        assert np.array_equal(old, new)


@pytest.mark.parametrize("kind", arrays.MUTATIONS)
def test_mutate_changes_the_chosen_genes_only_and_each_by_its_own_number(kind: str) -> None:
    genes, uniform = np.float32(numbers(30, 40)), numbers(30, 40, seed=2)
    where = numbers(30, 40, seed=3) < 0.7
    found, chosen = arrays.mutate(genes, uniform, rate=0.4, eta=15.0, kind=kind, where=where)
    assert found.dtype == np.float32
    assert np.array_equal(chosen, (uniform < 0.4) & where)
    assert np.array_equal(found[~chosen], genes[~chosen])
    pairs = zip(genes[chosen].tolist(), uniform[chosen].tolist())
    np.testing.assert_allclose(found[chosen], [SLOW[kind](g, u / 0.4, 15.0) for g, u in pairs], rtol=0, atol=1e-7)


def test_mutate_at_rate_zero_changes_nothing_and_at_rate_one_everything() -> None:
    genes, uniform = np.float32(numbers(5, 6)), numbers(5, 6, seed=2)
    uniform[0] = 0.0
    found, chosen = arrays.mutate(genes, uniform, rate=0.0, eta=15.0, kind="polynomial")
    assert not chosen.any()
    assert np.array_equal(found, genes)
    assert arrays.mutate(genes, uniform, rate=1.0, eta=15.0, kind="polynomial")[1].all()


# ============================================================================ graphs: a genome as two dictionaries


@dataclass
class Plain:
    """A genome without arrays: what the operators do, restated one genome at a time."""

    nodes: dict[int, int]  # id -> activation
    connections: dict[int, tuple[int, int, np.float32]]  # id -> source, destination, weight

    @staticmethod
    def of(batch: Graphs, row: int) -> Plain:
        nodes = {int(i): int(a) for i, a in zip(batch.node_ids[row], batch.activations[row]) if i != PAD}
        columns = zip(*(array[row] for array in batch.arrays()[2:]))
        return Plain(nodes, {int(i): (int(s), int(d), w) for i, s, d, w in columns if i != PAD})

    def to_bytes(self, encoding: CppnEncoding) -> bytes:
        """Through an array of one row; sorting is left to numpy."""
        ids, wires = sorted(self.connections), [self.connections[i] for i in sorted(self.connections)]
        one = Graphs(
            np.array([sorted(self.nodes)], dtype=np.int64),
            np.array([[self.nodes[i] for i in sorted(self.nodes)]], dtype=np.uint8),
            np.array([ids], dtype=np.int64),
            *(np.array([[wire[k] for wire in wires]], dtype=np.int64) for k in (0, 1)),
            np.array([[wire[2] for wire in wires]], dtype=np.float32),
        )
        return encoding.to_bytes(one, 0)

    def hidden(self) -> list[int]:
        return sorted(node for node in self.nodes if node >= FIRST_HIDDEN)

    def reaches(self, start: int, end: int) -> bool:
        return start == end or any(self.reaches(d, end) for s, d, _ in self.connections.values() if s == start)

    def may_connect(self, source: int, destination: int) -> bool:
        there = any((s, d) == (source, destination) for s, d, _ in self.connections.values())
        return not there and not self.reaches(destination, source)

    def connect(self, source: int, destination: int, weight: np.float32) -> None:
        self.connections[int(connection_ids(source, destination, 0))] = (source, destination, weight)

    def draw_source(self, uniform: float) -> int:
        return choose([0, 1, 2, 3, *self.hidden()], uniform)

    def draw_destination(self, uniform: float) -> int:
        return choose(sorted(self.nodes), uniform)

    # Each operator says whether it took effect.

    def add_connection(self, source: float, destination: float, weight: float, limit: float) -> bool:
        start, end = self.draw_source(source), self.draw_destination(destination)
        if not self.may_connect(start, end):
            return False
        self.connect(start, end, np.float32((2 * weight - 1) * limit))
        return True

    def delete_connection(self, which: float) -> bool:
        if self.connections:
            del self.connections[choose(sorted(self.connections), which)]
            return True
        return False

    def rewire_connection(self, which: float, end: float, node: float) -> bool:
        if not self.connections:
            return False
        chosen = choose(sorted(self.connections), which)
        old = self.connections.pop(chosen)
        source, destination, weight = old
        if end < 0.5:
            source = self.draw_source(node)
        else:
            destination = self.draw_destination(node)
        if (source, destination) == old[:2] or not self.may_connect(source, destination):
            self.connections[chosen] = old
            return False
        self.connect(source, destination, weight)
        return True

    def split_connection(self, which: float) -> bool:
        if not self.connections:
            return False
        source, destination, weight = self.connections.pop(choose(sorted(self.connections), which))
        ordinal = 0
        while int(node_ids(source, destination, ordinal)) in self.nodes:
            ordinal += 1
        node = int(node_ids(source, destination, ordinal))
        self.nodes[node] = cppn.ACTIVATIONS.index("identity")
        self.connect(source, node, np.float32(1))
        self.connect(node, destination, weight)
        return True

    def delete_node(self, which: float) -> bool:
        if not self.hidden():
            return False
        node = choose(self.hidden(), which)
        del self.nodes[node]
        self.connections = {i: wire for i, wire in self.connections.items() if node not in wire[:2]}
        return True


def choose(candidates: list[int], uniform: float) -> int:
    return candidates[int(uniform * len(candidates))]


def blobs(encoding: Encoding, batch: Any) -> list[bytes]:
    return [encoding.to_bytes(batch, row) for row in range(len(batch))]


@functools.cache
def evolved(encoding: Encoding, seed: int = 1, rows: int = 12, generations: int = 25) -> Any:
    genomes = variation.initial(encoding, seed, 0, rows)
    for generation in range(generations):
        genomes, _ = variation.mutate(encoding, BUSY, seed, generation, genomes)
    return genomes


def stack(encoding: CppnEncoding, *batches: Graphs) -> Graphs:
    return encoding.from_bytes([blob for batch in batches for blob in blobs(encoding, batch)])


@functools.cache
def zoo(encoding: CppnEncoding) -> Graphs:
    """Grown genomes, fresh ones, and one without connections."""
    grown, fresh = evolved(encoding), variation.initial(encoding, 5, 0, 3)
    bare = encoding.take(fresh, [0])
    for _ in range(4 * encoding.channels):
        bare, _ = operators.delete_connection(bare, np.array([True]), np.array([0.3]))
    assert bare.connection_ids.shape == (1, 0)
    return stack(encoding, grown, fresh, bare)


# name -> (how many numbers each genome takes, the operator); weights are drawn in [-10, 10]
STRUCTURAL: dict[str, tuple[int, Callable[..., tuple[Graphs, NDArray[np.bool_]]]]] = {
    "add_connection": (3, functools.partial(operators.add_connection, limit=10.0)),
    "delete_connection": (1, operators.delete_connection),
    "rewire_connection": (3, operators.rewire_connection),
    "split_connection": (1, operators.split_connection),
    "delete_node": (1, operators.delete_node),
}
every_operator = pytest.mark.parametrize("name", STRUCTURAL)


def draw(generator: np.random.Generator, *shape: int) -> NDArray[np.float64]:
    """Uniform numbers, a few of them the ends of the interval."""
    values = generator.random(shape)
    ends = generator.random(shape)
    return np.where(ends < 0.03, 0.0, np.where(ends > 0.97, JUST_BELOW_ONE, values))


def apply_operator(name: str, batch: Graphs, generator: np.random.Generator) -> Graphs:
    """Any operator on a random part of the batch."""
    n, apply = len(batch), generator.random(len(batch)) < 0.8
    if name == "mutate_weights":
        uniform = draw(generator, *batch.connection_ids.shape)
        kind = list(arrays.MUTATIONS)[generator.integers(2)]
        return operators.mutate_weights(batch, uniform, rate=0.3, eta=15.0, kind=kind, limit=10.0)[0]
    if name == "mutate_activations":
        codes = HSV.activation_codes
        return operators.mutate_activations(batch, draw(generator, *batch.node_ids.shape), rate=0.3, codes=codes)[0]
    if name == "crossover":
        second = HSV.take(batch, generator.permutation(n))
        genes, nodes = (draw(generator, *ids.shape) for ids in (batch.connection_ids, batch.node_ids))
        return operators.crossover(batch, second, apply, genes, nodes)
    count, operator = STRUCTURAL[name]
    return operator(batch, apply, *draw(generator, count, n))[0]


def assert_valid(encoding: CppnEncoding, batch: Graphs) -> None:
    """Rules of a genome by `check` and, independently, without arrays."""
    for row in range(len(batch)):
        encoding.check(encoding.take(batch, [row]))
        genome = Plain.of(batch, row)
        nodes, ids = list(genome.nodes), list(genome.connections)
        assert nodes == sorted(set(nodes))
        assert ids == sorted(set(ids))
        assert len(nodes) == (batch.node_ids[row] != PAD).sum()
        assert len(ids) == (batch.connection_ids[row] != PAD).sum()
        assert [node for node in nodes if node < FIRST_HIDDEN] == [4 + i for i in range(encoding.channels)]
        assert set(genome.nodes.values()) <= set(range(len(cppn.ACTIVATIONS)))
        ends = [wire[:2] for wire in genome.connections.values()]
        assert len(set(ends)) == len(ends)
        leaving = defaultdict(list)
        for i, (source, destination, weight) in genome.connections.items():
            assert source in range(FIRST_OUTPUT) or source in genome.hidden()
            assert destination in genome.nodes
            assert i == int(connection_ids(source, destination, 0))
            assert abs(weight) <= 10
            leaving[source].append(destination)
        assert_acyclic(leaving, nodes)
    # Padding is at the end, as narrow as can be, and zero.
    again = encoding.from_bytes(blobs(encoding, batch))
    for mine, theirs in zip(batch.arrays(), again.arrays()):
        assert mine.dtype == theirs.dtype
        assert np.array_equal(mine, theirs)


def assert_acyclic(leaving: dict[int, list[int]], nodes: list[int]) -> None:
    """Depth-first search that meets no node on its own path."""
    done: set[int] = set()

    def visit(node: int, path: frozenset[int]) -> None:
        assert node not in path, "cycle"
        if node not in done:
            for following in leaving[node]:
                visit(following, path | {node})
            done.add(node)

    for node in nodes:
        visit(node, frozenset())


def test_the_oracle_of_cycles_sees_one() -> None:
    assert_acyclic(defaultdict(list, {1: [2, 3], 2: [3]}), [1, 2, 3])
    with pytest.raises(AssertionError, match="cycle"):
        assert_acyclic(defaultdict(list, {1: [2], 2: [3], 3: [1]}), [1, 2, 3])


# Growing operators twice, so that sequences do not end in empty genomes.
GROWING = ["add_connection", "split_connection"]
NAMES = [*STRUCTURAL, *GROWING, "mutate_weights", "mutate_activations", "crossover"]


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(NAMES), min_size=1, max_size=20), st.integers(0, 10**6), st.booleans())
def test_genomes_stay_valid_through_any_sequence_of_edits(names: list[str], seed: int, grown: bool) -> None:
    generator = np.random.default_rng(seed)
    batch = HSV.take(zoo(HSV), generator.choice(16, 4)) if grown else variation.initial(HSV, seed, 0, 4)
    for name in names:
        batch = apply_operator(name, batch, generator)
    assert_valid(HSV, batch)


@pytest.mark.parametrize("name", dict.fromkeys(NAMES))
def test_genomes_are_valid_after_each_operator(name: str) -> None:
    generator = np.random.default_rng(6)
    for _ in range(4):
        assert_valid(HSV, apply_operator(name, zoo(HSV), generator))


# --------------------------------------------------------------------------------------- against the dictionaries


@both_cppns
@every_operator
def test_a_structural_operator_equals_its_restatement_on_dictionaries(encoding: CppnEncoding, name: str) -> None:
    generator, batch = np.random.default_rng(11), zoo(encoding)
    count, operator = STRUCTURAL[name]
    outcomes = []
    for _ in range(25):
        uniform, apply = draw(generator, count, len(batch)), generator.random(len(batch)) < 0.8
        found, done = operator(batch, apply, *uniform)
        for row in range(len(batch)):
            genome = Plain.of(batch, row)
            keywords = {"limit": 10.0} if name == "add_connection" else {}
            effect = apply[row] and getattr(genome, name)(*uniform[:, row].tolist(), **keywords)
            assert bool(done[row]) == bool(effect)
            assert encoding.to_bytes(found, row) == genome.to_bytes(encoding)
            outcomes.append((bool(apply[row]), bool(done[row])))
    assert {(True, True), (True, False), (False, False)} == set(outcomes)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from([*STRUCTURAL, *GROWING]), max_size=15), st.integers(0, 10**6))
def test_sequences_of_structural_operators_equal_their_restatement(names: list[str], seed: int) -> None:
    generator = np.random.default_rng(seed)
    batch = variation.initial(GREY, seed, 0, 2)
    plain = [Plain.of(batch, row) for row in range(2)]
    for name in names:
        count, operator = STRUCTURAL[name]
        uniform = draw(generator, count, 2)
        batch, done = operator(batch, np.array([True, True]), *uniform)
        keywords = {"limit": 10.0} if name == "add_connection" else {}
        assert [getattr(p, name)(*u, **keywords) for p, u in zip(plain, uniform.T.tolist())] == done.tolist()
    assert blobs(GREY, batch) == [genome.to_bytes(GREY) for genome in plain]


@pytest.mark.parametrize("kind", arrays.MUTATIONS)
def test_mutate_weights_equals_its_restatement(kind: str) -> None:
    batch, limit = zoo(HSV), 4.0  # below the weights that are there: those count as lying on the bound
    uniform = draw(np.random.default_rng(2), *batch.connection_ids.shape)
    found, done = operators.mutate_weights(batch, uniform, rate=0.3, eta=15.0, kind=kind, limit=limit)
    for row in range(len(batch)):
        old, new = Plain.of(batch, row), Plain.of(found, row)
        assert new.nodes == old.nodes
        assert list(new.connections) == list(old.connections)
        changed = False
        for u, i in zip(uniform[row].tolist(), old.connections):
            weight = float(old.connections[i][2])
            assert new.connections[i][:2] == old.connections[i][:2]
            if u >= 0.3:
                assert new.connections[i][2] == old.connections[i][2]
                continue
            changed = True
            unit = min(max((weight / limit + 1) / 2, 0.0), 1.0)
            expected = (2 * SLOW[kind](unit, u / 0.3, 15.0) - 1) * limit
            assert float(new.connections[i][2]) == pytest.approx(expected, abs=1e-5)
        assert bool(done[row]) == changed
    assert done.any()
    assert not done.all()


def test_mutate_activations_equals_its_restatement() -> None:
    batch, codes = zoo(HSV), np.array([4, 1, 2], dtype=np.uint8)
    uniform = draw(np.random.default_rng(2), *batch.node_ids.shape)
    found, done = operators.mutate_activations(batch, uniform, rate=0.2, codes=codes)
    for row in range(len(batch)):
        old, new = Plain.of(batch, row), Plain.of(found, row)
        assert new.connections == old.connections
        numbers_of = dict(zip(old.nodes, uniform[row].tolist()))
        assert new.nodes == {
            node: codes[int(numbers_of[node] / 0.2 * 3)] if numbers_of[node] < 0.2 else activation
            for node, activation in old.nodes.items()
        }
        assert bool(done[row]) == any(numbers_of[node] < 0.2 for node in old.nodes)
    assert done.any()
    assert not done.all()


def test_redrawn_activations_are_evenly_spread_over_the_codes() -> None:
    batch = variation.initial(HSV, 1, 0, 20_000)
    codes = np.array([2, 4, 1], dtype=np.uint8)
    found, _ = operators.mutate_activations(batch, numbers(20_000, 3), rate=1.0, codes=codes)
    values, counts = np.unique(found.activations, return_counts=True)
    assert values.tolist() == [1, 2, 4]
    assert np.square(counts - 20_000).sum() / 20_000 < 13.8  # chi-square, 2 degrees of freedom, p = 0.001


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["mutation_rate", "activation_rate", "crossover_rate", "split_connection"])
def test_a_rate_of_zero_switches_an_operator_off_and_warns_of_nothing(name: str) -> None:
    config = BUSY.model_copy(update={name: 0.0, "crossover_rate": 0.0})
    _, bits = variation.mutate(HSV, config, 1, 3, evolved(HSV))
    names = {n for row in bits.tolist() for n in operator_names(row)}
    off = {"mutation_rate": "mutate_weights", "activation_rate": "mutate_activations"}.get(name, name)
    assert off not in names
    assert len(names) >= 5
    children, crossed = variation.mate(HSV, config, 1, 3, evolved(HSV), zoo(HSV))
    assert not crossed.any()
    assert blobs(HSV, children) == blobs(HSV, evolved(HSV))


def test_in_genomes_above_a_size_rates_are_less_and_below_it_nothing_is_other() -> None:
    """As many changes are expected in a large genome as in one of that size, each as likely to be large or small."""
    large, small, rounds = evolved(HSV), zoo(HSV), 400
    assert (large.node_ids != PAD).sum(axis=1).min() > 12
    still = VariationConfig(mutation_rate=0.5, activation_rate=0.5, **dict.fromkeys(STRUCTURAL, 0.0))
    rarer = still.model_copy(update={"full_rate_up_to": 8})
    steps: dict[bool, list[NDArray[np.float32]]] = {False: [], True: []}
    weights, activations = np.zeros(12), np.zeros(12)
    for generation in range(rounds):
        for config in (still, rarer):
            found, _ = variation.mutate(HSV, config, 1, generation, large)
            step = found.weights - large.weights
            steps[config is rarer].append(step[step != 0])
        weights += (step != 0).sum(axis=1) / rounds
        activations += (found.activations != large.activations).sum(axis=1) / rounds
    np.testing.assert_allclose(weights, 0.5 * 8, atol=0.4)
    # One redraw in four gives what was there, but for the identity of new nodes.
    exists, drawn = large.node_ids != PAD, np.isin(large.activations, HSV.activation_codes)
    np.testing.assert_allclose(activations, 0.5 * 8 * np.where(drawn, 0.75, 1.0).mean(axis=1, where=exists), atol=0.4)
    assert ks_2samp(*(np.abs(np.concatenate(s)) for s in steps.values())).pvalue > 0.001

    largest = max(int((ids != PAD).sum(axis=1).max()) for ids in (small.connection_ids, small.node_ids))
    whole, same, other = (
        blobs(HSV, variation.mutate(HSV, BUSY.model_copy(update={"full_rate_up_to": size}), 1, 7, small)[0])
        for size in (None, largest, 1)
    )
    assert same == whole != other


# ------------------------------------------------------------------------------------------- rows on their own


@both_cppns
@every_operator
def test_operators_do_not_touch_rows_where_apply_is_false(encoding: CppnEncoding, name: str) -> None:
    batch, generator = zoo(encoding), np.random.default_rng(8)
    before = blobs(encoding, batch)
    count, operator = STRUCTURAL[name]
    for apply in (np.zeros(len(batch), dtype=bool), np.arange(len(batch)) % 2 == 0):
        found, done = operator(batch, apply, *draw(generator, count, len(batch)))
        assert not (done & ~apply).any()
        for row in np.nonzero(~done)[0].tolist():
            assert encoding.to_bytes(found, row) == before[row]
        for row in np.nonzero(done)[0].tolist():
            assert encoding.to_bytes(found, row) != before[row]
    assert done.any()
    assert blobs(encoding, batch) == before


def test_crossover_does_not_touch_rows_where_apply_is_false() -> None:
    first, second = zoo(HSV), HSV.take(zoo(HSV), np.arange(16)[::-1])
    apply = np.arange(16) % 2 == 0
    genes, nodes = np.zeros(first.connection_ids.shape), np.zeros(first.node_ids.shape)
    child = operators.crossover(first, second, apply, genes, nodes)
    before, after = blobs(HSV, first), blobs(HSV, child)
    assert after[1::2] == before[1::2]
    assert after[::2] != before[::2]


def rows_of(batch: Graphs, uniform: NDArray[np.float64], rows: NDArray[np.int64], kind: str) -> NDArray[np.float64]:
    """The numbers of `rows` of a batch, cut to the width that these rows have on their own."""
    width = getattr(HSV.take(batch, rows), kind).shape[1]
    return uniform[rows, :width]


@pytest.mark.parametrize("name", dict.fromkeys(NAMES))
def test_a_row_does_not_depend_on_the_other_rows(name: str) -> None:
    batch, generator = zoo(HSV), np.random.default_rng(12)
    n = len(batch)
    second = HSV.take(batch, generator.permutation(n))
    apply = generator.random(n) < 0.8
    genes, nodes = (draw(generator, *ids.shape) for ids in (batch.connection_ids, batch.node_ids))
    uniform = draw(generator, 3, n)

    def result(rows: NDArray[np.int64]) -> list[bytes]:
        part = HSV.take(batch, rows)
        own_genes, own_nodes = (rows_of(batch, u, rows, k) for u, k in ((genes, "connection_ids"), (nodes, "node_ids")))
        if name == "mutate_weights":
            settings_of = {"rate": 0.3, "eta": 15.0, "kind": "polynomial", "limit": 10.0}
            found = operators.mutate_weights(part, own_genes, **settings_of)[0]
        elif name == "mutate_activations":
            found = operators.mutate_activations(part, own_nodes, rate=0.3, codes=HSV.activation_codes)[0]
        elif name == "crossover":
            found = operators.crossover(part, HSV.take(second, rows), apply[rows], own_genes, own_nodes)
        else:
            count, operator = STRUCTURAL[name]
            found = operator(part, apply[rows], *uniform[:count, rows])[0]
        return blobs(HSV, found)

    together = result(np.arange(n))
    for rows in (generator.permutation(n), np.array([4, 9, 4]), np.array([n - 1])):
        assert result(rows) == [together[row] for row in rows]
    assert [result(np.array([row]))[0] for row in range(n)] == together


def test_mutation_of_a_slot_does_not_depend_on_how_large_its_neighbours_are() -> None:
    small = variation.initial(HSV, 5, 0, 12)
    rows = np.arange(0, 12, 3)
    mixed = HSV.replace(copy.deepcopy(evolved(HSV)), rows, small, rows)
    assert mixed.connection_ids.shape[1] > 2 * small.connection_ids.shape[1]
    alone, alone_bits = variation.mutate(HSV, BUSY, 1, 9, small)
    among, among_bits = variation.mutate(HSV, BUSY, 1, 9, mixed)
    assert [HSV.to_bytes(among, row) for row in rows] == [HSV.to_bytes(alone, row) for row in rows]
    assert among_bits[rows].tolist() == alone_bits[rows].tolist()
    both = VariationConfig(crossover_rate=1.0)
    second = variation.initial(HSV, 6, 0, 12)
    alone, among = (variation.mate(HSV, both, 1, 9, batch, second)[0] for batch in (small, mixed))
    assert [HSV.to_bytes(among, row) for row in rows] == [HSV.to_bytes(alone, row) for row in rows]


# ---------------------------------------------------------------------------------------------------------- split


def column_of(batch: Graphs, source: int, destination: int) -> NDArray[np.float64]:
    """The number that draws source -> destination in the only genome of a batch."""
    wires = list(zip(batch.sources[0].tolist(), batch.destinations[0].tolist()))
    return np.array([(wires.index((source, destination)) + 0.5) / len(wires)])


YES = np.array([True])


def values(encoding: CppnEncoding, batch: Graphs) -> list[NDArray[np.float32]]:
    """What the pixels of a few genomes are before they are rounded, by both renderers."""
    rows = range(0, len(batch), 4)
    size = encoding.height, encoding.width
    inputs = programs.coordinates(*size, encoding.coordinates, size)
    return [
        values_before_rounding(encoding, batch),
        *(reference._evaluate(encoding, batch, row, inputs) for row in rows),
    ]


def assert_same_bits(before: list[NDArray[np.float32]], after: list[NDArray[np.float32]]) -> None:
    for old, new in zip(before, after, strict=True):
        assert np.array_equal(old, new, equal_nan=True)


@both_cppns
def test_a_split_changes_no_bit_of_the_picture(encoding: CppnEncoding) -> None:
    batch, generator = evolved(encoding), np.random.default_rng(3)
    pictures, numbers_before = renderer.render(encoding, batch), values(encoding, batch)
    for _ in range(8):
        batch, done = operators.split_connection(batch, np.ones(12, dtype=bool), draw(generator, 12))
        assert done.all()
        after = renderer.render(encoding, batch)
        assert np.abs(after.astype(int) - pictures).max() <= 1
        assert after.tobytes() == pictures.tobytes()
        assert_same_bits(values(encoding, batch), numbers_before)


@pytest.mark.parametrize("seed", range(4))
def test_a_split_changes_no_bit_where_connections_have_equal_weights(seed: int) -> None:
    # Equal weights are common: `polynomial_clipped` leaves many on the limit, and a split leaves a 1.
    encoding = CppnEncoding(32, 32, "grey")
    batch = variation.initial(encoding, seed, 0, 1)
    for source in range(4):
        batch, _ = operators.split_connection(batch, YES, column_of(batch, source, 4))
    generator = np.random.default_rng(seed)
    kinds = np.where(batch.node_ids < FIRST_HIDDEN, 1, generator.integers(1, 5, batch.node_ids.shape))
    weights = np.where(batch.destinations == 4, 10, generator.uniform(-5, 5, batch.weights.shape))
    batch = Graphs(batch.node_ids, kinds.astype(np.uint8), *batch.arrays()[2:5], weights.astype(np.float32))
    picture, before = renderer.render(encoding, batch), values(encoding, batch)
    assert len(np.unique(picture)) > 100
    for wire in range(8):
        split, _ = operators.split_connection(batch, YES, np.array([(wire + 0.5) / 8]))
        assert np.abs(renderer.render(encoding, split).astype(int) - picture).max() <= 1
        assert_same_bits(before, values(encoding, split))


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.integers(0, 3))
def test_inventors_who_never_met_give_the_same_split_the_same_ids(seed: int, source: int) -> None:
    generator = np.random.default_rng(seed)
    # One has a fresh genome, the other a grown one with the same connection, in a batch with others.
    lonely = variation.initial(HSV, seed, 0, 1)
    crowd = HSV.take(evolved(HSV), generator.permutation(12))
    fitting = []
    for row in range(12):
        wires = Plain.of(crowd, row).connections.values()
        node = int(node_ids(source, 5, 0))
        if any((s, d) == (source, 5) for s, d, _ in wires) and node not in Plain.of(crowd, row).nodes:
            fitting.append(row)
    assert fitting
    which = np.full(12, 0.5)
    for row in fitting:
        which[row] = column_of(HSV.take(crowd, [row]), source, 5)[0]
    one, _ = operators.split_connection(lonely, YES, column_of(lonely, source, 5))
    others, _ = operators.split_connection(crowd, np.ones(12, dtype=bool), which)

    def new_genes(before: Graphs, after: Graphs, row: int) -> tuple[set[int], set[int], set[int]]:
        old, new = Plain.of(before, row), Plain.of(after, row)
        return (
            set(new.nodes) - set(old.nodes),
            set(new.connections) - set(old.connections),
            set(old.connections) - set(new.connections),
        )

    expected = new_genes(lonely, one, 0)
    assert [len(ids) for ids in expected] == [1, 2, 1]
    for row in fitting:
        assert new_genes(crowd, others, row) == expected


def test_a_structure_that_is_lost_and_found_again_keeps_its_ids_and_a_second_split_gets_others() -> None:
    fresh = variation.initial(GREY, 1, 0, 1)
    once, _ = operators.split_connection(fresh, YES, column_of(fresh, 1, 4))
    (node,) = Plain.of(once, 0).hidden()
    assert node == int(node_ids(1, 4, 0))

    def reconnect(batch: Graphs, source: int) -> Graphs:
        nodes = Plain.of(batch, 0)
        start = (source + 0.5) / (4 + len(nodes.hidden()))
        found, done = operators.add_connection(
            batch, YES, np.array([start]), np.array([0.5 / len(nodes.nodes)]), np.array([0.7]), limit=10.0
        )
        assert done.all()
        return found

    # Deleted, connected and split again: the same node and connections.
    gone, _ = operators.delete_node(once, YES, np.array([0.5]))
    assert Plain.of(gone, 0).hidden() == []
    back = reconnect(gone, 1)
    assert set(Plain.of(back, 0).connections) == set(Plain.of(fresh, 0).connections)
    again, _ = operators.split_connection(back, YES, column_of(back, 1, 4))
    assert Plain.of(again, 0).nodes == Plain.of(once, 0).nodes
    assert set(Plain.of(again, 0).connections) == set(Plain.of(once, 0).connections)
    # Connected and split while the first node is still there: the next ordinal.
    second = once
    for ordinal in (1, 2):
        second = reconnect(second, 1)
        second, done = operators.split_connection(second, YES, column_of(second, 1, 4))
        assert done.all()
        assert set(Plain.of(second, 0).hidden()) == {int(node_ids(1, 4, i)) for i in range(ordinal + 1)}
    assert len(Plain.of(second, 0).connections) == len(Plain.of(once, 0).connections) + 4
    assert_valid(GREY, second)


def test_splits_of_different_connections_give_different_nodes() -> None:
    batch, done = variation.initial(HSV, 1, 0, 12), np.ones(12, dtype=bool)
    found, _ = operators.split_connection(batch, done, (np.arange(12) + 0.5) / 12)
    assert len({Plain.of(found, row).hidden()[0] for row in range(12)}) == 12


# ----------------------------------------------------------------------------------------------------- limits, doors


def test_no_operator_grows_a_genome_beyond_what_can_be_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cppn, "MAX_CONNECTIONS", 12)
    monkeypatch.setattr(cppn, "MAX_NODES", 5)
    generator = np.random.default_rng(1)
    batch = variation.initial(HSV, 1, 0, 8)  # 12 connections, 3 nodes
    for turn in range(30):
        name = ["add_connection", "split_connection", "add_connection", "delete_connection"][turn % 4]
        count, operator = STRUCTURAL[name]
        batch, _ = operator(batch, np.ones(8, dtype=bool), *draw(generator, count, 8))
        HSV.from_bytes(blobs(HSV, batch))


@pytest.mark.parametrize("made", [(1, 4), (0, int(node_ids(0, 4, 0))), (int(node_ids(0, 4, 0)), 4)])
@pytest.mark.parametrize("name", ["add_connection", "rewire_connection", "split_connection"])
def test_what_can_be_read_can_be_varied(name: str, made: tuple[int, int]) -> None:
    # x -> output and d -> output, the second under an id that an operator will need for `made`.
    ends = [(0, 4), (2, 4)]
    ids = [int(connection_ids(0, 4, 0)), int(connection_ids(*made, 0))]
    order = np.argsort(ids)
    sources, destinations = np.array(ends)[order].T[:, None]
    forged = Graphs(
        np.array([[4]]), np.array([[1]], dtype=np.uint8), np.array([ids])[:, order], sources, destinations,
        np.ones((1, 2), dtype=np.float32),
    )  # fmt: skip
    try:
        batch = GREY.from_bytes([GREY.to_bytes(forged, 0)])
    except InvalidGenome:
        return
    count, operator = STRUCTURAL[name]
    generator = np.random.default_rng(1)
    for _ in range(40):
        grown, _ = operator(batch, YES, *generator.random((count, 1)))
        GREY.from_bytes(blobs(GREY, grown))


# ------------------------------------------------------------------------------------------------------ crossover


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.integers(0, 10**6))
def test_a_child_has_the_structure_of_its_first_parent_and_matching_genes_of_either(seed: int) -> None:
    generator, batch = np.random.default_rng(seed), zoo(HSV)
    first, second = (HSV.take(batch, generator.choice(16, 6)) for _ in range(2))
    genes, nodes = (draw(generator, *ids.shape) for ids in (first.connection_ids, first.node_ids))
    child = operators.crossover(first, second, np.ones(6, dtype=bool), genes, nodes)
    for row in range(6):
        a, b, c = (Plain.of(parent, row) for parent in (first, second, child))
        assert list(c.nodes) == list(a.nodes)
        assert [(i, *wire[:2]) for i, wire in c.connections.items()] == [
            (i, *wire[:2]) for i, wire in a.connections.items()
        ]
        for u, (i, wire) in zip(genes[row].tolist(), c.connections.items()):
            origin = b if u < 0.5 and i in b.connections else a
            assert wire[2] == origin.connections[i][2]
        for u, (i, activation) in zip(nodes[row].tolist(), c.nodes.items()):
            assert activation == (b if u < 0.5 and i in b.nodes else a).nodes[i]


def test_half_of_the_matching_genes_come_from_each_parent() -> None:
    first, second = (variation.initial(HSV, seed, 0, 2000) for seed in (1, 2))
    child, apply = variation.mate(HSV, VariationConfig(crossover_rate=1.0), 1, 5, first, second)
    assert apply.all()
    swapped = child.weights != first.weights
    assert np.array_equal(child.weights[swapped], second.weights[swapped])
    assert binomtest(int(swapped.sum()), swapped.size, 0.5).pvalue > 0.001
    assert abs(np.corrcoef(swapped[:, :2].T)[0, 1]) < 0.1
    other = first.activations != second.activations
    assert (child.activations != first.activations)[other].mean() == pytest.approx(0.5, abs=0.03)


# ------------------------------------------------------------------------------------- initial, mate, mutate: addresses


@pytest.mark.parametrize("encoding", [HSV, PIXELS], ids=["hsv", "pixels"])
def test_variation_is_a_function_of_its_address(encoding: Encoding) -> None:
    config = VariationConfig(crossover_rate=0.5)

    def offspring(seed: int, generation: int) -> list[bytes]:
        first, second = (variation.initial(encoding, s, 0, 12) for s in (1, 2))
        children, crossed = variation.mate(encoding, config, seed, generation, first, second)
        children, bits = variation.mutate(encoding, config, seed, generation, children)
        return [*blobs(encoding, children), crossed.tobytes(), bits.tobytes()]

    once = offspring(1, 4)
    random.seed(5)
    assert offspring(1, 4) == once
    assert sum(a == b for a, b in zip(offspring(2, 4)[:12], once)) == 0
    assert sum(a == b for a, b in zip(offspring(1, 5)[:12], once)) == 0


@pytest.mark.parametrize("encoding", [HSV, PIXELS], ids=["hsv", "pixels"])
def test_every_draw_of_a_generation_has_an_address_of_its_own(
    encoding: Encoding, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch, addresses, words = evolved(encoding), [], variation.rng.words

    def spy(seed: int, domain: str, generation: int, count: int, start: int = 0) -> NDArray[np.uint64]:
        addresses.append((seed, domain, generation))
        return words(seed, domain, generation, count, start)

    monkeypatch.setattr(variation.rng, "words", spy)
    monkeypatch.setattr(variation.rng, "_compiled", lambda: None)
    variation.initial(encoding, 3, 77, 12)
    variation.mate(encoding, VariationConfig(crossover_rate=1.0), 3, 77, batch, batch)
    variation.mutate(encoding, BUSY, 3, 77, batch)
    assert len(set(addresses)) == len(addresses)
    assert len(addresses) >= (12 if encoding is HSV else 4)
    assert {(seed, generation) for seed, _, generation in addresses} == {(3, 77)}


@pytest.mark.parametrize("encoding", [HSV, PIXELS], ids=["hsv", "pixels"])
def test_mutation_leaves_its_input_alone_unless_told(encoding: Encoding) -> None:
    batch = copy.deepcopy(evolved(encoding))
    before = blobs(encoding, batch)
    mutated, bits = variation.mutate(encoding, BUSY, 3, 7, batch)
    assert blobs(encoding, batch) == before != blobs(encoding, mutated)
    again, same = variation.mutate(encoding, BUSY, 3, 7, batch, overwrite=True)
    assert blobs(encoding, again) == blobs(encoding, mutated) and bits.tolist() == same.tolist()
    if encoding is PIXELS:
        assert again is batch


@pytest.mark.parametrize("encoding", [HSV, PIXELS], ids=["hsv", "pixels"])
@pytest.mark.parametrize("rate", [0.0, 0.5])
@pytest.mark.parametrize("own", ["", "mate", "mutate"])
def test_breeding_changes_no_elite_and_gives_operators_what_they_may_look_at(
    encoding: Encoding, rate: float, own: str
) -> None:
    given_keys = {"variation": {"crossover_rate": rate}, "search": {"offspring": 8}}
    config = load_config({"target": {"spec": "lenet:x"}, **given_keys})
    breeder = Breeder(config, encoding, Cells(np.arange(4)), None)
    elites, ids = evolved(encoding), np.arange(4)
    archive = replace(archives.empty(4), elites=ids, log_odds=np.zeros(4, dtype=np.float32))
    breeder.keep(archive, ids, np.full(4, NO_PARENT), elites, ids)
    pairs = breeder.select(archive, 9, 8)
    first, second = (blobs(encoding, encoding.take(elites, pairs[:, side])) for side in (0, 1))
    seen: list[Any] = []

    def watching(name: str) -> Callable[..., Any]:
        def operator(generation: int, *batches: Any) -> Any:
            before = [blobs(encoding, batch) for batch in batches]
            result = getattr(breeder, name)(generation, *batches)
            seen.append((name, before))
            return result

        return operator

    toolbox = base.Toolbox()
    for name in ("select", "mate", "mutate"):
        toolbox.register(name, watching(name) if name == own else getattr(breeder, name))
    bred = breeder.breed(9, archive, toolbox)
    parents = [encoding.from_bytes(side) for side in (first, second)]
    children, crossed = variation.mate(encoding, config.variation, 1, 9, *parents)
    children, _ = variation.mutate(encoding, config.variation, 1, 9, children)
    assert blobs(encoding, bred.genomes) == blobs(encoding, children)
    assert bool(crossed.any()) == bool(rate)
    if own == "mate":
        assert seen == [("mate", [first, second])]
    everyone = breeder._elites.take(ids)
    assert blobs(encoding, everyone) == blobs(encoding, encoding.take(elites, ids))


@pytest.mark.parametrize("genes", [1, 7, 64, 90])
def test_pixels_bred_a_few_at_a_time_are_those_bred_at_once(genes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rates = VariationConfig(crossover_rate=0.6, mutation_rate=0.3)

    def bred() -> list[Any]:
        first, second = (variation.initial(PIXELS, seed, 2, 9) for seed in (1, 2))
        children, crossed = variation.mate(PIXELS, rates, 5, 6, first, second)
        return [first, children, crossed, *variation.mutate(PIXELS, rates, 5, 6, children)]

    at_once = bred()
    monkeypatch.setattr(direct_breeding, "_GENES", genes)
    for whole, parts in zip(at_once, bred(), strict=True):
        assert whole.tobytes() == parts.tobytes()


@pytest.mark.parametrize("kind", sorted(arrays.MUTATIONS))
@pytest.mark.parametrize("rate", [0.0, 0.1, 1.0])
def test_mutate_of_pixels_is_the_pure_operator_with_every_number_made(kind: Any, rate: float) -> None:
    batch = variation.initial(PIXELS, 1, 2, 9)
    uniform = rng.uniforms(5, "mutate.pixels", 6, (9, batch[0].size))
    expected, chosen = arrays.mutate(batch.reshape(9, -1), uniform, rate=rate, eta=15.0, kind=kind)
    config = VariationConfig(mutation=kind, mutation_rate=rate, mutation_eta=15.0)
    found, bits = variation.mutate(PIXELS, config, 5, 6, batch)
    assert found.tobytes() == expected.tobytes()
    assert (bits > 0).tolist() == chosen.any(axis=1).tolist()


@pytest.mark.parametrize("encoding", [HSV, PIXELS], ids=["hsv", "pixels"])
def test_initial_genomes_of_seeds_generations_and_slots_all_differ(encoding: Encoding) -> None:
    found: set[bytes] = set()
    for seed, generation in ((0, 0), (0, 1), (1, 0), (1, 1)):
        found |= set(blobs(encoding, variation.initial(encoding, seed, generation, 20)))
    assert len(found) == 80


def test_initial_slots_do_not_depend_on_how_many_there_are() -> None:
    for encoding in (HSV, PIXELS):
        few, many = (variation.initial(encoding, 3, 1, rows) for rows in (4, 50))
        assert blobs(encoding, many)[:4] == blobs(encoding, few)


@pytest.mark.parametrize("encoding", [HSV, PIXELS], ids=["hsv", "pixels"])
def test_mate_crosses_at_its_rate_and_copies_the_first_parent_otherwise(encoding: Encoding) -> None:
    first, second = (variation.initial(encoding, seed, 0, 1000) for seed in (1, 2))
    parents = blobs(encoding, first), blobs(encoding, second)
    children, crossed = variation.mate(encoding, VariationConfig(crossover_rate=0.3), 1, 2, first, second)
    assert crossed.mean() == pytest.approx(0.3, abs=0.05)
    changed = np.array([a != b for a, b in zip(blobs(encoding, children), parents[0])])
    assert not changed[~crossed].any()
    assert changed[crossed].mean() > 0.99
    assert (blobs(encoding, first), blobs(encoding, second)) == parents


def test_mate_of_pixels_is_crossover_of_each_pixel() -> None:
    first, second = (variation.initial(PIXELS, seed, 0, 200) for seed in (1, 2))
    children, _ = variation.mate(PIXELS, VariationConfig(crossover_rate=1.0), 1, 2, first, second)
    assert children.shape == first.shape
    assert (children == first).mean() == pytest.approx(0.5, abs=0.02)
    # SBX keeps to the neighbourhood of one of both parents.
    nearest = np.minimum(np.abs(children - first), np.abs(children - second))
    assert np.median(nearest[children != first]) < 0.05


def test_mutate_of_pixels_mutates_each_pixel_at_its_rate() -> None:
    genomes = variation.initial(PIXELS, 1, 0, 500)
    children, bits = variation.mutate(PIXELS, VariationConfig(mutation_rate=0.05), 1, 2, genomes)
    changed = children != genomes
    assert changed.mean() == pytest.approx(0.05, abs=0.005)
    assert children.dtype == np.float32
    assert bits.dtype == np.uint32
    bit = operator_bit("mutate_pixels")
    any_changed = changed.reshape(500, -1).any(axis=1)
    assert ((bits == bit) >= any_changed).all()
    assert not any_changed.all()
    assert set(bits.tolist()) == {0, int(bit)}


def test_operators_that_are_reported_are_those_that_took_effect() -> None:
    genomes = evolved(HSV)
    before = blobs(HSV, genomes)
    seen = set()
    calm = VariationConfig(mutation_rate=0.01, activation_rate=0.01, add_connection=0.1)
    for generation in range(30):
        config = BUSY if generation % 2 else calm
        children, bits = variation.mutate(HSV, config, 7, generation, genomes)
        assert bits.dtype == np.uint32
        for row in range(12):
            names = set(operator_names(int(bits[row])))
            old, new = Plain.of(genomes, row), Plain.of(children, row)
            seen |= names
            if not names:
                assert HSV.to_bytes(children, row) == before[row]
            if HSV.to_bytes(children, row) == before[row]:
                assert names <= {"mutate_activations", "mutate_weights", "add_connection", "delete_connection"}
            lost, won = set(old.nodes) - set(new.nodes), set(new.nodes) - set(old.nodes)
            assert not won or "split_connection" in names
            assert not lost or "delete_node" in names
            if set(new.connections) - set(old.connections):
                assert names & {"add_connection", "rewire_connection", "split_connection"}
            if set(old.connections) - set(new.connections):
                assert names & {"delete_connection", "rewire_connection", "split_connection", "delete_node"}
            for i in set(old.connections) & set(new.connections):
                moved = old.connections[i][2] != new.connections[i][2]
                assert not moved or names & {"mutate_weights", "add_connection", "rewire_connection"}
    assert blobs(HSV, genomes) == before
    assert seen == set(OPERATORS) - {"initial", "seed", "crossover", "mutate_pixels", "own", "mutate"}


def test_structural_operators_run_at_their_rates() -> None:
    genomes = HSV.take(evolved(HSV), np.arange(1200) % 12)
    config = VariationConfig(delete_connection=0.3, split_connection=0.5, delete_node=0.2, rewire_connection=0.0)
    _, bits = variation.mutate(HSV, config, 3, 1, genomes)
    share = {n: float((bits >> i & 1).mean()) for i, n in enumerate(OPERATORS)}
    assert share["delete_connection"] == pytest.approx(0.3, abs=0.045)
    assert share["split_connection"] == pytest.approx(0.5, abs=0.045)
    assert share["delete_node"] == pytest.approx(0.2, abs=0.045)
    assert share["rewire_connection"] == 0
    assert 0.1 < share["add_connection"] < 0.5  # attempts at 0.5, of which some would be there already
    # Whether one operator is tried tells nothing of the others.
    tried = [bits >> OPERATORS.index(n) & 1 for n in ("delete_connection", "split_connection", "delete_node")]
    assert np.abs(np.corrcoef(tried) - np.eye(3)).max() < 0.12


def test_operator_bits_and_names_are_inverse_and_their_order_is_fixed() -> None:
    assert OPERATORS[:11] == (
        "initial", "seed", "crossover", "mutate_pixels", "mutate_weights", "mutate_activations",
        "add_connection", "delete_connection", "rewire_connection", "split_connection", "delete_node",
    )  # fmt: skip
    for i, name in enumerate(OPERATORS):
        assert operator_bit(name) == 1 << i
        assert operator_names(int(operator_bit(name))) == [name]
    assert operator_names(0b1000100001) == ["initial", "mutate_activations", "split_connection"]
