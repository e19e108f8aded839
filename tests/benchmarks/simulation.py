"""More evaluators than there are here: the real search and the real scheduler of the Ray pool, in virtual time.

Ray is replaced by actors that say at once what they will have answered later, and a clock that jumps to the next
answer. How long a chunk takes, how long it travels and what it costs the driver to send are measured first, over a real
Ray; a share of the chunks is slowed down further. The driver's own work is not simulated: the clock counts its time.
"""

from __future__ import annotations

import contextlib
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np

from benchmarks.measure import Settings
from evofool.base.source import Source
from evofool.config import Config, load_config
from evofool.evaluate.evaluator import VERBS
from evofool.evaluate.opening import open_pool
from evofool.evaluate.over_ray import cluster as ray_cluster
from evofool.evaluate.over_ray import pool as ray_pool
from evofool.evaluate.over_ray import roster
from evofool.evaluate.over_ray.pool import RayPool
from evofool.evaluate.pool import Job
from evofool.evaluate.problem import Problem
from evofool.evaluate.resolving import resolve_numerics
from evofool.machines.bench.over_ray import IdleRecipe, RoundTrip
from evofool.machines.probe import opened_problem
from evofool.records import Scores
from evofool.search.loop import Search

__all__ = ["Costs", "SimulatedRay", "efficiency", "in_short", "markdown", "measure"]

CONFIG = "configs/imagenet_cppn.yaml"
EVALUATORS = (2, 8, 16, 32, 64)
SEARCHES = ((400, 1), (1600, 1), (1600, 4), (3200, 2), (3200, 4))  # offspring and search.lag
STRAGGLERS, SLOWER = 0.01, 5.0  # this share of the chunks takes so many times as long
ROUNDS = 60  # chunks for each evaluator


@dataclass(frozen=True)
class Costs:
    """What was measured, in seconds."""

    chunks: list[float]  # an evaluator's time for each of some chunks
    latency: float  # of a chunk that takes no time, there and back
    driver: float  # processor time of the driver for sending a chunk and taking its scores


# ------------------------------------------------------------------------------------------------------ Ray, in part


@dataclass(eq=False)
class _Ref:
    ready: float
    value: Any


@dataclass(eq=False)
class _Actor:
    """Answers calls one after the other."""

    ray: SimulatedRay
    number: int
    free: float = 0.0

    def __getattr__(self, verb: str) -> Any:
        if verb.startswith("_"):
            raise AttributeError(verb)
        if verb == "perform":
            return SimpleNamespace(remote=lambda verb, batch: self.ray.call(self, verb, batch))
        return SimpleNamespace(remote=lambda recipe: self.ray.call(self, verb, recipe))


class SimulatedRay:
    """What over_ray/pool.py and roster.py use of Ray and of the clock.

    Args:
        perform: what an actor's result of (verb, batch) is; an error is raised where it is taken.
    """

    def __init__(self, perform: Callable[[str, Any], Any], costs: Costs, seed: int = 0) -> None:
        self.perform, self.costs, self.random = perform, costs, np.random.default_rng(seed)
        self.actors: list[_Actor] = []
        self.now, self._since = 0.0, time.perf_counter()

    def monotonic(self) -> float:
        """The time: what was jumped over, and what the driver has really taken."""
        return self.now + time.perf_counter() - self._since

    def _working(self, work: Callable[[], Any], cost: float = 0.0) -> Any:
        """Simulate; the time that takes is nobody's, but for `cost`."""
        self.now = self.monotonic() + cost
        result = work()
        self._since = time.perf_counter()
        return result

    def remote(self, cls: Any) -> Any:
        """An actor class."""

        def made() -> _Actor:
            self.actors.append(_Actor(self, len(self.actors)))
            return self.actors[-1]

        return SimpleNamespace(options=lambda **_: SimpleNamespace(remote=made))

    def call(self, actor: _Actor, verb: str, batch: Any) -> _Ref:
        """Send something to an actor."""
        sent: _Ref = self._working(lambda: self._answer(actor, verb, batch), self.costs.driver / 2)
        return sent

    def _answer(self, actor: _Actor, verb: str, batch: Any) -> _Ref:
        if verb == "hello":
            return _Ref(self.now, {"canary": "simulated", "pid": 0, "host": "nowhere", "node": ""})
        seconds = float(self.random.choice(self.costs.chunks))
        if self.random.random() < STRAGGLERS:
            seconds *= SLOWER
        actor.free = max(actor.free, self.now + self.costs.latency / 2) + seconds
        result = self.perform(verb, batch)
        value = result if isinstance(result, Exception) else (result, seconds, 0.0)
        return _Ref(actor.free + self.costs.latency / 2, value)

    def wait(self, refs: Sequence[_Ref], num_returns: int = 1, timeout: float = 0.0) -> tuple[list[_Ref], list[_Ref]]:
        """Jump to the first answer."""

        def first() -> tuple[list[_Ref], list[_Ref]]:
            ordered = sorted(refs, key=lambda ref: ref.ready)
            self.now = max(self.now, min(ordered[0].ready, self.now + timeout))
            ready = [ref for ref in ordered[:num_returns] if ref.ready <= self.now]
            return ready, [ref for ref in refs if ref not in ready]

        return self._working(first)

    def get(self, ref: _Ref) -> Any:
        """An answer."""

        def value() -> Any:
            self.now = max(self.now, ref.ready)
            if isinstance(ref.value, Exception):
                raise ref.value
            return ref.value

        return self._working(value, self.costs.driver / 2)

    def put(self, value: Any) -> Any:
        """Nothing to be put anywhere."""
        return value

    def kill(self, actor: _Actor, **_: Any) -> None:
        """Nothing to be ended."""


