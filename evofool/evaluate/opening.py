"""Opening a pool: inline or over Ray, with numerics from the configuration. Runs and studies both come through here."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

import torch

from evofool.config import EvaluationConfig
from evofool.encoding.contract import Encoding
from evofool.encoding.cppn.genome import CppnEncoding
from evofool.encoding.drawing.render import has_compiler
from evofool.errors import ConfigError, IncompatibleRun
from evofool.evaluate.inline import InlinePool
from evofool.evaluate.pool import Pool, other_numerics
from evofool.evaluate.problem import Problem
from evofool.records import Facts, Numerics
from evofool.targets.numerics import default_numerics

__all__ = ["open_pool", "resolve_numerics"]


@contextlib.contextmanager
def open_pool(
    problem: Problem,
    *,
    address: str | None = None,
    stored: Mapping[str, Any] | None = None,
    canary: str | None = None,
    warn: Callable[[str], None] = lambda text: None,
) -> Iterator[tuple[Pool, Numerics, Facts]]:
    """A pool, its numerics, and facts about the cluster; closed at the end.

    Args:
        problem: the section `evaluation` of its configuration counts; its `auto` numerics come from `stored` or from
            the fixed table.
        address: of a Ray cluster.
        stored: the numerics of a run that goes on.
        canary: what evaluators must give; None: whatever they give.
        warn: receives a sentence when something was lost.

    Raises:
        IncompatibleRun: another canary, or a GPU is asked for and there is none.
        ResourcesMissing: no evaluator was ready in time.
    """
    settings, family = problem.config.evaluation, problem.target.family
    if settings.pool == "inline":
        numerics = resolve_numerics(settings, family, torch.cuda.is_available(), stored)
        _need_device(numerics, torch.cuda.is_available())
        _warn_of_slow_drawing(problem.encoding, numerics, warn)
        inline = InlinePool(lambda: problem.evaluator(numerics), numerics)
        if canary not in (None, inline.canary):
            raise other_numerics("this machine")
        yield inline, numerics, {}
        return
    from evofool.evaluate.over_ray.cluster import connected
    from evofool.evaluate.over_ray.pool import RayPool

    with connected(settings, address) as cluster:
        has_gpu = cluster.supply("GPU") > 0
        numerics = resolve_numerics(settings, family, has_gpu, stored)
        _need_device(numerics, has_gpu)
        _warn_of_slow_drawing(problem.encoding, numerics, warn)
        pool = RayPool(
            cluster,
            problem.recipe(numerics),
            evaluators=settings.evaluators,
            per_gpu=settings.evaluators_per_gpu,
            ready_timeout=settings.ready_timeout,
            chunk_timeout=settings.chunk_timeout,
            canary=canary,
            warn=warn,
        )
        try:
            yield pool, numerics, cluster.facts()
        finally:
            pool.close()


def resolve_numerics(
    settings: EvaluationConfig, family: str, has_gpu: bool, stored: Mapping[str, Any] | None = None
) -> Numerics:
    """Numerics from the configuration, with `auto` from the stored run or the fixed table.

    Args:
        family: of the target.

    Raises:
        ConfigError: a chunk that is no multiple of the micro-batch, or a precision that the device does not have.
    """
    device = settings.device if settings.device != "auto" else "cuda" if has_gpu else "cpu"
    if stored and settings.device == "auto":
        device = stored["device"]
    base = asdict(Numerics.of(stored) if stored else default_numerics(device, family))
    chosen = {name: base[name] if getattr(settings, name) == "auto" else getattr(settings, name) for name in base}
    if not stored and settings.chunk == "auto" and settings.micro_batch != "auto":
        chosen["chunk"] = settings.micro_batch * max(1, chosen["chunk"] // settings.micro_batch)
    if chosen["chunk"] % chosen["micro_batch"]:
        raise ConfigError(
            f"evaluation.chunk ({chosen['chunk']}) must be a multiple of micro_batch ({chosen['micro_batch']})."
        )
    if chosen["precision"] == "tf32" and chosen["device"] != "cuda":
        raise ConfigError("evaluation.precision: tf32 is arithmetic of GPUs; say float32 on a CPU.")
    return Numerics(**chosen)


def _warn_of_slow_drawing(encoding: Encoding | None, numerics: Numerics, warn: Callable[[str], None]) -> None:
    """Say so where numba would draw `arithmetic: portable` if it were there; the bits are the same."""
    is_portable = isinstance(encoding, CppnEncoding) and encoding.arithmetic == "portable"
    if is_portable and numerics.device == "cpu" and not has_compiler():
        warn(
            "encoding.arithmetic: portable draws more slowly than torch where numba is missing; pip install "
            "'evofool[fast]' makes it several times as fast, with the same pictures."
        )


def _need_device(numerics: Numerics, has_gpu: bool) -> None:
    if numerics.device == "cuda" and not has_gpu:
        raise IncompatibleRun("evaluation.device is cuda, but there is no GPU here; say evaluation.device=cpu.")
