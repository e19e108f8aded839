"""Targets: one table from names to factories, and the contract they fulfil (target.py).

To add a family: write a module with `load(source) -> Target` and give it a row in FACTORIES.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import replace

from evofool.base.source import Source
from evofool.errors import ConfigError
from evofool.records import Numerics
from evofool.targets.target import Preprocessing, Target
from evofool.targets.zoo import efficientnet_lite, lenet, python, timm_networks, torchvision_networks

__all__ = ["FACTORIES", "Preprocessing", "Source", "Target", "configured", "default_numerics", "load_target"]

FACTORIES: dict[str, Callable[[Source], Target]] = {
    "lenet": lenet.load,
    "efficientnet-lite": efficientnet_lite.load,
    "torchvision": torchvision_networks.load,
    "timm": timm_networks.load,
    "python": python.load,
}

# Shapes and layouts by (device type, family). They are part of the numerics, so nothing measured at run time may
# choose them, and a changed entry is a result-changing commit.
_NUMERICS = {
    ("cpu", "lenet"): Numerics(device="cpu", chunk=100, micro_batch=50, threads=1, memory_format="contiguous"),
    ("cpu", "efficientnet-lite"): Numerics(
        device="cpu", chunk=16, micro_batch=16, threads=1, memory_format="channels_last"
    ),
    ("cpu", "any"): Numerics(device="cpu", chunk=16, micro_batch=8, threads=1, memory_format="channels_last"),
    ("cuda", "lenet"): Numerics(device="cuda", chunk=200, micro_batch=200, threads=1, memory_format="contiguous"),
    ("cuda", "any"): Numerics(device="cuda", chunk=64, micro_batch=64, threads=1, memory_format="channels_last"),
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
        hint = f"did you mean {near[0]}:...?" if near else f"known are {', '.join(f'{n}:' for n in FACTORIES)}."
        raise ConfigError(f"target.spec: {source.spec!r} names no kind of target; {hint}")
    target = FACTORIES[source.scheme](source)
    return configured(target, geometry=geometry, output=output, crops=crops)


def configured(target: Target, *, geometry: str, output: str, crops: int) -> Target:
    """A target as the section `target` of a configuration wants it."""
    chosen = target.output if output == "declared" else output
    return replace(target, geometry=geometry, output=chosen, crops=crops)


def default_numerics(device: str, family: str) -> Numerics:
    """Shapes and layouts for a device type and a target family, from a fixed table."""
    return _NUMERICS.get((device, family)) or _NUMERICS[device, "any"]
