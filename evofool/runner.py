"""Running: the one place that joins target, pool, store and search."""

from __future__ import annotations

import contextlib
import copy
import os
import platform
import resource
import secrets
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from evofool.config import Config, differences, fingerprint, load_config, parse_condition
from evofool.encoding import make_encoding
from evofool.errors import ConfigError, EvofoolError, IncompatibleRun, Stopped, StorageError
from evofool.evaluate.pool import AskTellPool, Evaluator, InlinePool, Pool, other_numerics, peak_rss_mib
from evofool.observers import Observer
from evofool.records import GenerationResult, Numerics, Statistics
from evofool.search import Search
from evofool.store.commits import lock
from evofool.store.reader import Run, encoding_of
from evofool.store.run import RunStore, Seeds
from evofool.store.view import ViewWriter, read_view
from evofool.targets import Preprocessing, Source, Target, default_numerics, load_target

__all__ = ["STALE_WARNING", "load_run_target", "make_search", "merge", "resume", "run"]

STALE_WARNING = 100  # generations without a placement before the user is told
_OPS = {">=": np.greater_equal, "<=": np.less_equal, ">": np.greater, "<": np.less}


# ------------------------------------------------------------------------------------------------------ public verbs


def run(
    config: str | Path | Mapping[str, Any] | Config,
    overrides: Sequence[str] = (),
    *,
    target: torch.nn.Module | Target | None = None,
    preprocessing: Preprocessing | None = None,
    class_names: Sequence[str] | None = None,
    out: str | Path | None = None,
    resume: str = "auto",
    seed_from: Sequence[str | Path] = (),
    address: str | None = None,
    allow_code: bool = False,
    allow_numerics_change: bool = False,
    observers: Sequence[Observer] = (),
) -> Run:
    """Run a search, or go on with one.

    Args:
        config: path of a YAML file, a nested mapping, or a Config.
        overrides: KEY=VALUE strings.
        target: a live network in place of `target.spec`; it is copied. A bare module needs the next two.
        preprocessing: what the network is fed.
        class_names: one for each output.
        out: the run directory; `storage.path`/`name` by default.
        resume: "auto": go on if the run is there; "must": it has to be; "never": it must not be.
        seed_from: runs whose elites take the place of the first random individuals.
        address: of a Ray cluster.
        allow_code: whether python: targets may run their code.
        allow_numerics_change: go on although scores may have other bits; marked in the next commit.
        observers: told what happens; progress is not among them unless given.

    Returns:
        The run, with `logbook` of this session.

    Raises:
        EvofoolError: one of the tree in errors.py.
    """
    if target is not None:
        overrides = [*overrides, "target.spec=live"]
    settings = load_config(config, list(overrides))
    path = Path(out) if out is not None else Path(settings.storage.path) / settings.run_name
    exists = RunStore.check_place(path)
    if resume not in ("auto", "must", "never"):
        raise ConfigError(f"--resume: {resume!r} is not auto, must or never.")
    if exists and resume == "never":
        raise ConfigError(f"{path}: the run is there already; give another name, or --resume auto to go on with it.")
    if not exists and resume == "must":
        raise ConfigError(f"{path}: there is no run to go on with; check the path, or say --resume auto.")
    loaded, source = _target(settings, target, preprocessing, class_names, allow_code)
    session = _Session(settings, path, loaded, source, address, allow_numerics_change, list(observers))
    return session.resume() if exists else session.create([Path(p) for p in seed_from])


def resume(path: str | Path, overrides: Sequence[str] = (), **options: Any) -> Run:
    """Go on with a run under its own configuration; `options` are those of `run`.

    Overrides may change operational and stopping keys, e.g. search.generations=500.
    """
    store = RunStore(Path(path))
    return run(store.config, overrides, out=path, resume="must", **options)


