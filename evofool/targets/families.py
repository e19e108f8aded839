"""Targets from specs: the family that a spec names, by the table FAMILIES of base/registry.py, and its network."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from evofool.base.registry import FAMILIES, load
from evofool.base.source import Source
from evofool.errors import ConfigError
from evofool.targets.ensemble import Ensemble
from evofool.targets.family import Family
from evofool.targets.specs import scheme_of
from evofool.targets.target import Target

__all__ = ["configured", "family_of", "load_target", "unfolded"]


def family_of(spec: str) -> Family:
    """The family that a spec, e.g. "timm:resnet18", or its scheme alone names; its package may be missing.

    Raises:
        ConfigError: it names none.
    """
    family: Family = load(FAMILIES[scheme_of(spec)])
    return family


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
        ConfigError: an unknown scheme, a package that is missing, or a file that is missing or not what it should be.
        TargetError: the user's factory failed.
    """
    source = spec if isinstance(spec, Source) else Source(spec, allow_code)
    family = family_of(source.spec)
    if not source.argument:
        raise ConfigError(f"{source.key}: {source.spec!r} names no network; say {family.form}.")
    family.check_installed(source.key)
    target = family.load(source)
    if family.fold:
        target = replace(target, module=family.fold(target.module))
    return configured(target, geometry=geometry, output=output, crops=crops)


def unfolded(source: Source) -> nn.Module | None:
    """The network of a source with its batch normalisations, where `load_target` folds them away; else None."""
    family = family_of(source.spec)
    return family.load(source).module if family.fold else None


def configured(target: Target, *, geometry: str, output: str, crops: int) -> Target:
    """A target with what the section `target` of a configuration says of it; arguments as of `load_target`.

    Raises:
        ConfigError: it makes no sense for this target; the members of an ensemble have been configured already.
    """
    if isinstance(target, Ensemble):
        if (geometry, output, crops) != ("native", "declared", 1):
            raise ConfigError(
                f"target: {target.spec} is an ensemble of targets that have their geometry, output and crops already; "
                "leave these keys out, or give its networks other ones."
            )
        return target
    output = target.output if output == "declared" else output
    return replace(target, geometry=geometry, output=output, crops=crops)
