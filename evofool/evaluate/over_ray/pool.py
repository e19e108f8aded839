"""The pool over Ray: one actor for each evaluator, and a queue of chunks in the driver.

Ray starts, restarts and reaches processes; which evaluator gets a chunk, and who gets it after a loss, is decided here.
Scoring is pure, so a chunk may be scored twice without harm, and results are joined by job and row, so neither the
number of evaluators nor the order of their answers can change the archive.
"""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import ray
from ray import exceptions as ray_errors

from evofool.errors import CorruptData, EvaluationFailed
from evofool.evaluate.over_ray.chunks import MAX_ATTEMPTS, Chunk, Progress, Worker
from evofool.evaluate.over_ray.cluster import Cluster
from evofool.evaluate.over_ray.failures import Verdict, error_of, verdict_on
from evofool.evaluate.over_ray.roster import Roster
from evofool.evaluate.pool import Job, Overdue, PoolReport, Result, chunks, never, part
from evofool.evaluate.problem import Recipe
from evofool.records import Facts

__all__ = ["RayPool"]

IN_FLIGHT = 2  # chunks sent to an evaluator at a time: one is scored while the next travels
PATIENCE = 2.0  # times the mean of all chunks, after which an idle evaluator gets a chunk that another one has
MAX_POISON = 10  # individuals that may count as not finite because every evaluator is lost that scores them
COMPARED = 100  # one of so many chunks is scored by two evaluators, whose bits must agree


