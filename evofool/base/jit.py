"""How evofool compiles functions: `@jit.compiled`. numba may be missing: importers check for it first."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from numba import njit

__all__ = ["compiled"]

# Never `fastmath`: additions and multiplications stay as they are written, so every machine has the same bits.
_OPTIONS = {"error_model": "numpy", "nogil": True}
_F = TypeVar("_F", bound=Callable[..., object])


def compiled(function: _F) -> _F:
    """The function, compiled at its first call; the machine code is kept for other processes, where it can be."""
    try:
        return njit(**_OPTIONS, cache=True)(function)
    except RuntimeError:  # neither the package's folder nor a home can be written to
        return njit(**_OPTIONS)(function)
