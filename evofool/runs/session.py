"""One stretch of work on one run directory: open the pool, restore the search, run it, keep what it finds, close."""

from __future__ import annotations

import contextlib
import resource
import secrets
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from evofool.archive.objectives import load_objective
from evofool.base import provenance
from evofool.base.source import Source
from evofool.config import Config, differences, fingerprint
from evofool.encoding.cppn.activations import load_activations
from evofool.encoding.kinds import Encoding, make_encoding
from evofool.encoding.own import load_operators
from evofool.errors import CorruptData, EvofoolError, IncompatibleRun, RunLocked, Stopped, StorageError
from evofool.evaluate.memory import keep_freed_memory, peak_rss_mib
from evofool.evaluate.opening import Work, open_pool
from evofool.evaluate.pool import Overdue, Pool
from evofool.records import GenerationResult, Numerics
from evofool.runs.observers.observer import Observer
from evofool.runs.seeding import seeds_of
from evofool.search.loop import Search
from evofool.search.stopping import Stopper, signals
from evofool.store.compaction import compact, is_due
from evofool.store.reader import Run, activation_sources
from evofool.store.remote.working_copy import hold, named
from evofool.store.run import RunStore
from evofool.store.state import Seeds
from evofool.store.view import ViewWriter, compare_view
from evofool.targets.target import Target

__all__ = ["STALE_WARNING", "Session", "refuse_other_target"]

STALE_WARNING = 100  # generations without a placement before the user is told


