"""What can be read off a network beside its outputs: the outputs of one of its layers."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from evofool.errors import ConfigError, TargetError
from evofool.targets.target import Target

__all__ = ["LayerReading", "refuse_layer"]


class LayerReading:
    """Keeps what one layer of a target gives in each forward pass; the outputs of the network are the same with it.

    Args:
        layer: its name in `dict(target.module.named_modules())`.

    Raises:
        ConfigError: there is no such layer.
    """

    def __init__(self, target: Target, layer: str) -> None:
        refuse_layer(target, layer)
        self._target, self._layer = target, layer
        self._kept: list[torch.Tensor] = []

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """While forward passes are made; `values` is asked for after each."""
        module = self._target.module.get_submodule(self._layer)
        hook = module.register_forward_hook(self._keep)
        try:
            yield
        finally:
            hook.remove()
            self._kept = []

    def _keep(self, module: torch.nn.Module, inputs: object, output: torch.Tensor) -> None:
        self._kept.append(output)

    def values(self, rows: int) -> NDArray[np.float32]:
        """(rows, ...) float32, what the layer gave in the last pass, of so many images.

        Raises:
            TargetError: the layer was not used, or more than once, or gives something else than one row an image.
        """
        kept, self._kept = self._kept, []
        if len(kept) != 1 or not isinstance(kept[0], torch.Tensor) or kept[0].shape[:1] != (rows,):
            shapes = [tuple(k.shape) if isinstance(k, torch.Tensor) else type(k).__name__ for k in kept] or "nothing"
            raise TargetError(
                f"{self._target.spec}: its layer {self._layer!r} gave {shapes} for {rows} images, not one row for "
                "each; name a layer that is used once, and gives a tensor."
            )
        return kept[0].to(torch.float32).cpu().numpy()


def refuse_layer(target: Target, layer: str) -> None:
    """Raise ConfigError unless a target has a layer of that name, which an objective can read."""
    names = [name for name, _ in target.module.named_modules() if name]
    if target.crops > 1:
        raise ConfigError(f"target.crops: an objective that reads a layer ({layer}) sees one crop; say target.crops=1.")
    if layer not in names:
        near = difflib.get_close_matches(layer, names, n=3, cutoff=0.4) or names[:5]
        raise ConfigError(
            f"search.objective: it reads the layer {layer!r}, which {target.spec} does not have; it has {len(names)}, "
            f"among them {', '.join(near) or 'none with a name'}."
        )
