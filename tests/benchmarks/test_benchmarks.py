"""The programs that `make bench` measures evofool against do the same work as evofool."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pytest
from conftest import ROOT
from deap import tools
from numpy.typing import NDArray

from benchmarks import deap_search, driver, plain, pyribs_search, simulation, vary
from benchmarks.bench import page, seed_numbers
from benchmarks.measure import Comparison, alternate, rate, table
from benchmarks.traces import Judge, Trace
from evofool.config import load_config
from evofool.encoding import variation
from evofool.encoding.cppn.genome import CppnEncoding
from evofool.encoding.direct.genome import DirectEncoding
from evofool.encoding.drawing import reference
from evofool.encoding.drawing.render import render
from evofool.evaluate.over_ray.pool import RayPool
from evofool.machines.bench.genomes import grown
from evofool.records import Cells
from evofool.targets.numerics import default_numerics

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow]


def encoding(side: int = 28, colour: str = "grey") -> CppnEncoding:
    return CppnEncoding(side, side, colour)


def assert_alike(one: NDArray[Any], other: NDArray[Any]) -> None:
    """Within a grey level, but for a pixel here and there where large weights blow up the last bit of a sine."""
    assert (np.abs(one - other) > 1).mean() < 0.01


@pytest.mark.parametrize(("side", "colour", "hidden"), [(28, "grey", 0), (28, "grey", 24), (40, "hsv", 24)])
def test_the_plain_torch_loop_draws_the_same_pictures(side: int, colour: str, hidden: int) -> None:
    genomes = grown(encoding(side, colour), 10, hidden)
    ours = render(encoding(side, colour), genomes).astype(int)
    for row in range(10):
        genome = plain.plain(encoding(side, colour), genomes, row)
        theirs = plain.torch_picture(genome, plain.pixel_inputs(side))
        assert_alike(ours[row].reshape(theirs.shape), theirs)


def test_neat_pythons_network_draws_the_same_pictures() -> None:
    genomes = grown(encoding(), 5, 24)
    pixels = plain.pixel_inputs(28).T.tolist()
    for row in range(5):
        theirs = plain.neat_picture(plain.plain(encoding(), genomes, row), pixels)
        ours = reference.render(encoding(), genomes, row).reshape(-1, 1)
        assert_alike(ours.astype(int), theirs)


def test_plain_genomes_are_put_into_an_order_that_can_be_evaluated() -> None:
    for row in range(10):
        genome = plain.plain(encoding(), grown(encoding(), 10, 24), row)
        known = set(range(4))
        for node, _, arriving in plain.ordered(genome):
            assert {source for source, _ in arriving} <= known
            known.add(node)
        assert set(genome.outputs) <= known


def moments(steps: NDArray[np.float64]) -> tuple[float, float, float]:
    """Share of genes that moved, and mean and standard deviation of their steps."""
    moved = steps[steps != 0]
    return len(moved) / steps.size, float(moved.mean()), float(moved.std())


def agree(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> None:
    """Both samples of steps come from one distribution, as far as moments show: within five standard errors."""
    (share, mean, deviation), (other_share, other_mean, other_deviation) = moments(ours), moments(theirs)
    moved = min((ours != 0).sum(), (theirs != 0).sum())
    assert share == pytest.approx(other_share, rel=5 / moved**0.5)
    assert mean == pytest.approx(other_mean, abs=5 * deviation / moved**0.5)
    assert deviation == pytest.approx(other_deviation, rel=10 / moved**0.5)


@pytest.mark.parametrize("gene", [0.05, 0.5, 0.8])
def test_deaps_mutation_makes_the_same_steps(gene: float) -> None:
    random.seed(1)
    parents = np.full((200, 28, 28, 1), gene, dtype=np.float32)
    ours, _ = variation.mutate(DirectEncoding(28, 28, "grey"), vary.PIXELS, 1, 1, parents)
    start = float(np.float32(gene))
    theirs = [tools.mutPolynomialBounded([start] * 784, vary.ETA, 0.0, 1.0, vary.RATE)[0] for _ in range(200)]
    agree(ours.astype(np.float64) - start, np.array(theirs) - start)


def test_deaps_crossover_makes_the_same_steps() -> None:
    random.seed(1)
    first, second = (np.full((200, 28, 28, 1), gene, dtype=np.float32) for gene in (0.25, 0.625))
    ours, _ = variation.mate(DirectEncoding(28, 28, "grey"), vary.PIXELS, 1, 1, first, second)
    theirs = [tools.cxSimulatedBinaryBounded([0.25] * 784, [0.625] * 784, vary.ETA, 0.0, 1.0)[0] for _ in range(200)]

    def to_parent(genes: NDArray[np.float64]) -> NDArray[np.float64]:
        """Steps from the nearer parent: DEAP's first child is near either, as ours is."""
        return np.where(genes < 0.4375, genes - 0.25, genes - 0.625)

    agree(to_parent(ours.astype(np.float64)), to_parent(np.array(theirs)))


