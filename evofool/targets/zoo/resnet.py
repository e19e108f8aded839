"""`resnet:FILE`: a residual network of 8 layers, from a file that `evofool targets train resnet` wrote.

He et al. 2016 (CVPR), section 4.2, n = 1: a convolution, then blocks of 16, 32 and 64 channels, each of two 3x3
convolutions with a shortcut; the mean over places; fully connected. Where channels or size change the shortcut is a 1x1
convolution (their option B). Its networks for ImageNet are those of torchvision: and timm:.
"""

from __future__ import annotations

import torch
from torch import nn

from evofool.base.source import Source
from evofool.targets.family import Family
from evofool.targets.target import Target
from evofool.targets.zoo.folding import fold_batch_norm
from evofool.targets.zoo.trained import NUMERICS, load_trained, scaled

__all__ = ["FAMILY", "load", "network"]


class _Block(nn.Module):
    """Two convolutions with batch normalisation, added to what they were given."""

    def __init__(self, given: int, channels: int, stride: int) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(given, channels, 3, stride, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False),
            nn.BatchNorm2d(channels),
        )
        same = stride == 1 and given == channels
        self.shortcut = nn.Identity() if same else nn.Conv2d(given, channels, 1, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.convolutions(x) + self.shortcut(x))


def network(classes: int = 10, width: float = 1.0, channels: int = 1, side: int = 28) -> nn.Sequential:
    """The untrained network: (n, channels, side, side) float32 to (n, classes) logits.

    Args:
        width: factor on the channels of its layers.
        side: of its images, in pixels; it is the same network for any.
    """
    first, second, third = (scaled(count, width) for count in (16, 32, 64))
    return nn.Sequential(
        nn.Conv2d(channels, first, 3, 1, 1, bias=False),
        nn.BatchNorm2d(first),
        nn.ReLU(),
        _Block(first, first, 1),
        _Block(first, second, 2),
        _Block(second, third, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(third, classes),
    )


def load(source: Source) -> Target:
    """The target in a safetensors file.

    Raises:
        ConfigError: the file is missing, of another kind, or its tensors do not match key by key.
    """
    return load_trained(source, network)


FAMILY = Family(
    form="resnet:FILE", load=load, files=lambda argument: [argument], fold=fold_batch_norm, numerics=NUMERICS
)
