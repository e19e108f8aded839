"""What studies share: targets to score with, settings and pools for pictures, intervals of shares."""

from __future__ import annotations

import contextlib
import copy
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evofool.base.source import Source
from evofool.config import EvaluationConfig
from evofool.encoding.pictures import PictureEncoding
from evofool.errors import ConfigError
from evofool.evaluate.opening import Work, open_pool
from evofool.evaluate.pool import Pool
from evofool.records import NO_PARENT, Offspring, Scores
from evofool.runs.session import refuse_other_target
from evofool.store.reader import Run, open_run
from evofool.store.run import RunStore
from evofool.targets.families import configured, load_target
from evofool.targets.target import Target

__all__ = ["Judge", "cluster", "judge", "judge_of", "opened", "picture_pool", "score_pictures", "settings_of", "wilson"]

Z95 = 1.959963984540054  # the normal quantile of 0.975


@dataclass(frozen=True)
class Judge:
    """A target that a study scores with, and what evaluators elsewhere build theirs from."""

    target: Target
    source: Source | Target
    fingerprint: str


def opened(run: str | Path | Run) -> Run:
    """A run, by its directory or itself."""
    return run if isinstance(run, Run) else open_run(run)


def judge(given: str | Target, *, allow_code: bool) -> Judge:
    """A target by its spec, or a live one, which is copied.

    Raises:
        ConfigError: no such target, or its code may not run.
        TargetError: it cannot be built.
    """
    if isinstance(given, Target):
        target = replace(given, module=copy.deepcopy(given.module))
        return Judge(target, target, target.fingerprint())
    source = Source(given, allow_code, key="--to")
    target = load_target(source)
    return Judge(target, source, target.fingerprint())


def judge_of(run: Run, live: Sequence[Target], *, allow_code: bool) -> Judge:
    """The target a run was made with.

    Args:
        live: among them that of a run that was given one.

    Raises:
        ConfigError: the run was given a live target, and it is not among those.
        IncompatibleRun: its weights or its preprocessing have changed.
    """
    own = run.config.target
    view: Any = {"geometry": own.geometry, "output": own.output, "crops": own.crops}
    for target in live:
        with contextlib.suppress(ConfigError):  # another target, which does not fit this run's section
            same = configured(target, **view)
            if same.fingerprint() == run.provenance["target_fingerprint"]:
                return judge(same, allow_code=allow_code)
    if own.spec == "live":
        raise ConfigError(
            f"{run.path}: its target was a live module; give it again: evofool.matrix(runs, targets=...)."
        )
    source = Source(own.spec, allow_code)
    loaded = load_target(source, **view)
    refuse_other_target(RunStore(run.path), loaded)
    return Judge(loaded, source, loaded.fingerprint())


def settings_of(run: Run, pool: str | None) -> EvaluationConfig:
    """The section `evaluation` of a run, its device and shapes left to whichever target is to be scored with.

    Args:
        pool: "inline" or "ray" in place of the run's own.

    Raises:
        ConfigError: another word than these.
    """
    if pool not in (None, "inline", "ray"):
        raise ConfigError(f"--pool: {pool!r} is not inline or ray.")
    own = run.config.evaluation
    auto = dict.fromkeys(("device", "chunk", "micro_batch", "memory_format"), "auto")
    return own.model_copy(update={**auto, "pool": pool or own.pool})


@contextlib.contextmanager
def cluster(settings: EvaluationConfig, address: str | None) -> Iterator[None]:
    """Stay connected to Ray over several pools, so that it is started once; nothing where pools are inline."""
    if settings.pool == "inline":
        yield
        return
    from evofool.evaluate.over_ray import cluster

    wanted = settings.evaluators if isinstance(settings.evaluators, int) else 0
    connection = cluster.connect(address, max(len(os.sched_getaffinity(0)), wanted * settings.threads))
    try:
        yield
    finally:
        connection.close()


@contextlib.contextmanager
def picture_pool(
    run: Run, by: Judge, settings: EvaluationConfig, *, address: str | None, warn: Callable[[str], None]
) -> Iterator[Pool]:
    """A pool that scores pictures of a target's size against all of its classes; the objective is the margin.

    Where the target is the run's own, the numerics are too, so that scores have the archive's bits.
    """
    target, last = by.target, RunStore(run.path).log.last
    own = last is not None and by.fingerprint == run.provenance["target_fingerprint"]
    pictures = PictureEncoding(*target.image_size, target.channels)
    work = Work(target, by.source, pictures, np.arange(len(target.class_names)), Source("margin"))
    stored = last.numerics if own and last else None
    with open_pool(settings, work, address=address, stored=stored, warn=warn) as (pool, _, _):
        yield pool


def score_pictures(pool: Pool, batches: Iterable[NDArray[np.uint8]]) -> Iterator[Scores]:
    """Scores of batches of pictures, in order; the next batch is drawn while evaluators score the last.

    Args:
        batches: each (n, height, width, channels) uint8, n > 0.
    """
    number = -1
    for number, pictures in enumerate(batches):
        parents = np.full((len(pictures), 2), NO_PARENT, dtype=np.int64)
        pool.submit(Offspring(number, pictures, parents, np.zeros(len(pictures), dtype=np.uint32)))
        if number:
            yield pool.collect(number - 1)
    if number >= 0:
        yield pool.collect(number)


def wilson(count: int, n: int) -> tuple[float | None, float | None]:
    """The 95 % interval of a share, `count` of `n` (Wilson, JASA 22, 1927, p. 209); (None, None) of none."""
    if n == 0:
        return None, None
    centre = (count + Z95**2 / 2) / (n + Z95**2)
    half = Z95 / (n + Z95**2) * math.sqrt(count * (n - count) / n + Z95**2 / 4)
    return max(0.0, centre - half), min(1.0, centre + half)