def made_up(cells: int) -> Callable[[str, Any], Scores]:
    """Scores for so many cells; the same for the same genomes, since a chunk that two evaluators score is compared."""

    def perform(verb: str, batch: Any) -> Scores:
        n, genomes = len(batch), b"".join(array.tobytes() for array in batch.arrays())
        odds = np.random.default_rng(zlib.crc32(genomes)).standard_normal((n, cells), dtype=np.float32)
        return Scores.of(odds)

    return perform


def made_up_cluster(cpus: Callable[[], float], free: Callable[[], float] | None = None) -> Any:
    """A cluster of so many processors, all of them free if `free` says nothing else; it stays."""

    def amount(of: Callable[[], float]) -> Callable[[str], float]:
        return lambda name: of() if name == "CPU" else 0

    return SimpleNamespace(supply=amount(cpus), free=amount(free or cpus), check=lambda: None, gone=False)


@contextlib.contextmanager
def in_place_of_ray(simulated: Any) -> Iterator[None]:
    """The pool over Ray, over this instead."""
    with contextlib.ExitStack() as patches:
        for module in (ray_pool, roster):
            for name in ("ray", "time"):
                patches.enter_context(mock.patch.object(module, name, simulated))
        yield


def efficiency(
    config: Config, problem: Problem, costs: Costs, evaluators: int, offspring: int, lag: int = 2, seed: int = 0
) -> dict[str, float]:
    """A search over so many simulated evaluators: evaluations a second, and of the rate of ones that never wait."""
    sizes = {"offspring": offspring, "initial": offspring, "lag": lag, "generations": None}
    search = config.search.model_copy(update=sizes)
    config = config.model_copy(update={"search": search})
    numerics = resolve_numerics(config.evaluation, problem.target.family, False)
    simulated = SimulatedRay(made_up(len(problem.cells)), costs, seed)
    cluster = made_up_cluster(lambda: evaluators)
    with in_place_of_ray(simulated):
        recipe = SimpleNamespace(encoding=problem.encoding, numerics=numerics, cells=problem.cells, verbs=VERBS)
        pool = RayPool(cluster, recipe, evaluators=evaluators)  # type: ignore[arg-type]
        run = Search(config, problem.genomes, pool, problem.cells)
        wanted = ROUNDS * evaluators * numerics.chunk
        begun: list[float] = []

        def stop(statistics: Any) -> bool:
            if statistics is not None and not begun:  # the first generation is over: everyone is at work
                begun.extend([simulated.monotonic(), statistics.evaluations])
            return statistics is not None and statistics.evaluations >= wanted + begun[1]

        run.run(stop)
        per_second = (run.statistics.evaluations - begun[1]) / (simulated.monotonic() - begun[0])
    chunk = float(np.mean(costs.chunks)) * (1 + STRAGGLERS * (SLOWER - 1))
    return {"efficiency": per_second / (evaluators * numerics.chunk / chunk), "per_second": per_second}


