"""Sessions: one stretch of work on a run directory, from opening the pool to the last commit and the view."""

from __future__ import annotations

import resource
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

from evofool.archive.state import State
from evofool.base import provenance
from evofool.base.places import quoted
from evofool.config import Config
from evofool.encoding.contract import Encoding
from evofool.errors import CorruptData, EvofoolError, RunLocked, Stopped, StorageError
from evofool.evaluate.evaluator import is_alike, other_canary
from evofool.evaluate.memory import keep_freed_memory, peak_rss_mib
from evofool.evaluate.opening import SLOW, open_pool
from evofool.evaluate.pool import Overdue, Pool
from evofool.evaluate.problem import Problem, problem_of
from evofool.evaluate.sharing import SharedPool
from evofool.records import Facts, GenerationResult, Numerics
from evofool.runs.agreement import provenance_of, refuse_changes, stored_numerics, warn_of_dropped_rows
from evofool.runs.observers.observer import (
    Audience,
    Committed,
    GenerationPlaced,
    RunEnded,
    RunStarted,
    RunStopped,
    Waiting,
    Warned,
)
from evofool.runs.recording import Recorder
from evofool.runs.seeding import seeds_of
from evofool.search.loop import Search
from evofool.search.stopping import Stopper, signals
from evofool.store import folders, writing
from evofool.store.reader import Run
from evofool.store.remote.working_copy import hold, named
from evofool.store.restore import restore
from evofool.store.rows import Seeds
from evofool.store.run import RunStore
from evofool.store.view import compare_view
from evofool.targets.opening import OpenTarget, refuse_other_target

__all__ = ["STALE_WARNING", "Session"]

STALE_WARNING = 100  # generations without a placement before the user is told


