"""Addressed randomness: a number is a function of where it is used, never of when or by whom.

The stream is Philox 4x64 (Salmon et al., SC 2011, "Parallel random numbers: as easy as 1, 2, 3"). Only its raw 64-bit
words are used, which numpy guarantees for ever, and only exact arithmetic follows, so the numbers are the same on
every machine and version. Nothing here touches the global state of `random` or `numpy.random`.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Callable
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

__all__ = ["chosen", "uniforms", "words"]

_BLOCK = 4  # words that Philox makes at a time
_BITS = 53  # of a word that make a number
_UNIT = 2.0**-_BITS


def words(seed: int, domain: str, generation: int, count: int, start: int = 0) -> NDArray[np.uint64]:
    """Raw Philox words `start` .. `start + count - 1` at an address, shape (count,), uint64.

    The key is blake2b of (seed, domain), 128 bits; the counter starts at (0, generation, 0, 0) and numpy counts up
    before each block of 4 words, so two generations are 2**66 words apart.
    """
    block, skipped = divmod(start, _BLOCK)
    stream = np.random.Philox(key=_key(seed, domain), counter=np.array([block, generation, 0, 0], dtype=np.uint64))
    return np.asarray(stream.random_raw(skipped + count), dtype=np.uint64)[skipped:]


def _key(seed: int, domain: str) -> NDArray[np.uint64]:
    digest = hashlib.blake2b(f"{seed}:{domain}".encode(), digest_size=16).digest()
    return np.frombuffer(digest, dtype="<u8").astype(np.uint64)


def _units(raw: NDArray[np.uint64]) -> NDArray[np.float64]:
    """The uniform numbers in [0, 1) that raw words stand for."""
    values = (raw >> np.uint64(64 - _BITS)).astype(np.float64)
    values *= _UNIT
    return values


def uniforms(seed: int, domain: str, generation: int, shape: tuple[int, ...], start: int = 0) -> NDArray[np.float64]:
    """Uniform float64 numbers in [0, 1), 53 bits each, in row-major order of `shape`.

    Row = slot: give the slot as the first axis where all rows have the same length. Where the length varies (genes of
    a graph), draw with the slot as the *last* axis and transpose: gene j of slot i then keeps its number however long
    the other genomes are.

    Args:
        start: how many numbers of the address to leave out, where they are drawn a part at a time.
    """
    return _units(words(seed, domain, generation, math.prod(shape), start)).reshape(shape)


def chosen(
    seed: int, domain: str, generation: int, records: int, rate: float, *, width: int = 1, start: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Of `uniforms(seed, domain, generation, (records, width), start)`, the rows that begin with less than `rate`.

    Only their words become numbers; where numba is installed, the words of other rows are not stored either.

    Returns:
        (k,) int64 indices of these rows, ascending, and (k, width) float64 their numbers.
    """
    # The largest word whose number is less; a number is a word's upper bits.
    last = (math.ceil(min(max(rate, 0.0), 1.0) * 2**_BITS) << (64 - _BITS)) - 1
    if last < 0:
        return np.empty(0, dtype=np.int64), np.empty((0, width))
    if compiled := _compiled():
        return compiled(_key(seed, domain), np.uint64(generation), start, records, width, np.uint64(last), _UNIT)
    raw = words(seed, domain, generation, records * width, start).reshape(records, width)
    rows = np.flatnonzero(raw[:, 0] <= np.uint64(last))
    return rows, _units(raw[rows])


@functools.cache
def _compiled() -> Callable[..., tuple[NDArray[np.int64], NDArray[np.float64]]] | None:
    """`rng_compiled.chosen`, loaded when it is first needed; None without numba."""
    if find_spec("numba") is None:
        return None
    from evofool.base import rng_compiled

    return rng_compiled.chosen
