"""Weights of networks: whatever is loaded must be the network's own, key by key, and no code of a file is run."""

from __future__ import annotations

import contextlib
import io
import json
import socket
from collections.abc import Callable, Iterator

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import nn

from evofool.errors import ConfigError, first_line
from evofool.records import Facts

__all__ = [
    "SUFFIXES",
    "class_names",
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
    try:
        header = json.loads(blob[8 : 8 + length])
        return dict(header.get("__metadata__") or {})
    except (ValueError, AttributeError, TypeError):
        return {}


def class_names(blob: bytes, path: str) -> tuple[str, ...] | None:
    """The class names in the metadata of a safetensors file, or None where it has no such entry.

    Raises:
        ConfigError: the entry is not a JSON list of at least two texts.
    """
    text = metadata(blob).get("class_names")
    if text is None:
        return None
    names = None
    with contextlib.suppress(TypeError, ValueError):
        names = json.loads(text)
    if not isinstance(names, list) or len(names) < 2 or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"{path}: class_names in its metadata is not a JSON list of at least two names.")
    return tuple(names)


def with_weights(
    build: Callable[[int, dict[str, torch.Tensor]], nn.Module], blob: bytes, path: str, published: tuple[str, ...]
) -> tuple[nn.Module, tuple[str, ...]]:
    """A network with the weights of a user's file, and its class names.

    Args:
        build: gives the network for a number of classes and the weights it will get.
        blob, path: the bytes of the file, and its name. Only a .safetensors file can hold class names.
        published: the class names where the file has none.

    Raises:
        ConfigError: the file is no file of weights, or they are another network's.
    """
    tensors = read_tensors(blob, path)
    own_names = class_names(blob, path) if path.endswith(".safetensors") else None
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