@dataclass
class Session:
    """One stretch of work on one run directory."""

    config: Config
    path: Path
    target: Target
    source: Source | Target
    address: str | None
    allow_numerics_change: bool
    observers: list[Observer]
    allow_code: bool = False
    grace: float = 10.0  # seconds that a generation may still take after a signal

    def __post_init__(self) -> None:
        self.class_indices = self.target.class_indices(self.config.target.classes)

    def _load_code(self) -> None:
        """The encoding, and whatever code of the user's the configuration names."""
        self.activations = activation_sources(self.config, self.allow_code)
        self.code = load_activations(self.activations)  # spec -> sha256 of the user's code that this run depends on
        self.encoding = make_encoding(self.config.encoding, self.target.image_size, self.target.channels)
        self.objective_source = Source(self.config.search.objective, self.allow_code, key="search.objective")
        _, code_sha256 = load_objective(self.objective_source)
        if code_sha256:
            self.code[self.config.search.objective] = code_sha256
        self.operators, hashes = load_operators(self.config, self.allow_code)
        self.code |= hashes

    def tell(self, event: str, *arguments: Any) -> None:
        for observer in self.observers:
            getattr(observer, event)(*(named(a) if isinstance(a, str) else a for a in arguments))

    def warn(self, text: str) -> None:
        self.tell("on_warning", text)

    # --------------------------------------------------------------------------------------------- begin and go on

    def create(self, seed_from: list[Path]) -> Run:
        self._load_code()
        seeds, parents = seeds_of(seed_from, self.encoding)
        try:
            RunStore.make_folders(self.path)
            with hold(self.path):
                if RunStore.check_place(self.path):
                    raise RunLocked(
                        f"{self.path}: another driver has just made this run; this one stops.",
                        go_on=f"evofool resume {self.path}",
                    )
                RunStore.prepare(self.path)
                with self._pool(None) as (pool, numerics, cluster_facts):
                    store = RunStore.create(self.path, self.config, self._provenance(numerics, pool, parents), seeds)
                    with store.log.yielding():
                        store.recover()  # of a driver that was killed before there was a run
                        return self._go(store, pool, numerics, epoch=0, cluster=cluster_facts, seeds=seeds, state=None)
        except RunLocked:
            raise  # the folders are another driver's
        except BaseException:
            RunStore.abandon(self.path)
            raise

    def resume(self) -> Run:
        with hold(self.path), (store := RunStore(self.path)).log.yielding():
            self._refuse_changes(store)
            self._load_code()
            refuse_other_target(store, self.target)
            self._refuse_other_code(store)
            state = store.state()
            self._say_what_is_gone(store)
            seeds = store.seeds() if state is None else None
            stopper = Stopper(self.config)
            if state is not None and stopper(state.statistics) and _view_is_whole(store, self.encoding):
                store.log.remove_leftovers()  # a driver may have been killed after its last commit
                store.update(config=self.config)
                self.tell("on_stop", f"nothing to do: {stopper.reason}; raise the limit to go on.")
                return Run(self.path)
            RunStore.prepare(self.path)
            last = store.log.last.numerics if store.log.last else store.provenance["numerics"]
            with self._pool(last) as (pool, numerics, cluster_facts):
                epoch = last["epoch"]
                if pool.canary != last["canary"] or Numerics.of(last) != numerics:
                    epoch += 1
                    self.warn(f"the numerics changed; from here on this is numerics epoch {epoch} of the run.")
                removed = store.recover()
                if removed:
                    self.warn(f"removed {removed} files of an unfinished commit.")
                store.update(config=self.config)
                return self._go(store, pool, numerics, epoch=epoch, cluster=cluster_facts, seeds=seeds, state=state)

    def _refuse_changes(self, store: RunStore) -> None:
        changed = differences(store.config, self.config)
        # The target is judged by its fingerprint, so that its file may be moved.
        lines = [
            f"  {key}: {old!r} -> {new!r}"
            for key, (kind, old, new) in changed.items()
            if kind == "semantic" and key != "target.spec"
        ]
        if lines:
            raise IncompatibleRun(
                f"{self.path}: the configuration asks for another run:\n" + "\n".join(lines) + "\n"
                "go on without these changes, or start a new run from this one's elites with "
                f"--seed-from {self.path} and another name."
            )
        if self.allow_numerics_change:
            return
        last = asdict(Numerics.of(store.log.last.numerics if store.log.last else store.provenance["numerics"]))
        lines = [
            f"  {key}: {last[name]!r} -> {new!r}"
            for key, (kind, _, new) in changed.items()
            if kind == "numerics" and new not in ("auto", last[name := key.rpartition(".")[2]])
        ]
        if lines:
            raise IncompatibleRun(
                f"{self.path}: the configuration would change the bits of scores:\n" + "\n".join(lines) + "\n"
                "go on without these changes, or add --allow-numerics-change, which marks it in the next commit."
            )

    def _say_what_is_gone(self, store: RunStore) -> None:
        history, first = self.config.storage.history, store.log.whole_from
        if first and history != store.config.storage.history:
            self.warn(
                f"storage.history: {history} holds from here on; what was dropped of the generations before {first} "
                "stays gone."
            )

    def _refuse_other_code(self, store: RunStore) -> None:
        for spec, old in store.provenance.get("code", {}).items():
            if self.code.get(spec) != old:
                raise IncompatibleRun(
                    f"{self.path}: the code of {spec} is not what it was; put the old file back, or start anew with "
                    f"--seed-from {self.path}."
                )

    def _provenance(self, numerics: Numerics, pool: Pool, parents: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "evofool": metadata.version("evofool"),
            "run_id": secrets.token_hex(8),
            "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "config_fingerprint": fingerprint(self.config),
            "config_spec": self.config.target.spec,
            "target": self.target.spec,
            "target_fingerprint": self.target.fingerprint(),
            "preprocessing": asdict(self.target.preprocessing),
            "preprocessing_hash": self.target.preprocessing.sha256(),
            "geometry": self.target.geometry,
            "output": self.target.output,
            "crops": self.target.crops,
            "image_size": list(self.target.image_size),
            "channels": self.target.channels,
            "cells": len(self.class_indices),
            "class_indices": [int(i) for i in self.class_indices],
            "class_names": [self.target.class_names[i] for i in self.class_indices],
            "output_names": list(self.target.class_names),
            "encoding": self.encoding.kind,
            "code": self.code,
            "numerics": {**asdict(numerics), "canary": pool.canary, "epoch": 0},
            "seeded_from": parents,
            "versions": provenance.versions(),
            "machine": provenance.facts(),
            "sessions": [],
        }

    # ------------------------------------------------------------------------------------------------------ the pool

    @contextlib.contextmanager
    def _pool(self, stored: dict[str, Any] | None) -> Iterator[tuple[Pool, Numerics, dict[str, Any]]]:
        """The pool of `evaluation.pool`, checked against the canary of the run."""
        canary = None if stored is None or self.allow_numerics_change else stored["canary"]
        work = Work(
            self.target, self.source, self.encoding, self.class_indices, self.objective_source, self.activations
        )
        with open_pool(
            self.config.evaluation, work, address=self.address, stored=stored, canary=canary, warn=self.warn
        ) as opened:
            yield opened

    # ------------------------------------------------------------------------------------------------------ the work

    def _go(
        self,
        store: RunStore,
        pool: Pool,
        numerics: Numerics,
        *,
        epoch: int,
        cluster: dict[str, Any],
        seeds: Seeds | None,
        state: Any,
    ) -> Run:
        keep_freed_memory()  # breeding asks for the same large arrays in every generation
        stopper = Stopper(self.config)
        pool.overdue = stopper.overdue
        keeper = _Keeper(self, store, pool, stopper, {**asdict(numerics), "canary": pool.canary, "epoch": epoch})
        search = Search(
            self.config,
            self.encoding,
            pool,
            self.class_indices,
            seeds=(self.encoding.from_bytes(seeds.genomes), tuple(seeds.origins)) if seeds else None,
            on_result=keeper.keep,
            limit=self.config.search.generations,
            operators=self.operators,
        )
        if state is not None:
            search.restore(state)
        keeper.begin(search)
        facts = {
            **store.provenance,
            "resumed_at": state.generation if state else None,
            "evaluators": pool.report().evaluators,
        }
        self.tell("on_start", self.config, facts)
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
                    # Finished generations are kept; the view needs evaluators, so resuming writes it.
                    keeper.finish(cluster, view=False)
                    raise
                keeper.finish(cluster)
        except EvofoolError as error:
            raise keeper.explained(error) from error
        except KeyboardInterrupt:
            raise keeper.explained(Stopped("stopped at once, by a second interrupt.")) from None
        finally:
            keeper.view.close()
        self.tell("on_stop", f"{stopper.reason}; the archive is in {self.path}")
        if stopper.signal is not None:
            stopped = Stopped(f"{stopper.reason} after a clean commit.", exit_code=128 + stopper.signal)
            raise keeper.explained(stopped)
        return Run(self.path, search.logbook)


