"""The way uphill: how a network's answer to an image changes with its pixels.

A gradient is taken of one number of each image, the objective of ascent:

    softmax   the probability p of its class, which Nguyen et al. 2015 (section 3.9) ascend. Its gradient is p (1 - p)
              times that of the log-odds, so it vanishes where p is near 0, or near 1.
    logit     the class's output before softmax (Simonyan, Vedaldi and Zisserman 2013, section 2).
    log_odds  the logit less the logsumexp of all others: what evofool's cells rank by.
    margin    the logit less the greatest other.
    readout   what a unit of a layer gives (readout.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from evofool.errors import ConfigError, TargetError
from evofool.targets.readout import Readout, ReadoutReading
from evofool.targets.target import DEVICE_FAILURES, Target

__all__ = ["UPHILL", "Gradients", "concatenate", "gradients"]

UPHILL = ("softmax", "logit", "log_odds", "margin")  # of a class
_SMALLEST = 2.0**-149  # as of archive.scores: a probability of 0 means "below this"


@dataclass(frozen=True)
class Gradients:
    """What a network says of images, and how that changes with their pixels; row = image."""

    gradient: NDArray[np.float32]  # (n, h, w, channels) of the objective, for each grey level of each pixel
    objective: NDArray[np.float64]  # (n,); NaN, with a gradient of 0, where the network's outputs are not finite
    log_odds: NDArray[np.float64]  # (n,) of the class; NaN likewise, and for units
    is_top1: NDArray[np.bool_]  # (n,) whether the class is the answer
    is_flat: NDArray[np.bool_]  # (n,) whether no pixel changes the answer at all, however small p (1 - p) is


def concatenate(parts: Sequence[Gradients]) -> Gradients:
    """Those of several batches as those of one, in order."""
    return Gradients(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in Gradients.__dataclass_fields__)
    )


def gradients(
    target: Target, images: torch.Tensor, of: NDArray[np.int64], objective: str, readouts: Sequence[Readout] = ()
) -> Gradients:
    """Gradients of one forward and one backward pass.

    Args:
        images: (n, h, w, channels) uint8, or float32 from 0 to 255, on the module's device.
        of: (n,) output of the class of each, or its place among `readouts`.
        objective: one of UPHILL; "readout" where there are readouts.

    Raises:
        TargetError: the network has no gradient, or fails.
        ConfigError: it is an ensemble.
    """
    if len(target.parts) > 1:
        raise ConfigError(
            f"{target.spec}: an ensemble sees pictures that were resized and rounded, through which no gradient goes; "
            f"ascend one of its networks, e.g. {target.parts[0].spec}."
        )
    pixels = images.to(torch.float32, copy=True).requires_grad_()
    at = torch.from_numpy(of).to(pixels.device)
    with torch.enable_grad():
        reading = ReadoutReading(target, readouts) if readouts else None
        outputs, values = _forward(target, pixels, reading)
        odds = _log_odds(outputs, at) if reading is None else torch.full((len(of),), torch.nan)
        chosen = odds if objective in ("softmax", "log_odds") else _chosen(outputs, values, at, objective)
        if not chosen.requires_grad:
            raise _no_gradient(target, "what it returns was detached from what it was given")
        # That of p is made of that of the log-odds, which is there where p (1 - p) is too small for a float32.
        sound = torch.isfinite(chosen)
        try:
            (gradient,) = torch.autograd.grad(torch.where(sound, chosen, 0.0).sum(), pixels)
        except DEVICE_FAILURES:
            raise
        except (RuntimeError, NotImplementedError) as error:
            raise _no_gradient(target, str(error).strip().partition("\n")[0][:160]) from error
    gradient = torch.nan_to_num(gradient, nan=0.0, posinf=0.0, neginf=0.0)
    flat = (gradient == 0).flatten(1).all(dim=1)
    value = chosen.detach()
    if objective == "softmax":
        value = torch.sigmoid(value)
        gradient *= (value * torch.sigmoid(-chosen.detach())).to(torch.float32)[:, None, None, None]
    top = torch.nan_to_num(outputs.detach(), nan=-torch.inf).argmax(dim=1) == at
    return Gradients(
        gradient.cpu().numpy(),
        value.to(torch.float64).cpu().numpy(),
        odds.detach().cpu().numpy(),
        (top & (not readouts)).cpu().numpy(),
        flat.cpu().numpy(),
    )


def _forward(
    target: Target, pixels: torch.Tensor, reading: ReadoutReading | None
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Logits (n, outputs) float64, or logarithms of probabilities, and what the readouts give."""
    try:
        if reading is None:
            results, values = [target.forward(view) for view in target.views(pixels * 1)], None
        else:
            with reading.reading():
                results = [target.forward(view) for view in target.views(pixels * 1)]
                values = reading.values(len(pixels))
    except TargetError as error:
        if error.__cause__ is None or not _works(target, pixels.detach()):
            raise
        raise _no_gradient(target, str(error.__cause__).strip().partition("\n")[0][:160]) from error
    outputs = [result.to(torch.float64) for result in results]
    if target.output == "probabilities":
        outputs = [p.clamp(min=_SMALLEST).log() for p in outputs]
    if target.crops > 1:  # as target.outputs: the mean of the probabilities
        mean = torch.stack([z.log_softmax(dim=1) for z in outputs]).logsumexp(dim=0)
        return mean - np.log(len(outputs)), values
    return outputs[0], values


def _works(target: Target, pixels: torch.Tensor) -> bool:
    """Whether the network gives outputs where nobody asks for gradients."""
    try:
        with torch.inference_mode():
            target.forward(next(target.views(pixels.clone())))
    except TargetError:
        return False
    return True


def _no_gradient(target: Target, why: str) -> TargetError:
    return TargetError(
        f"{target.spec}: the network has no gradient to ascend ({why}); give the network that torch can differentiate, "
        "before it was quantised or exported, or search without gradients: evofool run."
    )


def _log_odds(z: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    """(n,) of each row's class, from logits (n, outputs)."""
    own = z.gather(1, at[:, None])[:, 0]
    return own - _others(z, at).logsumexp(dim=1)


def _others(z: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    """Logits, -inf in place of each row's class."""
    return z.scatter(1, at[:, None], -torch.inf)


def _chosen(z: torch.Tensor, values: torch.Tensor | None, at: torch.Tensor, objective: str) -> torch.Tensor:
    """(n,) the objective of each row."""
    if values is not None:
        return values.gather(1, at[:, None])[:, 0]
    own = z.gather(1, at[:, None])[:, 0]
    return own if objective == "logit" else own - _others(z, at).max(dim=1).values
