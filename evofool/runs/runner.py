"""Running: `run`, `resume` and `merge`, which find the run and open the target. What comes after is session.py."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from evofool.base.registry import POOLS, TRACKERS, known, load
from evofool.config import Config, load_config
from evofool.config.files import Overrides, listed
from evofool.errors import ConfigError, RunNotFound
from evofool.evaluate.sharing import SharedPool
from evofool.runs.observers.observer import Audience, Observer
from evofool.runs.observers.progress import is_watched, make_progress
from evofool.runs.session import Session
from evofool.store.folders import check_place
from evofool.store.reader import Run
from evofool.store.remote.working_copy import locate, naming
from evofool.store.rows import Seeds
from evofool.store.run import RunStore, stored_config
from evofool.targets.opening import open_target
from evofool.targets.target import Preprocessing, Target
from evofool.targets.training.provision import provide

__all__ = ["merge", "resume", "run"]

FEW = 200  # images


def run(
    config: str | Path | Mapping[str, object] | Config,
    overrides: Overrides = (),
    *,
    target: torch.nn.Module | Target | None = None,
    preprocessing: Preprocessing | None = None,
    class_names: Sequence[str] | None = None,
    out: str | Path | None = None,
    resume: str = "auto",
    pool: str | None = None,
    seed_from: Sequence[str | Path] = (),
    address: str | None = None,
    allow_code: bool = False,
    allow_numerics_change: bool = False,
    observers: Sequence[Observer] = (),
    progress: bool | None = None,
    grace: float = 10.0,
    shared: SharedPool | None = None,
    seeds: Seeds | None = None,
) -> Run:
    """Run a search, or go on with one.

    Args:
        config: path of a YAML file, the name of a preset, a nested mapping, or a Config. A preset's LeNet is trained
            first where it is missing, which a line on stderr says.
        overrides: "KEY=VALUE", {key: value}, or a list of these.
        target: a live network in place of `target.spec`; it is copied. A bare module needs the next two.
        preprocessing: what the network is fed.
        class_names: one for each output.
        out: the run directory or its URL; `storage.path`/`name` by default.
        resume: "auto": go on with the run if it exists; "must": it has to exist; "never": it must not.
        pool: "inline" or "ray" in place of `evaluation.pool`, this time.
        seed_from: runs whose elites take the place of the first random individuals.
        address: of a Ray cluster.
        allow_code: whether python: targets may run their code.
        allow_numerics_change: go on although scores may have other bits; marked in the next commit.
        observers: told what happens, before those of `observers.trackers`.
        progress: whether the run is shown as `observers.progress` says, by a last observer; None: in a notebook, or
            where stderr is a terminal.
        grace: seconds after SIGINT or SIGTERM until the generation under way is abandoned.
        shared: takes the evaluators from here, where another run may have left the same ones.

    Returns:
        The run, with `logbook` of this session.

    Raises:
        EvofoolError: one of the tree in errors.py, among them `Stopped` after a signal.
    """
    if target is not None:
        overrides = [*listed(overrides), "target.spec=live"]
    settings = load_config(config, overrides)
    shown = [make_progress(settings.observers.progress)] if (is_watched() if progress is None else progress) else []
    audience = Audience([*observers, *shown, *(load(TRACKERS[name])() for name in settings.observers.trackers)])
    path = locate(out if out is not None else Path(settings.storage.path) / settings.run_name)
    if resume not in ("auto", "must", "never"):
        raise ConfigError(f"--resume: {resume!r} is not auto, must or never.")
    if pool not in (None, *POOLS):
        raise ConfigError(f"--pool: {pool!r} is no pool; {known(str(pool), POOLS)}")
    if resume == "must" and path.is_symlink():
        path = path.resolve()  # one run has one name: a link to it is good for finding it
    with naming():
        exists = check_place(path)
        if exists and resume == "never":
            raise ConfigError(
                f"{path}: the run is there already; give another name, or --resume auto to go on with it."
            )
        if not exists and resume == "must":
            raise RunNotFound(f"{path}: there is no run to go on with; check the path, or say --resume auto.")
        provide(config, settings, _say)
        opened = open_target(
            settings.target, live=target, preprocessing=preprocessing, class_names=class_names, allow_code=allow_code
        )
        session = Session(
            settings, path, opened, address, allow_numerics_change, audience, allow_code, grace, pool, shared
        )
        return session.resume() if exists else session.create([locate(p) for p in seed_from], seeds)


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def resume(path: str | Path, overrides: Overrides = (), **options: Any) -> Run:
    """Go on with a run under its own configuration; `options` are those of `run`.

    Overrides may change operational and stopping keys, e.g. search.generations=500.
    """
    path = locate(path)
    return run(stored_config(path), overrides, out=path, resume="must", **options)


def merge(paths: Sequence[str | Path], out: str | Path, *, pool: str | None = None, **options: Any) -> Run:
    """The best elite of every class of several runs, as a new run of one generation; `options` are those of `run`.

    It takes the configuration of the first run. Every elite is scored again, so the new archive holds what its own
    target gives. Each keeps its origin.

    Args:
        pool: "inline" or "ray"; by default this process scores what it can in seconds, and else the first run's pool.

    Raises:
        ConfigError: fewer than two runs, or one has no commit yet.
        IncompatibleRun: a run has another encoding than the first.
    """
    places = [locate(p) for p in paths]
    if len(places) < 2:
        raise ConfigError("merge needs at least two runs.")
    config = stored_config(places[0])
    search = config.search.model_copy(update={"generations": 1})
    config = config.model_copy(update={"name": Path(out).name, "search": search})
    overrides = ["search.max_evaluations=null", "search.stop_when=[]"]
    if pool is None and options.get("address") is None and _is_quick(places):
        pool = "inline"
    return run(config, overrides, out=out, resume="never", pool=pool, seed_from=places, **options)


def _is_quick(places: Sequence[Path]) -> bool:
    """Whether this process scores the elites sooner than Ray starts, and has the kind of device of the first run."""
    facts = [RunStore(path).provenance for path in places]
    device = facts[0]["numerics"]["device"]
    return sum(each["cells"] for each in facts) <= FEW and (device == "cpu" or torch.cuda.is_available())
