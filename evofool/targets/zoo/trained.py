"""Files that `evofool targets train` wrote: small networks for grey images of 28 x 28 pixels, and what all share."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from torch import nn

from evofool.base.source import Source
from evofool.errors import ConfigError
from evofool.records import Facts, Numerics
from evofool.targets.specs import trained_file
from evofool.targets.target import Preprocessing, Target
from evofool.targets.zoo.weights import Described, described, load_into, metadata, read_safetensors

__all__ = ["MEAN", "NUMERICS", "PATCHES", "STD", "WIDTHS", "build", "contents", "load_trained", "scaled"]

# Mean and standard deviation of MNIST's training pixels, 0 .. 255; part of the recipe, also for Fashion-MNIST.
MEAN, STD = 33.3184, 78.5675
WIDTHS = (0.05, 16.0)  # the least and the largest --width
PATCHES = (9, 17)  # --patch, in pixels
NUMERICS = {
    "cpu": Numerics(device="cpu", chunk=100, micro_batch=50, threads=1, memory_format="contiguous"),
    "cuda": Numerics(device="cuda", chunk=200, micro_batch=200, threads=1, memory_format="contiguous"),
}


def build(family: str, module: nn.Module, class_names: tuple[str, ...], spec: str = "live") -> Target:
    """The target around a network: (n, 1, 28, 28) float32, normalised as MNIST, to (n, classes) logits."""
    preprocessing = Preprocessing(image_size=(28, 28), channels=1, mean=(MEAN,), std=(STD,))
    return Target(module, preprocessing, class_names, output="logits", spec=spec, family=family)


def scaled(count: int, width: float) -> int:
    """A number of channels or units under --width: at least one."""
    return max(1, round(count * width))


def load_trained(source: Source, network: Callable[..., nn.Module], keys: tuple[str, ...] = ("width",)) -> Target:
    """The target in a safetensors file that `evofool targets train` wrote, of the kind that the spec's scheme names.

    Args:
        network: gives the untrained network for a number of classes and, by their names, for `keys`.
        keys: of the metadata, for the network; those that are not there are left to its defaults.

    Raises:
        ConfigError: the file is missing, of another kind, or its tensors do not match key by key.
    """
    path, (tensors, facts, said) = source.argument, contents(source)
    options = {key: _number(facts[key], key, path) for key in keys if key in facts}
    names = said.class_names or ()
    module = network(len(names), **options)
    load_into(module, tensors, path)
    return said.applied(build(source.scheme, module, names, spec=source.spec))


def contents(source: Source) -> tuple[Facts, Facts, Described]:
    """The tensors and the metadata in a file that `evofool targets train` wrote, and what these say of a network.

    Raises:
        ConfigError: the file is missing, of another kind, or has no class names.
    """
    kind, path, blob = source.scheme, source.argument, trained_file(source)
    tensors, facts = read_safetensors(blob, path), metadata(blob)
    if facts.get("format") != f"evofool.{kind}.1":
        other = str(facts.get("format")).split(".")
        hint = "load other networks with python:FILE.py:callable"
        if other[0] == "evofool" and other[2:] == ["1"]:
            hint = f"it is {other[1]}:{path}"
        raise ConfigError(f"{path}: not written by `evofool targets train {kind}`; {hint}.")
    said = described(blob, path)
    if said.class_names is None:
        raise ConfigError(
            f"{path}: its metadata has no list of class names; train it again with `evofool targets train {kind}`."
        )
    return tensors, facts, said


def _number(text: object, key: str, path: str) -> float | int:
    """An entry of the metadata that says how large a network is, within bounds, so that no file fills the memory."""
    value = 0.0
    with contextlib.suppress(TypeError, ValueError):
        value = float(str(text))
    if key == "patch" and value in PATCHES:
        return int(value)
    if key == "width" and WIDTHS[0] <= value <= WIDTHS[1]:
        return value
    allowed = " or ".join(map(str, PATCHES)) if key == "patch" else "from {:g} to {:g}".format(*WIDTHS)
    raise ConfigError(f"{path}: {key} in its metadata is {text!r}, not {allowed}.")
