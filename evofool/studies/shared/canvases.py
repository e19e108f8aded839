"""Canvases of an ascent: numbers that a picture is made of, such that a gradient with respect to pixels reaches them.

    pixels    The numbers are grey levels, kept in the box from 0 to 255.
    fourier   A spectrum, whose amplitudes are scaled by 1 / frequency, in colours that natural images vary in
              independently; the picture is its sigmoid (Olah, Mordvintsev and Schubert, Distill 2017; colour matrix and
              scales as in their code).
    cppn      The weights of CPPNs whose structure is fixed.

All have one row of numbers for each picture, so that a step can be measured for each alone.
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from evofool.base import rng
from evofool.encoding.cppn.genome import CppnEncoding
from evofool.encoding.cppn.graphs import Graphs
from evofool.encoding.drawing.smooth import Smooth
from evofool.studies.shared.rules import Rules
from evofool.targets.target import Target

__all__ = ["Canvas", "Cppns", "Fourier", "Pixels", "mean_colour"]

_COLOURS = ((0.26, 0.09, 0.02), (0.27, 0.0, -0.05), (0.27, -0.09, 0.03))  # rows: red, green, blue
_FAINT = 0.01  # standard deviation of a spectrum to begin with


class Canvas(Protocol):
    """What the loop needs of a canvas."""

    numbers: torch.Tensor  # (n, ...) float32, which want gradients
    rate: float  # a step of Adam, where nobody says

    def draw(self) -> torch.Tensor:
        """The pictures, (n, h, w, channels) float32, 0 .. 255, through which gradients reach the numbers."""

    def confine(self) -> None:
        """After a step: bring back numbers that left their bounds."""


class Pixels:
    """Pixels. `centre`, (channels,), is the mean colour, from which regularisers count."""

    rate = 2.0

    def __init__(self, target: Target, rules: Rules, addresses: list[tuple[int, int]]) -> None:
        self.centre = mean_colour(target)
        shape = (*target.image_size, target.channels)
        colour = torch.full_like(self.centre, 127.5) if rules.start == "grey" else self.centre
        start = colour.expand(len(addresses), *shape).clone()
        if rules.start == "noise":
            start += _normal(rules.seed, addresses, shape)
        elif rules.start == "uniform":
            start = torch.from_numpy(_uniform(rules.seed, addresses, shape) * 256 - 0.5).to(torch.float32)
        self.numbers = start.clamp_(0, 255).requires_grad_()

    def draw(self) -> torch.Tensor:
        """The numbers as they are."""
        return self.numbers

    def confine(self) -> None:
        """Into the box."""
        self.numbers.clamp_(0, 255)


class Fourier:
    """Spectra, (n, channels, h, w // 2 + 1, 2)."""

    rate = 0.05

    def __init__(self, target: Target, rules: Rules, addresses: list[tuple[int, int]]) -> None:
        self._size = height, width = target.image_size
        frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])
        scale = 1 / np.maximum(frequency, 1 / max(height, width))
        self._scale = torch.from_numpy(scale[:, :, None].astype(np.float32))
        colour = torch.full((target.channels,), 127.5) if rules.start == "grey" else mean_colour(target)
        self._base = torch.logit((colour / 255).clamp(0.02, 0.98))
        matrix = torch.tensor(_COLOURS)
        self._colours = matrix / matrix.norm(dim=0).max() if target.channels == 3 else torch.ones(1, 1)
        shape = (target.channels, height, width // 2 + 1, 2)
        numbers = torch.zeros((len(addresses), *shape))
        if rules.start == "noise":
            numbers = _FAINT * _normal(rules.seed, addresses, shape)
        self.numbers = numbers.requires_grad_()

    def draw(self) -> torch.Tensor:
        """The sigmoid of the inverse transform, in colour."""
        spectrum = torch.view_as_complex((self.numbers * self._scale).contiguous())
        waves = torch.fft.irfft2(spectrum, s=self._size, norm="ortho") / 4
        return 255 * torch.sigmoid(waves.movedim(1, -1) @ self._colours.T + self._base)

    def confine(self) -> None:
        """Any spectrum will do."""


class Cppns:
    """Weights of genomes, (n, connections); the structure, and so the genome itself, stays what it was."""

    rate = 0.02

    def __init__(self, encoding: CppnEncoding, graphs: Graphs) -> None:
        self._smooth, self._limit = Smooth(encoding, graphs), encoding.weight_limit
        self.numbers = self._smooth.weights.requires_grad_()

    def draw(self) -> torch.Tensor:
        """Pictures of the genomes with these weights."""
        return self._smooth.draw(self.numbers)

    def confine(self) -> None:
        """Within the encoding's weight limit."""
        self.numbers.clamp_(-self._limit, self._limit)


def mean_colour(target: Target) -> torch.Tensor:
    """(channels,) float32: what the network's normalisation makes 0, in grey levels inside the box."""
    return torch.tensor(target.preprocessing.mean, dtype=torch.float32).clamp(0, 255)


def _uniform(seed: int, addresses: list[tuple[int, int]], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Numbers in [0, 1), (n, *shape), of each (unit, restart) its own, whichever else are in the batch."""
    return np.stack([rng.uniforms(seed, f"ascent.start.{unit}", again, shape) for unit, again in addresses])


def _normal(seed: int, addresses: list[tuple[int, int]], shape: tuple[int, ...]) -> torch.Tensor:
    """Standard normal numbers, likewise, float32."""
    half = 0.5 / math.prod(shape)  # away from 0, whose quantile is infinite
    return torch.special.ndtri(torch.from_numpy(_uniform(seed, addresses, shape)).clamp(half, 1 - half)).float()
