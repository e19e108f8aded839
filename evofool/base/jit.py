"""How evofool has numba compile: `jit.compiled` above a function. numba is an extra; who imports this asked for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit

__all__ = ["compiled"]

# Never `fastmath`: additions and multiplications stay as they are written, so every machine has the same bits.
_OPTIONS = {"error_model": "numpy", "nogil": True}


def compiled(function: Callable[..., Any]) -> Any:
    """The function compiled at its first call; other processes find the result on disk, where a place for it is."""
    try:
        return njit(**_OPTIONS, cache=True)(function)
    except RuntimeError:  # neither the package's folder nor a home can be written to
        return njit(**_OPTIONS)(function)
