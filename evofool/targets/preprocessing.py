"""Preprocessing: what a uint8 image becomes before a network sees it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from numbers import Real
from typing import Any

import numpy as np
import torch

from evofool.errors import ConfigError

__all__ = ["Preprocessing"]


@dataclass(frozen=True)
class Preprocessing:
    """From a uint8 image to the network's input: (resize, centre crop,) (pixel - mean) / std.

    Numbers of numpy and torch become Python's; a single number stands for both sides, or for every channel.

    Attributes:
        image_size: (height, width) of the network's input, in pixels.
        channels: 1 (grey) or 3 (RGB).
        mean, std: one number for each channel, in units of 0 .. 255. Published ones are mostly in units of 0 .. 1: give
            those to `of_unit`.
        resize: shorter side of a picture after the publisher's resize, or None. Used by `geometry: published`, by
            `crops: 10`, and for photographs.
        crop: side of the centre crop after that, or None. Used likewise.
        interpolation: of that resize, "bilinear" or "bicubic", both with antialiasing.

    Raises:
        ConfigError: a field that cannot be meant.
    """

    image_size: tuple[int, int]
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: int | None = None
    crop: int | None = None
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        for name in ("channels", "resize", "crop"):
            if isinstance(value := getattr(self, name), np.generic | torch.Tensor):
                object.__setattr__(self, name, value.item())
        object.__setattr__(self, "image_size", _each(self.image_size, 2))
        if self.interpolation not in ("bilinear", "bicubic"):
            raise ConfigError(f"preprocessing: interpolation is bilinear or bicubic, not {self.interpolation!r}.")
        if len(self.image_size) != 2 or not all(isinstance(s, int) and s > 0 for s in self.image_size):
            raise ConfigError(f"preprocessing: image_size is (height, width) in pixels, not {self.image_size}.")
        for name, side in (("resize", self.resize), ("crop", self.crop)):
            if side is not None and (not isinstance(side, int) or side < 1):
                raise ConfigError(f"preprocessing: {name} is a side in pixels or None, not {side}.")
        shorter = self.resize or min(self.image_size)
        if self.crop is not None and self.crop > shorter:
            raise ConfigError(f"preprocessing: crop ({self.crop}) is larger than the image to crop ({shorter}).")
        if self.channels not in (1, 3) or not isinstance(self.channels, int):
            raise ConfigError(f"preprocessing: channels is 1 (grey) or 3 (RGB), not {self.channels}.")
        for name in ("mean", "std"):
            object.__setattr__(self, name, values := _each(getattr(self, name), self.channels))
            if not all(isinstance(value, Real) for value in values):
                raise ConfigError(f"preprocessing: {name} is a number for each channel, not {values}.")
        if len(self.mean) != self.channels or len(self.std) != self.channels:
            raise ConfigError(f"preprocessing: mean and std need one number for each of {self.channels} channels.")
        if not all(np.isfinite(self.mean)) or not all(s > 0 and np.isfinite(s) for s in self.std):
            raise ConfigError("preprocessing: mean must be finite and std positive, in units of 0 .. 255.")

    @classmethod
    def of_unit(
        cls, mean: Any, std: Any, *, image_size: Any, channels: int | None = None, **more: Any
    ) -> Preprocessing:
        """A preprocessing whose mean and std are in units of 0 .. 1, as torchvision's and most published ones are.

        Args:
            mean, std: a number for each channel, or one for all.
            channels: by default as many as mean or std have numbers.
            image_size, more: as the fields of those names.
        """
        numbers = _each(mean, 1), _each(std, 1)
        count = max(map(len, numbers)) if channels is None else channels
        mean, std = (tuple(255 * value for value in values) for values in numbers)
        return cls(image_size, count, *(v * count if len(v) == 1 else v for v in (mean, std)), **more)

    @property
    def doubt(self) -> str:
        """A sentence, where mean and std look as if they were in units of 0 .. 1; else ""."""
        mean, std = max(map(abs, self.mean)), max(self.std)
        if std >= 1 and not 0 < mean < 1:
            return ""
        name, value = ("std", std) if std < 1 else ("mean", mean)
        return (
            f"{name} is {value:g} where pixels go from 0 to 255: mean and std look as if they were in units of 0 .. 1; "
            "multiply both by 255 (evofool.Preprocessing.of_unit does)."
        )

    def sha256(self) -> str:
        """sha256 (hex) of all fields. Those that came later count only where they are used."""
        facts = asdict(self)
        if self.interpolation == "bilinear":
            del facts["interpolation"]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _each(value: Any, count: int) -> tuple[Any, ...]:
    """The numbers of a sequence, array or tensor as Python's, whatever its shape; a single one `count` times."""
    if isinstance(value, np.ndarray | np.generic | torch.Tensor):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return tuple(number for part in value for number in _each(part, 1))
    # An int stays one: 0 and 0.0 are written differently, and the hash is of what is written.
    return (float(value) if isinstance(value, Real) and not isinstance(value, int) else value,) * count