# ------------------------------------------------------------------------------------------------------- measurements


def measure(settings: Settings) -> dict[str, Any]:
    """The costs, and the efficiency of each number of evaluators."""
    config = load_config(CONFIG)
    source = Source(config.target.spec)
    problem = opened_problem(config, source)
    costs = _costs(problem, generations=1 if settings.quick else 3)
    rows = [
        {
            "offspring": offspring,
            "lag": lag,
            "evaluators": n,
            **_medians([efficiency(config, problem, costs, n, offspring, lag, seed) for seed in settings.seeds]),
        }
        for offspring, lag in SEARCHES
        for n in (EVALUATORS[::2] if settings.quick else EVALUATORS)
    ]
    return {"costs": vars(costs), "rows": rows}


def _medians(found: list[dict[str, float]]) -> dict[str, Any]:
    rates = [one["efficiency"] for one in found]
    return {
        "per_second": float(np.median([one["per_second"] for one in found])),
        "efficiency": float(np.median(rates)),
        "spread": [min(rates), max(rates)],
    }


def _costs(problem: Problem, generations: int) -> Costs:
    """Measured over a Ray of this machine's own."""
    seconds: list[float] = []
    take = RayPool._take

    def spy(self: RayPool, worker: Any, ref: Any) -> None:
        before = self.report().core_seconds
        take(self, worker, ref)
        seconds.append(self.report().core_seconds - before)

    with mock.patch.object(RayPool, "_take", spy), open_pool(problem, address="local") as opened:
        pool, numerics, _ = opened
        trips = RoundTrip(problem, pool)
        for generation in range(generations):
            pool.submit(Job(generation, "score", trips.genomes))
        for generation in range(generations):
            pool.collect(generation)
    cluster = ray_cluster.connect("local", 2)
    try:
        recipe = IdleRecipe.of(problem, numerics)
        idle = RayPool(cluster, recipe, evaluators=1)
        trips = RoundTrip(problem, idle)
        trips.measure(1.0)
        processor = time.process_time()
        reading = trips.measure(5.0)
        driver = (time.process_time() - processor) / (reading.evaluations / numerics.chunk)
        one = problem.genomes.take(trips.genomes, np.arange(numerics.chunk))
        latencies = []
        for generation in range(1, 51):
            started = time.perf_counter()
            idle.submit(Job(-generation, "score", one))
            idle.collect(-generation)
            latencies.append(time.perf_counter() - started)
        idle.close()
    finally:
        cluster.close()
    return Costs(seconds, float(np.median(latencies)), driver)


def in_short(results: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(what, found, aim) for the most evaluators."""
    most = max(row["evaluators"] for row in results["rows"])
    return [
        (
            f"{most} simulated evaluators, {row['offspring']} offspring, lag {row['lag']}",
            f"{row['efficiency']:.2f} of {most} that never wait ({row['spread'][0]:.2f} to {row['spread'][1]:.2f})",
            "0.95",
        )
        for row in results["rows"]
        if row["evaluators"] == most
    ]


def markdown(results: dict[str, Any]) -> str:
    """The table, with what it was made from."""
    costs, slow = results["costs"], f"{STRAGGLERS:.0%} of the chunks {SLOWER:g} times slower"
    lines = [
        f"Chunks of efficientnet-lite0 took {np.median(costs['chunks']):.2f} s ({min(costs['chunks']):.2f} to "
        f"{max(costs['chunks']):.2f}) on one core; {slow}. There and back an empty chunk took "
        f"{costs['latency'] * 1e3:.1f} ms, and {costs['driver'] * 1e3:.1f} ms of the driver. Efficiency: "
        f"of the rate of as many evaluators that never wait.",
        "",
        "| offspring | search.lag | evaluators | evaluations/s | efficiency |",
        "|---|---|---|---|---|",
    ]
    for row in results["rows"]:
        lines.append(
            f"| {row['offspring']} | {row['lag']} | {row['evaluators']} | {row['per_second']:,.0f} "
            f"| {row['efficiency']:.2f} |"
        )
    return "\n".join(lines)
