"""`evofool targets train head`: few labelled images on a frozen network's features, by regression or by neighbours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from evofool.base.places import as_path
from evofool.base.source import Source
from evofool.errors import ConfigError
from evofool.records import Facts
from evofool.targets.checking.photographs import fit
from evofool.targets.target import Target, outputs_in_batches
from evofool.targets.training.datasets import LabelledImages
from evofool.targets.training.train import facts_of, fixed_threads
from evofool.targets.zoo import head
from evofool.targets.zoo.writing import check_place, write_safetensors

__all__ = ["LABELS", "NEIGHBOURS", "train_head"]

LABELS, NEIGHBOURS = 100, 10  # labelled images, and the nearest of them that vote, where nobody says
BATCH = 50  # images of one forward pass
STEPS = 500  # of the regression, at most


def train_head(
    kind: str,
    base: str,
    data: LabelledImages,
    seed: int,
    out: str | Path,
    tell: Callable[[str], None],
    neighbours: int = NEIGHBOURS,
    labels: str = "true",
) -> Facts:
    """Make a head and write it as safetensors.

    Args:
        kind: of head.KINDS. "logistic" is multinomial logistic regression on standardised features, with half the
            squared length of the weights added to the sum of the losses (scikit-learn's C = 1).
        base: spec of the network whose features are used; it is not changed.
        data: all of its training images are used. Images are fitted to the base as pictures are.
        seed: of the split of the data, for the metadata; nothing is drawn here.
        tell: receives a sentence before the features are computed.
        neighbours: that vote, of "knn".
        labels: "true", or "random" where the data's were drawn at random; for the metadata.

    Returns:
        The metadata written into the file, all of it text, and the target's fingerprint.

    Raises:
        ConfigError: no such base, or too few images.
        TargetError: the base cannot be built, or has no features.
        StorageError: the file cannot be written; where the place is the reason, before anything else.
    """
    path, classes = as_path(out), len(data.class_names)
    missing = np.setdiff1d(np.arange(classes), data.train_labels)
    if len(missing):
        name = data.class_names[missing[0]]
        raise ConfigError(f"--limit: {len(data.train_labels)} images are too few: none is of {name!r}; give more.")
    if kind == "knn" and neighbours > len(data.train_labels):
        raise ConfigError(f"--neighbours: {neighbours} of {len(data.train_labels)} images cannot vote; give fewer.")
    check_place(path)
    target = head.base_target(base, Source(base), "--base")
    module, width = head.features(target)
    shown = Target(module, target.preprocessing, tuple(map(str, range(width))), spec=base)  # features for outputs
    with fixed_threads():
        tell(f"{width} features of {len(data.train_labels)} images, and of {len(data.held_out_labels)} held-out ones")
        given, tried = (
            outputs_in_batches(shown, np.stack([fit(target, image) for image in images]), BATCH)
            for images in (data.train_images, data.held_out_images)
        )
        layer = _knn(given, data.train_labels, classes, neighbours) if kind == "knn" else None
        layer = layer or _logistic(given, data.train_labels, classes)
        with torch.inference_mode():
            answers = layer(torch.from_numpy(tried)).argmax(dim=1).numpy()
    metadata = {
        "format": "evofool.head.1",
        "head": kind,
        "labels": labels,
        "base": base,
        "base_fingerprint": target.fingerprint(),
        **facts_of(data, seed),
        "held_out_accuracy": f"{(answers == data.held_out_labels).mean():.4f}",
    }
    if kind == "knn":
        metadata["neighbours"] = str(neighbours)
    write_safetensors(path, layer.state_dict(), metadata)
    return {**metadata, "fingerprint": head.load(Source(f"head:{path}")).fingerprint()}


def _knn(given: NDArray[np.float32], labels: NDArray[np.int64], classes: int, neighbours: int) -> nn.Module:
    layer = head.Neighbours(len(given), given.shape[1], classes)
    layer.features.copy_(functional.normalize(torch.from_numpy(given), dim=1))
    layer.labels.copy_(torch.from_numpy(labels))
    layer.count.fill_(neighbours)
    return layer


def _logistic(given: NDArray[np.float32], labels: NDArray[np.int64], classes: int) -> nn.Module:
    """Fitted in float64; the standardisation becomes part of the weights."""
    x, y = torch.from_numpy(given).double(), torch.from_numpy(labels.copy())
    mean, std = x.mean(dim=0), x.std(dim=0, correction=0)
    std = torch.where(std > 0, std, 1.0)
    x = (x - mean) / std
    weight = torch.zeros((classes, x.shape[1]), dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(classes, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS(
        [weight, bias], max_iter=STEPS, tolerance_grad=1e-8, tolerance_change=1e-12, line_search_fn="strong_wolfe"
    )

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        total = functional.cross_entropy(x @ weight.T + bias, y, reduction="sum") + weight.square().sum() / 2
        total.backward()
        return total

    optimiser.step(loss)
    layer = nn.Linear(x.shape[1], classes)
    with torch.no_grad():
        layer.weight.copy_(weight / std)
        layer.bias.copy_(bias - (weight / std) @ mean)
    return layer
