"""The thousand classes of ILSVRC 2012, in the order of every network's outputs."""

from __future__ import annotations

__all__ = ["CLASSES", "class_names"]

CLASSES = 1000


def class_names() -> tuple[str, ...]:
    """Names as torchvision has them, all different; the package carries them, so nothing is fetched."""
    from torchvision.models import AlexNet_Weights

    return tuple(AlexNet_Weights.IMAGENET1K_V1.meta["categories"])
