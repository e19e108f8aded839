"""Running: the verbs that join target, pool, store and search. What they do in between is session.py."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from evofool.archive.objectives import load_objective
from evofool.base.source import Source
from evofool.config import Config, load_config
from evofool.encoding.cppn.activations import load_activations
from evofool.encoding.kinds import make_encoding
from evofool.encoding.own import load_operators
from evofool.errors import ConfigError
from evofool.evaluate.pool import AskTellPool
from evofool.runs.observers.observer import Observer
from evofool.runs.session import Session, refuse_other_target
from evofool.search.loop import Search
from evofool.store.reader import Run, activation_sources
from evofool.store.remote.working_copy import locate, naming
from evofool.store.run import RunStore
from evofool.targets.families import configured, load_target
from evofool.targets.target import Preprocessing, Target

__all__ = ["load_run_target", "make_search", "merge", "resume", "run"]


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
    grace: float = 10.0,
) -> Run:
    """Run a search, or go on with one.

    Args:
        config: path of a YAML file, a nested mapping, or a Config.
        overrides: KEY=VALUE strings.
        target: a live network in place of `target.spec`; it is copied. A bare module needs the next two.
        preprocessing: what the network is fed.
        class_names: one for each output.
        out: the run directory or its URL; `storage.path`/`name` by default.
        resume: "auto": go on if the run is there; "must": it has to be; "never": it must not be.
        seed_from: runs whose elites take the place of the first random individuals.
        address: of a Ray cluster.
        allow_code: whether python: targets may run their code.
        allow_numerics_change: go on although scores may have other bits; marked in the next commit.
        observers: told what happens; progress is not among them unless given.
        grace: seconds that SIGINT or SIGTERM leave for the generation under way before it is given up.

    Returns:
        The run, with `logbook` of this session.

    Raises:
        EvofoolError: one of the tree in errors.py.
    """
    if target is not None:
        overrides = [*overrides, "target.spec=live"]
    settings = load_config(config, list(overrides))
    path = locate(out if out is not None else Path(settings.storage.path) / settings.run_name)
    if resume not in ("auto", "must", "never"):
        raise ConfigError(f"--resume: {resume!r} is not auto, must or never.")
    with naming():
        exists = RunStore.check_place(path)
        if exists and resume == "never":
            raise ConfigError(
                f"{path}: the run is there already; give another name, or --resume auto to go on with it."
            )
        if not exists and resume == "must":
            raise ConfigError(f"{path}: there is no run to go on with; check the path, or say --resume auto.")
        loaded, source = _target(settings, target, preprocessing, class_names, allow_code)
        session = Session(
            settings, path, loaded, source, address, allow_numerics_change, list(observers), allow_code, grace
        )
        return session.resume() if exists else session.create([locate(p) for p in seed_from])


def resume(path: str | Path, overrides: Sequence[str] = (), **options: Any) -> Run:
    """Go on with a run under its own configuration; `options` are those of `run`.

    Overrides may change operational and stopping keys, e.g. search.generations=500.
    """
    store = RunStore(locate(path))
    return run(store.config, overrides, out=store.path, resume="must", **options)


def merge(paths: Sequence[str | Path], out: str | Path, **options: Any) -> Run:
    """The best elite of every class of several runs, as a new run that can be resumed.

    Every elite is scored again, so the new archive holds what its own target gives. Each keeps its origin.

    Raises:
        IncompatibleRun: the runs have other targets or encodings.
    """
    stores = [RunStore(locate(p)) for p in paths]
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
        seed_from=[store.path for store in stores],
        **options,
    )


def make_search(
    config: str | Path | Mapping[str, Any] | Config,
    overrides: Sequence[str] = (),
    *,
    image_size: tuple[int, int],
    channels: int,
    class_names: Sequence[str],
    allow_code: bool = False,
) -> Search:
    """A search for `ask` and `tell`: for classifiers that are not torch modules. Nothing is stored.

    Args:
        image_size: (height, width) of the images to breed.
        channels: 1 (grey) or 3 (RGB).
        class_names: one for each output of the classifier.
        allow_code: whether a python: objective may run its code.
    """
    settings = load_config(config, [*overrides, "target.spec=live"])
    preprocessing = Preprocessing(image_size, channels, (0.0,) * channels, (1.0,) * channels)
    names = Target(torch.nn.Identity(), preprocessing, tuple(class_names))
    load_activations(activation_sources(settings, allow_code))
    encoding = make_encoding(settings.encoding, image_size, channels)
    objective, _ = load_objective(Source(settings.search.objective, allow_code, key="search.objective"))
    cells = names.class_indices(settings.target.classes)
    operators, _ = load_operators(settings, allow_code)
    return Search(settings, encoding, AskTellPool(encoding), cells, objective=objective, operators=operators)


def load_run_target(
    store: RunStore, target: torch.nn.Module | Target | None = None, *, allow_code: bool = False, **live: Any
) -> Target:
    """The target of a stored run, checked against its fingerprint.

    Raises:
        IncompatibleRun: the weights or the preprocessing have changed.
    """
    loaded, _ = _target(store.config, target, live.get("preprocessing"), live.get("class_names"), allow_code)
    refuse_other_target(store, loaded)
    return loaded


def _target(
    config: Config, target: Any, preprocessing: Preprocessing | None, class_names: Any, allow_code: bool
) -> tuple[Target, Source | Target]:
    """The target in this process, and what evaluators elsewhere build theirs from."""
    view: Any = {"geometry": config.target.geometry, "output": config.target.output, "crops": config.target.crops}
    if target is None:
        if config.target.spec == "live":
            raise ConfigError(
                "target.spec: this run's target was a live module; give it again: evofool.run(config, target=...)."
            )
        source = Source(config.target.spec, allow_code)
        return load_target(source, **view), source
    if not isinstance(target, Target):
        if preprocessing is None or class_names is None:
            raise ConfigError("a live module needs preprocessing=evofool.Preprocessing(...) and class_names=[...].")
        target = Target(copy.deepcopy(target), preprocessing, tuple(class_names))
    else:
        target = replace(target, module=copy.deepcopy(target.module))
    target = configured(target, **view)
    return target, target
