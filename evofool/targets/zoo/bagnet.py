"""`bagnet:FILE`: a network that sees patches of 9 or 17 pixels only, and adds up what it finds in each.

After Brendel and Bethge 2019 (ICLR, "Approximating CNNs with bag-of-local-features models"): the logits are the mean
over all patches, every second pixel apart, of the logits of each. Where patches lie to one another it cannot know: no
layer pads, so not even the border tells. From a file that `evofool targets train bagnet` wrote.
"""

from __future__ import annotations

from torch import nn

from evofool.base.source import Source
from evofool.targets.family import Family
from evofool.targets.target import Target
from evofool.targets.zoo.folding import fold_batch_norm
from evofool.targets.zoo.trained import NUMERICS, load_trained, scaled

__all__ = ["FAMILY", "load", "network"]


def network(classes: int = 10, width: float = 1.0, patch: int = 17, channels: int = 1, side: int = 28) -> nn.Sequential:
    """The untrained network: (n, channels, side, side) float32 to (n, classes) logits.

    Args:
        width: factor on the channels of its layers.
        patch: side of what it sees at once, in pixels: 9 or 17. In 28 x 28 there are 10 x 10 or 6 x 6 of them.
        side: of its images, in pixels; it is the same network for any.
    """
    inner = scaled(64, width)
    layers: list[nn.Module] = []
    # What one place has seen grows by 2 pixels with each convolution before the stride of 2, then by 4.
    for layer in range(3 if patch == 9 else 5):
        given, stride = channels if layer == 0 else inner, 2 if layer == 1 else 1
        convolution = nn.Conv2d(given, inner, 3, stride, bias=False)
        layers += [convolution, nn.BatchNorm2d(inner), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(inner, classes, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def load(source: Source) -> Target:
    """The target in a safetensors file.

    Raises:
        ConfigError: the file is missing, of another kind, or its tensors do not match key by key.
    """
    return load_trained(source, network, ("width", "patch"))


FAMILY = Family(
    form="bagnet:FILE", load=load, files=lambda argument: [argument], fold=fold_batch_norm, numerics=NUMERICS
)
