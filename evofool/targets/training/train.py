"""`evofool targets train`: one recipe, the same for every network, data set and seed, fixed before the first search.

12 epochs of Adam with a one-cycle learning rate, batches of 64, each image shifted by up to 2 pixels and turned by up
to 10 degrees. The last epoch's weights are kept; held-out images choose nothing. Heads are made in heads.py.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from evofool.base.places import as_path
from evofool.errors import ConfigError
from evofool.records import Facts
from evofool.targets.target import Target, outputs_in_batches
from evofool.targets.training.datasets import LabelledImages, with_channels
from evofool.targets.training.losses import LOSSES, OUTLIER
from evofool.targets.zoo import bagnet, lenet, mlp, resnet, trained
from evofool.targets.zoo.writing import check_place, write_safetensors

__all__ = ["BATCH", "NETWORKS", "Recipe", "facts_of", "fixed_threads", "told", "train_lenet", "train_network"]

EPOCHS, BATCH, PEAK_RATE, DECAY, SHIFT, DEGREES = 12, 64, 2e-3, 1e-4, 2.0, 10.0
EVALUATION_BATCH = 500  # images of one forward pass
THREADS = 2  # fixed, since another number gives other weights
NETWORKS: dict[str, Callable[..., torch.nn.Module]] = {
    "lenet": lenet.network,
    "mlp": mlp.network,
    "resnet": resnet.network,
    "bagnet": bagnet.network,
}


@dataclass(frozen=True)
class Recipe:
    """What can be asked for in place of the paper's LeNet, trained as ever.

    Attributes:
        network: of NETWORKS.
        width: factor on its channels and hidden units.
        patch: side of what a bagnet sees at once, in pixels; None for 17, and for other networks.
        labels: "true", or "random" where the data's were drawn at random.
        epochs: None for EPOCHS.
        augment: whether images are shifted and turned.
        loss: of losses.LOSSES; those that learn from outliers want images with such labels.
    """

    network: str = "lenet"
    width: float = 1.0
    patch: int | None = None
    labels: str = "true"
    epochs: int | None = None
    augment: bool = True
    loss: str = "cross_entropy"

    def build(self, classes: int, shape: tuple[int, int, int] = (28, 28, 1)) -> torch.nn.Module:
        """The untrained network for images of (height, width, channels)."""
        options = {"patch": self.patch or max(trained.PATCHES)} if self.network == "bagnet" else {}
        return NETWORKS[self.network](classes, width=self.width, channels=shape[2], side=shape[0], **options)


def told(result: Facts) -> str:
    """The sentence about what training gives."""
    return f"{float(result['held_out_accuracy']):.2%} of {result['held_out_images']} held-out images right"


def train_lenet(data: LabelledImages, seed: int, out: str | Path, tell: Callable[[str], None]) -> Facts:
    """Train the paper's LeNet; see `train_network`."""
    return train_network(Recipe(), data, seed, out, tell)


def train_network(
    recipe: Recipe,
    data: LabelledImages,
    seed: int,
    out: str | Path,
    tell: Callable[[str], None],
    more: Mapping[str, str] = MappingProxyType({}),
) -> Facts:
    """Train a network and write it as safetensors.

    The same recipe, data, seed and torch version give the same weights on the same kind of CPU. Colour images are
    learned on a GPU where there is one, whose kind then decides.

    Args:
        seed: of the initial weights, the order of images and their shifts.
        tell: receives a line for each epoch.
        more: metadata about images that are not the data set's.

    Returns:
        The metadata written into the file, all of it text, and the target's fingerprint.

    Raises:
        ConfigError: there are fewer images than a batch has.
        StorageError: the file cannot be written; where the place is the reason, before training.
    """
    path = as_path(out)
    if len(data.train_labels) < BATCH:
        raise ConfigError(f"--limit: {len(data.train_labels)} images are too few to train on; give {BATCH} or more.")
    check_place(path)
    with fixed_threads():
        module = _train(recipe, data, seed, tell)
        target = trained.build(recipe.network, module, data.class_names, f"{recipe.network}:{path}", data.shape)
        accuracy = _accuracy(target, data.held_out_images, data.held_out_labels)
        metadata = {
            "format": f"evofool.{recipe.network}.1",
            **facts_of(data, seed),
            "held_out_accuracy": f"{accuracy:.4f}",
            "epochs": str(recipe.epochs or EPOCHS),
        }
        if recipe != Recipe() or data.shape != (28, 28, 1):  # the file of the paper's LeNet stays what it always was
            labelled = data.train_labels != OUTLIER
            accuracy = _accuracy(target, data.train_images[labelled], data.train_labels[labelled])
            metadata |= _more(recipe, target) | {"train_accuracy": f"{accuracy:.4f}"}
    metadata |= more
    write_safetensors(path, module.state_dict(), metadata)
    return {**metadata, "fingerprint": target.fingerprint()}


