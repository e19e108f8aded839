"""The pool over Ray: one actor for each evaluator, and a queue of chunks in the driver.

Ray starts, restarts and reaches processes; which chunk goes where, and again after a loss, is decided here. Scoring is
pure, so a chunk may be scored twice without harm, and results are kept by (generation, chunk), so neither the number of
evaluators nor the order of arrival can change the archive.
"""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import ray
from ray import exceptions as ray_errors

from evofool.errors import CorruptData, EvaluationFailed
from evofool.evaluate.over_ray.chunks import MAX_ATTEMPTS, Chunk, Worker
from evofool.evaluate.over_ray.cluster import Cluster
from evofool.evaluate.over_ray.failures import Verdict, stopping, verdict
from evofool.evaluate.over_ray.roster import Roster
from evofool.evaluate.pool import Job, Overdue, PoolReport, never
from evofool.evaluate.problem import Recipe

__all__ = ["RayPool"]

IN_FLIGHT = 2  # chunks sent to an evaluator at a time: one is scored while the next travels
PATIENCE = 2.0  # times the mean of all chunks, after which an idle evaluator is given a chunk that another still has
MAX_POISON = 10  # individuals that may be left out for that
COMPARED = 100  # of so many chunks one is scored by two evaluators, whose bits must agree


# -------------------------------------------------------------------------------------------------------------- pool


