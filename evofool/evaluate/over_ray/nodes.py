"""One call on every node of a cluster, for what only a node itself can tell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray import exceptions as ray_errors
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

__all__ = ["Answer", "on_every_node"]


@dataclass(frozen=True)
class Answer:
    """What a call gave on one node, or why it gave nothing."""

    host: str
    address: str
    declared: dict[str, float] = field(default_factory=dict)  # resources Ray believes it has
    value: Any = None
    error: str = ""


def on_every_node(function: Callable[..., Any], arguments: Sequence[Any], timeout: float = 60.0) -> list[Answer]:
    """Call a function of an installed module once on each living node of the connected cluster.

    Args:
        timeout: seconds to wait for all of them together.
    """
    task = ray.remote(function)
    sent = []
    for node in (node for node in ray.nodes() if node["Alive"]):
        # Hard affinity: softly, another node would answer for it. No CPU is asked for, so a busy cluster answers too.
        where = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        options = task.options(num_cpus=0, max_retries=0, scheduling_strategy=where)
        sent.append((node, options.remote(*arguments)))
    ready, _ = ray.wait([call for _, call in sent], num_returns=len(sent), timeout=timeout)
    answers = []
    for node, call in sent:
        value, error = None, f"no answer within {timeout:g} s"
        if call in ready:
            try:
                value, error = ray.get(call), ""
            except ray_errors.RayError as problem:
                error = str(getattr(problem, "cause", None) or problem).strip().splitlines()[-1]
        answers.append(Answer(node["NodeManagerHostname"], node["NodeManagerAddress"], node["Resources"], value, error))
    return answers
