"""`rng.chosen` compiled by numba: the same words of Philox, of which only those that are needed become numbers."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, misc"

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from evofool.base.jit import compiled

__all__ = ["chosen"]

u64 = np.uint64
# Salmon et al. 2011, table 2 and section 4.3: multipliers and Weyl constants of Philox 4x64, ten rounds.
_M0, _M1 = u64(0xD2E7470EE14C6C93), u64(0xCA5A826395121157)
_W0, _W1 = u64(0x9E3779B97F4A7C15), u64(0xBB67AE8584CAA73B)
_ROUNDS = 10
_BLOCK = 4  # words
_DRAWN = 3072  # words at a time, to stay in the nearest cache


@intrinsic
def _product(typing, a, b):
    """The upper and the lower 64 bits of a product."""

    def build(context, builder, signature, arguments):
        wide, half = ir.IntType(128), ir.IntType(64)
        product = builder.mul(*(builder.zext(argument, wide) for argument in arguments))
        high = builder.trunc(builder.lshr(product, ir.Constant(wide, 64)), half)
        return context.make_tuple(builder, signature.return_type, (high, builder.trunc(product, half)))

    return types.UniTuple(types.uint64, 2)(types.uint64, types.uint64), build


@compiled
def _draw(words, first, key, generation):
    """Fill `words` with those from block `first` on. numpy counts up before each block."""
    for block in range(words.size // _BLOCK):
        a, b, c, d = first + u64(block) + u64(1), generation, u64(0), u64(0)
        k0, k1 = key[0], key[1]
        for _ in range(_ROUNDS):
            high_a, low_a = _product(_M0, a)
            high_c, low_c = _product(_M1, c)
            a, b, c, d = high_c ^ b ^ k0, low_c, high_a ^ d ^ k1, low_a
            k0, k1 = k0 + _W0, k1 + _W1
        at = _BLOCK * block
        words[at], words[at + 1], words[at + 2], words[at + 3] = a, b, c, d


@compiled
def chosen(key, generation, start, records, width, last, unit):
    """See `rng.chosen`.

    Args:
        key: (2,) uint64.
        last: the largest first word of a record that is chosen.
        unit: what the upper 53 bits of a word are multiplied with.
    """
    words = np.empty(_DRAWN + _BLOCK, np.uint64)
    rows, numbers = np.empty(records, np.int64), np.empty((records, width), np.float64)
    total, at_a_time = 0, _DRAWN // width
    for first in range(0, records, at_a_time):
        count = min(at_a_time, records - first)
        block, skipped = divmod(start + first * width, _BLOCK)
        blocks = (skipped + count * width + _BLOCK - 1) // _BLOCK
        _draw(words[: blocks * _BLOCK], u64(block), key, generation)
        before = total
        for i in range(count):  # without a branch, which no processor could predict
            rows[total] = i
            total += words[skipped + i * width] <= last
        for j in range(before, total):
            for k in range(width):
                numbers[j, k] = np.float64(np.int64(words[skipped + rows[j] * width + k] >> u64(11))) * unit
            rows[j] += first
    return rows[:total], numbers[:total]
