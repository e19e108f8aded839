"""Numerics from the configuration: what `auto` stands for, and whether a machine has what they need."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

from evofool.config.sections import EvaluationConfig
from evofool.encoding.cppn.genome import CppnEncoding
from evofool.encoding.drawing.render import has_compiler
from evofool.errors import ConfigError, IncompatibleRun
from evofool.evaluate.problem import Problem
from evofool.records import Facts, Numerics
from evofool.targets.numerics import default_numerics

__all__ = ["resolve_numerics", "usable_numerics"]


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


def usable_numerics(problem: Problem, has_gpu: bool, stored: Facts | None, warn: Callable[[str], None]) -> Numerics:
    """As `resolve_numerics`; raises IncompatibleRun without the GPU they need, warns where numba would draw faster."""
    numerics = resolve_numerics(problem.config.evaluation, problem.target.family, has_gpu, stored)
    if numerics.device == "cuda" and not has_gpu:
        raise IncompatibleRun("evaluation.device is cuda, but there is no GPU here; say evaluation.device=cpu.")
    encoding = problem.encoding
    is_portable = isinstance(encoding, CppnEncoding) and encoding.arithmetic == "portable"
    if is_portable and numerics.device == "cpu" and not has_compiler():
        warn(
            "encoding.arithmetic: portable draws more slowly than torch where numba is missing; pip install "
            "numba makes it several times as fast, with the same pictures."
        )
    return numerics
