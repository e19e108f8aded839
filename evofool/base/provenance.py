"""What a result was made with and on: versions of what can change it, and the processor."""

from __future__ import annotations

import contextlib
import os
import platform
from importlib import metadata
from pathlib import Path

__all__ = ["facts", "versions"]


def versions() -> dict[str, str]:
    """Versions of what can change a result."""
    names = ("evofool", "torch", "torchvision", "numpy", "pyarrow", "ray", "deap")
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in names}}


def facts() -> dict[str, str | int]:
    """The system, the processor and how many cores this process may use."""
    return {
        "system": platform.platform(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
    }


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