@dataclass(frozen=True)
class Session:
    """One stretch of work on one run directory. The attributes are as the arguments of `runner.run`."""

    config: Config
    path: Path
    opened: OpenTarget
    address: str | None
    allow_numerics_change: bool
    observers: Audience
    allow_code: bool
    grace: float  # seconds that a generation may still take after a signal
    pool: str | None = None  # in place of evaluation.pool, of which the run keeps its own
    shared: SharedPool | None = None  # evaluators that other runs have before and after this one

    # In sentences for people, runs in object stores are called by their URLs.

    def warn(self, text: str) -> None:
        """Tell the observers what a person should know."""
        self.observers.tell(Warned(named(text)))

    def _stop(self, reason: str) -> None:
        self.observers.tell(RunStopped(named(reason)))

    def _problem(self, code: Mapping[str, str] = MappingProxyType({})) -> Problem:
        evaluation = self.config.evaluation
        evaluation = evaluation.model_copy(update={"pool": self.pool or evaluation.pool})
        config = self.config.model_copy(update={"evaluation": evaluation})
        return problem_of(config, self.opened, allow_code=self.allow_code, code=code)

    def _open_pool(
        self, problem: Problem, stored: Facts | None = None, canary: str | None = None
    ) -> AbstractContextManager[tuple[Pool, Numerics, Facts]]:
        text = SLOW.get(problem.config.evaluation.pool)
        if text and not (self.shared and self.shared.is_open):
            self.observers.tell(Waiting(text))
        opener = self.shared.open if self.shared else open_pool
        return opener(problem, address=self.address, stored=stored, canary=canary, warn=self.warn)

    def create(self, seed_from: list[Path], seeds: Seeds | None = None) -> Run:
        """Make a run, and search; `seeds` are genomes to start from that are of no run."""
        problem = self._problem()
        if doubt := problem.target.preprocessing.doubt:
            self.warn(doubt)
        found, parents = seeds_of(seed_from, problem.genomes, self.allow_code)
        seeds = seeds or found
        try:
            folders.make_folders(self.path)
            with hold(self.path):
                if folders.check_place(self.path):
                    raise RunLocked(
                        f"{self.path}: another driver has just made this run; this one stops.",
                        go_on=f"evofool resume {quoted(self.path)}",
                    )
                folders.prepare(self.path)
                with self._open_pool(problem) as (pool, numerics, cluster):
                    facts = provenance_of(problem, numerics, pool.canary, parents, **_platform(cluster))
                    store = RunStore.create(self.path, self.config, facts, seeds)
                    with store.log.yielding():
                        store.recover()  # of a driver that was killed before the run existed
                        return self._go(problem, store, pool, store.provenance["numerics"], cluster, seeds=seeds)
        except RunLocked:
            raise  # the folders are another driver's
        except BaseException:
            folders.abandon(self.path)
            raise

    def resume(self) -> Run:
        """Go on with a run."""
        with hold(self.path), (store := RunStore(self.path)).log.yielding():
            refuse_changes(store, self.config, allow_numerics_change=self.allow_numerics_change)
            problem = self._problem(store.provenance.get("code", {}))
            refuse_other_target(store.provenance["target_fingerprint"], self.path, self.opened)
            state = restore(store)
            warn_of_dropped_rows(store, self.config, self.warn)
            seeds = store.seeds() if state is None else None
            stopper = Stopper(self.config)
            if state is not None and stopper(state.statistics) and _view_is_whole(store, problem.genomes):
                writing.recover(store.log, store.remote)  # a driver may have been killed after its last commit
                store.update(config=self.config)
                self._stop(f"nothing to do: {stopper.reason}; raise the limit to go on.")
                return Run(store)
            folders.prepare(self.path)
            last = stored_numerics(store)
            canary = None if self.allow_numerics_change else last["canary"]
            with self._open_pool(problem, last, canary) as (pool, numerics, cluster):
                epoch = last["epoch"]
                if pool.canary != last["canary"] and is_alike(last, numerics, {cluster.get("platform", "")}):
                    # Allowed is other arithmetic, not another network.
                    raise other_canary(f"{self.path}: what it is resumed with", last, numerics, {last["platform"]})
                if pool.canary != last["canary"] or Numerics.of(last) != numerics:
                    epoch += 1  # scores of another epoch may have other bits
                    self.warn(f"the numerics changed; from here on this is numerics epoch {epoch} of the run.")
                if removed := store.recover():
                    self.warn(f"removed {removed} files of an unfinished commit.")
                store.update(config=self.config)
                whole = {**asdict(numerics), "canary": pool.canary, "epoch": epoch, **_platform(cluster)}
                return self._go(problem, store, pool, whole, cluster, seeds=seeds, state=state)

    def _go(
        self,
        problem: Problem,
        store: RunStore,
        pool: Pool,
        numerics: Facts,
        cluster: Facts,
        *,
        seeds: Seeds | None = None,
        state: State | None = None,
    ) -> Run:
        """Search, from the seeds or the state if any; `numerics` have canary and epoch."""
        keep_freed_memory()  # breeding asks for the same large arrays in every generation
        stopper = Stopper(self.config)
        pool.overdue = stopper.overdue
        search = Search(
            self.config,
            problem.genomes,
            pool,
            problem.cells,
            seeds=(problem.genomes.from_bytes(seeds.genomes), tuple(seeds.origins)) if seeds else None,
            on_result=lambda result: self._keep(result, search, recorder, stopper),
            limit=self.config.search.generations,
            operators=problem.operators,
        )
        if state is not None:
            search.restore(state)
        recorder = Recorder(store, problem.genomes, pool, self.config.storage, numerics, self._committed)
        if state is not None:
            recorder.view.write()  # the last session may have been killed before it did
        resumed_at, evaluators = state.generation if state else None, pool.report().evaluators
        self.observers.tell(RunStarted(self.config, self.path, store.provenance, resumed_at, evaluators, cluster))
        try:
            with signals(stopper, self.grace, self.warn):
                try:
                    search.run(stopper)
                except Overdue:
                    stopper(search.statistics)
                    stopper.reason += f" and {self.grace:g} s of grace in the middle of a generation"
                except StorageError:
                    raise
                except Exception:
                    # Commit finished generations; the view needs evaluators, so resuming writes it.
                    self._finish(search, recorder, cluster, view=False)
                    raise
                self._finish(search, recorder, cluster)
                self._stop(f"{stopper.reason}; the archive is in {self.path}")
        except EvofoolError as error:
            raise _explained(error, store) from error
        except KeyboardInterrupt:
            raise _explained(Stopped("stopped at once, by a second interrupt."), store) from None
        finally:
            try:
                recorder.view.close()
            finally:
                self.observers.tell(RunEnded())
        if stopper.signal is not None:
            stopped = Stopped(f"{stopper.reason} after a clean commit.", exit_code=128 + stopper.signal)
            raise _explained(stopped, store)
        return Run(store, search.logbook)

    def _keep(self, result: GenerationResult, search: Search, recorder: Recorder, stopper: Stopper) -> None:
        """Store a result, and tell the observers."""
        checkpoint, stopper.checkpoint = stopper.checkpoint, False
        statistics = recorder.keep(search, result, commit=checkpoint, wait=checkpoint)
        report = search.pool.report()
        rate = recorder.evaluations / max(time.monotonic() - recorder.began, 1e-9)
        placed = replace(result, statistics=statistics)
        self.observers.tell(GenerationPlaced(placed, report.evaluators, report.requeued, rate))
        if statistics.stale == STALE_WARNING:
            self.warn(
                f"no placement for {STALE_WARNING} generations; the archive may be as good as this encoding and "
                "these rates can make it (see search.stop_when)."
            )

    def _committed(self, generation: int, archive_hash: str) -> None:
        self.observers.tell(Committed(generation, archive_hash))

    def _finish(self, search: Search, recorder: Recorder, cluster: Facts, *, view: bool = True) -> None:
        """The last commit, the view, and this session's line in run.json."""
        if search.statistics is None:
            return
        recorder.commit(search)
        try:
            if view:
                recorder.view.write()
        except Overdue:
            self.warn("there was no time left to write the elites view; resuming writes it first.")
        session = {
            "ended_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - recorder.began, 3),
            **search.pool.report().facts(),
            "driver_core_seconds": round(resource.getrusage(resource.RUSAGE_SELF).ru_utime, 3),
            "driver_peak_rss_mib": round(peak_rss_mib(), 1),
            "versions": provenance.versions(),
            "cluster": cluster,
        }
        recorder.store.update(sessions=[*recorder.store.provenance["sessions"], session])


def _platform(cluster: Facts) -> Facts:
    """What of the facts about where evaluators are belongs to the numerics."""
    return {"platform": cluster["platform"]} if cluster.get("platform") else {}


def _explained(error: EvofoolError, store: RunStore) -> EvofoolError:
    """The error, with what is safe on disk and the command that goes on."""
    error.safe = f"nothing was committed yet in {store.path}"
    if last := store.log.last:
        error.safe = f"everything up to generation {last.generation} is committed in {store.path}"
    error.go_on = error.go_on or f"evofool resume {quoted(store.path)}"
    return error


def _view_is_whole(store: RunStore, encoding: Encoding) -> bool:
    """Whether the view shows what the last commit says; else it has to be written again."""
    try:
        compare_view(store, encoding)
    except CorruptData:
        return False
    return True
