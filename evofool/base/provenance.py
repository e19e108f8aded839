"""What a result was made with and on: versions of what can change it, and the processor."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path

__all__ = ["facts", "proc", "versions"]

PACKAGES = ("evofool", "torch", "torchvision", "numpy", "pyarrow", "ray", "deap")


def versions(*more: str) -> dict[str, str]:
    """Versions of what can change a result, and of `more` packages; "" where one is missing."""
    return {"python": platform.python_version(), **{name: _version(name) for name in (*PACKAGES, *more)}}


def facts() -> dict[str, str | int]:
    """The system, the processor and how many cores this process may use."""
    return {
        "system": platform.platform(),
        "processor": proc("cpuinfo").get("model name") or platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
    }


def proc(name: str) -> dict[str, str]:
    """The `key: value` lines of a file of /proc such as "cpuinfo"; of a repeated key the first. {} without the file."""
    try:
        lines = Path("/proc", name).read_text().splitlines()
    except OSError:
        return {}
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in reversed(lines))}


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:  # a source tree on the path, for instance
        return ""
