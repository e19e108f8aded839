"""Targets that score a run's elites, and the settings and pools with which they do."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

from evofool.config.sections import EvaluationConfig, TargetConfig
from evofool.errors import ConfigError
from evofool.evaluate.opening import open_pool
from evofool.evaluate.pool import Pool
from evofool.evaluate.problem import picture_problem
from evofool.store.reader import Run
from evofool.targets.opening import OpenTarget, open_target, refuse_other_target, section_of
from evofool.targets.specs import section_named
from evofool.targets.target import Target

__all__ = ["Tell", "cluster", "judge", "judge_of", "picture_pool", "settings_of"]

Tell = Callable[[str], None]  # takes a sentence of progress


def judge(target: str | Target, *, allow_code: bool) -> OpenTarget:
    """A target to score with, by its spec or as an ensemble is shown, or a live one, which is copied.

    Raises:
        ConfigError: no such target, or its code may not run.
        TargetError: it cannot be built.
    """
    if isinstance(target, Target):
        return open_target(section_of(target), live=target)
    section = TargetConfig.model_validate(section_named(target, "--to"))
    return open_target(section, allow_code=allow_code, key="--to")


def judge_of(run: Run, live: Sequence[Target], *, allow_code: bool) -> OpenTarget:
    """The target a run was made with.

    Args:
        live: targets to look through for it first. A run that was made with a live target needs it to be here.
        allow_code: whether a python: spec may run its code.

    Raises:
        ConfigError: the run was made with a live target that is not among `live`, or its code may not run.
        IncompatibleRun: its weights or its preprocessing have changed.
    """
    section, fingerprint = run.config.target, run.provenance["target_fingerprint"]
    for target in live:
        with contextlib.suppress(ConfigError):  # another target, without what this run's section asks for
            candidate = open_target(section, live=target)
            if candidate.fingerprint == fingerprint:
                return candidate
    if section.spec == "live":
        raise ConfigError(
            f"{run.path}: its target was a live module; give it again: evofool.matrix(runs, targets=...)."
        )
    loaded = open_target(section, allow_code=allow_code)
    refuse_other_target(fingerprint, run.path, loaded)
    return loaded


def settings_of(run: Run, pool: str | None) -> EvaluationConfig:
    """The section `evaluation` of a run, its device and shapes left to whichever target is to be scored with.

    Args:
        pool: "inline" or "ray" in place of the run's own.

    Raises:
        ConfigError: another word than these.
    """
    if pool not in (None, "inline", "ray"):
        raise ConfigError(f"--pool: {pool!r} is not inline or ray.")
    auto = dict.fromkeys(("device", "chunk", "micro_batch", "memory_format"), "auto")
    return run.config.evaluation.model_copy(update={**auto, "pool": pool or run.config.evaluation.pool})


def cluster(settings: EvaluationConfig, address: str | None) -> AbstractContextManager[object]:
    """Stay connected to Ray over several pools, so that it is started once; nothing where pools are inline."""
    if settings.pool == "inline":
        return contextlib.nullcontext()
    from evofool.evaluate.over_ray.cluster import connected

    return connected(settings, address)


@contextlib.contextmanager
def picture_pool(
    run: Run, by: OpenTarget, settings: EvaluationConfig, *, address: str | None, warn: Callable[[str], None]
) -> Iterator[Pool]:
    """A pool that scores pictures of a target's size against all of its classes; the objective is the margin.

    Where the target is the run's own, the numerics are too, so that scores have the archive's bits.
    """
    last = run.store.log.last
    stored = last.numerics if last and by.fingerprint == run.provenance["target_fingerprint"] else None
    problem = picture_problem(run.config.model_copy(update={"evaluation": settings}), by, "margin")
    with open_pool(problem, address=address, stored=stored, warn=warn) as (pool, _, _):
        yield pool
