"""Activations of CPPNs beyond the built-in ones: the user's own functions.

An own activation is a function `(p, xp)`: p an array of float32 numbers, xp the module to compute with (`torch` when
evaluators render, `numpy` when one genome is drawn), so that one definition serves both:

    def swirl(p, xp):
        return xp.sin(p * xp.abs(p))

It must work number by number: what a pixel becomes may not depend on its neighbours. Values outside [-1, 1] are
clipped at the outputs. Name it `python:FILE.py:swirl` in `encoding.activations`, or register it in Python.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

from evofool.base.source import Source
from evofool.base.usercode import load_callable
from evofool.errors import ConfigError

__all__ = ["FIRST_OWN", "is_known", "load_activations", "own", "register_activation"]

FIRST_OWN = 128  # codes of genes from here on count an encoding's own activations, in the order of its configuration
_registered: dict[str, Callable[[Any, Any], Any]] = {}


def register_activation(name: str, function: Callable[[Any, Any], Any]) -> None:
    """Make an own activation known to this process, under a name for `encoding.activations`.

    Evaluators over Ray are other processes: they know only what `python:FILE.py:callable` names.

    Raises:
        ConfigError: the function does not give one float for each number, with torch as with numpy.
    """
    values = np.linspace(-5, 5, 64, dtype=np.float32)
    for module in ("numpy", "torch"):
        xp = importlib.import_module(module)
        given = values if module == "numpy" else xp.from_numpy(values.copy())
        try:
            result = function(given, xp)
            shape, kind = tuple(result.shape), str(result.dtype).removeprefix("torch.")
        except Exception as error:
            raise ConfigError(
                f"encoding.activations: {name} fails with {module} ({type(error).__name__}: {error}); it takes (p, xp)."
            ) from error
        if shape != (64,) or kind != "float32":
            raise ConfigError(
                f"encoding.activations: {name} gives {kind} of shape {shape} with {module} for float32 of shape (64,)."
            )
    _registered[name] = function


def is_known(name: str) -> bool:
    """Whether an own activation is registered in this process."""
    return name in _registered


def own(name: str) -> Callable[[Any, Any], Any]:
    """The function registered under a name.

    Raises:
        ConfigError: nothing is.
    """
    if name not in _registered:
        raise ConfigError(
            f"encoding.activations: {name!r} is not known here; register it with evofool.register_activation, or give "
            "--allow-code where it is named python:FILE.py:callable."
        )
    return _registered[name]


def load_activations(sources: tuple[Source, ...]) -> dict[str, str]:
    """Register the activations that `python:` specs name; {spec: sha256 (hex) of its file}.

    Raises:
        ConfigError: code is not allowed, or it is no activation.
    """
    hashes = {}
    for source in sources:
        function, hashes[source.spec] = load_callable(source)
        register_activation(source.spec, function)
    return hashes
