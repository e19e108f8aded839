"""Smooth drawing against the bit-exact one: rounded, the same picture but for a grey level here and there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from evofool.config.sections import VariationConfig
from evofool.encoding import variation
from evofool.encoding.cppn.genome import CppnEncoding
from evofool.encoding.drawing.smooth import Smooth
from evofool.encoding.kinds import draw
from evofool.errors import ConfigError

ENCODING = CppnEncoding(24, 31, "hsv")


def grown(encoding: CppnEncoding, rows: int = 12, generations: int = 30) -> Any:
    """Genomes with some twenty nodes, by nothing but variation."""
    genomes = variation.initial(encoding, 7, 0, rows)
    for generation in range(1, generations):
        genomes, _ = variation.mutate(encoding, VariationConfig(), 7, generation, genomes)
    return genomes


@pytest.mark.parametrize(
    "change",
    [{}, {"colour": "rgb", "output": "absolute"}, {"colour": "grey", "quantisation": "truncate", "coordinates": "raw"}],
)
def test_a_smooth_picture_is_the_exact_one_within_a_grey_level(change: dict[str, Any]) -> None:
    encoding = replace(ENCODING, **change)
    genomes = grown(encoding)
    smooth = Smooth(encoding, genomes)
    drawn = smooth.draw(smooth.weights)
    assert drawn.shape == (12, 24, 31, encoding.channels) and drawn.min() >= 0 and drawn.max() <= 255
    difference = np.abs(np.floor(drawn.numpy() + 0.5) - draw(encoding, genomes).astype(int))
    # A hue may jump from red to red, and a sine of hundreds of periods hangs on the last bit of its angle.
    assert (difference <= 1).mean() > 0.999 and (difference == 0).mean() > 0.99


def test_its_gradient_is_that_of_the_picture_it_draws() -> None:
    encoding = replace(ENCODING, colour="grey")
    smooth = Smooth(encoding, grown(encoding, rows=2, generations=6))
    weights = smooth.weights.clone().requires_grad_()
    total = smooth.draw(weights).mean()
    (gradient,) = torch.autograd.grad(total, weights)
    steep = divmod(int(gradient.abs().argmax()), weights.shape[1])
    moved = weights.detach().clone()
    moved[steep] += 1e-2
    rise = float(smooth.draw(moved).mean() - total.detach()) / 1e-2
    assert gradient.abs().max() > 0.1 and rise == pytest.approx(float(gradient[steep]), rel=0.05)


def test_colours_in_whole_hues_are_refused() -> None:
    encoding = replace(ENCODING, colour="hls2015")
    with pytest.raises(ConfigError, match="hls2015"):
        Smooth(encoding, variation.initial(encoding, 1, 0, 1))
