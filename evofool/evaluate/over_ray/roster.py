"""The evaluators of a pool over Ray: started, greeted, admitted if they compute what the others do, and renewed."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

import ray
from ray import exceptions as ray_errors

from evofool.errors import ConfigError, ResourcesMissing, first_line
from evofool.evaluate.evaluator import other_canary
from evofool.evaluate.over_ray.actor import Actor
from evofool.evaluate.over_ray.chunks import Worker
from evofool.evaluate.over_ray.cluster import Cluster
from evofool.evaluate.over_ray.failures import Verdict, error_of, verdict_on
from evofool.evaluate.problem import Recipe
from evofool.evaluate.room import demand, room
from evofool.records import Facts
from evofool.targets.target import Target

__all__ = ["Roster"]

MAX_HELLOS = 5  # in a row that one evaluator may fail before the others go on without it
SETTLING = 10.0  # seconds that a new run waits for more evaluators once one is ready: most of them decide its canary
GROWING = 10.0  # seconds between looks for room for more evaluators
LEAVING = 3.0  # seconds for the evaluators of a pool that has just been closed to be gone from Ray's books


class Roster:
    """The evaluators of a pool: `workers` are all, `ready` those that have started. Arguments, errors: see RayPool."""

    def __init__(
        self,
        cluster: Cluster,
        recipe: Recipe,
        *,
        evaluators: int | str,
        per_gpu: int,
        ready_timeout: float,
        canary: str | None,
        stored: Facts | None,
        warn: Callable[[str], None],
    ) -> None:
        self._cluster, self._recipe, self._warn, self._ready_timeout = cluster, _sent(recipe), warn, ready_timeout
        self._numerics, self._stored = recipe.numerics, stored
        self._demand = demand(recipe.numerics.threads, recipe.numerics.device, per_gpu)
        self._grows, self._looked = evaluators == "auto", time.monotonic()
        possible = self._possible()
        count = max(1, possible) if evaluators == "auto" else int(evaluators)
        if 0 < possible < count:
            warn(f"{count} evaluators were asked for; the cluster has room for {possible}.")
        self._tell_of_waiting()
        self.workers = [self._start() for _ in range(count)]
        self.canary = canary or ""
        self._await_first(min(count, max(possible, 1)))

    @property
    def ready(self) -> list[Worker]:
        """The evaluators that chunks can be sent to."""
        return [worker for worker in self.workers if worker.hello is None]

    def _possible(self) -> int:
        """How many evaluators the cluster has room for now."""
        return room({name: self._cluster.supply(name) for name in self._demand}, self._demand)

    def _listed_supply(self) -> str:
        return _listed({name: self._cluster.supply(name) for name in self._demand})

    def _tell_of_waiting(self) -> None:
        """Say so where not even one evaluator has room now."""
        patience = time.monotonic() + LEAVING
        while room(free := self._free(), self._demand) < 1:
            if time.monotonic() < patience:
                time.sleep(0.1)
                continue
            self._warn(
                f"the cluster has no room for an evaluator now: each needs {_listed(self._demand)}, and of its "
                f"{self._listed_supply()} there is {_listed(free)} free; waiting for up to {self._ready_timeout:g} s."
            )
            return

    def _free(self) -> dict[str, float]:
        return {name: self._cluster.free(name) for name in self._demand}

    def _start(self) -> Worker:
        # No retries: the driver sends lost chunks again itself; Ray would do so behind later ones, to the same actor.
        actor = ray.remote(Actor).options(
            num_cpus=self._demand["CPU"], num_gpus=self._demand.get("GPU", 0), max_restarts=-1, max_task_retries=0
        )
        handle = actor.remote()
        return Worker(handle, hello=handle.hello.remote(self._recipe))

    def _await_first(self, count: int) -> None:
        """Wait for the first evaluators, `count` at most; a new run takes the canary that most of them give."""
        deadline = time.monotonic() + self._ready_timeout
        arrivals: list[Worker] = []
        while len(arrivals) < count and time.monotonic() < deadline:
            waiting = [w.hello for w in self.workers if not w.facts]
            ready, _ = ray.wait(waiting, timeout=min(1.0, self._ready_timeout)) if waiting else ([], [])
            self._cluster.check()
            for worker in list(self.workers):
                if worker.hello in ready and not worker.facts and self._greet(worker):
                    arrivals.append(worker)
                    # `welcome` admits those that come later.
                    deadline = min(deadline, time.monotonic() + (0.0 if self.canary else SETTLING))
        if not arrivals:
            raise ResourcesMissing(
                f"no evaluator was ready within {self._ready_timeout:g} s: each needs {_listed(self._demand)}, and "
                f"the whole cluster has {self._listed_supply()}, some of it perhaps in use; lower evaluation.threads "
                "or add nodes."
            )
        groups = Counter(worker.facts["canary"] for worker in arrivals)
        if not self.canary:
            self.canary = max(sorted(groups), key=lambda canary: groups[canary])
        for worker in list(self.workers):
            if worker.facts:
                self._admit(worker)
        if not self.ready:
            platforms = {worker.facts.get("platform", "") for worker in arrivals}
            raise other_canary("the cluster", self._stored, self._numerics, platforms)
        self.platform: str = self.ready[0].facts.get("platform", "")

    def _greet(self, worker: Worker) -> bool:
        """Take a finished hello; False if the actor was lost meanwhile, and is started again or given up."""
        try:
            worker.facts = ray.get(worker.hello)
        except ray_errors.RayError as error:
            worker.failed_hellos += 1
            if (verdict := verdict_on(error)) is Verdict.STOP:
                raise error_of(error) from error
            if worker.failed_hellos >= MAX_HELLOS and len(self.workers) > 1:
                self._warn(f"an evaluator failed to start {MAX_HELLOS} times and is given up ({first_line(error)}).")
                self.workers.remove(worker)
                ray.kill(worker.handle)
            else:
                self.renew(worker, verdict)
            return False
        worker.failed_hellos = 0
        return True

    def _admit(self, worker: Worker) -> None:
        """Let an evaluator score, or end it if its canary is not the run's."""
        if worker.facts["canary"] == self.canary:
            worker.hello = None
            return
        self._warn(f"an evaluator on {worker.facts['host']} has other numerics than the run and is not used.")
        self.workers.remove(worker)
        ray.kill(worker.handle)

    def welcome(self, worker: Worker) -> None:
        """Take the finished hello of an evaluator that comes later than the first, or again."""
        if self._greet(worker):
            self._admit(worker)

    def renew(self, worker: Worker, verdict: Verdict) -> None:
        """Wait for the hello of a lost evaluator that Ray restarts, or of another one in its place."""
        worker.facts = {}
        if verdict is not Verdict.REPLACE:
            try:
                worker.hello = worker.handle.hello.remote(self._recipe)
                return
            except ray_errors.RayError:
                pass
        successor = self._start()
        worker.handle, worker.hello = successor.handle, successor.hello

    def grow(self) -> None:
        """Start more evaluators where the cluster has grown, if they are "auto"."""
        if not self._grows or time.monotonic() - self._looked < GROWING:
            return
        self._looked = time.monotonic()
        self.workers += [self._start() for _ in range(self._possible() - len(self.workers))]

    def close(self) -> None:
        if not self._cluster.gone:
            for worker in self.workers:
                ray.kill(worker.handle)
        self.workers = []


def _sent(recipe: Recipe) -> ray.ObjectRef:
    """The recipe in Ray's store, for every actor."""
    try:
        return ray.put(recipe)
    except TypeError as error:  # as Ray says it, with a page about every object inside
        if not isinstance(recipe.source, Target):
            raise
        raise ConfigError(
            f"target: a live {type(recipe.source.module).__name__} like this one cannot be sent to evaluators in other "
            "processes; say evaluation.pool=inline, or let a function of a file build it: "
            "target.spec=python:FILE.py:callable."
        ) from error


def _listed(amounts: dict[str, float]) -> str:
    """Resources as a sentence names them: "1 CPU, 0.5 GPU"."""
    return ", ".join(f"{amount:g} {name}" for name, amount in amounts.items())
