"""Pictures as they are, where a pool scores images that no genome drew: photographs, or elites of another size.

It offers what a pool needs of an encoding, and no more: pictures are not bred or stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["PictureEncoding"]


@dataclass(frozen=True)
class PictureEncoding:
    """A batch is (n, height, width, channels) uint8; rendering gives it back."""

    height: int
    width: int
    channels: int
    kind: str = "picture"

    def take(self, pictures: NDArray[np.uint8], rows: Any) -> NDArray[np.uint8]:
        """The pictures at `rows` (indices or a slice)."""
        return pictures[rows]

    def initial(self, *draws: NDArray[np.float64]) -> NDArray[np.uint8]:
        """Noise, from numbers uniform in [0, 1): what a canary is made of."""
        (pixels,) = draws
        return (pixels * 256).astype(np.uint8).reshape(len(pixels), self.height, self.width, self.channels)

    def draws_of_initial(self) -> tuple[int, ...]:
        """Numbers for each picture that `initial` takes."""
        return (self.height * self.width * self.channels,)
