"""What a network consists of: the tensors by which it is told from others, and parts that nobody would find."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from evofool.errors import TargetError, first_line

__all__ = ["contents_of", "refuse_no_network", "refuse_strays", "state_of"]


def refuse_no_network(module: object, spec: str) -> None:
    """Raise TargetError unless something is a network whose weights are there."""
    if isinstance(module, torch.export.ExportedProgram):
        raise TargetError(f"{spec}: an ExportedProgram is no torch.nn.Module; give what its module() returns.")
    if not isinstance(module, torch.nn.Module):
        raise TargetError(
            f"{spec}: the network is a {type(module).__name__}, not a torch.nn.Module; wrap what it does in the "
            "forward() of one, or ask and tell (evofool.make_search)."
        )
    for name, tensor in module.named_parameters():
        if isinstance(tensor, torch.nn.parameter.UninitializedTensorMixin):
            raise TargetError(f"{spec}: {name} has no shape yet; put a batch through the network first.")
        if tensor.is_meta:
            raise TargetError(f"{spec}: {name} is on the device meta, without numbers; load the network's weights.")


def refuse_strays(module: torch.nn.Module, spec: str) -> None:
    """Raise TargetError for modules and parameters that attributes hold outside of the tree of modules.

    Torch neither puts those into eval mode nor moves them to a device, and no fingerprint sees their weights.
    """
    known = {id(part) for part in (*module.modules(), *module.parameters())}
    for place, part in module.named_modules():
        for attribute, value in vars(part).items():
            if attribute in ("_modules", "_parameters", "_buffers"):
                continue
            for name, stray in _strays(value, f"{place}.{attribute}".lstrip("."), known, set()):
                kind = "Parameter" if isinstance(stray, torch.Tensor) else "Module"
                raise TargetError(
                    f"{spec}: {name} ({type(stray).__name__}) is no part of the network to torch, which leaves it "
                    f"out of eval(), the weights and moves to a device; keep it in a torch.nn.{kind}List or {kind}Dict."
                )


def _strays(
    value: object, name: str, known: set[int], seen: set[int]
) -> Iterator[tuple[str, torch.nn.Module | torch.Tensor]]:
    """Modules and parameters in plain containers that are not among the known ones, with the names to reach them by."""
    if isinstance(value, torch.nn.Module | torch.nn.Parameter):
        if id(value) not in known:
            yield name, value
    elif isinstance(value, dict | list | tuple | set | frozenset) and id(value) not in seen:
        seen.add(id(value))
        entries = value.items() if isinstance(value, dict) else enumerate(value)
        for key, entry in entries:
            yield from _strays(entry, f"{name}[{key!r}]", known, seen)


def contents_of(module: torch.nn.Module, spec: str) -> Iterator[tuple[str, bytes]]:
    """What a network computes with, as (what it is, its bytes), in a fixed order: weights, buffers, extra state, and
    the code and constants of TorchScript.

    Raises:
        TargetError: something of it cannot be read as bytes.
    """
    for name, value in sorted(module.state_dict().items(), key=lambda entry: entry[0]):
        yield from _bytes_of(value, name, spec)
    for name, part in module.named_modules():
        if isinstance(part, torch.jit.ScriptModule):
            try:
                code, constants = part.code_with_constants
            except (AttributeError, RuntimeError):  # a part without a forward() of its own
                continue
            yield f"{name}.code", code.encode()
            yield from _bytes_of(constants.const_mapping, f"{name}.constants", spec)


def state_of(module: torch.nn.Module, spec: str) -> dict[str, bytes]:
    """The sha256 of each of `contents_of`, by its name; raises as that does."""
    return {name: hashlib.sha256(blob).digest() for name, blob in contents_of(module, spec)}


def _bytes_of(value: Any, name: str, spec: str) -> Iterator[tuple[str, bytes]]:
    if isinstance(value, torch.Tensor):
        yield from _tensor_bytes(value.detach(), name, spec)
    elif isinstance(value, Mapping):
        for key in sorted(value, key=repr):
            yield from _bytes_of(value[key], f"{name}[{key!r}]", spec)
    elif isinstance(value, list | tuple):
        for i, entry in enumerate(value):
            yield from _bytes_of(entry, f"{name}[{i}]", spec)
    elif isinstance(value, np.ndarray) and value.dtype != object:
        yield f"{name}|{value.dtype}|{value.shape}", value.tobytes()
    elif value is None or isinstance(value, bool | int | float | complex | str | bytes | torch.dtype | torch.device):
        yield f"{name}|{type(value).__name__}", repr(value).encode()
    else:
        raise TargetError(
            f"{spec}: {name} in its state is a {type(value).__name__}, which no fingerprint can be made of; let "
            "get_extra_state() return tensors, numbers and texts, or lists and dicts of them."
        )


def _tensor_bytes(tensor: torch.Tensor, name: str, spec: str) -> Iterator[tuple[str, bytes]]:
    parts: dict[str, Any] = {}
    try:
        if tensor.is_quantized:
            parts["values"] = tensor.int_repr()
            if tensor.qscheme() in (torch.per_tensor_affine, torch.per_tensor_symmetric):
                parts["scale"] = [tensor.q_scale(), tensor.q_zero_point()]
            else:
                axis = tensor.q_per_channel_axis()
                parts["scale"] = [tensor.q_per_channel_scales(), tensor.q_per_channel_zero_points(), axis]
        elif tensor.layout is torch.sparse_coo:
            tensor = tensor.coalesce()
            parts |= {"indices": tensor.indices(), "values": tensor.values(), "shape": list(tensor.shape)}
        elif tensor.layout is not torch.strided:
            parts |= {"dense": tensor.to_dense(), "layout": str(tensor.layout)}
        else:
            array = tensor.cpu().contiguous()
            blob = array.reshape(-1).view(torch.uint8).numpy().tobytes() if array.numel() else b""
            yield f"{name}|{array.dtype}|{tuple(array.shape)}|", blob
    except (NotImplementedError, RuntimeError, TypeError) as error:
        raise TargetError(
            f"{spec}: {name}, a {type(tensor).__name__} of {tensor.dtype}, cannot be read ({first_line(error)}); keep "
            "weights and buffers as plain tensors."
        ) from error
    for part, value in parts.items():
        yield from _bytes_of(value, f"{name}.{part}", spec)
