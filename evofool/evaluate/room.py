"""How many evaluators fit: one formula, for whoever starts them and whoever plans for them."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["demand", "room"]


def demand(threads: int, device: str, per_gpu: int) -> dict[str, float]:
    """What one evaluator takes of "CPU" and "GPU".

    Args:
        device: "cpu" or "cuda".
        per_gpu: evaluators that share a GPU.
    """
    return {"CPU": threads} | ({"GPU": 1 / per_gpu} if device == "cuda" else {})


def room(supply: Mapping[str, float], each: Mapping[str, float]) -> int:
    """For how many evaluators there is room, of which each takes so much."""
    return int(min(supply.get(name, 0.0) / amount for name, amount in each.items()) + 1e-9)  # 1 / (1 / 49) is below 49
