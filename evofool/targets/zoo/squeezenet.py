"""SqueezeNet v1.0 from the file in which it was published, compressed to 0.68 MB, for `evofool targets import`.

Architecture: Iandola et al. 2016 (arXiv:1602.07360). File: compressed_SqueezeNet.net of the public repository
songhan/SqueezeNet-Deep-Compression, made by "Deep Compression" (Han, Mao and Dally, ICLR 2016): of each layer the
weights that were kept, as codes into a codebook of 256 numbers, and the gaps between their places.
"""

from __future__ import annotations

import hashlib
import json

import numpy as np
import torch

from evofool.errors import CorruptData
from evofool.targets.zoo import imagenet

__all__ = ["PUBLISHED", "SPEC", "decompressed", "metadata"]

PUBLISHED = "e4ab6960ae8cd815"  # how the sha256 (hex) of the published file begins
SPEC = "torchvision:squeezenet1_0"  # the network that the weights are for
_IMAGE_SIZE, _MEAN, _STD = (227, 227), (123.0, 117.0, 104.0), (1.0, 1.0, 1.0)  # RGB, in units of 0 .. 255
_CODES, _GAP = 256, 15  # entries of a codebook; the most zeros that one gap of 4 bits leaps over
# Of each Fire module: its place in torchvision's `features`, channels in, squeezed, and of each expanding convolution.
_FIRES = (
    (3, 96, 16, 64),
    (4, 128, 16, 64),
    (5, 128, 32, 128),
    (7, 256, 32, 128),
    (8, 256, 48, 192),
    (9, 384, 48, 192),
    (10, 384, 64, 256),
    (12, 512, 64, 256),
)


def _layers() -> dict[str, tuple[int, int, int, int]]:
    """The 26 convolutions in the order of the file: torchvision's name, and (out, in, height, width)."""
    layers = {"features.0": (96, 3, 7, 7)}
    for place, given, squeezed, expanded in _FIRES:
        layers[f"features.{place}.squeeze"] = (squeezed, given, 1, 1)
        layers[f"features.{place}.expand1x1"] = (expanded, squeezed, 1, 1)
        layers[f"features.{place}.expand3x3"] = (expanded, squeezed, 3, 3)
    return layers | {"classifier.1": (imagenet.CLASSES, 512, 1, 1)}


def decompressed(blob: bytes, path: str) -> tuple[dict[str, torch.Tensor], bool]:
    """The weights of the network, which takes RGB, by torchvision's names.

    All numbers are little-endian. The file begins with one uint32 for each of 26 layers: how many of its weights n are
    stored. Then follow, layer by layer, the codebook (256 float32), the biases (float32), n codes of 8 bits and n gaps
    of 4 bits, the lower half of a byte first. A gap g leaps over g places of the weights in their order (out, in,
    height, width); where no code is put, the weight is that of code 0.

    Args:
        blob, path: the bytes of the file, and its name for messages.

    Returns:
        The tensors, float32, and whether the file is the published one.

    Raises:
        CorruptData: it is something else, cut short, or damaged.
    """
    layers = _layers()
    counts = np.frombuffer(blob[: 4 * len(layers)], "<u4") if len(blob) >= 4 * len(layers) else np.zeros(0, "<u4")
    sizes = [int(np.prod(shape)) for shape in layers.values()]
    if not len(counts) or any(not 0 < count <= size for count, size in zip(counts, sizes)):
        raise CorruptData(
            f"{path}: is no compressed SqueezeNet v1.0; give compressed_SqueezeNet.net of the repository "
            "songhan/SqueezeNet-Deep-Compression."
        )
    whole = 4 * len(layers) + sum(
        4 * (_CODES + shape[0]) + int(n) + (int(n) + 1) // 2 for n, shape in zip(counts, layers.values())
    )
    if len(blob) != whole:
        raise CorruptData(f"{path}: has {len(blob):,} bytes where its header says {whole:,}; fetch it again.")
    tensors, place = {}, 4 * len(layers)
    for (name, shape), count in zip(layers.items(), map(int, counts)):
        numbers = np.frombuffer(blob, "<f4", _CODES + shape[0], place)
        place += 4 * len(numbers)
        codes = np.frombuffer(blob, np.uint8, count, place)
        packed = np.frombuffer(blob, np.uint8, (count + 1) // 2, place + count)
        place += count + len(packed)
        gaps = np.stack([packed & _GAP, packed >> 4], axis=1).reshape(-1)[:count]
        places = np.cumsum(gaps.astype(np.int64) + 1) - 1
        if places[-1] >= np.prod(shape) or not np.isfinite(numbers).all():
            raise CorruptData(f"{path}: damaged: {name} has weights beyond its end, or that are no numbers.")
        weights = np.full(int(np.prod(shape)), numbers[0], dtype=np.float32)
        weights[places] = numbers[:_CODES][codes]
        tensors[f"{name}.weight"] = torch.from_numpy(weights.reshape(shape))
        tensors[f"{name}.bias"] = torch.from_numpy(numbers[_CODES:].astype(np.float32))
    # Published for BGR, as Caffe has it.
    tensors["features.0.weight"] = tensors["features.0.weight"][:, [2, 1, 0]].contiguous()
    return tensors, hashlib.sha256(blob).hexdigest().startswith(PUBLISHED)


def metadata() -> dict[str, str]:
    """What the file of weights says of the network: image size, mean and std for RGB, and class names."""
    return {
        "image_size": json.dumps(_IMAGE_SIZE),
        "mean": json.dumps(_MEAN),
        "std": json.dumps(_STD),
        "class_names": json.dumps(imagenet.class_names()),
        "source": "SqueezeNet v1.0, compressed_SqueezeNet.net of songhan/SqueezeNet-Deep-Compression, BSD licence",
    }
