"""The pool's own decisions, with a Ray that does as it is told: losses, poison, comparisons, late evaluators."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from benchmarks.simulation import made_up_cluster
from numpy.typing import NDArray
from ray import exceptions as ray_errors

from evofool.encoding.direct.genome import DirectEncoding
from evofool.errors import CorruptData, EvaluationFailed, IncompatibleRun, ResourcesMissing, StorageError, TargetError
from evofool.evaluate.evaluator import VERBS
from evofool.evaluate.over_ray import chunks, failures, roster
from evofool.evaluate.over_ray import pool as ray_pool
from evofool.evaluate.over_ray.failures import VERDICTS, Verdict
from evofool.evaluate.over_ray.pool import RayPool
from evofool.evaluate.pool import Job, Overdue
from evofool.records import Cells, Numerics, Scores

CELLS, CHUNK, ROWS = 3, 8, 40
ENCODING = DirectEncoding(2, 2, "grey")
NUMERICS = Numerics(device="cpu", chunk=CHUNK, micro_batch=4, threads=1, memory_format="contiguous")


def scores_of(genomes: NDArray[np.float32]) -> Scores:
    """What an evaluator that is well makes of genomes: a function of each row alone."""
    n = len(genomes)
    return Scores.of(genomes.reshape(n, -1)[:, :CELLS].copy())


@dataclass(eq=False)
class Ref:
    actor: FakeActor
    verb: str
    batch: Any
    done: bool = False
    value: Any = None


@dataclass(eq=False)
class FakeActor:
    """One evaluator: `behave` may raise in place of an answer, or change it."""

    number: int
    behave: Callable[[FakeActor, str, Any], Any]
    canary: str = "same"
    late: int = 0  # rounds of waiting before it answers anything
    calls: list[str] = field(default_factory=list)
    queue: list[Ref] = field(default_factory=list)

    def __getattr__(self, verb: str) -> Any:
        if verb.startswith("_"):
            raise AttributeError(verb)
        if verb == "perform":
            return SimpleNamespace(remote=self.send)
        return SimpleNamespace(remote=lambda batch: self.send(verb, batch))

    def send(self, verb: str, batch: Any) -> Ref:
        self.queue.append(Ref(self, verb, batch))
        return self.queue[-1]

    def work(self) -> None:
        """Answer the oldest call."""
        if self.late:
            self.late -= 1
        elif self.queue:
            ref = self.queue.pop(0)
            self.calls.append(ref.verb)
            try:
                ref.value = self.behave(self, ref.verb, ref.batch)
            except Exception as error:
                ref.value = error
            ref.done = True


class FakeRay:
    """What over_ray/pool.py and roster.py use of Ray."""

    def __init__(self, behave: Callable[[FakeActor, str, Any], Any], **kinds: Any) -> None:
        self.behave, self.kinds = behave, kinds
        self.actors: list[FakeActor] = []
        self.killed: list[int] = []

    def remote(self, cls: Any) -> Any:
        def made() -> FakeActor:
            number = len(self.actors)
            self.actors.append(FakeActor(number, self.behave, **self.kinds.get(f"actor{number}", {})))
            return self.actors[-1]

        return SimpleNamespace(options=lambda **_: SimpleNamespace(remote=made))

    def wait(self, refs: list[Ref], num_returns: int = 1, timeout: float = 0.0) -> tuple[list[Ref], list[Ref]]:
        for actor in self.actors:
            actor.work()
        ready = [ref for ref in refs if ref.done]
        return ready, [ref for ref in refs if not ref.done]

    def get(self, ref: Ref) -> Any:
        if isinstance(ref.value, Exception):
            raise ref.value
        return ref.value

    def put(self, value: Any) -> Any:
        return value

    def kill(self, actor: FakeActor, **_: Any) -> None:
        self.killed.append(actor.number)


def well(actor: FakeActor, verb: str, batch: Any) -> Any:
    """An evaluator that is well."""
    if verb == "hello":
        return {"canary": actor.canary, "pid": actor.number, "host": "here", "node": ""}
    return scores_of(batch), 0.01, 1.0


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes pools over a FakeRay, which is in `pool.fake`; warnings are in `pool.said`."""

    def make(
        behave: Any = well, evaluators: Any = 2, cpus: Any = None, canary: Any = None, free: Any = None, **kinds: Any
    ) -> Any:
        fake, said = FakeRay(behave, **kinds), []
        monkeypatch.setattr(ray_pool, "ray", fake)
        monkeypatch.setattr(roster, "ray", fake)
        room = cpus or (lambda: 2)
        cluster = made_up_cluster(room, free)
        recipe: Any = SimpleNamespace(encoding=ENCODING, numerics=NUMERICS, cells=Cells(np.arange(CELLS)), verbs=VERBS)
        pool: Any = RayPool(cluster, recipe, evaluators=evaluators, canary=canary, warn=said.append, ready_timeout=5.0)
        pool.fake, pool.said = fake, said
        return pool

    return make


