"""The filters of a network's first convolution as one picture: what its first channels look for (Krizhevsky et al.,
NIPS 2012, figure 3)."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from evofool.errors import ConfigError
from evofool.targets.readout import Layer
from evofool.targets.target import Target

__all__ = ["draw_filters", "first_filters"]

TILE, GAP, LINE = 64, 8, 14  # pixels
ACROSS = 1.6  # columns to rows


def first_filters(target: Target, layers: list[Layer]) -> tuple[str, NDArray[np.float32]]:
    """The name of the first convolution that sees pixels, and its weights, (filters, height, width, 1 or 3) float32.

    Raises:
        ConfigError: there is none.
    """
    for layer in layers:
        weight = getattr(target.module.get_submodule(layer.name), "weight", None)
        if layer.uses and isinstance(weight, torch.Tensor) and weight.dim() == 4:
            if weight.shape[1] not in (1, 3) or layer.given is None or layer.given[0] != target.channels:
                break
            return layer.name, weight.detach().to(torch.float32).movedim(1, -1).cpu().numpy()
    raise ConfigError(
        f"--png: {target.spec} has no convolution that is given a picture, so no filters to show; leave --png out."
    )


def draw_filters(weights: NDArray[np.float32]) -> Image.Image:
    """Filters with the number of their channel below each, enlarged without smoothing so that pixels stay pixels.

    In each filter a weight of 0 is mid-grey, and the largest by its absolute value is 0 or 255.

    Args:
        weights: (filters, height, width, 1 or 3).
    """
    columns = min(len(weights), math.ceil(math.sqrt(len(weights) * ACROSS)))
    rows = math.ceil(len(weights) / columns)
    wide, high = TILE + GAP, TILE + LINE + GAP
    sheet = Image.new("RGB", (GAP + columns * wide, GAP + rows * high), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    for number, weight in enumerate(weights):
        most = float(np.abs(weight).max()) or 1.0
        pixels = np.round(127.5 + 127.5 * weight / most).astype(np.uint8)
        tile = Image.fromarray(np.repeat(pixels, 3 // pixels.shape[2], axis=2))
        factor = max(1, TILE // max(tile.size))
        tile = tile.resize((tile.width * factor, tile.height * factor), Image.Resampling.NEAREST)
        left, top = GAP + number % columns * wide, GAP + number // columns * high
        sheet.paste(tile, (left, top))
        draw.text((left, top + tile.height + 1), str(number), fill="black", font=font)
    return sheet
