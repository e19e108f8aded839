"""One function called on every node of a cluster, for what only a node itself can tell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray import exceptions as ray_errors
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

__all__ = ["Answer", "on_every_node"]

TIMEOUT = 60.0  # seconds to wait for all nodes together


@dataclass(frozen=True)
class Answer:
    """What a call returned on one node, or why it did not."""

    host: str
    address: str
    declared: dict[str, float] = field(default_factory=dict)  # resources Ray believes it has
    value: Any = None  # what the function returned
    error: str = ""  # a line; empty where it returned


def on_every_node(function: Callable[..., object], arguments: Sequence[object]) -> list[Answer]:
    """Call a function of an installed module once on each living node of the connected cluster."""
    task = ray.remote(function)
    calls = []
    for node in (node for node in ray.nodes() if node["Alive"]):
        # Hard affinity: softly, another node would answer for it. No CPU is asked for, so a busy cluster answers too.
        where = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        options = task.options(num_cpus=0, max_retries=0, scheduling_strategy=where)
        calls.append((node, options.remote(*arguments)))
    ready, _ = ray.wait([call for _, call in calls], num_returns=len(calls), timeout=TIMEOUT)
    answers = []
    for node, call in calls:
        value, error = None, f"no answer within {TIMEOUT:g} s"
        if call in ready:
            try:
                value, error = ray.get(call), ""
            except ray_errors.RayError as problem:
                error = str(getattr(problem, "cause", None) or problem).strip().splitlines()[-1]
        answers.append(Answer(node["NodeManagerHostname"], node["NodeManagerAddress"], node["Resources"], value, error))
    return answers
