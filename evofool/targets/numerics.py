"""Shapes and layouts that suit a device and a family of networks: the family's own, or those for any."""

from __future__ import annotations

from evofool.base.registry import FAMILIES, load
from evofool.records import Numerics

__all__ = ["default_numerics"]


# Shapes and layouts by device type, for whatever has none of its own. They are part of the numerics, so nothing
# measured at run time may choose them, and a changed entry is a result-changing commit.
_ANY = {
    "cpu": Numerics(device="cpu", chunk=16, micro_batch=8, threads=1, memory_format="channels_last"),
    "cuda": Numerics(device="cuda", chunk=64, micro_batch=64, threads=1, memory_format="channels_last"),
}


def default_numerics(device: str, family: str) -> Numerics:
    """Shapes and layouts for a device type and a target family, which need not be one of the table FAMILIES."""
    own = load(FAMILIES[family]).numerics if family in FAMILIES else {}
    numerics: Numerics = own.get(device, _ANY[device])
    return numerics
