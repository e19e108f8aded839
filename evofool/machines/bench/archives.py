"""The archive that a benchmark goes on from: that of a run, which is copied and left as it is, or one made for it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from evofool.config import Config
from evofool.errors import ConfigError
from evofool.evaluate.problem import Problem
from evofool.runs import runner
from evofool.store import folders
from evofool.store.reader import encoding_of
from evofool.store.run import RunStore

__all__ = ["GENERATIONS", "copy_of", "make", "refuse_unfit"]

GENERATIONS = 100  # that an archive must have behind it: genomes and scores are then those of a search under way


def refuse_unfit(path: Path, problem: Problem, allow_code: bool) -> None:
    """Refuse a run that a search of this configuration could not go on from.

    Raises:
        ConfigError: no run, one of another target, encoding or classes, or a run that is too short.
    """
    store = RunStore(path)
    if store.provenance["target_fingerprint"] != problem.opened.fingerprint:
        raise ConfigError(f"--run: {path} is of another target than {problem.target.spec}; give the run's own config.")
    if encoding_of(store, allow_code) != problem.encoding:
        raise ConfigError(f"--run: {path} has another encoding than the config; give the run's own config.")
    if not np.array_equal(store.provenance["class_indices"], problem.cells.classes):
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
    folders.prepare(to)
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
