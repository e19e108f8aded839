"""Regularisers of an ascent: what keeps a picture from becoming noise, or the network from seeing only one view of it.

Blur, and clipping of pixels of small norm or small contribution: Yosinski et al. 2015, "Understanding Neural Networks
Through Deep Visualization", section 4, r(x) after each step. As there, x is counted from the network's mean colour.
"""

from __future__ import annotations

import math

import torch

from evofool.base import rng
from evofool.studies.shared.rules import Rules

__all__ = ["regularise", "total_variation", "viewed"]


def regularise(pixels: torch.Tensor, gradient: torch.Tensor, centre: torch.Tensor, rules: Rules, step: int) -> None:
    """Decay, blur and clip pixels in place, after a step.

    Args:
        pixels, gradient: (n, h, w, channels); the gradient is that of the step.
        centre: (channels,) the mean colour.
        step: from 1.
    """
    if not (rules.decay or rules.blur or rules.clip_norm or rules.clip_contribution):
        return
    x = pixels - centre
    x *= 1 - rules.decay
    if rules.blur and step % rules.blur_every == 0:
        x = blurred(x, rules.blur)
    if rules.clip_norm:
        x = _clipped(x, x.norm(dim=3), rules.clip_norm)
    if rules.clip_contribution:
        x = _clipped(x, (x * gradient).sum(dim=3).abs(), rules.clip_contribution)
    pixels.copy_(x + centre)


def blurred(x: torch.Tensor, radius: float) -> torch.Tensor:
    """Pictures (n, h, w, channels) under a Gaussian whose standard deviation is `radius` pixels; edges are repeated."""
    reach = max(1, math.ceil(3 * radius))
    weights = torch.exp(-(torch.arange(-reach, reach + 1, dtype=x.dtype) ** 2) / (2 * radius**2))
    weights /= weights.sum()
    planes = x.movedim(3, 1).flatten(0, 1)[:, None]
    planes = torch.nn.functional.pad(planes, (reach,) * 4, mode="replicate")
    planes = torch.nn.functional.conv2d(planes, weights.view(1, 1, 1, -1))
    planes = torch.nn.functional.conv2d(planes, weights.view(1, 1, -1, 1))
    return planes.unflatten(0, (len(x), -1))[:, :, 0].movedim(1, 3)


def _clipped(x: torch.Tensor, size: torch.Tensor, percent: float) -> torch.Tensor:
    """Pictures with 0 for as many percent of their pixels, those of the least `size`, (n, h, w)."""
    flat = size.flatten(1)
    count = int(flat.shape[1] * percent / 100)
    faint = flat.argsort(dim=1, stable=True)[:, :count]
    keep = torch.ones_like(flat).scatter_(1, faint, 0.0)
    return x * keep.view(*size.shape, 1)


def total_variation(pixels: torch.Tensor) -> torch.Tensor:
    """(n,) the mean difference, in grey levels, between neighbours, down and across, of (n, h, w, channels)."""
    down, across = (pixels.diff(dim=dim).abs().flatten(1).mean(dim=1) for dim in (1, 2))
    return down + across


def viewed(pixels: torch.Tensor, rules: Rules, addresses: list[tuple[int, int]], step: int) -> torch.Tensor:
    """Pictures as the network is shown them in one step, each turned, scaled and shifted by its own draw.

    Shifts are whole pixels; what comes in at an edge is the picture mirrored there.
    """
    height, width = pixels.shape[1:3]
    thetas = []
    for unit, again in addresses:
        turn, zoom, x, y = 2 * rng.uniforms(rules.seed, f"ascent.view.{unit}.{again}", step, (4,)) - 1
        angle, size = math.radians(rules.rotation * turn), 1 + rules.scale / 100 * zoom
        cosine, sine = math.cos(angle) / size, math.sin(angle) / size
        across, down = (round(rules.jitter * value) for value in (x, y))
        thetas.append(
            [[cosine, sine * height / width, 2 * across / width], [-sine * width / height, cosine, 2 * down / height]]
        )
    planes = pixels.movedim(3, 1)
    grid = torch.nn.functional.affine_grid(torch.tensor(thetas, dtype=pixels.dtype), planes.shape, align_corners=False)
    shown = torch.nn.functional.grid_sample(planes, grid, padding_mode="reflection", align_corners=False)
    return shown.movedim(1, 3)