class RayPool:
    """A job's chunks over Ray actors.

    Args:
        evaluators: how many, or "auto": as many as the cluster has cores // threads, or GPUs x `per_gpu`.
        per_gpu: evaluators that share a GPU.
        ready_timeout: seconds to wait for evaluators.
        chunk_timeout: seconds of silence after which an evaluator is killed.
        canary: what evaluators must give; None for a new run, where the largest group that agrees decides.
        warn: receives a sentence when something was lost.

    Raises:
        ResourcesMissing: no evaluator was ready in time; says what was asked for and what there is.
        IncompatibleRun: no evaluator gives the run's canary.
    """

    def __init__(
        self,
        cluster: Cluster,
        recipe: Recipe,
        *,
        evaluators: int | str = "auto",
        per_gpu: int = 1,
        ready_timeout: float = 120.0,
        chunk_timeout: float = 600.0,
        canary: str | None = None,
        warn: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._warn = warn
        self._encoding, self._size, self._verbs = recipe.encoding, recipe.numerics.chunk, recipe.verbs
        self._chunk_timeout, self._ready_timeout = chunk_timeout, ready_timeout
        self._queue: deque[Chunk] = deque()
        self._verb_of: dict[int, str] = {}  # ticket -> verb
        self._results: dict[int, dict[int, Any]] = {}  # ticket -> first row -> part
        self._missing: dict[int, int] = {}  # ticket -> rows
        self._sequence = self._answers = 0
        self._unfinished: set[int] = set()
        self._report = PoolReport()
        self._scored: Counter[tuple[str, str]] = Counter()  # (node, host) -> chunks
        self._no_worker_since: float | None = None
        self._classes = len(recipe.cells.classes)
        self._poison: list[str] = []
        self.overdue = never
        self._roster = Roster(
            cluster,
            recipe,
            evaluators=evaluators,
            per_gpu=per_gpu,
            ready_timeout=ready_timeout,
            canary=canary,
            warn=warn,
        )

    @property
    def canary(self) -> str:
        """What every evaluator gave."""
        return self._roster.canary

    @property
    def _workers(self) -> list[Worker]:
        return self._roster.workers

    # --------------------------------------------------------------------------------------------------------- losses

    def _lost(self, worker: Worker, found: Verdict = Verdict.RESTART) -> None:
        """Put a lost evaluator's chunks back at the head of the queue and wait for its successor."""
        lost = [(position, chunk) for position, (_, chunk) in enumerate(worker.sent) if not chunk.done]
        worker.sent.clear()
        for position, chunk in reversed(lost):
            # Only the oldest can have been at fault; the others were waiting.
            chunk.attempts += position == 0
            self._again(chunk)
        if lost:
            self._warn(f"an evaluator was lost; {len(lost)} chunks go to others.")
        self._roster.renew(worker, found)

    def _again(self, chunk: Chunk) -> None:
        """Queue a chunk whose answer was lost, in halves if it has cost too many evaluators."""
        if any(other is chunk for worker in self._workers for _, other in worker.sent):
            return  # another evaluator has it as well
        chunk.doubled = False
        self._report = replace(self._report, requeued=self._report.requeued + 1)
        if chunk.attempts < MAX_ATTEMPTS:
            self._queue.appendleft(chunk)
            return
        stand_in = self._verbs[chunk.verb].stand_in
        if stand_in is None or not self._answers:  # nothing was ever scored: it is not the individuals' fault
            raise EvaluationFailed(
                f"{chunk}: {chunk.attempts} evaluators were lost while scoring them; the network may need too much "
                "memory (lower evaluation.micro_batch) or crash on them."
            )
        if len(chunk) > 1:
            self._warn(f"{chunk}: {MAX_ATTEMPTS} evaluators were lost while scoring them; halving them to see by whom.")
            self._queue.extendleft(reversed(chunk.halves()))
            return
        self._poison.append(f"{str(chunk).rpartition(' to ')[0].replace('slots', 'slot').replace('rows', 'row')}")
        self._warn(f"{self._poison[-1]}: every evaluator that scores it is lost, so it counts as not finite.")
        if len(self._poison) > MAX_POISON:
            raise EvaluationFailed(
                f"the network takes its process down for more than {MAX_POISON} individuals ({self._poison[0]}; ... "
                f"{self._poison[-1]}); give it more memory (lower evaluation.micro_batch), or mend what crashes."
            )
        self._finished(chunk, stand_in(1, self._classes))

    # ------------------------------------------------------------------------------------------------- the pool's verbs

    def submit(self, job: Job) -> None:
        """Queue a job's chunks and send what evaluators have room for."""
        chunks = Chunk.of(job, self._size, self._encoding, self._sequence)
        self._sequence += len(chunks)
        self._unfinished.update(chunk.sequence for chunk in chunks)
        self._verb_of[job.ticket], self._results[job.ticket], self._missing[job.ticket] = job.verb, {}, len(job)
        if job.first:
            self._queue.extendleft(reversed(chunks))
        else:
            self._queue.extend(chunks)
        self._dispatch()

    def collect(self, ticket: int) -> Any:
        """The result of a job, in the order of its rows.

        Raises:
            EvaluationFailed: a chunk took down too many evaluators, or no evaluator came back.
            TargetError: the network failed.
        """
        while self._missing[ticket]:
            self._step()
        del self._missing[ticket]
        parts = self._results.pop(ticket)
        return self._verbs[self._verb_of.pop(ticket)].join([parts[first] for first in sorted(parts)])

    def report(self) -> PoolReport:
        """What was done so far."""
        nodes = tuple({"node": node, "host": host, "chunks": n} for (node, host), n in sorted(self._scored.items()))
        return replace(self._report, evaluators=len(self._roster.ready), nodes=nodes)

    def pids(self) -> list[int]:
        """Process ids of the ready evaluators (on whichever node), for tests and for people."""
        return [worker.facts["pid"] for worker in self._roster.ready]

    def close(self) -> None:
        """End the actors; Ray itself is the cluster's to close."""
        self._roster.close()

    # ----------------------------------------------------------------------------------------------------------- inside

    def _dispatch(self) -> None:
        for room in range(1, IN_FLIGHT + 1):  # every evaluator gets one before any gets two
            for worker in self._roster.ready:
                while self._queue and len(worker.sent) < room:
                    if not (chunk := self._queue.popleft()).done:
                        self._send(worker, chunk)
        for worker in self._roster.ready:
            if not worker.sent and (late := self._late()):
                late.doubled = True
                self._send(worker, late)

    def _send(self, worker: Worker, chunk: Chunk) -> None:
        if not worker.sent:
            worker.since = time.monotonic()
        worker.sent.append((worker.handle.perform.remote(chunk.verb, chunk.batch), chunk))

    def _late(self) -> Chunk | None:
        """The oldest chunk that waits behind another one, or that takes longer than others did.

        Generations are placed in order, so one slow evaluator would hold up all others. Whoever answers first counts.
        """
        now, patience = time.monotonic(), PATIENCE * self._mean_seconds()
        late = [
            chunk
            for worker in self._workers
            for place, (_, chunk) in enumerate(worker.sent)
            if not (chunk.doubled or chunk.done) and (place > 0 or now - worker.since > patience)
        ]
        return min(late, key=lambda chunk: chunk.sequence, default=None)

    def _mean_seconds(self) -> float:
        return self._report.core_seconds / self._answers if self._answers else math.inf

    def _step(self) -> None:
        """Wait for one thing to happen, and deal with all that has."""
        if self.overdue():
            raise Overdue
        refs = {ref: worker for worker in self._workers for ref, _ in worker.sent}
        refs |= {worker.hello: worker for worker in self._workers if worker.hello is not None}
        idle = any(not worker.sent for worker in self._roster.ready)
        ready, _ = ray.wait(list(refs), num_returns=1, timeout=min(1.0, self._mean_seconds() if idle else 1.0))
        for ref in ready:
            worker = refs[ref]
            if ref == worker.hello:
                self._roster.welcome(worker)
            else:
                self._take(worker, ref)
        self._look_for_silence()
        self._roster.grow()
        self._dispatch()

    def _take(self, worker: Worker, ref: Any) -> None:
        entry = next(((r, chunk) for r, chunk in worker.sent if r == ref), None)
        if entry is None:
            return
        chunk = entry[1]
        try:
            result, seconds, rss = ray.get(ref)
        except ray_errors.RayError as error:
            found = verdict(error)
            if found is Verdict.STOP:
                raise stopping(error) from error
            if found is Verdict.REQUEUE:
                worker.sent.remove(entry)
                chunk.attempts += 1
                if not chunk.done:
                    self._again(chunk)
            else:
                self._lost(worker, found)
            return
        worker.sent.remove(entry)
        worker.since = time.monotonic()
        self._answers += 1
        self._report = replace(
            self._report,
            core_seconds=self._report.core_seconds + seconds,
            peak_rss_mib=max(self._report.peak_rss_mib, rss),
        )
        if chunk.done:  # another evaluator was faster
            self._compare(chunk, result, worker)
        else:
            self._finished(chunk, result)
            evaluates = self._verbs[chunk.verb].evaluates
            self._scored[worker.facts["node"], worker.facts["host"]] += evaluates
            if evaluates and chunk.sequence % COMPARED == 0:
                self._double(chunk, worker)
            if chunk.doubled:
                chunk.answer = result

    def _finished(self, chunk: Chunk, result: Any) -> None:
        chunk.done = True
        self._unfinished.discard(chunk.sequence)
        self._results[chunk.ticket][chunk.rows.start] = result
        self._missing[chunk.ticket] -= len(chunk)
        if self._verbs[chunk.verb].evaluates:
            early = bool(self._unfinished) and min(self._unfinished) < chunk.sequence
            self._report = replace(
                self._report,
                evaluations=self._report.evaluations + len(result),
                out_of_order=self._report.out_of_order + early,
            )

    def _double(self, chunk: Chunk, first: Worker) -> None:
        """Have another evaluator score a chunk as well, behind what it has to do."""
        others = [worker for worker in self._roster.ready if worker is not first]
        if others and not chunk.doubled:
            chunk.doubled = True
            self._send(min(others, key=lambda worker: len(worker.sent)), chunk)

    def _compare(self, chunk: Chunk, result: Any, worker: Worker) -> None:
        """Two evaluators' answers for the same chunk: whichever came first, the archive must not depend on it."""
        self._report = replace(self._report, compared=self._report.compared + 1)
        if _bits(result) != _bits(chunk.answer):
            raise CorruptData(
                f"{chunk}: two evaluators gave different bits (the second is process {worker.facts.get('pid')} on "
                f"{worker.facts.get('host')}); a processor or memory is faulty, or the network is not deterministic."
            )
        chunk.answer = None

    def _look_for_silence(self) -> None:
        now = time.monotonic()
        for worker in self._workers:
            if worker.sent and now - worker.since > self._chunk_timeout:
                self._warn(f"an evaluator was silent for {self._chunk_timeout:g} s and is killed.")
                ray.kill(worker.handle, no_restart=False)
                self._lost(worker)
        if self._roster.ready:
            self._no_worker_since = None
        elif self._no_worker_since is None:
            self._no_worker_since = now
        elif now - self._no_worker_since > self._ready_timeout:
            raise EvaluationFailed(f"no evaluator came back within {self._ready_timeout:g} s.")


def _bits(result: Any) -> list[bytes]:
    """Of an answer: a record of arrays such as scores, or an array."""
    arrays = [result] if isinstance(result, np.ndarray) else vars(result).values()
    return [array.tobytes() for array in arrays if array is not None]
