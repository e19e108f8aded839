"""Activations of CPPNs beyond the built-in ones: the user's own functions.

An own activation is a function `(p, xp)`: p an array of float32 numbers, xp the module to compute with (`torch` when
evaluators render, `numpy` when one genome is drawn), so that one definition serves both:

    def swirl(p, xp):
        return xp.sin(p * xp.abs(p))

It must work number by number: what a pixel becomes may not depend on its neighbours. Values outside [-1, 1] are
clipped at the outputs. Name it `python:FILE.py:swirl` in `encoding.activations`, or register it in Python.

A function is known by its name and the sha256 of the file it is from, so two runs whose files have one name keep apart.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from types import MappingProxyType, ModuleType
from typing import Any, TypeAlias

import numpy as np

from evofool.base.source import Source
from evofool.base.usercode import load_callable
from evofool.config import Config
from evofool.errors import ConfigError

__all__ = [
    "FIRST_OWN",
    "Activation",
    "activation_sources",
    "is_known",
    "load_activations",
    "own",
    "register_activation",
    "versions_of",
]

Activation: TypeAlias = Callable[[Any, ModuleType], Any]  # of an array and numpy, or of a tensor and torch

FIRST_OWN = 128  # codes of genes from here on count an encoding's own activations, in the order of its configuration
_registered: dict[tuple[str, str], Activation] = {}  # by name and sha256 (hex) of the file, "" for one from Python


def register_activation(name: str, function: Activation) -> None:
    """Make an own activation known to this process, under a name for `encoding.activations`.

    Evaluators over Ray are other processes: they know only what `python:FILE.py:callable` names.

    Raises:
        ConfigError: the function does not give one float32 for each number, with torch as with numpy.
    """
    _register(name, "", function)


def _register(name: str, sha256: str, function: Activation) -> None:
    values = np.linspace(-5, 5, 64, dtype=np.float32)
    for module in ("numpy", "torch"):
        xp = importlib.import_module(module)
        argument = values if module == "numpy" else xp.from_numpy(values.copy())
        try:
            result = function(argument, xp)
            shape, kind = tuple(result.shape), str(result.dtype).removeprefix("torch.")
        except Exception as error:
            raise ConfigError(
                f"encoding.activations: {name} fails with {module} ({type(error).__name__}: {error}); it takes (p, xp)."
            ) from error
        if shape != (64,) or kind != "float32":
            raise ConfigError(
                f"encoding.activations: {name} gives {kind} of shape {shape} with {module} for float32 of shape (64,)."
            )
    _registered[name, sha256] = function


def is_known(name: str, sha256: str = "") -> bool:
    """Whether an own activation is registered in this process, by the sha256 (hex) of its file if it is from one."""
    return (name, sha256) in _registered


def versions_of(name: str) -> list[str]:
    """The sha256 (hex) of each file that an activation of this name was registered from; "" for one from Python."""
    return [sha256 for other, sha256 in _registered if other == name]


def own(name: str, sha256: str = "") -> Activation:
    """The function registered under a name and the sha256 (hex) of its file.

    Raises:
        ConfigError: no function is registered so.
    """
    if (name, sha256) not in _registered:
        raise ConfigError(
            f"encoding.activations: {name!r} is not known here; register it with evofool.register_activation, or give "
            "--allow-code where it is named python:FILE.py:callable."
        )
    return _registered[name, sha256]


def activation_sources(
    config: Config, allow_code: bool, code: Mapping[str, str] = MappingProxyType({})
) -> tuple[Source, ...]:
    """The user's own activations that a configuration names by `python:` specs.

    Args:
        code: the sha256 (hex) that the file of each spec must have; that of a spec without one may have any.
    """
    specs = config.encoding.activations if config.encoding.kind == "cppn" else []
    return tuple(
        Source(spec, allow_code, key="encoding.activations", sha256=code.get(spec, ""))
        for spec in specs
        if spec.startswith("python:")
    )


def load_activations(sources: tuple[Source, ...]) -> dict[str, str]:
    """Register the activations that `python:` specs name, unless they are already; {spec: sha256 (hex) of its file}.

    Raises:
        ConfigError: code is not allowed, or it is no activation.
        IncompatibleRun: a file is not the one it has to be.
    """
    hashes = {}
    for source in sources:
        sha256 = source.sha256
        if not sha256 or not is_known(source.spec, sha256):
            function, sha256 = load_callable(source)
            _register(source.spec, sha256, function)
        hashes[source.spec] = sha256
    return hashes
