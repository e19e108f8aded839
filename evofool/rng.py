"""Addressed randomness: a number is a function of where it is used, never of when or by whom.

The stream is Philox 4x64 (Salmon et al., SC 2011, "Parallel random numbers: as easy as 1, 2, 3"). Only its raw 64-bit
words are used, which numpy guarantees for ever, and only exact arithmetic follows, so the numbers are the same on
every machine and version. Nothing here touches the global state of `random` or `numpy.random`.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["below", "uniforms", "units", "words"]

_BLOCK = 4  # words that Philox makes at a time
_BITS = 53  # of a word that make a number


def words(seed: int, domain: str, generation: int, count: int, start: int = 0) -> NDArray[np.uint64]:
    """Raw Philox words `start` .. `start + count - 1` at an address, shape (count,), uint64.

    The key is blake2b of (seed, domain), 128 bits; numpy is given the counter (0, generation, 0, 0) and
    counts up before each block, so two generations are 2**66 words apart.
    """
    key = hashlib.blake2b(f"{seed}:{domain}".encode(), digest_size=16).digest()
    block, skipped = divmod(start, _BLOCK)
    stream = np.random.Philox(
        key=np.frombuffer(key, dtype="<u8"), counter=np.array([block, generation, 0, 0], dtype=np.uint64)
    )
    return np.asarray(stream.random_raw(skipped + count), dtype=np.uint64)[skipped:]


def below(raw: NDArray[np.uint64], rate: float) -> NDArray[np.bool_]:
    """units(raw) < rate, without making the numbers."""
    if rate >= 1:
        return np.ones(raw.shape, dtype=bool)
    return raw < np.uint64(math.ceil(max(rate, 0.0) * 2**_BITS) << (64 - _BITS))


def units(raw: NDArray[np.uint64]) -> NDArray[np.float64]:
    """The uniform numbers in [0, 1) that raw words stand for."""
    values = (raw >> np.uint64(64 - _BITS)).astype(np.float64)
    values *= 2.0**-_BITS
    return values


def uniforms(seed: int, domain: str, generation: int, shape: tuple[int, ...], start: int = 0) -> NDArray[np.float64]:
    """Uniform float64 numbers in [0, 1), 53 bits each, in row-major order of `shape`.

    Row = slot: give the slot as the first axis where all rows have the same length. Where the length varies (genes of
    a graph), draw with the slot as the *last* axis and transpose: gene j of slot i then keeps its number however long
    the other genomes are.

    Args:
        start: how many numbers of the address to leave out, where they are drawn a part at a time.
    """
    return units(words(seed, domain, generation, math.prod(shape), start)).reshape(shape)