class RayPool:
    """A pool of Ray actors.

    Args:
        recipe: what each actor builds its evaluator from.
        evaluators: how many, or "auto": as many as the cluster has room for, by cores and `threads`, and by GPUs.
        per_gpu: evaluators that share a GPU.
        ready_timeout: seconds to wait for evaluators.
        chunk_timeout: seconds of silence after which an evaluator is killed.
        canary: what evaluators must give; None for a new run, where the largest group that agrees decides.
        stored: the numerics of a run that goes on, to say what may be the matter where nobody gives that.
        warn: receives a sentence when an evaluator is missing or lost.

    Raises:
        ResourcesMissing: no evaluator was ready in time; with what each needs and what the cluster has.
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
        stored: Facts | None = None,
        warn: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._cluster, self._recipe, self._warn = cluster, recipe, warn
        self._chunk_timeout, self._ready_timeout = chunk_timeout, ready_timeout
        self._queue: deque[Chunk] = deque()
        self._jobs: dict[int, Progress] = {}  # by ticket
        self._sequence = self._answers = 0  # how many chunks were submitted, how many answers came
        self._unfinished: set[int] = set()  # the chunks' `sequence`
        self._report = PoolReport()
        self._firsts: Counter[tuple[str, ...]] = Counter()  # (node, host, gpu) -> chunks that it was first to score
        self._no_worker_since: float | None = None
        self._poison: list[str] = []  # names of individuals
        self.overdue = never
        self._roster = Roster(
            cluster,
            recipe,
            evaluators=evaluators,
            per_gpu=per_gpu,
            ready_timeout=ready_timeout,
            canary=canary,
            stored=stored,
            warn=warn,
        )
        self.canary, self.platform = self._roster.canary, self._roster.platform

    # --------------------------------------------------------------------------------------------------------- losses

    def _lose(self, worker: Worker, verdict: Verdict) -> None:
        """Put a lost evaluator's chunks back at the head of the queue and wait for its successor."""
        lost = [(position, chunk) for position, chunk in enumerate(worker.sent.values()) if not chunk.done]
        worker.sent.clear()
        for position, chunk in reversed(lost):
            # Only the oldest can have been at fault; the others were waiting.
            chunk.attempts += position == 0
            self._requeue(chunk)
        if lost:
            self._warn(f"an evaluator was lost; {len(lost)} chunks go to others.")
        self._roster.renew(worker, verdict)

    def _requeue(self, chunk: Chunk) -> None:
        """Queue a chunk whose answer was lost, in halves if it cost too many evaluators; a single row is given up."""
        if any(other is chunk for worker in self._roster.workers for other in worker.sent.values()):
            return  # another evaluator has it as well
        chunk.doubled = False
        self._report = replace(self._report, requeued=self._report.requeued + 1)
        if chunk.attempts < MAX_ATTEMPTS:
            self._queue.appendleft(chunk)
            return
        stand_in = self._recipe.verbs[chunk.verb].stand_in
        if stand_in is None or not self._answers:  # nothing was ever scored: it is not the individuals' fault
            raise EvaluationFailed(
                f"{chunk}: {chunk.attempts} evaluators were lost while scoring them; the network may need too much "
                "memory (lower evaluation.micro_batch) or crash on them."
            )
        if len(chunk) > 1:
            self._warn(f"{chunk}: {MAX_ATTEMPTS} evaluators were lost while scoring them; halving them to see by whom.")
            self._queue.extendleft(reversed(chunk.halves(self._recipe.encoding)))
            return
        self._poison.append(str(chunk).rpartition(" to ")[0].replace("slots", "slot").replace("rows", "row"))
        self._warn(f"{self._poison[-1]}: every evaluator that scores it is lost, so it counts as not finite.")
        if len(self._poison) > MAX_POISON:
            raise EvaluationFailed(
                f"the network takes its process down for more than {MAX_POISON} individuals ({self._poison[0]}; ... "
                f"{self._poison[-1]}); give it more memory (lower evaluation.micro_batch), or mend what crashes."
            )
        self._finish(chunk, stand_in(1, len(self._recipe.cells.classes)))

    # ------------------------------------------------------------------------------------------------- what pools do

    def submit(self, job: Job) -> None:
        """Queue a job's chunks and send what evaluators have room for."""
        new = [
            Chunk(job.ticket, job.verb, part(job.batch, rows, self._recipe.encoding), rows, self._sequence + i)
            for i, rows in enumerate(chunks(len(job), self._recipe.numerics.chunk))
        ]
        self._sequence += len(new)
        self._unfinished.update(chunk.sequence for chunk in new)
        self._jobs[job.ticket] = Progress(job.verb, missing=len(job))
        if job.first:
            self._queue.extendleft(reversed(new))
        else:
            self._queue.extend(new)
        self._dispatch()

    def collect(self, ticket: int) -> Result:
        """The result of a job, in the order of its rows.

        Raises:
            Overdue: as `overdue` says.
            EvaluationFailed: a chunk took down too many evaluators, or no evaluator came back.
            CorruptData: two evaluators gave different bits for one chunk.
            ResourcesMissing: the cluster is gone.
            EvofoolError: what the evaluator raised, such as TargetError, or what is wrong with the cluster.
        """
        job = self._jobs[ticket]
        while job.missing:
            self._step()
        del self._jobs[ticket]
        return self._recipe.verbs[job.verb].join([job.parts[first] for first in sorted(job.parts)])

    def report(self) -> PoolReport:
        nodes = tuple(
            {"node": node, "host": host, **({"gpu": gpu} if gpu else {}), "chunks": n}
            for (node, host, gpu), n in sorted(self._firsts.items())
        )
        return replace(self._report, evaluators=len(self._roster.ready), nodes=nodes)

    def close(self) -> None:
        """End the actors; Ray itself is the cluster's to close."""
        self._roster.close()

    # ----------------------------------------------------------------------------------------------------------- inside

    def _dispatch(self) -> None:
        """Send chunks to evaluators that have room; one that has nothing gets a copy of another's straggler."""
        for room in range(1, IN_FLIGHT + 1):  # every evaluator gets one before any gets two
            for worker in self._roster.ready:
                while self._queue and len(worker.sent) < room:
                    if not (chunk := self._queue.popleft()).done:
                        self._send(worker, chunk)
        for worker in self._roster.ready:
            if not worker.sent and (straggler := self._straggler()):
                straggler.doubled = True
                self._send(worker, straggler)

    def _send(self, worker: Worker, chunk: Chunk) -> None:
        if not worker.sent:
            worker.since = time.monotonic()
        worker.sent[worker.handle.perform.remote(chunk.verb, chunk.batch)] = chunk

    def _straggler(self) -> Chunk | None:
        """The oldest chunk that waits behind another one, or that takes longer than others did.

        Generations are placed in order, so one slow evaluator would hold up all others. Whoever answers first counts.
        """
        now, patience = time.monotonic(), PATIENCE * self._mean_seconds()
        stragglers = [
            chunk
            for worker in self._roster.workers
            for place, chunk in enumerate(worker.sent.values())
            if not (chunk.doubled or chunk.done) and (place > 0 or now - worker.since > patience)
        ]
        return min(stragglers, key=lambda chunk: chunk.sequence, default=None)

    def _mean_seconds(self) -> float:
        return self._report.core_seconds / self._answers if self._answers else math.inf

    def _step(self) -> None:
        """Wait at most a second for an answer or a hello, and act on it; raises what `collect` does."""
        if self.overdue():
            raise Overdue
        self._cluster.check()
        workers = self._roster.workers
        refs = {ref: worker for worker in workers for ref in worker.sent}
        refs |= {worker.hello: worker for worker in workers if worker.hello is not None}
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

    def _take(self, worker: Worker, ref: ray.ObjectRef) -> None:
        """Take an evaluator's answer to a chunk, or act on what Ray says became of it."""
        chunk = worker.sent.get(ref)
        if chunk is None:  # lost with its evaluator meanwhile
            return
        try:
            result, seconds, rss = ray.get(ref)
        except ray_errors.RayError as error:
            verdict = verdict_on(error)
            if verdict is Verdict.STOP:
                raise error_of(error) from error
            if verdict is Verdict.REQUEUE:
                del worker.sent[ref]
                chunk.attempts += 1
                if not chunk.done:
                    self._requeue(chunk)
            else:
                self._lose(worker, verdict)
            return
        del worker.sent[ref]
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
            self._finish(chunk, result)
            evaluates = self._recipe.verbs[chunk.verb].evaluates
            self._firsts[worker.facts["node"], worker.facts["host"], worker.facts.get("gpu", "")] += evaluates
            if evaluates and chunk.sequence % COMPARED == 0:
                self._double(chunk, worker)
            if chunk.doubled:
                chunk.answer = result

    def _finish(self, chunk: Chunk, result: Result) -> None:
        chunk.done = True
        self._unfinished.discard(chunk.sequence)
        job = self._jobs[chunk.ticket]
        job.parts[chunk.rows.start] = result
        job.missing -= len(chunk)
        if self._recipe.verbs[chunk.verb].evaluates:
            early = bool(self._unfinished) and min(self._unfinished) < chunk.sequence
            self._report = replace(
                self._report,
                evaluations=self._report.evaluations + len(result),
                out_of_order=self._report.out_of_order + early,
            )

    def _double(self, chunk: Chunk, first: Worker) -> None:
        """Have another evaluator score a chunk as well, after the chunks it has."""
        others = [worker for worker in self._roster.ready if worker is not first]
        if others and not chunk.doubled:
            chunk.doubled = True
            self._send(min(others, key=lambda worker: len(worker.sent)), chunk)

    def _compare(self, chunk: Chunk, result: Result, worker: Worker) -> None:
        """Compare a second answer with the first: the archive must not depend on which of them came first."""
        self._report = replace(self._report, compared=self._report.compared + 1)
        if _bits(result) != _bits(chunk.answer):
            raise CorruptData(
                f"{chunk}: two evaluators gave different bits (the second is process {worker.facts.get('pid')} on "
                f"{worker.facts.get('host')}); a processor or memory is faulty, or the network is not deterministic."
            )
        chunk.answer = None

    def _look_for_silence(self) -> None:
        """Kill evaluators that have been silent for too long, and fail if none has been ready for too long."""
        now = time.monotonic()
        for worker in self._roster.workers:
            if worker.sent and now - worker.since > self._chunk_timeout:
                self._warn(f"an evaluator was silent for {self._chunk_timeout:g} s and is killed.")
                ray.kill(worker.handle, no_restart=False)
                self._lose(worker, Verdict.RESTART)
        if self._roster.ready:
            self._no_worker_since = None
        elif self._no_worker_since is None:
            self._no_worker_since = now
        elif now - self._no_worker_since > self._ready_timeout:
            raise EvaluationFailed(f"no evaluator came back within {self._ready_timeout:g} s.")


def _bits(result: Result) -> list[bytes]:
    """The bytes of a result: an array, or a record of arrays such as Scores."""
    arrays = [result] if isinstance(result, np.ndarray) else vars(result).values()
    return [array.tobytes() for array in arrays if array is not None]