def test_a_cluster_without_room_is_told_of(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roster, "LEAVING", 0.3)
    assert not opened().said
    books = iter([0.5, 0.5])  # evaluators of a pool that was just closed are on them for a moment
    assert not opened(free=lambda: next(books, 2)).said
    (said,) = opened(free=lambda: 0.5).said
    assert "each needs 1 CPU, and of its 2 CPU there is 0.5 CPU free; waiting for up to 5 s" in said


def offspring(generation: int = 0, rows: int = ROWS) -> Job:
    genomes = np.random.default_rng(generation).random((rows, 2, 2, 1), dtype=np.float32)
    return Job(generation, "score", genomes)


def scored(pool: Any, generation: int = 0) -> Scores:
    pool.submit(offspring(generation))
    found: Scores = pool.collect(generation)
    return found


def same(found: Scores, generation: int = 0) -> bool:
    expected = scores_of(offspring(generation).batch)
    return all(
        (a is None and b is None) or np.array_equal(a, b, equal_nan=True)
        for a, b in zip(vars(found).values(), vars(expected).values())
    )


# ------------------------------------------------------------------------------------------------------ Ray's errors


def classes() -> dict[str, type[ray_errors.RayError]]:
    found = {cls.__name__: cls for cls in vars(ray_errors).values() if inspect.isclass(cls)}
    return {name: cls for name, cls in found.items() if issubclass(cls, ray_errors.RayError)}


def test_every_error_of_ray_has_a_verdict() -> None:
    assert set(VERDICTS) == set(classes())
    assert set(failures.STORAGE + failures.CLUSTER) <= {n for n, v in VERDICTS.items() if v is Verdict.STOP}


def made(name: str) -> Any:
    """An instance of one of Ray's errors, whose constructors differ."""
    cls: Any = classes()[name]
    if name == "CrossLanguageError":
        return cls(SimpleNamespace(language=0, formatted_exception_string="words"))
    if name == "RayTaskError":
        return cls("score", "trace", ValueError("words"), ip="127.0.0.1")
    needed = [p for p in inspect.signature(cls.__init__).parameters.values() if p.default is p.empty][1:]
    words = {"object_ref_hex": "00", "actor_id": None, "owner_address": None}
    return cls(*[words.get(p.name, "words") for p in needed if p.kind is p.POSITIONAL_OR_KEYWORD])


def first_time(name: str, verb: str = "score") -> Any:
    """Evaluators of which the first that is asked fails once."""
    asked = []

    def behave(actor: FakeActor, called: str, batch: Any) -> Any:
        if called == verb and not asked:
            asked.append(actor)
            raise made(name)
        return well(actor, called, batch)

    return behave


@pytest.mark.parametrize("name", [n for n, v in VERDICTS.items() if v is not Verdict.STOP])
def test_what_is_lost_is_scored_again(opened: Any, name: str) -> None:
    pool = opened(first_time(name))
    assert same(scored(pool))
    assert 1 <= pool.report().requeued <= ray_pool.IN_FLIGHT
    replaced = VERDICTS[name] is Verdict.REPLACE
    assert len(pool.fake.actors) == 2 + replaced
    assert sum(actor.calls.count("hello") for actor in pool.fake.actors) == 2 + (VERDICTS[name] is not Verdict.REQUEUE)


@pytest.mark.parametrize("name", [n for n, v in VERDICTS.items() if v is Verdict.STOP])
def test_what_asking_again_would_not_mend_stops_the_run(opened: Any, name: str) -> None:
    pool = opened(first_time(name))
    kind = StorageError if name in failures.STORAGE else ResourcesMissing if name in failures.CLUSTER else None
    with pytest.raises(kind or EvaluationFailed) as caught:
        scored(pool)
    assert caught.value.exit_code == {StorageError: 74, ResourcesMissing: 3, None: 7}[kind]


def test_a_targets_error_comes_back_as_it_is(opened: Any) -> None:
    def behave(actor: FakeActor, verb: str, batch: Any) -> Any:
        if verb == "score":
            cause = TargetError("the network raised")
            raise ray_errors.RayTaskError("score", "trace", cause, ip="127.0.0.1").as_instanceof_cause()
        return well(actor, verb, batch)

    with pytest.raises(TargetError, match="the network raised"):
        scored(opened(behave))


# ----------------------------------------------------------------------------------------------------- poison and bits


def deadly(rows: set[int], generation: int = 1) -> Any:
    """Evaluators that die of certain individuals."""
    poison = {offspring(generation).batch[row].tobytes() for row in rows}

    def behave(actor: FakeActor, verb: str, batch: Any) -> Any:
        if verb == "score" and any(genome.tobytes() in poison for genome in batch):
            raise made("ActorUnavailableError")
        return well(actor, verb, batch)

    return behave


