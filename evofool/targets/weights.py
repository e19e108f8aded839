"""Weights of networks: whatever is loaded must be the network's own, key by key."""

from __future__ import annotations

import torch
from torch import nn

from evofool.errors import ConfigError

__all__ = ["refuse_mismatch"]


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
