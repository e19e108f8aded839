"""What repeats in a picture: a lattice found by autocorrelation, and the copies that it cuts the picture into.

The autocorrelation of the luminance, less its best plane, is normalised by the overlap at each shift. A shift repeats
the picture where it is a peak of at least LEAST, beyond a dip. The shortest two strong peaks that are not on one line
span the lattice; where there is one alone, or the picture stays the same along a line, copies are bands. Shifts up to
half of a side count, and from THREE copies on it is repetition. A smooth gradient has none; rings around a centre,
which no shift repeats, have none either.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label, map_coordinates, maximum_filter

from evofool.base import rng
from evofool.studies.shared.erasing import luminance, orders, steps

__all__ = ["Motifs", "autocorrelation", "find", "phase_randomised", "removals"]

LEAST = 0.3  # autocorrelation of a repeating shift
DIP = 0.2  # by which it is less somewhere on the way there
STRONG = 0.6  # of the strongest; the shortest of such peaks is the period, not a part of it nor a multiple
THREE = 3  # copies, at least
SHORTEST = 3.0  # pixels of a shift; what is finer is texture, and has no copies that could be told
ACROSS = 0.25  # sine of the angle between two shifts that are not on one line
PHASES = 12  # tried in which to lay the lattice, along each axis
EDGE = 0.75  # pixels beside a cut that count for it

Shift = NDArray[np.float64]  # (down, right) in pixels


@dataclass(frozen=True)
class Motifs:
    """The copies of what repeats.

    Attributes:
        copies: how many.
        of: (height, width) which copy each pixel belongs to, 0 .. copies - 1. A fragment at a border that is less than
            half a copy belongs to the nearest one.
        strength: the autocorrelation at the strongest shift.
        to_cells: (2, 2) or (1, 2): turns a place (down, right) into coordinates in which cells have a side of 1.
    """

    copies: int
    of: NDArray[np.int64]
    strength: float
    to_cells: NDArray[np.float64]


def find(image: NDArray[np.uint8]) -> Motifs | None:
    """What repeats in a picture (height, width, channels); None if nothing does."""
    shades = _without_plane(luminance(image))
    if shades is None:
        return None
    values = autocorrelation(shades)
    found = _shifts(values, *shades.shape)
    if found is None:
        return None
    shifts, strength = found
    if len(shifts) == 1:
        [shift] = shifts
        to_cells = shift[None, :] / (shift @ shift)
    else:
        to_cells = np.linalg.inv(np.stack(shifts, axis=1))
    return _copies(shades, to_cells, strength)


def _without_plane(shades: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Shades less their best plane; None where next to nothing is left."""
    height, width = shades.shape
    down, right = np.mgrid[:height, :width].reshape(2, -1) - np.array([[height - 1], [width - 1]]) / 2
    planes = np.stack([np.ones(height * width), down, right], axis=1)
    fit, *_ = np.linalg.lstsq(planes, shades.ravel(), rcond=None)
    rest = shades - (planes @ fit).reshape(shades.shape)
    return rest if rest.std() > 1.0 else None  # a grey level: what rounding alone leaves is less