def test_poison_is_narrowed_down_to_its_rows_and_the_rest_is_scored(opened: Any) -> None:
    pool = opened(deadly({3, 17}))
    assert same(scored(pool, 0))
    found = scored(pool, 1)
    expected = scores_of(offspring(1).batch)
    bad = ~np.isfinite(found.log_odds).all(axis=1)
    assert np.flatnonzero(bad).tolist() == [3, 17]
    assert np.array_equal(found.log_odds[~bad], expected.log_odds[~bad])
    assert sorted(text for text in pool.said if "counts as not finite" in text) == [
        f"generation 1, slot {row}: every evaluator that scores it is lost, so it counts as not finite."
        for row in (17, 3)
    ]
    hellos = sum(actor.calls.count("hello") for actor in pool.fake.actors)
    assert hellos <= 2 + 2 * (chunks.MAX_ATTEMPTS + 4 * chunks.MAX_ATTEMPTS_OF_A_PART)  # log2(8) halvings, 1 row


def test_too_much_poison_ends_the_run(opened: Any) -> None:
    pool = opened(deadly(set(range(ray_pool.MAX_POISON + 1))))
    scored(pool, 0)
    with pytest.raises(EvaluationFailed, match=r"more than 10 individuals \(generation 1, slot "):
        scored(pool, 1)


def test_a_network_that_never_scored_anything_is_not_taken_for_poison(opened: Any) -> None:
    pool = opened(deadly(set(range(ROWS)), generation=0))
    with pytest.raises(EvaluationFailed, match=r"generation 0, slots \d+ to \d+: 5 evaluators were lost"):
        scored(pool, 0)


def test_one_chunk_in_a_hundred_is_scored_twice_and_compared(opened: Any) -> None:
    pool = opened()
    for generation in range(42):
        assert same(scored(pool, generation), generation)
    assert pool.report().compared in (2, 3)  # of 210 chunks; the last may still be under way
    assert pool.report().evaluations == 42 * ROWS
    assert opened(evaluators=1).report().compared == 0


def test_evaluators_that_differ_in_a_bit_end_the_run(opened: Any) -> None:
    def behave(actor: FakeActor, verb: str, batch: Any) -> Any:
        answer = well(actor, verb, batch)
        if verb == "score" and actor.number == 1:
            odds = answer[0].log_odds.copy()
            odds.view(np.uint32)[0, 0] ^= 1
            return replace(answer[0], log_odds=odds), *answer[1:]
        return answer

    pool = opened(behave)
    with pytest.raises(CorruptData, match=r"generation 0, slots 0 to 7: two evaluators gave different bits"):
        for generation in range(3):
            scored(pool, generation)


# ---------------------------------------------------------------------------------------------------- coming and going


def test_a_run_goes_on_with_the_first_that_is_ready_and_takes_in_the_rest(opened: Any) -> None:
    pool = opened(canary="same", actor1={"late": 4})
    assert pool.report().evaluators == 1
    for generation in range(6):
        assert same(scored(pool, generation), generation)
    assert pool.report().evaluators == 2
    assert "score" in pool.fake.actors[1].calls


def test_evaluators_are_started_where_the_cluster_grows(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roster, "GROWING", 0.0)
    room = [1]
    pool = opened(evaluators="auto", cpus=lambda: room[0])
    assert same(scored(pool, 0), 0)
    room[0] = 3
    for generation in range(1, 4):
        assert same(scored(pool, generation), generation)
    assert pool.report().evaluators == len(pool.fake.actors) == 3


def test_the_others_go_on_without_one_that_never_starts(opened: Any) -> None:
    def behave(actor: FakeActor, verb: str, batch: Any) -> Any:
        if verb == "hello" and actor.number == 1:
            raise made("ActorUnavailableError")
        return well(actor, verb, batch)

    pool = opened(behave, canary="same")
    for generation in range(8):
        assert same(scored(pool, generation), generation)
    assert pool.fake.killed == [1]
    assert any("failed to start 5 times" in text for text in pool.said)


def test_the_largest_group_with_one_canary_scores(opened: Any) -> None:
    pool = opened(evaluators=3, cpus=lambda: 3, actor0={"canary": "other"})
    assert pool.canary == "same"
    assert pool.fake.killed == [0]
    assert same(scored(pool))
    with pytest.raises(IncompatibleRun, match="canary"):
        opened(canary="the run's")


def test_a_run_in_a_hurry_gives_up_what_is_in_flight(opened: Any) -> None:
    pool = opened()
    pool.submit(offspring())
    pool.overdue = lambda: True
    with pytest.raises(Overdue):
        pool.collect(0)
