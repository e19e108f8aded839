"""The archive that a benchmark goes on from: that of a run, which is copied and left as it is, or one made for it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from evofool.base.source import Source
from evofool.config import Config
from evofool.errors import ConfigError
from evofool.evaluate.opening import Work
from evofool.machines.probe import Ingredients
from evofool.runs import runner
from evofool.store.reader import activation_sources, encoding_of
from evofool.store.run import RunStore

__all__ = ["GENERATIONS", "copy_of", "make", "refuse_unfit", "work_of"]

GENERATIONS = 100  # that an archive must have behind it: genomes and scores are then those of a search under way


def work_of(given: Ingredients, source: Source) -> Work:
    """What the evaluators of a run with these ingredients are given."""
    config = given.config
    return Work(
        given.target,
        source,
        given.encoding,
        given.class_indices,
        Source(config.search.objective, source.allow_code, key="search.objective"),
        activation_sources(config, source.allow_code),
    )


def refuse_unfit(path: Path, given: Ingredients, allow_code: bool) -> None:
    """Refuse a run that a search of this configuration could not go on from.

    Raises:
        ConfigError: no run, one of another target, encoding or classes, or a run that is too short.
    """
    store = RunStore(path)
    if store.provenance["target_fingerprint"] != given.target.fingerprint():
        raise ConfigError(f"--run: {path} is of another target than {given.target.spec}; give the run's own config.")
    if encoding_of(store, allow_code) != given.encoding:
        raise ConfigError(f"--run: {path} has another encoding than the config; give the run's own config.")
    if not np.array_equal(store.provenance["class_indices"], given.class_indices):
        raise ConfigError(f"--run: {path} has other target.classes than the config; give the run's own config.")
    done = store.log.last.generation + 1 if store.log.last else 0
    if done < GENERATIONS:
        raise ConfigError(
            f"--run: {path} has {done} of the {GENERATIONS} generations that are needed; resume it first."
        )


def copy_of(path: Path, to: Path) -> RunStore:
    """A copy of a run that may be written to."""
    for name in ("_evofool", "_history"):
        shutil.copytree(path / name, to / name)
    RunStore.prepare(to)
    store = RunStore(to)
    store.recover()
    return store


def make(config: Config, offspring: int, micro_batch: int, out: Path, allow_code: bool) -> None:
    """Make a run of GENERATIONS generations of `offspring` in this process.

    Args:
        micro_batch: of the configuration; smaller generations are scored in one smaller pass, without padding.
    """
    search = config.search.model_copy(
        update={
            "offspring": offspring,
            "initial": min(offspring, config.search.initial),
            "generations": GENERATIONS,
            "max_evaluations": None,
            "max_time": None,
            "stop_when": [],
        }
    )
    rows = min(offspring, micro_batch)
    evaluation = config.evaluation.model_copy(update={"pool": "inline", "micro_batch": rows, "chunk": rows})
    runner.run(
        config.model_copy(update={"search": search, "evaluation": evaluation}),
        out=out,
        resume="never",
        allow_code=allow_code,
    )
