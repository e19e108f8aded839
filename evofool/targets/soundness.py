"""Is a network a function of one image? By its scores, never by the kinds of its layers.

An archive says what images score. A network that draws random numbers (dropout left on), that looks at the other images
of a batch (normalisation by the batch's own statistics), or that changes itself while it scores gives an image no score
of its own. Evaluators that are wrong in the same way agree with each other, and fresh processes draw the same first
random numbers, so one process asks its own network several times.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from evofool.archive.scores import log_odds
from evofool.base import rng
from evofool.errors import TargetError
from evofool.targets.contents import state_of
from evofool.targets.target import Target

__all__ = ["TOLERANCE", "refuse_unsound"]

TOLERANCE = 1e-4  # of log-odds, where sums may be taken in another order
ROWS = 8  # at least so many images are compared, in batches of however many
_SEED = 20150607
_LEVELS = 250  # of pixels; white itself may mean something to a network
_Pass = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


def refuse_unsound(target: Target, score: _Pass, batch: int, *, exact: bool = True) -> None:
    """Refuse a network whose outputs for an image depend on more than the image, or that changes when it is asked.

    Args:
        score: outputs, (batch, outputs), of `batch` images of the target's size: one forward pass.
        batch: how many images that is.
        exact: whether outputs in other company must have the same bits, as on a CPU in float32; else TOLERANCE. The
            same batch must give the same bits everywhere. At another place TOLERANCE holds everywhere: a processor may
            take the sums of a row that begins at another fraction of a vector in another order (seen where a linear
            layer has a number of inputs that is no multiple of 4).

    Raises:
        TargetError: it is no such function, and in which way; or what the network itself raises.
    """
    before = state_of(target.module, target.spec)
    faults = (_fault(target, score, start, batch, exact) for start in range(0, ROWS, batch))
    found = next(filter(None, faults), "")
    after = state_of(target.module, target.spec)
    if changed := sorted(name for name in {*before, *after} if before.get(name) != after.get(name)):
        name = changed[0].partition("|")[0] + (f" and {len(changed) - 1} more" if len(changed) > 1 else "")
        raise TargetError(
            f"{target.spec}: the network changes its own {name} when it scores images, so the run could neither be "
            "verified nor resumed; let forward() leave weights and buffers alone, and not call train()."
        )
    if found:
        raise TargetError(f"{target.spec}: {found}")


def _fault(target: Target, score: _Pass, start: int, batch: int, exact: bool) -> str:
    """What is wrong with the outputs for some images, as the rest of a sentence; "" where nothing is."""
    images, others = _images(target, start, batch), _LEVELS - _images(target, ROWS + start, batch)
    rows = np.arange(0, batch, 2)

    def amid(places: NDArray[np.int64]) -> NDArray[np.float32]:
        """Outputs of every second image at these places, among the others."""
        mixed = others.copy()
        mixed[places] = images[rows]
        return score(mixed)[places]

    outputs, moved, amidst, again = score(images), amid(batch - 1 - rows), amid(rows), score(images)
    if not np.array_equal(outputs, again, equal_nan=True):
        return (
            "the network gives the same images other outputs when it is asked again, so no score could be repeated; "
            "take out what is random or remembers earlier images (dropout that eval() does not reach, for instance)."
        )
    company, place = _distance(outputs[rows], amidst, target), _distance(outputs[rows], moved, target)
    if batch == 1 or (company <= (0.0 if exact else TOLERANCE) and place <= TOLERANCE):
        return ""
    on = "its place in the batch" if company == 0 else "the other images of its batch"
    return (
        f"the network's outputs for an image depend on {on}, so an image has no score of its own; let it treat each "
        "image alone (no normalisation or scaling by the batch), or say evaluation.micro_batch=1."
    )


def _distance(one: NDArray[np.float32], other: NDArray[np.float32], target: Target) -> float:
    """The most by which log-odds differ, relative to an image's largest where that is above 1; 0 for equal bits."""
    if np.array_equal(one, other, equal_nan=True):
        return 0.0
    first, second = (log_odds(outputs, target.returns).astype(np.float64) for outputs in (one, other))
    if not np.array_equal(np.isnan(first), np.isnan(second)):
        return np.inf
    unit = np.maximum(1, np.nanmax(np.abs(np.nan_to_num(first)), axis=1, keepdims=True))
    return max(float(np.nanmax(np.abs(first - second) / unit, initial=0.0)), np.finfo(np.float64).tiny)


def _images(target: Target, start: int, rows: int) -> NDArray[np.uint8]:
    """Noise, some of it faint."""
    shape = (rows, *target.image_size, target.channels)
    noise = rng.uniforms(_SEED, "soundness", start, shape)
    contrast = (np.arange(start, start + rows) % ROWS + 1) / ROWS
    return (noise * (_LEVELS + 1) * contrast[:, None, None, None]).astype(np.uint8)
