"""Direct genomes: one number in [0, 1] for every pixel and channel, float32, as a batch (n, height, width, channels).

Nguyen, Yosinski and Clune, CVPR 2015, section 2.3: "each pixel value is initialized with uniform random noise".
"""

from __future__ import annotations

from dataclasses import dataclass

from evofool.encoding.arrays import ArrayEncoding

__all__ = ["DirectEncoding"]


@dataclass(frozen=True)
class DirectEncoding(ArrayEncoding):
    """Genomes as pixels; contract.py says what an encoding offers."""

    kind: str = "direct"
