"""A GPU that is not there: with this folder on PYTHONPATH, torch says that it has one, and works on the processor.

What evofool says and asks about devices is tried so, in every process that it starts, also those of Ray. What tensors
may meet on which device is not: tests/gpu/test_devices.py has torch's own bookkeeping for that.
"""

from __future__ import annotations

import os
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType, SimpleNamespace
from typing import Any

NAME = "a pretended GPU"
MIB = 1 << 20
TOTAL = 4096 * MIB


def real(device: Any) -> Any:
    """The device that stands for the pretended one."""
    return "cpu" if str(device).startswith("cuda") else device


def pretend(torch: ModuleType) -> None:
    """Put the GPU in place."""

    def moved(function: Any) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            arguments = tuple(real(a) if isinstance(a, str | torch.device) else a for a in arguments)
            if "device" in named:
                named["device"] = real(named["device"])
            return function(*arguments, **named)

        return call

    torch.Tensor.cuda = lambda tensor: tensor
    torch.Tensor.to, torch.nn.Module.to = moved(torch.Tensor.to), moved(torch.nn.Module.to)
    for name in ("empty", "zeros", "ones", "full", "tensor", "arange"):
        setattr(torch, name, moved(getattr(torch, name)))
    properties = SimpleNamespace(name=NAME, multi_processor_count=1, total_memory=TOTAL, major=9, minor=0)
    answers = {
        "is_available": True,
        "device_count": 1,
        "current_device": 0,
        "is_initialized": False,
        "get_device_name": NAME,
        "get_device_properties": properties,
        "set_device": None,
        "synchronize": None,
        "empty_cache": None,
        "reset_peak_memory_stats": None,
        "max_memory_reserved": 64 * MIB,
        "max_memory_allocated": 64 * MIB,
        "mem_get_info": (TOTAL // 2, TOTAL),
    }
    for name, answer in answers.items():
        setattr(torch.cuda, name, lambda *arguments, answer=answer: answer)


class WhenLoaded(MetaPathFinder, Loader):
    """Waits for torch: to load it here would slow every Python process down."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name != "torch":
            return None
        sys.meta_path.remove(self)
        self.spec = PathFinder.find_spec(name, path)
        if self.spec is None:
            return None
        return ModuleSpec(name, self, origin=self.spec.origin, is_package=True)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        assert self.spec is not None and self.spec.loader is not None
        module.__spec__, module.__loader__ = self.spec, self.spec.loader
        module.__path__ = list(self.spec.submodule_search_locations or [])
        module.__file__ = self.spec.origin
        self.spec.loader.exec_module(module)
        pretend(module)


if os.environ.get("CUDA_VISIBLE_DEVICES") != "":
    sys.meta_path.insert(0, WhenLoaded())
