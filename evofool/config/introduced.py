"""The value that each key of a configuration was introduced with: what every run made before it was like.

A fingerprint leaves out keys at this value, and a stored configuration that lacks a key has this value. So a later
version may add keys, and may give old ones a better default, without making another run of any that is stored.

This table only grows: a new key is appended with the value that means what was done before there was the key. To change
a default, change it in sections.py alone; to remove a key there, leave its row here.
"""

from __future__ import annotations

from evofool.records import Facts

__all__ = ["INTRODUCED"]

INTRODUCED: Facts = {
    "schema_version": 1,
    "name": "run",
    "seed": 1,
    "target.spec": None,  # every configuration names one
    "target.classes": "all",
    "target.geometry": "native",
    "target.output": "declared",
    "target.crops": 1,
    "encoding.kind": "cppn",
    "encoding.colour": "auto",
    "encoding.quantisation": "round",
    "encoding.coordinates": "unit",
    "encoding.output": "shifted",
    "encoding.activations": ["sine", "sigmoid", "gaussian", "linear"],
    "encoding.arithmetic": "torch",
    "encoding.weight_limit": 10.0,
    "variation.crossover_rate": 0.0,
    "variation.crossover_eta": 10.0,
    "variation.mutation": "polynomial",
    "variation.mutation_rate": 0.1,
    "variation.mutation_eta": 15.0,
    "variation.activation_rate": 0.1,
    "variation.add_connection": 0.5,
    "variation.delete_connection": 0.3,
    "variation.rewire_connection": 0.0,
    "variation.split_connection": 0.5,
    "variation.split": "neutral",
    "variation.parallel_connections": False,
    "variation.delete_node": 0.2,
    "variation.operators": {},
    "variation.schedules": {},
    "search.offspring": 200,
    "search.initial": 200,
    "search.lag": 2,
    "search.insertion": "every_class",
    "search.objective": "log_odds",
    "search.selection": "cells",
    "search.generations": 200,
    "search.max_evaluations": None,
    "search.max_time": None,
    "search.stop_when": [],
    "evaluation.pool": "ray",
    "evaluation.evaluators": "auto",
    "evaluation.evaluators_per_gpu": 1,
    "evaluation.device": "auto",
    "evaluation.chunk": "auto",
    "evaluation.micro_batch": "auto",
    "evaluation.threads": 1,
    "evaluation.memory_format": "auto",
    "evaluation.precision": "float32",
    "evaluation.compile": "none",
    "evaluation.chunk_timeout": 600.0,
    "evaluation.ready_timeout": 120.0,
    "storage.path": "runs",
    "storage.history": "full",
    "storage.commit_every": 10,
    "storage.snapshot_every": 30.0,
    "observers.progress": "auto",
    "observers.trackers": [],
    "target.combine": "mean",
    "search.mode": "map_elites",
    "variation.full_rate_up_to": None,
    "target.readouts": [],
}
