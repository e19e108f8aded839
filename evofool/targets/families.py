"""Targets: one table from names to factories, and the contract they fulfil (target.py).

To add a family: write a module with `load(source) -> Target` and give it a row in FACTORIES.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import replace

from torch import nn

from evofool.base.source import Source
from evofool.errors import ConfigError
from evofool.targets.target import Target
from evofool.targets.zoo import efficientnet_lite, lenet, python, timm_networks, torchvision_networks
from evofool.targets.zoo.folding import fold_batch_norm

__all__ = ["FACTORIES", "configured", "load_target", "unfolded"]

FACTORIES: dict[str, Callable[[Source], Target]] = {
    "lenet": lenet.load,
    "efficientnet-lite": efficientnet_lite.load,
    "torchvision": torchvision_networks.load,
    "timm": timm_networks.load,
    "python": python.load,
}
# Of the kinds whose batch normalisations become part of the convolutions before them: what does that.
_FOLDING: dict[str, Callable[[nn.Module], nn.Module]] = {
    "efficientnet-lite": efficientnet_lite.fold,
    "torchvision": fold_batch_norm,
    "timm": fold_batch_norm,
}


def load_target(
    spec: str | Source, *, geometry: str = "native", output: str = "declared", crops: int = 1, allow_code: bool = False
) -> Target:
    """Build a target from its spec.

    Args:
        spec: e.g. "lenet:weights/lenet.safetensors" or "python:mynet.py:build".
        geometry: "native" or "published".
        output: "declared" (what the target says), or "logits", "probabilities", "log_probabilities".
        crops: 1, or 10 to average over corners, centre and their mirror images.
        allow_code: whether a python: spec may run its code.

    Raises:
        ConfigError: an unknown scheme, or a file that is missing or not what it should be.
        TargetError: the user's factory failed.
    """
    source = spec if isinstance(spec, Source) else Source(spec, allow_code)
    if source.scheme not in FACTORIES or not source.argument:
        near = difflib.get_close_matches(source.scheme, FACTORIES, n=1, cutoff=0.75)
        hint = f"did you mean {near[0]}:...?" if near else f"known are {', '.join(f'{name}:' for name in FACTORIES)}."
        raise ConfigError(f"target.spec: {source.spec!r} names no kind of target; {hint}")
    target = FACTORIES[source.scheme](source)
    if source.scheme in _FOLDING:
        target = replace(target, module=_FOLDING[source.scheme](target.module))
    return configured(target, geometry=geometry, output=output, crops=crops)


def unfolded(source: Source) -> nn.Module | None:
    """The network of a source with its batch normalisations, where `load_target` folds them away; else None."""
    return FACTORIES[source.scheme](source).module if source.scheme in _FOLDING else None


def configured(target: Target, *, geometry: str, output: str, crops: int) -> Target:
    """A target with what the section `target` of a configuration says of it; arguments as of `load_target`."""
    output = target.output if output == "declared" else output
    return replace(target, geometry=geometry, output=output, crops=crops)
