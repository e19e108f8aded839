"""Files that `evofool targets train` wrote: small networks for grey images of 28 x 28 pixels, or for colour ones, and
what all share."""

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

__all__ = [
    "MEAN",
    "NUMERICS",
    "PATCHES",
    "SIDES",
    "STD",
    "WIDTHS",
    "build",
    "contents",
    "load_trained",
    "scaled",
    "statistics",
]

# Mean and standard deviation of MNIST's training pixels, 0 .. 255; part of the recipe, also for Fashion-MNIST.
MEAN, STD = 33.3184, 78.5675
# The same of ImageNet's photographs, in units of 0 .. 255, for colour images of any kind.
COLOUR_MEAN, COLOUR_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
SIDES = (28, 512)  # the least and the largest --size, in pixels
WIDTHS = (0.05, 16.0)  # the least and the largest --width
PATCHES = (9, 17)  # --patch, in pixels
NUMERICS = {
    "cpu": Numerics(device="cpu", chunk=100, micro_batch=50, threads=1, memory_format="contiguous"),
    "cuda": Numerics(device="cuda", chunk=200, micro_batch=200, threads=1, memory_format="contiguous"),
}


def statistics(channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation by which pixels are normalised, one for each channel."""
    return (COLOUR_MEAN, COLOUR_STD) if channels == 3 else ((MEAN,), (STD,))


def build(
    family: str,
    module: nn.Module,
    class_names: tuple[str, ...],
    spec: str = "live",
    shape: tuple[int, int, int] = (28, 28, 1),
) -> Target:
    """The target around a network: (n, channels, height, width) float32, normalised, to (n, classes) logits.

    Args:
        shape: (height, width, channels) of its images.
    """
    *size, channels = shape
    mean, std = statistics(channels)
    preprocessing = Preprocessing(image_size=(size[0], size[1]), channels=channels, mean=mean, std=std)
    return Target(module, preprocessing, class_names, output="logits", spec=spec, family=family)


def scaled(count: int, width: float) -> int:
    """A number of channels or units under --width: at least one."""
    return max(1, round(count * width))


def load_trained(source: Source, network: Callable[..., nn.Module], keys: tuple[str, ...] = ("width",)) -> Target:
    """The target in a safetensors file that `evofool targets train` wrote, of the kind that the spec's scheme names.

    Args:
        network: gives the untrained network for a number of classes and, by their names, for `keys`, `channels` and
            `side`.
        keys: of the metadata, for the network; those that are not there are left to its defaults.

    Raises:
        ConfigError: the file is missing, of another kind, or its tensors do not match key by key.
    """
    path, (tensors, facts, said) = source.argument, contents(source)
    options = {key: _number(facts[key], key, path) for key in keys if key in facts}
    names = said.class_names or ()
    height, width = said.image_size or (28, 28)
    if height != width or not SIDES[0] <= height <= SIDES[1]:
        raise ConfigError(
            f"{path}: image_size in its metadata is {[height, width]}; a {source.scheme} has square images of "
            f"{SIDES[0]} to {SIDES[1]} pixels."
        )
    shape = (height, width, len(said.mean or (MEAN,)))
    module = network(len(names), channels=shape[2], side=height, **options)
    load_into(module, tensors, path)
    return said.applied(build(source.scheme, module, names, source.spec, shape))


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
