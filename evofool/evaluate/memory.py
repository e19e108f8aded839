"""The machine below an evaluator: which it is, as far as scores go, and its memory, where what was freed is kept.

glibc hands large blocks back to the kernel when they are freed, and every forward pass then waits for thousands of
pages to be zeroed again: a third of the time of efficientnet-lite0 on a CPU. No bit of a score depends on this.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
from typing import Any

import torch

from evofool.base import provenance
from evofool.base.provenance import proc

__all__ = [
    "available_mib",
    "gpu_described",
    "gpu_mib",
    "gpu_peak_mib",
    "gpus",
    "keep_freed_memory",
    "memory_mib",
    "peak_rss_mib",
    "platform",
]

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # of malloc.h


def keep_freed_memory() -> None:
    """Let this process reuse freed memory instead of returning it; where the C library cannot, nothing changes."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(_MMAP_MAX, 0)
        mallopt(_TOP_PAD, 64 << 20)


def peak_rss_mib() -> float:
    """The largest resident set of this process so far, in MiB."""
    return memory_mib()[1]


def gpus() -> int:
    """How many CUDA devices torch sees."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def gpu_described() -> str:
    """The GPU that this process uses, as far as bits of scores may depend on it; "" without one."""
    if not gpus():
        return ""
    gpu = torch.cuda.get_device_properties(torch.cuda.current_device())
    return f"{gpu.name}, {gpu.multi_processor_count} multiprocessors, CUDA {torch.version.cuda}"


def platform(device: str) -> str:
    """16 hex digits that stand for what scores on "cpu" or "cuda" are made by: processor, instructions, GPU, versions.

    The same where bits of scores can differ only because the network does.
    """
    machine = provenance.facts()
    del machine["cores"]
    by: list[Any] = [provenance.versions(), machine, torch.__version__, torch.backends.cpu.get_cpu_capability()]
    if device == "cuda":
        by += [gpu_described(), torch.backends.cudnn.version()]
    return hashlib.sha256(json.dumps(by, sort_keys=True).encode()).hexdigest()[:16]


def gpu_mib() -> float:
    """The memory of that GPU, in MiB; 0 without one."""
    return torch.cuda.mem_get_info()[1] / (1 << 20) if gpus() else 0.0


def gpu_peak_mib() -> float:
    """The most memory that torch kept for tensors of this process on that GPU, in MiB; 0 without one."""
    return torch.cuda.max_memory_reserved() / (1 << 20) if gpus() else 0.0


def memory_mib() -> tuple[float, float]:
    """Resident memory of this process now and at its peak, in MiB."""
    # Not getrusage: its peak begins with that of the process that started this one.
    facts = proc("self/status")
    return int(facts["VmRSS"].split()[0]) / 1024, int(facts["VmHWM"].split()[0]) / 1024


def available_mib() -> float:
    """Memory that new processes of this machine can have, in MiB."""
    return int(proc("meminfo")["MemAvailable"].split()[0]) / 1024
