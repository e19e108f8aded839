"""Parts of a picture erased: what stands in their place, and which parts.

A hole in a flat colour has edges that the picture never had, which a network may see as well as what is gone. So there
are several fillings, and what holds for one alone is a matter of the filling.

Occlusion by tiles: Zeiler and Fergus, ECCV 2014 (arXiv 1311.2901), section 4.2.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from evofool.base import rng

__all__ = ["FILLS", "erased", "filling", "luminance", "orders", "scattered", "steps", "tiles"]

FILLS = ("mean", "blur", "noise")
BLUR = 4  # of the shorter side, one part: the width of the Gaussian, in which what repeats twice or more is gone
STEPS = 8  # shares of what is to be erased at which a curve has a point, besides the first and the last but one
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


def luminance(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The brightness of a picture (height, width, 1 or 3), as (height, width) numbers from 0 to 255."""
    pixels = image.astype(np.float64)
    return pixels[:, :, 0] if image.shape[2] == 1 else pixels @ np.array(_LUMA)


def filling(image: NDArray[np.uint8], fill: str, address: int) -> NDArray[np.uint8]:
    """A picture of which to take the pixels that stand in place of erased ones.

    Args:
        image: (height, width, channels).
        fill: "mean", the picture's mean colour; "blur", the picture smoothed by a Gaussian of a quarter of its side, so
            that holes have no edges; or "noise", the picture's own pixels, each at a random place.
        address: of the random numbers.
    """
    height, width, channels = image.shape
    if fill == "noise":
        order = np.argsort(rng.uniforms(0, "ablate.noise", address, (height * width,)), kind="stable")
        return image.reshape(-1, channels)[order].reshape(image.shape)
    pixels = image.astype(np.float64)
    if fill == "blur":
        sigma = min(height, width) / BLUR
        pixels = gaussian_filter(pixels, (sigma, sigma, 0), mode="nearest")
    else:
        pixels = np.broadcast_to(pixels.mean(axis=(0, 1)), image.shape)
    return np.floor(pixels + 0.5).astype(np.uint8)


def erased(image: NDArray[np.uint8], mask: NDArray[np.bool_], fills: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture with the pixels of a (height, width) mask taken from a filling."""
    return np.where(mask[:, :, None], fills, image)


def tiles(height: int, width: int, grid: int) -> NDArray[np.int64]:
    """(height, width) int64: which tile of grid x grid each pixel is in, 0 .. grid**2 - 1, row by row; sides differ by
    a pixel where they do not divide."""
    rows, columns = (np.arange(side) * grid // side for side in (height, width))
    return rows[:, None] * grid + columns[None, :]


def scattered(height: int, width: int, pixels: int, address: int, number: int) -> NDArray[np.bool_]:
    """A mask of so many pixels at random places."""
    draws = rng.uniforms(0, f"ablate.scattered.{pixels}.{number}", address, (height * width,))
    mask = np.zeros(height * width, dtype=bool)
    mask[np.argsort(draws, kind="stable")[:pixels]] = True
    return mask.reshape(height, width)


def steps(parts: int) -> list[int]:
    """How many of so many parts are erased at the points of a curve: none first, one, ..., all but one, all."""
    shares = [round(parts * i / STEPS) for i in range(STEPS + 1)]
    return sorted({*shares, min(1, parts), max(0, parts - 1)})


def orders(parts: int, draws: int, domain: str, address: int) -> Iterator[NDArray[np.int64]]:
    """Random orders in which parts are erased, (parts,) each."""
    yield from np.argsort(rng.uniforms(0, f"ablate.{domain}", address, (draws, parts)), axis=1, kind="stable")
