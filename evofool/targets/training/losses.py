"""Losses that networks are trained by: the usual one, and two that also learn from images of no class at all.

Such an image has OUTLIER in the place of a label. Each loss is a function of (n, classes) logits and (n,) labels.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional

__all__ = ["LOSSES", "OUTLIER"]

OUTLIER = -1
EXPOSURE = 0.5  # weight of what outliers add, of Hendrycks et al. 2019 for images
ENERGY, INSIDE, OUTSIDE = 0.1, -25.0, -7.0  # weight and both margins, of Liu et al. 2020 for CIFAR-10


def _labelled(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of the images that have a label; 0 where none has."""
    known = labels != OUTLIER
    return functional.cross_entropy(logits[known], labels[known]) if known.any() else logits.sum() * 0


def outlier_exposure(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Outliers are to have all classes alike (Hendrycks, Mazeika and Dietterich, ICLR 2019, section 3)."""
    outliers = logits[labels == OUTLIER]
    loss = _labelled(logits, labels)
    return loss - EXPOSURE * outliers.log_softmax(dim=1).mean() if len(outliers) else loss


def energy_margin(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Energies, -logsumexp of the logits, are to be low of labelled images and high of outliers (Liu et al., NeurIPS
    2020, "Energy-based out-of-distribution detection", section 3.2)."""
    energy, out = -logits.logsumexp(dim=1), labels == OUTLIER
    loss = _labelled(logits, labels)
    for beyond in (functional.relu(energy[~out] - INSIDE), functional.relu(OUTSIDE - energy[out])):
        if len(beyond):
            loss = loss + ENERGY * beyond.square().mean()
    return loss


LOSSES: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "cross_entropy": functional.cross_entropy,
    "outlier_exposure": outlier_exposure,
    "energy_margin": energy_margin,
}
