"""`lenet:FILE`: the MNIST network of the paper, from a file that `evofool targets train lenet` wrote.

Layers as in the 2015 code (model/lenet/lenet_image_memory_data.prototxt): convolution 20 of 5x5, max pool 2,
convolution 50 of 5x5, max pool 2, fully connected 500, ReLU, fully connected 10.
"""

from __future__ import annotations

from torch import nn

from evofool.base.source import Source
from evofool.targets.family import Family
from evofool.targets.target import Target
from evofool.targets.zoo import trained
from evofool.targets.zoo.trained import MEAN, STD, scaled

__all__ = ["FAMILY", "MEAN", "STD", "build", "load", "network"]


def network(classes: int = 10, width: float = 1.0, channels: int = 1, side: int = 28) -> nn.Sequential:
    """The untrained network: (n, channels, side, side) float32 to (n, classes) logits.

    Args:
        width: factor on the channels of both convolutions and on the hidden units.
        side: of its images, in pixels.
    """
    first, second, hidden = scaled(20, width), scaled(50, width), scaled(500, width)
    places = (((side - 4) // 2 - 4) // 2) ** 2  # that are left after both convolutions and pools
    return nn.Sequential(
        nn.Conv2d(channels, first, 5),
        nn.MaxPool2d(2),
        nn.Conv2d(first, second, 5),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(places * second, hidden),
        nn.ReLU(),
        nn.Linear(hidden, classes),
    )


def build(module: nn.Module, class_names: tuple[str, ...], spec: str = "live") -> Target:
    """The target around a trained network."""
    return trained.build("lenet", module, class_names, spec)


def load(source: Source) -> Target:
    """The target in a safetensors file.

    Raises:
        ConfigError: the file is missing, of another kind, or its tensors do not match key by key.
    """
    return trained.load_trained(source, network)


FAMILY = Family(form="lenet:FILE", load=load, files=lambda argument: [argument], numerics=trained.NUMERICS)