class _Keeper:
    """Puts every result into the store, and tells the observers."""

    def __init__(
        self, session: Session, store: RunStore, pool: Pool, stopper: Stopper, numerics: dict[str, Any]
    ) -> None:
        self.session, self.store, self.pool, self.stopper, self.numerics = session, store, pool, stopper, numerics
        self.view = ViewWriter(store, session.encoding, pool.render)
        self.search: Search | None = None
        self._viewed = time.monotonic()
        self._done_before = 0

    def begin(self, search: Search) -> None:
        self.search = search
        self._done_before = search.statistics.evaluations if search.statistics else 0
        self._began = time.monotonic()
        if search.statistics:
            self.view.write()  # the last session may have been killed before it did

    def keep(self, result: GenerationResult) -> None:
        elapsed = time.monotonic() - self._began
        statistics = replace(result.statistics, seconds=elapsed)
        self.store.append(replace(result, statistics=statistics))
        storage, asked = self.session.config.storage, self.stopper.checkpoint
        if asked or (statistics.generation + 1) % storage.commit_every == 0:
            self.stopper.checkpoint = False
            self._commit()
            if asked or time.monotonic() - self._viewed >= storage.snapshot_every:
                self.view.begin()
                self._viewed = time.monotonic()
        self.view.settle(wait=asked)
        report = self.pool.report()
        rate = (statistics.evaluations - self._done_before) / max(elapsed, 1e-9)
        facts = {"evaluators": report.evaluators, "requeued": report.requeued, "evaluations_per_second": rate}
        self.session.tell("on_generation", statistics, facts)
        if statistics.stale == STALE_WARNING:
            self.session.warn(
                f"no placement for {STALE_WARNING} generations; the archive may be as good as this encoding and these "
                "rates can make it (see search.stop_when)."
            )

    def _commit(self) -> None:
        assert self.search is not None and self.search.statistics is not None
        s = self.search.statistics
        counters = {k: v for k, v in asdict(s).items() if k not in ("generation", "seconds", "offspring", "placements")}
        commit = self.store.commit(self.search.archive.elites, numerics=self.numerics, counters=counters)
        if commit:
            self.session.tell("on_commit", commit.generation, commit.archive_hash)
            if is_due(self.store):
                compact(self.store, self.store.config.storage.history)

    def finish(self, cluster: dict[str, Any], *, view: bool = True) -> None:
        """The last commit, the view, and this session's line in run.json."""
        assert self.search is not None
        if self.search.statistics is None:
            return
        self._commit()
        try:
            if view:
                self.view.write()
        except Overdue:
            self.session.warn("there was no time left to write the elites view; resuming writes it first.")
        session = {
            "ended_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - self._began, 3),
            **self.pool.report().facts(),
            "driver_core_seconds": round(resource.getrusage(resource.RUSAGE_SELF).ru_utime, 3),
            "driver_peak_rss_mib": round(peak_rss_mib(), 1),
            "versions": provenance.versions(),
            "cluster": cluster,
        }
        self.store.update(sessions=[*self.store.provenance["sessions"], session])

    def explained(self, error: EvofoolError) -> EvofoolError:
        """The error with what is safe on disk and the command that goes on."""
        last = self.store.log.last
        error.safe = (
            f"everything up to generation {last.generation} is committed in {self.store.path}"
            if last
            else f"nothing was committed yet in {self.store.path}"
        )
        error.go_on = error.go_on or f"evofool resume {self.store.path}"
        return error


def _view_is_whole(store: RunStore, encoding: Encoding) -> bool:
    """Whether the view shows what the last commit says; where it does not, it is to be written again."""
    try:
        compare_view(store, encoding)
    except CorruptData:
        return False
    return True


def refuse_other_target(store: RunStore, target: Target) -> None:
    """Raise IncompatibleRun unless the target is the one the run was made with."""
    old, new = store.provenance["target_fingerprint"], target.fingerprint()
    if old != new:
        raise IncompatibleRun(
            f"{store.path}: the target {target.spec} is not the one the run was made with (fingerprint {new[:16]}..., "
            f"was {old[:16]}...); put the old weights back, or start anew with --seed-from {store.path}."
        )