def autocorrelation(shades: NDArray[np.float64]) -> NDArray[np.float64]:
    """(2 height - 1, 2 width - 1) numbers from -1 to 1: how alike the overlap is at each shift; no shift is in the
    middle. The sums are over the overlap only, products over the root of both energies."""
    height, width = shades.shape
    size = (2 * height, 2 * width)

    def products(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
        both = np.fft.rfft2(first, size).conj() * np.fft.rfft2(second, size)
        rolled = np.roll(np.fft.irfft2(both, size), (height - 1, width - 1), (0, 1))
        return rolled[: 2 * height - 1, : 2 * width - 1]

    energy = products(np.ones_like(shades), shades**2)
    both = np.sqrt(np.maximum(energy, 0) * np.maximum(energy[::-1, ::-1], 0))
    least = 1e-3 * energy[height - 1, width - 1]
    return np.where(both > least, products(shades, shades) / np.maximum(both, least), 0.0)


def _shifts(values: NDArray[np.float64], height: int, width: int) -> tuple[list[Shift], float] | None:
    """The one or two shifts that repeat a picture, and the autocorrelation at the strongest; None if none does."""
    centre = np.array([height - 1, width - 1])
    peaks = np.argwhere((values == maximum_filter(values, 3, mode="constant")) & (values >= LEAST)) - centre
    half = (peaks[:, 0] > 0) | ((peaks[:, 0] == 0) & (peaks[:, 1] > 0))  # the other half is the same
    near = (np.abs(peaks) <= np.array([height, width]) / 2).all(axis=1)
    peaks = peaks[half & near & (np.hypot(*peaks.T) >= SHORTEST)]
    peaks = np.array([peak for peak in peaks if _dips(values, centre, peak)], dtype=np.int64).reshape(-1, 2)
    if not len(peaks):
        return None
    heights = values[tuple((peaks + centre).T)]
    strength = float(heights.max())
    strong = peaks[heights >= STRONG * strength]
    strong = strong[np.argsort(np.hypot(*strong.T), kind="stable")]
    along = _line(values >= STRONG * strength, centre, height, width)
    if along is not None and (band := _band(values, centre, along, strong)) is not None:
        return [band], strength
    shifts = [_refined(values, centre, peak) for peak in strong]
    first = shifts[0]
    for second in shifts[1:]:
        across = abs(first[0] * second[1] - first[1] * second[0])
        if across >= ACROSS * np.hypot(*first) * np.hypot(*second):
            return [first, second], strength
    return [first], strength


def _sampled(values: NDArray[np.float64], centre: NDArray[np.int64], shifts: Shift) -> NDArray[np.float64]:
    """The autocorrelation at (n, 2) shifts, between pixels too."""
    found: NDArray[np.float64] = map_coordinates(values, (shifts + centre).T, order=1, mode="nearest")
    return found


def _dips(values: NDArray[np.float64], centre: NDArray[np.int64], peak: NDArray[np.int64]) -> bool:
    """Whether the autocorrelation is less on the straight way to a peak."""
    way = np.linspace(0, 1, 4 * int(np.abs(peak).max()) + 1)[:, None] * peak
    return bool(_sampled(values, centre, way).min() <= values[tuple(peak + centre)] - DIP)


def _refined(values: NDArray[np.float64], centre: NDArray[np.int64], peak: NDArray[np.int64]) -> Shift:
    """A peak between pixels: the top of a parabola along each axis."""
    shift = peak.astype(np.float64)
    for axis in (0, 1):
        step = np.eye(2, dtype=np.int64)[axis]
        before, here, after = (values[tuple(peak + centre + i * step)] for i in (-1, 0, 1))
        bend = before - 2 * here + after
        if bend < 0:
            shift[axis] += float(np.clip((before - after) / (2 * bend), -0.5, 0.5))
    return shift


def _line(mask: NDArray[np.bool_], centre: NDArray[np.int64], height: int, width: int) -> Shift | None:
    """The direction (of length 1) along which a picture stays as it is for half of a side; None if there is none."""
    labels, _ = label(mask, structure=np.ones((3, 3), dtype=int))
    lobe = np.argwhere(labels == labels[tuple(centre)]) - centre
    lobe = lobe[(np.abs(lobe) <= np.array([height, width]) / 2).all(axis=1)]
    if not (np.abs(lobe) >= (np.array([height, width]) - 1) // 2).any():
        return None
    _, axes = np.linalg.eigh(lobe.T @ lobe)
    return np.asarray(axes[:, 1], dtype=np.float64)


def _band(
    values: NDArray[np.float64], centre: NDArray[np.int64], along: Shift, strong: NDArray[np.int64]
) -> Shift | None:
    """The shift across a direction after which the picture repeats; None if the peaks lie along the direction."""
    across = np.array([-along[1], along[0]])
    far = np.abs(strong @ across)  # the peaks may lie anywhere along their ridges
    if far.max() < SHORTEST:
        return None
    guess = float(far[far >= SHORTEST].min())
    tried = np.arange(max(SHORTEST, 0.75 * guess), 1.25 * guess + 0.25, 0.05)
    found: Shift = tried[_sampled(values, centre, tried[:, None] * across).argmax()] * across
    return found


def _copies(shades: NDArray[np.float64], to_cells: NDArray[np.float64], strength: float) -> Motifs | None:
    """A picture cut into cells where there is least to cut; None if there are too few."""
    places = np.mgrid[: shades.shape[0], : shades.shape[1]].reshape(2, -1)
    at = to_cells @ places
    at -= _phases(shades, to_cells, at)[:, None]
    index = np.unique(np.floor(at).astype(np.int64), axis=1, return_inverse=True)[1]
    index = index.reshape(-1)
    sizes = np.bincount(index)
    whole = shades.size if len(to_cells) == 1 else 1 / abs(np.linalg.det(to_cells))
    if len(to_cells) == 1:  # bands: as large as the largest
        whole = float(sizes.max())
    is_copy = sizes >= whole / 2
    if is_copy.sum() < THREE:
        return None
    middles = np.stack([np.bincount(index, weights=axis) / sizes for axis in places], axis=1)
    number = np.where(is_copy, np.cumsum(is_copy) - 1, -1)
    apart = ((middles[:, None, :] - middles[is_copy][None, :, :]) ** 2).sum(axis=2)
    number = np.where(is_copy, number, apart.argmin(axis=1))
    return Motifs(int(is_copy.sum()), number[index].reshape(shades.shape), strength, to_cells)


def _phases(shades: NDArray[np.float64], to_cells: NDArray[np.float64], at: NDArray[np.float64]) -> Shift:
    """Where to cut along each axis, in cells: where the picture is nearest to its ground, the median."""
    energy = (shades - np.median(shades)).ravel() ** 2
    tried = np.arange(PHASES) / PHASES
    found = []
    for axis in range(len(at)):
        beside = np.abs((at[axis] - tried[:, None] + 0.5) % 1 - 0.5) / np.hypot(*to_cells[axis])  # in pixels
        weights = np.exp(-((beside / EDGE) ** 2))
        found.append(tried[int((weights @ energy / weights.sum(axis=1)).argmin())])
    return np.array(found)


def removals(motifs: Motifs, draws: int, address: int) -> Iterator[tuple[str, int, int, NDArray[np.bool_]]]:
    """Copies removed in random orders, and beside each the same number of pixels in cells at random places.

    Yields:
        "motif" or "random"; the number of copies removed; the draw; the mask of what is erased.
    """
    for draw, order in enumerate(orders(motifs.copies, draws, "motifs", address)):
        tiles = _random_cells(motifs, draw, address)
        for count in steps(motifs.copies)[1:]:
            mask = np.isin(motifs.of, order[:count])
            yield "motif", count, draw, mask
            yield "random", count, draw, _first(tiles, int(mask.sum())).reshape(mask.shape)


def _random_cells(motifs: Motifs, draw: int, address: int) -> NDArray[np.int64]:
    """(pixels,) the pixels of a picture in the order in which cells around random pixels take them."""
    height, width = motifs.of.shape
    far = np.stack(np.meshgrid(*(np.arange(1 - side, side) for side in (height, width)), indexing="ij"), axis=-1)
    cell = far[(np.abs(far @ motifs.to_cells.T) <= 0.5).all(axis=-1)]
    left, taken = np.ones((height, width), dtype=bool), []
    for middle in np.argsort(rng.uniforms(draw, "ablate.random", address, (height * width,)), kind="stable"):
        down, right = divmod(int(middle), width)
        if left[down, right]:
            places = cell + np.array([down, right])
            places = places[((places >= 0) & (places < (height, width))).all(axis=1)]
            places = places[left[places[:, 0], places[:, 1]]]
            left[places[:, 0], places[:, 1]] = False
            taken.append(places[:, 0] * width + places[:, 1])
    return np.concatenate(taken)


def _first(order: NDArray[np.int64], count: int) -> NDArray[np.bool_]:
    mask = np.zeros(len(order), dtype=bool)
    mask[order[:count]] = True
    return mask


def phase_randomised(image: NDArray[np.uint8], draw: int, address: int) -> NDArray[np.uint8]:
    """A picture with the spectrum of another and random phases, the same for its channels: its texture, no motif.

    What falls outside of 0 .. 255 is clipped, which is all that changes the spectrum.
    """
    height, width, _ = image.shape
    noise = np.fft.fft2(rng.uniforms(draw, "ablate.phases", address, (height, width)))
    turn = noise / np.maximum(np.abs(noise), 1e-12)
    turn[0, 0] = 1
    channels = np.fft.ifft2(np.fft.fft2(image.astype(np.float64), axes=(0, 1)) * turn[:, :, None], axes=(0, 1)).real
    return np.clip(np.floor(channels + 0.5), 0, 255).astype(np.uint8)
