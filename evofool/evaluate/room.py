"""How many evaluators fit: one formula, for whoever starts them and whoever plans for them."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["demand", "room"]


def demand(threads: int, device: str, per_gpu: int) -> dict[str, float]:
    """How much of "CPU" (a core for each thread) and "GPU" one evaluator occupies.

    Args:
        device: "cpu" or "cuda".
        per_gpu: evaluators that share a GPU.
    """
    return {"CPU": threads} | ({"GPU": 1 / per_gpu} if device == "cuda" else {})


def room(supply: Mapping[str, float], each: Mapping[str, float]) -> int:
    """How many evaluators fit into a supply: `room({"CPU": 8}, {"CPU": 3})` is 2."""
    return int(min(supply.get(name, 0.0) / amount for name, amount in each.items()) + 1e-9)  # 1 / (1 / 49) is below 49