@pytest.mark.parametrize("setting", [pyribs_search.TUTORIAL, pyribs_search.Setting(0.02, 200, True)])
def test_pyribs_searches(setting: pyribs_search.Setting, lenet_file: Path) -> None:
    trace = pyribs_search.search(f"lenet:{lenet_file}", setting, 1, 600)
    assert trace["total"] == 600 and trace["evaluations"][-1] == 600
    assert trace["median"] == sorted(trace["median"]) and trace["minimum"] == sorted(trace["minimum"])
    again = pyribs_search.search(f"lenet:{lenet_file}", setting, 1, 600)
    assert again["median"] == trace["median"]


def test_deaps_workers_judge_as_evofool_does(lenet_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deap_search, "_judge", [Judge(f"lenet:{lenet_file}")])
    pixels = np.random.default_rng(1).random((70, 784))
    images = np.floor(pixels * 255 + 0.5).astype(np.uint8).reshape(-1, 28, 28, 1)
    odds = deap_search.evaluate(pixels.tolist())
    assert odds.shape == (70, 10)
    np.testing.assert_allclose(odds, Judge(f"lenet:{lenet_file}").log_odds(images), rtol=1e-5)


@pytest.mark.slow
def test_the_driver_runs_on_a_pool_that_scores_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(driver, "GROWING", 20)
    found = driver.timed_run(50, "busy", 20)
    assert found["rate"] > 0 and found["share_of_scores"] < 0.5
    assert found["placements_a_generation"] == pytest.approx(50 * driver.PACES["busy"], rel=0.3)


def test_a_trace_says_when_the_goal_was_reached_and_stays_thin() -> None:
    trace = Trace("x", 1, 1)
    for evaluations in range(1, 10_001):
        trace.record(evaluations, 0.9999 if evaluations >= 5000 else 0.5, 0.1)
    assert trace.median_at == 5000 and trace.minimum_at is None
    assert len(trace.evaluations) < 500 and trace.evaluations == sorted(trace.evaluations)
    assert (trace.evaluations[-1], trace.median[-1]) == (10_000, 0.9999)


def test_ratios_are_of_medians_and_their_spread_of_rounds() -> None:
    row = Comparison("x", "y/s", "1 thread", [10.0, 30.0, 20.0], {"a": [1.0, 1.0, 1.0], "b": [2.0, 2.0, 4.0]}, 5)
    assert "| x | 20 y/s | b: 2 | 10 (5 to 15) | 5 | 1 thread |" in table([vars(row)])


def test_contestants_take_turns() -> None:
    calls: list[str] = []

    def contestant(name: str) -> Callable[[], float]:
        return lambda: float(calls.append(name) or len(calls))

    assert alternate({"a": contestant("a"), "b": contestant("b")}, 2) == {"a": [1.0, 4.0], "b": [2.0, 3.0]}
    assert calls == ["a", "b", "b", "a"]
    done, taken = rate(lambda: 3, 0.0)
    assert done == 3 and taken > 0


def test_the_page_is_what_the_results_give() -> None:
    results = json.loads((ROOT / "docs" / "benchmarks.json").read_text())
    assert page(results) == (ROOT / "docs" / "benchmarks.md").read_text()


def test_seed_numbers() -> None:
    assert seed_numbers("1-3,7") == (1, 2, 3, 7)


def a_problem() -> Any:
    """As much of one as a simulation asks for."""
    target = SimpleNamespace(family="lenet")
    return SimpleNamespace(genomes=encoding(), encoding=encoding(), cells=Cells(np.arange(10)), target=target)


@pytest.mark.parametrize(("evaluators", "least"), [(1, 0.97), (8, 0.9)])
def test_simulated_evaluators_that_are_alike_hardly_wait(evaluators: int, least: float) -> None:
    config = load_config("configs/quickstart.yaml", ["search.offspring=1600", "search.lag=2"])
    problem = a_problem()
    costs = simulation.Costs(chunks=[1.0], latency=0.01, driver=0.001)
    with mock.patch.multiple(simulation, STRAGGLERS=0.0, ROUNDS=64):
        found = simulation.efficiency(config, problem, costs, evaluators, 1600)
    assert least <= found["efficiency"] <= 1.03
    assert found["per_second"] == pytest.approx(
        found["efficiency"] * evaluators * default_numerics("cpu", "lenet").chunk
    )


def test_a_simulated_straggler_holds_up_fewer_when_its_chunks_are_sent_again() -> None:
    config = load_config("configs/quickstart.yaml", ["search.offspring=1600", "search.lag=2"])
    problem = a_problem()
    costs = simulation.Costs(chunks=[1.0], latency=0.01, driver=0.001)
    with mock.patch.multiple(simulation, STRAGGLERS=0.02, SLOWER=20.0, ROUNDS=64):
        again = simulation.efficiency(config, problem, costs, 16, 1600)
        with mock.patch.object(RayPool, "_straggler", lambda self: None):
            never = simulation.efficiency(config, problem, costs, 16, 1600)
    assert again["per_second"] > 1.2 * never["per_second"]