def facts_of(data: LabelledImages, seed: int) -> dict[str, str]:
    """What the metadata of a file of weights say of the images that it was trained on."""
    return {
        "class_names": json.dumps(data.class_names),
        "dataset": data.name,
        "seed": str(seed),
        "train_images": str(len(data.train_labels)),
        "train_indices_sha256": _sha256(data.train_indices),
        "held_out_images": str(len(data.held_out_labels)),
        "held_out_indices_sha256": _sha256(data.held_out_indices),
    }


@contextlib.contextmanager
def fixed_threads() -> Iterator[None]:
    """While something is trained."""
    threads = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _more(recipe: Recipe, target: Target) -> dict[str, str]:
    p = target.preprocessing
    facts = {
        "image_size": json.dumps(p.image_size),
        "mean": json.dumps(p.mean),
        "std": json.dumps(p.std),
        "width": f"{recipe.width:g}",
        "labels": recipe.labels,
        "augment": "yes" if recipe.augment else "no",
    }
    if recipe.loss != Recipe.loss:
        facts["loss"] = recipe.loss
    if recipe.network == "bagnet":
        facts["patch"] = str(recipe.patch or max(trained.PATCHES))
    return facts


def _accuracy(target: Target, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> float:
    """The share of a data set's images whose class has the greatest output."""
    outputs = outputs_in_batches(target, with_channels(images), EVALUATION_BATCH)
    return float((outputs.argmax(axis=1) == labels).mean())


def _sha256(indices: NDArray[np.int64]) -> str:
    """sha256 (hex) of indices in ascending order, as little-endian int64: names one part of a data set."""
    return hashlib.sha256(np.sort(indices).astype("<i8").tobytes()).hexdigest()


def _train(recipe: Recipe, data: LabelledImages, seed: int, tell: Callable[[str], None]) -> torch.nn.Module:
    generator = torch.Generator().manual_seed(seed)
    module = recipe.build(len(data.class_names), data.shape)
    device = "cuda" if data.shape[2] == 3 and torch.cuda.is_available() else "cpu"
    for layer in module.modules():
        if not isinstance(layer, torch.nn.Linear | torch.nn.Conv2d):  # batch normalisation begins as it is
            continue
        for parameter in layer.parameters():  # torch's own bounds, but from this generator, not the global one
            bound = 1 / math.sqrt(layer.weight[0].numel())
            torch.nn.init.uniform_(parameter, -bound, bound, generator=generator)
    module = module.to(device)
    images = torch.from_numpy(np.require(with_channels(data.train_images), requirements="W"))
    labels = torch.from_numpy(data.train_labels.copy())
    mean, std = (
        figures[0] if len(figures) == 1 else torch.tensor(figures).reshape(-1, 1, 1)
        for figures in trained.statistics(data.shape[2])
    )
    optimiser = torch.optim.Adam(module.parameters(), weight_decay=DECAY)
    epochs, loss_of = recipe.epochs or EPOCHS, LOSSES[recipe.loss]
    steps = epochs * (len(labels) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, PEAK_RATE, total_steps=steps)
    for epoch in range(epochs):
        total = 0.0
        for rows in torch.randperm(len(labels), generator=generator).split(BATCH):
            if len(rows) < BATCH:
                continue
            shown = images[rows].permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
            if recipe.augment:
                shown = _jitter(shown, generator)
            loss = loss_of(module(((shown - mean) / std).to(device)), labels[rows].to(device))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            total += float(loss.detach())
        tell(f"epoch {epoch + 1:2d}/{epochs}  loss {total / (len(labels) // BATCH):.4f}")
    return module.to("cpu")


def _jitter(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Turn and shift each image, bilinear, black outside."""
    n, _, height, width = images.shape
    draws = torch.rand((n, 3), generator=generator) * 2 - 1
    angle = draws[:, 0] * math.radians(DEGREES)
    theta = torch.zeros((n, 2, 3))
    theta[:, 0, 0] = theta[:, 1, 1] = angle.cos()
    theta[:, 0, 1], theta[:, 1, 0] = -angle.sin(), angle.sin()
    theta[:, 0, 2], theta[:, 1, 2] = draws[:, 1] * SHIFT * 2 / width, draws[:, 2] * SHIFT * 2 / height
    grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, align_corners=False)