def merge(paths: Sequence[str | Path], out: str | Path, **options: Any) -> Run:
    """The best elite of every class of several runs, as a new run that can be resumed.

    Every elite is scored again, so the new archive holds what its own target gives. Each keeps its origin.

    Raises:
        IncompatibleRun: the runs have other targets or encodings.
    """
    stores = [RunStore(Path(p)) for p in paths]
    if len(stores) < 2:
        raise ConfigError("merge needs at least two runs.")
    config = stores[0].config
    settings = config.model_copy(
        update={"name": Path(out).name, "search": config.search.model_copy(update={"generations": 1})}
    )
    return run(
        settings,
        ["search.max_evaluations=null", "search.stop_when=[]"],
        out=out,
        resume="never",
        seed_from=paths,
        **options,
    )


def make_search(
    config: str | Path | Mapping[str, Any] | Config,
    overrides: Sequence[str] = (),
    *,
    image_size: tuple[int, int],
    channels: int,
    class_names: Sequence[str],
) -> Search:
    """A search for `ask` and `tell`: for classifiers that are not torch modules. Nothing is stored.

    Args:
        image_size: (height, width) of the images to breed.
        channels: 1 (grey) or 3 (RGB).
        class_names: one for each output of the classifier.
    """
    settings = load_config(config, [*overrides, "target.spec=live"])
    preprocessing = Preprocessing(image_size, channels, (0.0,) * channels, (1.0,) * channels)
    names = Target(torch.nn.Identity(), preprocessing, tuple(class_names))
    encoding = make_encoding(settings.encoding, image_size, channels)
    return Search(settings, encoding, AskTellPool(encoding), names.class_indices(settings.target.classes))


def load_run_target(
    store: RunStore, target: torch.nn.Module | Target | None = None, *, allow_code: bool = False, **live: Any
) -> Target:
    """The target of a stored run, checked against its fingerprint.

    Raises:
        IncompatibleRun: the weights or the preprocessing have changed.
    """
    loaded, _ = _target(store.config, target, live.get("preprocessing"), live.get("class_names"), allow_code)
    _same_target(store, loaded)
    return loaded


# ------------------------------------------------------------------------------------------------------------ pieces


def _target(
    config: Config, target: Any, preprocessing: Preprocessing | None, class_names: Any, allow_code: bool
) -> tuple[Target, Source | Target]:
    """The target in this process, and what evaluators elsewhere build theirs from."""
    geometry, output = config.target.geometry, config.target.output
    if target is None:
        if config.target.spec == "live":
            raise ConfigError(
                "target.spec: this run's target was a live module; give it again: evofool.run(config, target=...)."
            )
        source = Source(config.target.spec, allow_code)
        return load_target(source, geometry=geometry, output=output), source
    if not isinstance(target, Target):
        if preprocessing is None or class_names is None:
            raise ConfigError("a live module needs preprocessing=evofool.Preprocessing(...) and class_names=[...].")
        target = Target(copy.deepcopy(target), preprocessing, tuple(class_names))
    else:
        target = replace(target, module=copy.deepcopy(target.module))
    target = replace(target, geometry=geometry, output=target.output if output == "declared" else output)
    return target, target


def _same_target(store: RunStore, target: Target) -> None:
    old, new = store.provenance["target_fingerprint"], target.fingerprint()
    if old != new:
        raise IncompatibleRun(
            f"{store.path}: the target {target.spec} is not the one the run was made with (fingerprint {new[:16]}..., "
            f"was {old[:16]}...); put the old weights back, or start anew with --seed-from {store.path}."
        )


def versions() -> dict[str, str]:
    """Versions of what can change a result."""
    names = ("evofool", "torch", "torchvision", "numpy", "pyarrow", "ray", "deap")
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in names}}


