"""What every pool promises: results by ticket and row, the same bits however work is cut up, shared out or lost.

The oracle is an evaluator that does one row at a time.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
import ray
from benchmarks.simulation import Costs, SimulatedRay, in_place_of_ray, made_up_cluster
from numpy.typing import NDArray
from ray import exceptions as ray_errors

from evofool.archive.objectives import LOG_ODDS
from evofool.base.registry import POOLS
from evofool.config import load_config
from evofool.errors import IncompatibleRun
from evofool.evaluate.evaluator import VERBS, Evaluator, Verb
from evofool.evaluate.inline import InlinePool
from evofool.evaluate.opening import open_pool
from evofool.evaluate.over_ray import pool as ray_pool
from evofool.evaluate.over_ray.cluster import connected
from evofool.evaluate.over_ray.pool import RayPool
from evofool.evaluate.pool import Job, Overdue, Question, at_once, stream
from evofool.evaluate.problem import Problem, problem_of
from evofool.evaluate.settings import applied
from evofool.records import Numerics, Scores
from evofool.search.asking import AskTellPool
from evofool.targets.gradients import Gradients
from evofool.targets.opening import open_target

CHUNK, MICRO = 8, 4
NUMERICS = Numerics(device="cpu", chunk=CHUNK, micro_batch=MICRO, threads=1, memory_format="contiguous")
NOT_A_NUMBER, DEADLY = 251, 252  # grey levels of the first pixel, at which this network has no answer, or dies
NETWORK = f"""
import os
import torch, evofool

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.first = torch.nn.Parameter(torch.randn(20, 16, generator=generator))
        self.second = torch.nn.Parameter(torch.randn(5, 20, generator=generator))

    def forward(self, x):
        x = x.flatten(1)
        level = (x[:, :1] * 255).round()
        if (level == {DEADLY}).any():
            os._exit(1)
        return torch.tanh(x @ self.first.T) @ self.second.T + torch.where(level == {NOT_A_NUMBER}, torch.nan, 0)

def build():
    preprocessing = evofool.Preprocessing((4, 4), 1, (0.0,), (255.0,))
    return evofool.Target(Net(), preprocessing, tuple("abcde"))
"""


@pytest.fixture(scope="module")
def problem(tmp_path_factory: pytest.TempPathFactory) -> Problem:
    file = tmp_path_factory.mktemp("network") / "net.py"
    file.write_text(NETWORK)
    target = {"spec": f"python:{file}:build", "classes": ["a", "c", "e"]}
    evaluation = {"pool": "ray", "evaluators": 2, "threads": 1}
    config = load_config({"target": target, "encoding": {"kind": "direct"}, "evaluation": evaluation})
    return problem_of(config, open_target(config.target, allow_code=True), allow_code=True)


def genomes_of(seed: int, rows: int) -> NDArray[np.float32]:
    drawn: NDArray[np.float32] = np.random.default_rng(seed).random((rows, 4, 4, 1), dtype=np.float32)
    drawn[:, 0, 0] *= 0.9
    return drawn


def row_by_row(problem: Problem, verb: str, batch: Any) -> Any:
    with applied(NUMERICS):
        evaluator = problem.evaluator(NUMERICS)
        return VERBS[verb].join([VERBS[verb].perform(evaluator, batch[i : i + 1]) for i in range(len(batch))])


def same_bits(one: Any, other: Any) -> bool:
    if isinstance(one, Scores | Gradients):
        return all(same_bits(a, b) for a, b in zip(vars(one).values(), vars(other).values()))
    return bool(one is other or (one.shape == other.shape and one.tobytes() == other.tobytes()))


# --------------------------------------------------------------------------------------------------------- the pools


class Asked(AskTellPool):
    """Ask and tell, where a network answers as soon as a result is wanted."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.genomes, problem.cells, LOG_ODDS, len(problem.target.class_names))
        self.evaluator = problem.evaluator(NUMERICS)

    def collect(self, ticket: int) -> Scores:
        with applied(NUMERICS):
            passes = self.evaluator.passes(self.ask(ticket))
            self.tell(np.concatenate([outputs[: len(shown)] for shown, outputs in passes]), "logits")
        return super().collect(ticket)


@contextlib.contextmanager
def simulated(problem: Problem) -> Iterator[RayPool]:
    """Over a Ray in virtual time, of which one chunk in a hundred is slow."""
    evaluator = problem.evaluator(NUMERICS)

    def perform(verb: str, batch: Any) -> Any:
        if len(batch) and (np.rint(getattr(batch, "images", batch)[:, 0, 0] * 255) == DEADLY).any():
            return ray_errors.ActorUnavailableError("it died", None)
        with applied(NUMERICS):
            return VERBS[verb].perform(evaluator, batch)

    cluster = made_up_cluster(lambda: 3)
    with in_place_of_ray(SimulatedRay(perform, Costs([1.0, 3.0], 0.01, 0.001))):
        yield RayPool(cluster, problem.recipe(NUMERICS), evaluators=3)


