"""Sine and exponential of additions, multiplications and powers of two alone: the same bits wherever IEEE 754 holds.

Those of mathematical libraries differ in the last bit between processors and versions, and a CPPN can make a grey level
of that. What is defined here is written twice, for tensors in render.py and for numba in compiled.py, with the same
operations in the same order; tests hold that no bit differs. Nowhere may a multiplication and an addition become one
operation, which would round once instead of twice.

Both make the argument small and take a polynomial of it, whose coefficients have the least largest error (absolute for
the sine, relative for the exponential; by iteratively reweighted least squares, in float64):

    sine(x)         r = x - 2 pi n in float64, n the nearest whole number; folded onto [-pi / 2, pi / 2];
                    r + r (r**2 P(r**2)), and + (x - x), which makes NaN of infinity. Within 2.5e-7 of the sine for
                    |x| <= LARGEST_ANGLE; larger ones count as that: float32 numbers there lie further apart than a
                    period.
    exponential(x)  n the whole number nearest to x / ln 2, r = x - n ln 2; (1 + (r + r**2 Q(r))) 2**n.
                    Within 2.5e-7 of it relatively, for |x| <= LARGEST_EXPONENT; nothing else may be asked.

To round to a whole number, WHOLE is added and subtracted again: floats of that size are whole.
"""

from __future__ import annotations

import numpy as np

PI = np.float32(3.1415927410125732)
SINE = tuple(
    np.float32(c)  # P, from the lowest power on
    for c in (-0.16666659712791443, 0.00833306647837162, -0.00019809602235909551, 2.605780537123792e-06)
)
LARGEST_ANGLE = np.float32(268435456.0)  # 2**28
ONE_OVER_TWO_PI = np.float64(0.15915494309189535)
TWO_PI_HIGH = np.float64(6.283185303211212)  # of 27 bits, so that n times it is exact
TWO_PI_LOW = np.float64(3.968374318722162e-09)
WHOLE_FLOAT64 = np.float64(6755399441055744.0)  # 1.5 * 2**52

EXPONENTIAL = tuple(
    np.float32(c)  # Q, from the lowest power on
    for c in (0.4999999403953552, 0.1666652113199234, 0.04166838899254799, 0.008368710055947304, 0.001381461275741458)
)
LARGEST_EXPONENT = np.float32(87.0)  # both exp(87) and exp(-87) are normal numbers
ONE_OVER_LN2 = np.float32(1.4426950216293335)
LN2_HIGH = np.float32(0.693145751953125)  # of 16 bits, so that n times it is exact
LN2_LOW = np.float32(1.428606765330187e-06)
WHOLE = np.float32(12582912.0)  # 1.5 * 2**23
ONE_BITS = np.int32(127 << 23)  # the bits of 1.0; 2**n has n more in the exponent, from bit 23 on
