"""Every key of the configuration with its kind and a second valid value, for tests that go over all of them."""

from __future__ import annotations

import copy
from typing import Any

from evofool.config import key_table

BASE = {"target": {"spec": "lenet:weights.safetensors"}}
SECTIONS = ("target", "encoding", "variation", "search", "evaluation", "storage", "observers")

# Every key that a resumed run may change. All others must be semantic.
KINDS = {
    "name": "operational",
    "evaluation.pool": "operational",
    "evaluation.evaluators": "operational",
    "evaluation.evaluators_per_gpu": "operational",
    "evaluation.chunk_timeout": "operational",
    "evaluation.ready_timeout": "operational",
    "storage.path": "operational",
    "storage.history": "operational",
    "storage.commit_every": "operational",
    "storage.snapshot_every": "operational",
    "observers.progress": "operational",
    "observers.trackers": "operational",
    "evaluation.device": "numerics",
    "evaluation.chunk": "numerics",
    "evaluation.micro_batch": "numerics",
    "evaluation.threads": "numerics",
    "evaluation.memory_format": "numerics",
    "evaluation.precision": "numerics",
    "evaluation.compile": "numerics",
    "search.generations": "stopping",
    "search.max_evaluations": "stopping",
    "search.max_time": "stopping",
    "search.stop_when": "stopping",
}

# A valid value that is not the default. schema_version has one value only.
OTHER: dict[str, Any] = {
    "name": "other-{seed}",
    "seed": 99,
    "target.spec": "python:mynet.py:build",
    "target.combine": "min",
    "target.classes": [0, "seven"],
    "target.readouts": ["0:1", "features.3.squeeze:17@6,2:relu"],
    "target.geometry": "published",
    "target.output": "probabilities",
    "target.crops": 10,
    "encoding.kind": "direct",
    "encoding.colour": "rgb",
    "encoding.quantisation": "truncate",
    "encoding.coordinates": "raw",
    "encoding.output": "absolute",
    "encoding.activations": ["sine", "linear"],
    "encoding.arithmetic": "torch",
    "encoding.weight_limit": 3.5,
    "variation.crossover_rate": 0.25,
    "variation.crossover_eta": 2.5,
    "variation.mutation": "polynomial_clipped",
    "variation.mutation_rate": 0.125,
    "variation.mutation_eta": 7.0,
    "variation.activation_rate": 0.25,
    "variation.add_connection": 0.25,
    "variation.delete_connection": 0.25,
    "variation.rewire_connection": 0.25,
    "variation.split_connection": 0.25,
    "variation.split": "both_halves",
    "variation.parallel_connections": True,
    "variation.delete_node": 0.25,
    "variation.full_rate_up_to": 12,
    "variation.operators": {"mutate": "python:mine.py:mutate"},
    "variation.schedules": {"mutation_rate": {"kind": "halving", "every": 1000, "floor": 0.0}},
    "search.mode": "single_class",
    "search.offspring": 31,
    "search.initial": 33,
    "search.lag": 3,
    "search.insertion": "argmax",
    "search.objective": "margin",
    "search.selection": "individuals",
    "search.generations": 33,
    "search.max_evaluations": 12_345,
    "search.max_time": 3600.5,
    "search.stop_when": ["median >= 0.9999", "stale > 50"],
    "evaluation.pool": "inline",
    "evaluation.evaluators": 3,
    "evaluation.evaluators_per_gpu": 2,
    "evaluation.device": "cuda",
    "evaluation.chunk": 96,
    "evaluation.micro_batch": 24,
    "evaluation.threads": 2,
    "evaluation.memory_format": "channels_last",
    "evaluation.precision": "bfloat16",
    "evaluation.compile": "default",
    "evaluation.chunk_timeout": 30.5,
    "evaluation.ready_timeout": 31.5,
    "storage.path": "elsewhere",
    "storage.history": "elites",
    "storage.commit_every": 7,
    "storage.snapshot_every": 0.0,
    "observers.progress": "none",
    "observers.trackers": ["tensorboard"],
}
KEYS = tuple(key_table())


def nested(key: str, value: Any) -> dict[str, Any]:
    """The smallest valid configuration, with one key set."""
    data = copy.deepcopy(BASE)
    place: dict[str, Any] = data
    *sections, last = key.split(".")
    for section in sections:
        place = place.setdefault(section, {})
    place[last] = value
    return data
