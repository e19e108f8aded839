"""`mlp:FILE`: a multilayer perceptron, two hidden layers of 500 units, that `evofool targets train mlp` wrote."""

from __future__ import annotations

from torch import nn

from evofool.base.source import Source
from evofool.targets.family import Family
from evofool.targets.target import Target
from evofool.targets.zoo.trained import NUMERICS, load_trained, scaled

__all__ = ["FAMILY", "load", "network"]


def network(classes: int = 10, width: float = 1.0, channels: int = 1, side: int = 28) -> nn.Sequential:
    """The untrained network: (n, channels, side, side) float32 to (n, classes) logits.

    Args:
        width: factor on the hidden units.
        side: of its images, in pixels.
    """
    hidden = scaled(500, width)
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(channels * side * side, hidden),
        nn.ReLU(),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
        nn.Linear(hidden, classes),
    )


def load(source: Source) -> Target:
    """The target in a safetensors file.

    Raises:
        ConfigError: the file is missing, of another kind, or its tensors do not match key by key.
    """
    return load_trained(source, network)


FAMILY = Family(form="mlp:FILE", load=load, files=lambda argument: [argument], numerics=NUMERICS)
