"""evofool: evolutionary search for images that a classifier is sure about and that mean nothing to a person.

>>> import evofool
>>> run = evofool.run("quickstart", ["evaluation.pool=inline"])   # doctest: +SKIP
>>> run.elites()[["class_name", "confidence", "generation"]]    # doctest: +SKIP

Everything here is loaded when first used, so that `import evofool` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "Config": "config",
    "EvofoolError": "errors",
    "Genome": "report.html",
    "Objective": "archive.objectives",
    "Observer": "runs.observers.observer",
    "OpenCluster": "base.addresses",
    "Preprocessing": "targets.target",
    "Readings": "archive.objectives",
    "Run": "store.reader",
    "Search": "search.loop",
    "Target": "targets.target",
    "deap_crossover": "encoding.own",
    "deap_mutation": "encoding.own",
    "load_config": "config",
    "load_target": "targets.families",
    "make_ensemble": "targets.ensemble",
    "make_progress": "runs.observers.progress",
    "make_search": "search.asking",
    "matrix": "studies.transfer",
    "merge": "runs.runner",
    "open_run": "store.reader",
    "register_activation": "encoding.cppn.activations",
    "render": "encoding.exchange",
    "resume": "runs.runner",
    "rng": "base.rng",
    "run": "runs.runner",
    "run_design": "studies.design",
    "score": "studies.score",
    "transfer": "studies.transfer",
    "verify": "runs.verify",
}

__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib import metadata

        return metadata.version("evofool")
    if name not in _HOMES:
        raise AttributeError(f"module 'evofool' has no attribute {name!r}")
    home = importlib.import_module(f"evofool.{_HOMES[name]}")
    return home if name == "rng" else getattr(home, name)  # rng is a module: functions for operators of one's own


def __dir__() -> list[str]:
    return sorted(__all__)