def _resolve_numerics(config: Config, target: Target, has_gpu: bool, stored: dict[str, Any] | None) -> Numerics:
    """Numerics from the config, with `auto` from the stored run or the fixed table."""
    asked = config.evaluation
    device = asked.device if asked.device != "auto" else "cuda" if has_gpu else "cpu"
    table = asdict(default_numerics(stored["device"] if stored and asked.device == "auto" else device, target.family))
    base = {name: stored[name] for name in table} if stored else table
    chosen = {
        name: base[name] if getattr(asked, name) == "auto" else getattr(asked, name)
        for name in ("device", "chunk", "micro_batch", "threads", "memory_format")
    }
    if not stored and asked.chunk == "auto" and asked.micro_batch != "auto":
        chosen["chunk"] = asked.micro_batch * max(1, chosen["chunk"] // asked.micro_batch)
    if chosen["chunk"] % chosen["micro_batch"]:
        raise ConfigError(
            f"evaluation.chunk ({chosen['chunk']}) must be a multiple of micro_batch ({chosen['micro_batch']})."
        )
    return Numerics(**chosen)


class _Stopper:
    """Says when to stop, and why."""

    def __init__(self, config: Config) -> None:
        self._search = config.search
        self._conditions = [parse_condition(text) for text in config.search.stop_when]
        self._started = time.monotonic()
        self.signal: int | None = None
        self.reason = ""

    def __call__(self, s: Statistics | None) -> bool:
        limits = self._search
        elapsed = time.monotonic() - self._started
        if self.signal is not None:
            self.reason = f"stopped by {signal.Signals(self.signal).name}"
        elif s is None:
            return False
        elif limits.generations is not None and s.generation + 1 >= limits.generations:
            self.reason = f"{s.generation + 1} generations done"
        elif limits.max_evaluations is not None and s.evaluations >= limits.max_evaluations:
            self.reason = f"{s.evaluations} evaluations done"
        elif limits.max_time is not None and elapsed >= limits.max_time:
            self.reason = f"{elapsed:.0f} seconds are over"
        elif self._conditions and all(_OPS[op](getattr(s, name), value) for name, op, value in self._conditions):
            self.reason = f"{' and '.join(limits.stop_when)} at generation {s.generation}"
        return bool(self.reason)


@contextlib.contextmanager
def _signals(stopper: _Stopper, tell: Any) -> Iterator[None]:
    """The first SIGINT or SIGTERM asks the loop to finish its generation and commit; a second SIGINT stops at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: Any) -> None:
        if stopper.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        stopper.signal = number
        tell("finishing this generation, then committing; interrupt again to stop at once.")

    old = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


# ----------------------------------------------------------------------------------------------------------- session


@dataclass
class _Session:
    """One stretch of work on one run directory."""

    config: Config
    path: Path
    target: Target
    source: Source | Target
    address: str | None
    allow_numerics_change: bool
    observers: list[Observer]

    def __post_init__(self) -> None:
        self.class_indices = self.target.class_indices(self.config.target.classes)
        self.encoding = make_encoding(self.config.encoding, self.target.image_size, self.target.channels)
        self.started = time.monotonic()

    def tell(self, event: str, *arguments: Any) -> None:
        for observer in self.observers:
            getattr(observer, event)(*arguments)

    def warn(self, text: str) -> None:
        self.tell("on_warning", text)

    # --------------------------------------------------------------------------------------------- begin and go on

    def create(self, seed_from: list[Path]) -> Run:
        seeds, parents = self._seeds(seed_from)
        RunStore.prepare(self.path)
        with lock(self.path):
            if RunStore.check_place(self.path):
                raise ConfigError(
                    f"{self.path}: another driver has just made this run; say --resume auto to go on with it."
                )
            with self._pool(None) as (pool, numerics, cluster_facts):
                store = RunStore.create(self.path, self.config, self._provenance(numerics, pool, parents), seeds)
                return self._go(store, pool, numerics, epoch=0, cluster=cluster_facts, seeds=seeds, state=None)

    def resume(self) -> Run:
        with lock(self.path):
            store = RunStore(self.path)
            self._refuse_changes(store)
            _same_target(store, self.target)
            state = store.state()
            seeds = store.seeds() if state is None else None
            stopper = _Stopper(self.config)
            current = read_view(store)["as_of_generation"].to_pylist()[:1]
            if state is not None and stopper(state.statistics) and current == [state.generation]:
                store.update(config=self.config)
                self.tell("on_stop", f"nothing to do: {stopper.reason}; raise the limit to go on.")
                return Run(self.path)
            RunStore.prepare(self.path)
            last = store.log.last.numerics if store.log.last else store.provenance["numerics"]
            with self._pool(last) as (pool, numerics, cluster_facts):
                epoch = last["epoch"]
                if pool.canary != last["canary"] or any(last[k] != v for k, v in asdict(numerics).items()):
                    epoch += 1
                    self.warn(f"the numerics changed; from here on this is numerics epoch {epoch} of the run.")
                removed = store.recover()
                if removed:
                    self.warn(f"removed {removed} files of an unfinished commit.")
                store.update(config=self.config)
                return self._go(store, pool, numerics, epoch=epoch, cluster=cluster_facts, seeds=seeds, state=state)

    def _refuse_changes(self, store: RunStore) -> None:
        changed = differences(store.config, self.config)
        lines = [f"  {key}: {old!r} -> {new!r}" for key, (kind, old, new) in changed.items() if kind == "semantic"]
        if lines:
            raise IncompatibleRun(
                f"{self.path}: the configuration asks for another run:\n" + "\n".join(lines) + "\n"
                "go on without these changes, or start a new run from this one's elites with "
                f"--seed-from {self.path} and another name."
            )
        if self.allow_numerics_change:
            return
        last = store.log.last.numerics if store.log.last else store.provenance["numerics"]
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

    def _seeds(self, runs: list[Path]) -> tuple[Seeds | None, list[dict[str, Any]]]:
        if not runs:
            return None, []
        genomes: dict[bytes, str] = {}
        parents = []
        for path in runs:
            store = RunStore(path)
            if store.log.last is None:
                raise ConfigError(f"{path}: has no commit yet, so no elites to start from.")
            if encoding_of(store) != self.encoding:
                raise IncompatibleRun(f"{path}: its encoding is not this run's, so its elites cannot be bred here.")
            run_id = store.provenance["run_id"]
            elites = {row["cell"]: row["individual_id"] for row in store.table("placements").to_pylist()}
            for identity, genome in sorted(store.genomes(set(elites.values())).items()):
                genomes.setdefault(genome, f"{run_id}:{identity:x}")
            parents.append(
                {"run_id": run_id, "archive_hash": store.log.last.archive_hash, "generation": store.log.last.generation}
            )
        return Seeds(list(genomes), list(genomes.values())), parents

    def _provenance(self, numerics: Numerics, pool: Pool, parents: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "evofool": metadata.version("evofool"),
            "run_id": secrets.token_hex(8),
            "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "config_fingerprint": fingerprint(self.config),
            "target": self.target.spec,
            "target_fingerprint": self.target.fingerprint(),
            "preprocessing": asdict(self.target.preprocessing),
            "preprocessing_hash": self.target.preprocessing.sha256(),
            "geometry": self.target.geometry,
            "output": self.target.output,
            "image_size": list(self.target.image_size),
            "channels": self.target.channels,
            "cells": len(self.class_indices),
            "class_indices": [int(i) for i in self.class_indices],
            "class_names": [self.target.class_names[i] for i in self.class_indices],
            "encoding": self.encoding.kind,
            "numerics": {**asdict(numerics), "canary": pool.canary, "epoch": 0},
            "seeded_from": parents,
            "versions": versions(),
            "machine": {"system": platform.platform(), "processor": _processor(), "cores": os.cpu_count()},
            "sessions": [],
        }

    # ------------------------------------------------------------------------------------------------------ the pool

    @contextlib.contextmanager
    def _pool(self, stored: dict[str, Any] | None) -> Iterator[tuple[Pool, Numerics, dict[str, Any]]]:
        """The pool of `evaluation.pool`, checked against the canary of the run."""
        settings = self.config.evaluation
        canary = None if stored is None or self.allow_numerics_change else stored["canary"]
        if settings.pool == "inline":
            numerics = _resolve_numerics(self.config, self.target, torch.cuda.is_available(), stored)
            self._need_device(numerics, torch.cuda.is_available())
            inline = InlinePool(lambda: Evaluator(self.target, self.encoding, self.class_indices, numerics))
            try:
                if canary not in (None, inline.canary):
                    raise other_numerics("this machine")
                yield inline, numerics, {}
            finally:
                inline.close()
            return
        from evofool.evaluate import ray_pool

        wanted = settings.evaluators if isinstance(settings.evaluators, int) else 0
        cluster = ray_pool.connect(self.address, max(len(os.sched_getaffinity(0)), wanted * settings.threads))
        try:
            has_gpu = cluster.supply("GPU") > 0
            numerics = _resolve_numerics(self.config, self.target, has_gpu, stored)
            self._need_device(numerics, has_gpu)
            recipe = ray_pool.Recipe(
                self.source,
                self.target.geometry,
                self.target.output,
                self.target.fingerprint(),
                self.encoding,
                self.class_indices,
                numerics,
            )
            pool = ray_pool.RayPool(
                cluster,
                recipe,
                evaluators=settings.evaluators,
                per_gpu=settings.evaluators_per_gpu,
                ready_timeout=settings.ready_timeout,
                chunk_timeout=settings.chunk_timeout,
                canary=canary,
                warn=self.warn,
            )
            try:
                yield pool, numerics, cluster.facts()
            finally:
                pool.close()
        finally:
            cluster.close()

    @staticmethod
    def _need_device(numerics: Numerics, has_gpu: bool) -> None:
        if numerics.device == "cuda" and not has_gpu:
            raise IncompatibleRun("evaluation.device is cuda, but there is no GPU here; say evaluation.device=cpu.")

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
        stopper = _Stopper(self.config)
        keeper = _Keeper(self, store, pool, {**asdict(numerics), "canary": pool.canary, "epoch": epoch})
        search = Search(
            self.config,
            self.encoding,
            pool,
            self.class_indices,
            seeds=(self.encoding.from_bytes(seeds.genomes), tuple(seeds.origins)) if seeds else None,
            on_result=keeper.keep,
            limit=self.config.search.generations,
        )
        if state is not None:
            search.restore(
                start=state.start,
                pending=state.pending,
                genomes=state.genomes,
                statistics=state.statistics,
                archive_hash=state.archive_hash,
            )
        keeper.begin(search)
        facts = {
            **store.provenance,
            "resumed_at": state.generation if state else None,
            "evaluators": pool.report().evaluators,
        }
        self.tell("on_start", self.config, facts)
        try:
            with _signals(stopper, self.warn):
                search.run(stopper)
        except StorageError as error:
            raise keeper.explained(error) from error
        except EvofoolError as error:
            keeper.finish(cluster)
            raise keeper.explained(error) from error
        except KeyboardInterrupt:
            raise keeper.explained(Stopped("stopped at once, by a second interrupt.")) from None
        keeper.finish(cluster)
        self.tell("on_stop", f"{stopper.reason}; the archive is in {self.path}")
        if stopper.signal is not None:
            raise keeper.explained(Stopped(f"{stopper.reason} after a clean commit.", exit_code=128 + stopper.signal))
        return Run(self.path, search.logbook)


class _Keeper:
    """Puts every result into the store, and tells the observers."""

    def __init__(self, session: _Session, store: RunStore, pool: Pool, numerics: dict[str, Any]) -> None:
        self.session, self.store, self.pool, self.numerics = session, store, pool, numerics
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
        storage = self.session.config.storage
        if (statistics.generation + 1) % storage.commit_every == 0:
            self._commit()
            if time.monotonic() - self._viewed >= storage.snapshot_every:
                self.view.write()
                self._viewed = time.monotonic()
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

    def finish(self, cluster: dict[str, Any]) -> None:
        """The last commit, the view, and this session's line in run.json."""
        assert self.search is not None
        if self.search.statistics is None:
            return
        self._commit()
        self.view.write()
        report = self.pool.report()
        session = {
            "ended_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - self._began, 3),
            "evaluations": report.evaluations,
            "evaluators": report.evaluators,
            "evaluator_core_seconds": round(report.core_seconds, 3),
            "driver_core_seconds": round(resource.getrusage(resource.RUSAGE_SELF).ru_utime, 3),
            "requeued_chunks": report.requeued,
            "out_of_order_chunks": report.out_of_order,
            "driver_peak_rss_mib": round(peak_rss_mib(), 1),
            "evaluator_peak_rss_mib": round(report.peak_rss_mib, 1),
            "versions": versions(),
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


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()
