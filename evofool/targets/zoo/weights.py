"""Weights of networks: whatever is loaded must be the network's own, key by key, and no code of a file is run."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

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
    "read_safetensors",
    "read_tensors",
    "refuse_mismatch",
    "with_weights",
]

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")  # of files of weights
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
        state: Any = torch.load(io.BytesIO(blob), map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises whatever the bytes lead it to
        raise ConfigError(
            f"{path}: cannot be read as weights alone ({first_line(error)}); "
            "write it with torch.save(module.state_dict(), FILE) or as safetensors."
        ) from None
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        keys = ", ".join(map(str, list(state)[:4])) if isinstance(state, dict) else ""
        inside = f"a dict of {keys or 'nothing'}" if isinstance(state, dict) else type(state).__name__
        raise ConfigError(
            f"{path}: holds {inside}, not the tensors of a network; write it with "
            "torch.save(module.state_dict(), FILE) or as safetensors."
        )
    return state


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
    try:
        names = json.loads(text)
    except (TypeError, ValueError):
        names = None
    if not isinstance(names, list) or len(names) < 2 or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"{path}: class_names in its metadata is not a JSON list of at least two names.")
    return tuple(names)


def with_weights(
    build: Callable[[int], nn.Module], blob: bytes, path: str, published: tuple[str, ...]
) -> tuple[nn.Module, tuple[str, ...]]:
    """A network with the weights of a user's file, and its class names.

    Args:
        build: gives the network for a number of classes.
        published: the names where the file has none.

    Raises:
        ConfigError: the file is no file of weights, or they are another network's.
    """
    tensors = read_tensors(blob, path)
    named = class_names(blob, path) if path.endswith(".safetensors") else None
    names = named or published
    module = build(len(names))
    try:
        load_into(module, tensors, path)
    except ConfigError as error:
        if named is None and any(f" where the network has ({len(names)}," in part for part in error.message.split(";")):
            raise ConfigError(f"{error.message.removesuffix('.')}; {_NAMES_HINT}.") from None
        raise
    return module, names


def load_into(module: nn.Module, tensors: dict[str, torch.Tensor], path: str) -> None:
    """Put weights into a network.

    Raises:
        ConfigError: they are not exactly the module's. Counters of batches seen, which older files lack and no score
            depends on, may be missing.
    """
    counters = {n: t for n, t in module.state_dict().items() if n.endswith("num_batches_tracked")}
    complete = {**counters, **tensors}
    refuse_mismatch(module, complete, path)
    module.load_state_dict(complete)


def refuse_mismatch(module: nn.Module, tensors: dict[str, torch.Tensor], path: str) -> None:
    """Raise ConfigError unless the tensors are exactly the module's, key by key and shape by shape."""
    wanted = {name: tuple(t.shape) for name, t in module.state_dict().items()}
    found = {name: tuple(t.shape) for name, t in tensors.items()}
    problems = [f"{name} is missing" for name in wanted.keys() - found.keys()]
    problems += [f"{name} is not in the network" for name in found.keys() - wanted.keys()]
    problems += [
        f"{n} is {found[n]} where the network has {wanted[n]}"
        for n in wanted.keys() & found.keys()
        if wanted[n] != found[n]
    ]
    if problems:
        more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
        raise ConfigError(f"{path}: weights of another network: {'; '.join(sorted(problems)[:3])}{more}.")
