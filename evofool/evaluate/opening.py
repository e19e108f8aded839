"""Opening a pool: inline or over Ray, with numerics from the configuration. Runs and studies both open theirs here."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import asdict

import torch

from evofool.config.sections import EvaluationConfig
from evofool.encoding.cppn.genome import CppnEncoding
from evofool.encoding.drawing.render import has_compiler
from evofool.errors import ConfigError, IncompatibleRun
from evofool.evaluate.evaluator import other_numerics
from evofool.evaluate.inline import InlinePool
from evofool.evaluate.memory import gpu_described
from evofool.evaluate.pool import Pool
from evofool.evaluate.problem import Problem
from evofool.records import Facts, Numerics
from evofool.targets.numerics import default_numerics

__all__ = ["open_pool", "resolve_numerics"]


@contextlib.contextmanager
def open_pool(
    problem: Problem,
    *,
    address: str | None = None,
    stored: Facts | None = None,
    canary: str | None = None,
    warn: Callable[[str], None] = lambda text: None,
) -> Iterator[tuple[Pool, Numerics, Facts]]:
    """A pool, its numerics, and facts about the cluster, or inline about the GPU; the pool is closed at the end.

    Args:
        problem: its configuration's section `evaluation` says what is opened.
        address: of a Ray cluster.
        stored: the numerics of a run that goes on, which stand for `auto` in the configuration.
        canary: what evaluators must give; None: whatever they give.
        warn: receives a sentence whenever evaluators are slow, missing or lost.

    Raises:
        ConfigError: the numerics contradict each other, or the cluster is open to everybody.
        IncompatibleRun: the canary is another, or `evaluation.device` is cuda without a GPU.
        ResourcesMissing: the cluster does not answer, or no evaluator was ready in time.
    """
    settings = problem.config.evaluation
    if settings.pool == "inline":
        numerics = _usable_numerics(problem, torch.cuda.is_available(), stored, warn)
        inline = InlinePool(lambda: problem.evaluator(numerics), numerics)
        if canary not in (None, inline.canary):
            raise other_numerics("this machine")
        yield inline, numerics, {"gpu": gpu_described()} if numerics.device == "cuda" else {}
        return
    from evofool.evaluate.over_ray.cluster import connected
    from evofool.evaluate.over_ray.pool import RayPool

    with connected(settings, address) as cluster:
        has_gpu = cluster.supply("GPU") > 0
        if settings.device == "auto" and not (stored or has_gpu) and torch.cuda.is_available():
            warn(
                "this machine has a GPU, but the nodes of Ray's cluster declare none, so evaluators use processors; "
                "start the nodes with --num-gpus."
            )
        numerics = _usable_numerics(problem, has_gpu, stored, warn)
        ray_pool = RayPool(
            cluster,
            problem.recipe(numerics),
            evaluators=settings.evaluators,
            per_gpu=settings.evaluators_per_gpu,
            ready_timeout=settings.ready_timeout,
            chunk_timeout=settings.chunk_timeout,
            canary=canary,
            warn=warn,
        )
        with contextlib.closing(ray_pool):
            yield ray_pool, numerics, cluster.facts()


def resolve_numerics(settings: EvaluationConfig, family: str, has_gpu: bool, stored: Facts | None = None) -> Numerics:
    """Numerics from the configuration; `auto` stands for what a run has stored, else for the fixed table's.

    Args:
        family: of the target.
        has_gpu: whether a device that is `auto` for a new run means cuda.
        stored: the numerics of a run that goes on.

    Raises:
        ConfigError: a chunk that is no multiple of the micro-batch, or a precision that the device does not have.
    """
    device = settings.device if settings.device != "auto" else "cuda" if has_gpu else "cpu"
    auto = asdict(Numerics.of(stored) if stored else default_numerics(device, family))
    values = {name: auto[name] if getattr(settings, name) == "auto" else getattr(settings, name) for name in auto}
    if not stored and settings.chunk == "auto" and settings.micro_batch != "auto":
        # The table's chunk, rounded down to a multiple of the user's micro-batch.
        values["chunk"] = settings.micro_batch * max(1, values["chunk"] // settings.micro_batch)
    if values["chunk"] % values["micro_batch"]:
        raise ConfigError(
            f"evaluation.chunk ({values['chunk']}) must be a multiple of micro_batch ({values['micro_batch']})."
        )
    if values["precision"] == "tf32" and values["device"] != "cuda":
        raise ConfigError("evaluation.precision: tf32 is arithmetic of GPUs; say float32 on a CPU.")
    return Numerics(**values)


def _usable_numerics(problem: Problem, has_gpu: bool, stored: Facts | None, warn: Callable[[str], None]) -> Numerics:
    """As `resolve_numerics`; raises IncompatibleRun without the GPU they need, warns where numba would draw faster."""
    numerics = resolve_numerics(problem.config.evaluation, problem.target.family, has_gpu, stored)
    if numerics.device == "cuda" and not has_gpu:
        raise IncompatibleRun("evaluation.device is cuda, but there is no GPU here; say evaluation.device=cpu.")
    encoding = problem.encoding
    is_portable = isinstance(encoding, CppnEncoding) and encoding.arithmetic == "portable"
    if is_portable and numerics.device == "cpu" and not has_compiler():
        warn(
            "encoding.arithmetic: portable draws more slowly than torch where numba is missing; pip install "
            "'evofool[fast]' makes it several times as fast, with the same pictures."
        )
    return numerics
