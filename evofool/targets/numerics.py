"""Shapes and layouts that suit a device and a family of networks: a fixed table."""

from __future__ import annotations

from evofool.records import Numerics

__all__ = ["default_numerics"]


# Shapes and layouts by (device type, family). They are part of the numerics, so nothing measured at run time may
# choose them, and a changed entry is a result-changing commit.
_NUMERICS = {
    ("cpu", "lenet"): Numerics(device="cpu", chunk=100, micro_batch=50, threads=1, memory_format="contiguous"),
    ("cpu", "efficientnet-lite"): Numerics(
        device="cpu", chunk=16, micro_batch=16, threads=1, memory_format="channels_last"
    ),
    ("cpu", "any"): Numerics(device="cpu", chunk=16, micro_batch=8, threads=1, memory_format="channels_last"),
    ("cuda", "lenet"): Numerics(device="cuda", chunk=200, micro_batch=200, threads=1, memory_format="contiguous"),
    ("cuda", "any"): Numerics(device="cuda", chunk=64, micro_batch=64, threads=1, memory_format="channels_last"),
}


def default_numerics(device: str, family: str) -> Numerics:
    """Shapes and layouts for a device type and a target family, from a fixed table."""
    return _NUMERICS.get((device, family)) or _NUMERICS[device, "any"]
