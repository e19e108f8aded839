"""Weights of networks: whatever is loaded must be the network's own, key by key, and no code of a file is run."""

from __future__ import annotations

import contextlib
import io
import json
import re
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import nn

from evofool.errors import ConfigError, first_line
from evofool.records import Facts
from evofool.targets.target import Preprocessing, Target

__all__ = [
    "SUFFIXES",
    "Described",
    "described",
    "load_into",
    "metadata",
    "patience",
    "read_safetensors",
    "read_tensors",
    "with_weights",
]

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")  # of files of weights
_PATIENCE = 20.0  # seconds without a byte after which a download is given up
_WRITE_HINT = "write it with torch.save(module.state_dict(), FILE) or as safetensors"
_KEYS_HINT = (
    'give each as JSON: save_file(module.state_dict(), FILE, {"image_size": "[28, 28]", "mean": "[0]", "std": "[255]"})'
)
_WORDNET_ID = re.compile(r"n\d{8}")
_NAMES_HINT = (
    "names of other classes than the published ones belong into the metadata of a safetensors file: "
    'save_file(module.state_dict(), FILE, {"class_names": json.dumps(NAMES)})'
)


def read_tensors(blob: bytes, path: str) -> dict[str, torch.Tensor]:
    """The tensors in the bytes of a .safetensors, .pth, .pt or .bin file, by name.

    Raises:
        ConfigError: the file is damaged, holds more than tensors, or another dictionary around them.
    """
    if path.endswith(".safetensors"):
        return read_safetensors(blob, path)
    try:
        state: object = torch.load(io.BytesIO(blob), map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises whatever the bytes lead it to
        raise ConfigError(f"{path}: cannot be read as weights alone ({first_line(error)}); {_WRITE_HINT}.") from None
    if isinstance(state, dict) and all(isinstance(value, torch.Tensor) for value in state.values()):
        return state
    content = type(state).__name__
    if isinstance(state, dict):
        content = f"a dict of {', '.join(map(str, list(state)[:4])) or 'nothing'}"
    raise ConfigError(f"{path}: holds {content}, not the tensors of a network; {_WRITE_HINT}.")


def read_safetensors(blob: bytes, path: str) -> dict[str, torch.Tensor]:
    """The tensors in the bytes of a safetensors file, by name.

    Raises:
        ConfigError: it is damaged, or something else.
    """
    try:
        return dict(load_safetensors(blob))
    except (SafetensorError, ValueError, KeyError) as error:
        raise ConfigError(f"{path}: damaged, or not a safetensors file ({first_line(error)}).") from None


def metadata(blob: bytes) -> Facts:
    """The metadata in the bytes of a safetensors file; empty where there is none, or for another kind of file."""
    # The header of a safetensors file: 8 bytes of length, then JSON.
    length = int.from_bytes(blob[:8], "little")
    if length > len(blob):
        return {}
    try:
        header = json.loads(blob[8 : 8 + length])
        return dict(header.get("__metadata__") or {})
    except (ValueError, AttributeError, TypeError, RecursionError):
        return {}


@dataclass(frozen=True)
class Described:
    """What the metadata of a safetensors file say of the network in it; None where they say nothing.

    Attributes:
        image_size: (height, width) of its input, in pixels.
        mean, std: one number for each channel, in units of 0 .. 255.
        class_names: one for each output.
        imagenet_ids: the id in WordNet of each output, None for one that has none.
    """

    path: str = ""  # of the file, for messages
    image_size: tuple[int, int] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    class_names: tuple[str, ...] | None = None
    imagenet_ids: tuple[str | None, ...] | None = None

    def preprocessing(self) -> Preprocessing:
        """What the network is fed, of a file that alone says it.

        Raises:
            ConfigError: its metadata lack image_size, mean or std, or do not agree.
        """
        missing = [key for key in ("image_size", "mean", "std") if getattr(self, key) is None]
        if missing or self.image_size is None or self.mean is None or self.std is None:
            raise ConfigError(f"{self.path}: its metadata lack {', '.join(missing)}; {_KEYS_HINT}.")
        with self._naming():
            return Preprocessing(self.image_size, len(self.mean), self.mean, self.std)

    def applied(self, target: Target) -> Target:
        """A target with what the metadata say in the place of its family's defaults, but for the class names, which
        the network was built for. A network of another image size has no published geometry.

        Raises:
            ConfigError: they do not fit the network.
        """
        said = {"image_size": self.image_size, "mean": self.mean, "std": self.std}
        changes: Facts = {key: value for key, value in said.items() if value is not None}
        if self.image_size not in (None, target.preprocessing.image_size):
            changes |= {"resize": None, "crop": None}
        ids = target.imagenet_ids if self.imagenet_ids is None else self.imagenet_ids
        with self._naming():
            return replace(target, preprocessing=replace(target.preprocessing, **changes), imagenet_ids=ids)

    @contextlib.contextmanager
    def _naming(self) -> Iterator[None]:
        try:
            yield
        except ConfigError as error:
            raise ConfigError(f"{self.path}: its metadata do not fit: {error.message}") from None


def described(blob: bytes, path: str) -> Described:
    """What the metadata of a file of weights say of the network in it; nothing unless it is a safetensors file.

    Raises:
        ConfigError: an entry is not what it should be.
    """
    said, found = metadata(blob), {}
    for key, (good, what) in _ENTRIES.items():
        if key in said:
            value = None
            with contextlib.suppress(TypeError, ValueError, RecursionError):
                value = json.loads(said[key])
            if not isinstance(value, list) or not good(value):
                raise ConfigError(f"{path}: {key} in its metadata is not a JSON list of {what}.")
            found[key] = tuple(value)
    names, ids = found.get("class_names"), found.get("imagenet_ids")
    if names and ids and len(names) != len(ids):
        raise ConfigError(
            f"{path}: imagenet_ids in its metadata has {len(ids)} entries for {len(names)} class_names; give null for "
            "a class that has none."
        )
    return Described(path, **found)


def _numbers(value: list[object]) -> bool:
    return len(value) in (1, 3) and all(isinstance(v, int | float) and not isinstance(v, bool) for v in value)


# Of the metadata that describe a network: key -> whether a list is right, and what should be in it.
_ENTRIES: dict[str, tuple[Callable[[list[Any]], bool], str]] = {
    "image_size": (
        lambda value: len(value) == 2 and all(type(v) is int and v > 0 for v in value),
        "two numbers, height and width in pixels",
    ),
    "mean": (_numbers, "1 or 3 numbers, one for each channel"),
    "std": (_numbers, "1 or 3 numbers, one for each channel"),
    "class_names": (
        lambda value: len(value) >= 2 and all(isinstance(v, str) for v in value),
        "at least two names",
    ),
    "imagenet_ids": (
        lambda value: all(v is None or (isinstance(v, str) and _WORDNET_ID.fullmatch(v)) for v in value),
        "ids in WordNet, such as n01440764, or null",
    ),
}


def with_weights(
    build: Callable[[int, dict[str, torch.Tensor]], nn.Module], blob: bytes, path: str, published: tuple[str, ...]
) -> tuple[nn.Module, tuple[str, ...]]:
    """A network with the weights of a user's file, and its class names.

    Args:
        build: gives the network for a number of classes and the weights it will get.
        blob, path: the bytes of the file, and its name. Only a safetensors file can hold class names.
        published: the class names where the file has none.

    Raises:
        ConfigError: the file is no file of weights, or they are another network's.
    """
    tensors = read_tensors(blob, path)
    own_names = described(blob, path).class_names
    names = own_names or published
    module = build(len(names), tensors)
    try:
        load_into(module, tensors, path)
    except ConfigError as error:
        if own_names is None and f" where the network has ({len(names)}," in error.message:
            raise ConfigError(f"{error.message.removesuffix('.')}; {_NAMES_HINT}.") from None
        raise
    return module, names


def load_into(module: nn.Module, tensors: dict[str, torch.Tensor], path: str) -> None:
    """Put weights into a network.

    Raises:
        ConfigError: they are not exactly the module's, key by key and shape by shape. Only batch normalisation's
            counters of batches may be missing: older files lack them, and no score depends on them.
    """
    own = module.state_dict()
    tensors = {name: t for name, t in own.items() if name.endswith("num_batches_tracked")} | tensors
    problems = [f"{name} is missing" for name in own.keys() - tensors.keys()]
    problems += [f"{name} is not in the network" for name in tensors.keys() - own.keys()]
    problems += [
        f"{name} is {tuple(tensors[name].shape)} where the network has {tuple(own[name].shape)}"
        for name in own.keys() & tensors.keys()
        if own[name].shape != tensors[name].shape
    ]
    if problems:
        more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
        raise ConfigError(f"{path}: weights of another network: {'; '.join(sorted(problems)[:3])}{more}.")
    module.load_state_dict(tensors)


@contextlib.contextmanager
def patience() -> Iterator[None]:
    """For downloads: a socket that is silent for 20 seconds fails, where it would wait for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_PATIENCE)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
