"""`evofool targets train lenet`: one recipe, the same for every data set and seed, fixed before the first search.

12 epochs of Adam with a one-cycle learning rate, batches of 64, each image shifted by up to 2 pixels and turned by up
to 10 degrees. The last epoch's weights are kept; held-out images choose nothing.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save as save_safetensors
from torch.nn import functional

from evofool.base.places import as_path
from evofool.errors import StorageError
from evofool.records import Facts
from evofool.targets.target import outputs_in_batches
from evofool.targets.training.datasets import LabelledImages
from evofool.targets.zoo import lenet

__all__ = ["told", "train_lenet"]

EPOCHS, BATCH, PEAK_RATE, DECAY, SHIFT, DEGREES = 12, 64, 2e-3, 1e-4, 2.0, 10.0
EVALUATION_BATCH = 500  # held-out images of one forward pass
THREADS = 2  # fixed, since another number gives other weights


def told(result: Facts) -> str:
    """The sentence about what `train_lenet` gives."""
    return f"{float(result['held_out_accuracy']):.2%} of {result['held_out_images']} held-out images right"


def train_lenet(data: LabelledImages, seed: int, out: str | Path, tell: Callable[[str], None]) -> Facts:
    """Train the paper's LeNet and write it as safetensors.

    The same data, seed and torch version give the same weights on the same kind of CPU.

    Args:
        seed: of the initial weights, the order of images and their shifts.
        tell: receives a line for each epoch.

    Returns:
        The metadata written into the file, all of it text, and the target's fingerprint.

    Raises:
        StorageError: the file cannot be written; where the place is the reason, before training.
    """
    path = as_path(out)
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")  # its own: another process may train it too
    with _writing(path, part):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        part.touch()
        part.unlink()
    threads = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        module = _train(data, seed, tell)
        target = lenet.build(module, data.class_names, f"lenet:{path}")
        outputs = outputs_in_batches(target, data.held_out_images[..., None], EVALUATION_BATCH)
    finally:
        torch.set_num_threads(threads)
    metadata = {
        "format": "evofool.lenet.1",
        "class_names": json.dumps(data.class_names),
        "dataset": data.name,
        "seed": str(seed),
        "train_images": str(len(data.train_labels)),
        "train_indices_sha256": _sha256(data.train_indices),
        "held_out_images": str(len(data.held_out_labels)),
        "held_out_indices_sha256": _sha256(data.held_out_indices),
        "held_out_accuracy": f"{(outputs.argmax(axis=1) == data.held_out_labels).mean():.4f}",
        "epochs": str(EPOCHS),
    }
    tensors = {name: tensor.contiguous() for name, tensor in module.state_dict().items()}
    with _writing(path, part):
        part.write_bytes(_in_order(save_safetensors(tensors, metadata)))
        part.replace(path)
    return {**metadata, "fingerprint": target.fingerprint()}


@contextlib.contextmanager
def _writing(path: Path, part: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise StorageError(f"--out: {path} cannot be written ({error.strerror}).") from None


def _sha256(indices: NDArray[np.int64]) -> str:
    """sha256 (hex) of indices in ascending order, as little-endian int64: names one part of a data set."""
    return hashlib.sha256(np.sort(indices).astype("<i8").tobytes()).hexdigest()


def _in_order(blob: bytes) -> bytes:
    """A safetensors file with its header sorted: the library's order varies from call to call."""
    length = int.from_bytes(blob[:8], "little")
    header = json.dumps(json.loads(blob[8 : 8 + length]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + blob[8 + length :]


def _train(data: LabelledImages, seed: int, tell: Callable[[str], None]) -> torch.nn.Module:
    generator = torch.Generator().manual_seed(seed)
    module = lenet.network(len(data.class_names))
    for layer in module.children():
        parameters = list(layer.parameters())  # weight, then bias; none in pools and the like
        for parameter in parameters:  # torch's own bounds, but from this generator, not the global one
            bound = 1 / math.sqrt(parameters[0][0].numel())
            torch.nn.init.uniform_(parameter, -bound, bound, generator=generator)
    images = torch.from_numpy(data.train_images.copy()).to(torch.float32).unsqueeze(1)
    labels = torch.from_numpy(data.train_labels.copy())
    optimiser = torch.optim.Adam(module.parameters(), weight_decay=DECAY)
    steps = EPOCHS * (len(labels) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, PEAK_RATE, total_steps=steps)
    for epoch in range(EPOCHS):
        total = 0.0
        for rows in torch.randperm(len(labels), generator=generator).split(BATCH):
            if len(rows) < BATCH:
                continue
            x = (_jitter(images[rows], generator) - lenet.MEAN) / lenet.STD
            loss = functional.cross_entropy(module(x), labels[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            total += float(loss.detach())
        tell(f"epoch {epoch + 1:2d}/{EPOCHS}  loss {total / (len(labels) // BATCH):.4f}")
    return module


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