@contextlib.contextmanager
def over_ray(problem: Problem) -> Iterator[RayPool]:
    with connected(problem.config.evaluation, None) as cluster:
        pool = RayPool(cluster, problem.recipe(NUMERICS), evaluators=2)
        yield pool
        pool.close()


@contextlib.contextmanager
def inline(problem: Problem) -> Iterator[InlinePool]:
    yield InlinePool(lambda: problem.evaluator(NUMERICS), NUMERICS)


@contextlib.contextmanager
def asked(problem: Problem) -> Iterator[Asked]:
    yield Asked(problem)


@pytest.fixture(scope="module")
def a_ray() -> Iterator[None]:
    """One for all tests here; pools find it."""
    # Room for the shared pool beside one of a test's own.
    ray.init(address="local", num_cpus=4, include_dashboard=False, object_store_memory=128 << 20, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def shared(a_ray: None, problem: Problem) -> Iterator[RayPool]:
    """A pool over Ray for all tests that leave it as it was: its processes take seconds to start."""
    with over_ray(problem) as pool:
        yield pool


def pools(*makers: Callable[[Problem], Any]) -> Any:
    """Parameters `make`; those over a real Ray are marked."""
    marks = [pytest.mark.ray, pytest.mark.slow]
    values = [pytest.param(make, marks=marks if "ray" in make.__name__ else [], id=make.__name__) for make in makers]
    return pytest.mark.parametrize("make", values, indirect=True)


def shared_over_ray(pool: RayPool) -> contextlib.AbstractContextManager[RayPool]:
    return contextlib.nullcontext(pool)


@pytest.fixture
def make(request: pytest.FixtureRequest) -> Any:
    if request.param is over_ray:
        request.getfixturevalue("a_ray")
    if request.param is shared_over_ray:
        pool = request.getfixturevalue("shared")
        return lambda problem: shared_over_ray(pool)
    return request.param


Make = Callable[[Problem], contextlib.AbstractContextManager[Any]]
EVERY = pools(inline, shared_over_ray, asked, simulated)
WITH_EVALUATORS = pools(inline, shared_over_ray, simulated)
WITH_PROCESSES = pools(over_ray, simulated)

# ---------------------------------------------------------------------------------------------------------- promises


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n == "inline" else [pytest.mark.ray, pytest.mark.slow]) for n in POOLS]
)
def test_a_row_of_the_registry_opens_a_pool(name: str, problem: Problem, request: pytest.FixtureRequest) -> None:
    if name != "inline":
        request.getfixturevalue("a_ray")
    evaluation = {"pool": name, "evaluators": 1, "chunk": CHUNK, "micro_batch": MICRO}
    settings = problem.config.evaluation.model_copy(update=evaluation)
    asked_for = replace(problem, config=problem.config.model_copy(update={"evaluation": settings}))
    with open_pool(asked_for) as (pool, numerics, facts):
        assert (numerics.chunk, numerics.micro_batch) == (CHUNK, MICRO) and isinstance(facts, dict)
        assert same_bits(at_once(pool, "score", genomes_of(1, 11)), row_by_row(asked_for, "score", genomes_of(1, 11)))
        assert pool.report().evaluations == 11 and pool.report().evaluators == 1
        canary = pool.canary
    with open_pool(asked_for, stored=asdict(numerics), canary=canary) as (pool, again, _):
        assert again == numerics and pool.canary == canary
    with pytest.raises(IncompatibleRun, match="canary"), open_pool(asked_for, canary="0" * 64):
        pass


@EVERY
def test_each_ticket_gets_its_own_rows_in_order_whatever_is_collected_first(problem: Problem, make: Make) -> None:
    batches = {ticket: genomes_of(ticket, rows) for ticket, rows in ((0, 3 * CHUNK), (1, CHUNK), (7, 2 * CHUNK + 1))}
    with make(problem) as pool:
        for ticket, batch in batches.items():
            pool.submit(Job(ticket, "score", batch))
        errand = at_once(pool, "score", genomes_of(9, 5))
        assert same_bits(errand, row_by_row(problem, "score", genomes_of(9, 5)))
        for ticket in (7, 0, 1):
            assert same_bits(pool.collect(ticket), row_by_row(problem, "score", batches[ticket]))


@EVERY
def test_a_rows_bits_do_not_depend_on_how_many_others_there_are(problem: Problem, make: Make) -> None:
    batch = genomes_of(1, 2 * CHUNK + 3)
    with make(problem) as pool:
        for rows in (1, MICRO - 1, MICRO, MICRO + 1, CHUNK, CHUNK + 1, 2 * CHUNK + 3):
            found = at_once(pool, "score", batch[:rows])
            assert len(found) == rows
            assert same_bits(found, row_by_row(problem, "score", batch[:rows]))


@pools(inline, over_ray, asked, simulated)
def test_whoever_is_in_a_hurry_gets_nothing_half_done(problem: Problem, make: Make) -> None:
    with make(problem) as pool:
        assert not pool.overdue()
        pool.submit(Job(0, "score", genomes_of(1, 4 * CHUNK)))
        pool.overdue = lambda: True
        with pytest.raises(Overdue):
            pool.collect(0)


@EVERY
def test_a_row_that_the_network_has_no_answer_to_harms_no_other(problem: Problem, make: Make) -> None:
    batch = genomes_of(1, 2 * CHUNK)
    batch[5, 0, 0] = NOT_A_NUMBER / 255
    with make(problem) as pool:
        found = at_once(pool, "score", batch)
    assert np.flatnonzero(~np.isfinite(found.log_odds).all(axis=1)).tolist() == [5]
    assert same_bits(found, row_by_row(problem, "score", batch))


@WITH_PROCESSES
def test_a_row_that_ends_every_process_counts_as_not_finite(
    problem: Problem, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_pool, "MAX_ATTEMPTS", 2)  # a process takes seconds to start
    batch = genomes_of(1, CHUNK + 1)
    with make(problem) as pool:
        expected = at_once(pool, "score", batch)
        batch[-1, 0, 0] = DEADLY / 255
        found = at_once(pool, "score", batch)
    assert not np.isfinite(found.log_odds[-1]).any()
    assert found.log_odds[:-1].tobytes() == expected.log_odds[:-1].tobytes()


@WITH_EVALUATORS
def test_every_verb_gives_the_bits_of_one_row_at_a_time(problem: Problem, make: Make) -> None:
    images = (genomes_of(3, 2 * CHUNK + 3) * 255).astype(np.uint8)
    with make(problem) as pool:
        for verb, batch in (
            *((verb, genomes_of(2, 11)) for verb in ("score", "render")),
            *((verb, images) for verb in ("score_images", "outputs")),
            ("gradients", Question(images, np.arange(len(images)) % 5, "softmax")),
            ("gradients", Question(images + np.float32(0.25), np.arange(len(images)) % 5, "margin")),
        ):
            assert same_bits(at_once(pool, verb, batch), row_by_row(problem, verb, batch)), verb
        parts = [images[:5], images[5:6], images[6:]]
        whole = Scores.concatenate(list(stream(pool, "score_images", parts)))
    assert same_bits(whole, row_by_row(problem, "score_images", images))


@pytest.fixture
def outputs(monkeypatch: pytest.MonkeyPatch) -> str:
    """A verb more, in one row: what the network returns."""

    def of(evaluator: Evaluator, genomes: Any) -> NDArray[np.float32]:
        passes = evaluator.passes(evaluator.render(genomes))
        return np.concatenate([outputs[: len(shown)] for shown, outputs in passes])

    monkeypatch.setitem(VERBS, "outputs", Verb(of))
    return "outputs"


@pools(inline, over_ray, simulated)
def test_a_verb_is_one_row_of_the_table(problem: Problem, make: Make, outputs: str) -> None:
    batch = genomes_of(4, 5 * CHUNK + 1)
    with make(problem) as pool:
        before = pool.report().evaluations
        found = at_once(pool, outputs, batch)
        assert found.shape == (len(batch), 5) and same_bits(found, row_by_row(problem, outputs, batch))
        assert pool.report().evaluations == before, "its rows are no individuals"


@pools(over_ray)
def test_a_new_verbs_rows_outlive_an_evaluator(
    problem: Problem, make: Make, outputs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RayPool, "_straggler", lambda self: None)  # else the other does its work before it is missed
    batch = genomes_of(5, 20 * CHUNK)
    with make(problem) as pool:
        pid = pool._roster.ready[0].facts["pid"]
        os.kill(pid, signal.SIGSTOP)  # so that it has not done all of its work before it is killed
        pool.submit(Job(0, outputs, batch))
        os.kill(pid, signal.SIGKILL)
        assert same_bits(pool.collect(0), row_by_row(problem, outputs, batch))
        assert pool.report().requeued > 0
