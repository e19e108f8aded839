"""evofool: evolutionary search for images that a classifier is sure about and that mean nothing to a person.

>>> import evofool
>>> run = evofool.run("configs/quickstart.yaml", ["evaluation.pool=inline"])   # doctest: +SKIP
>>> run.elites()[["class_name", "confidence", "generation"]]                   # doctest: +SKIP

Everything here is loaded when first used, so that `import evofool` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "Config": "config",
    "EvofoolError": "errors",
    "Observer": "observers",
    "OpenCluster": "addresses",
    "Preprocessing": "targets",
    "Run": "store.reader",
    "Search": "search",
    "Target": "targets",
    "deap_crossover": "operators",
    "deap_mutation": "operators",
    "load_config": "config",
    "load_target": "targets",
    "make_search": "runner",
    "matrix": "studies.transfer",
    "merge": "runner",
    "open_run": "store.reader",
    "register_activation": "encoding.activations",
    "render": "encoding.exchange",
    "resume": "runner",
    "run": "runner",
    "score": "scoring",
    "transfer": "studies.transfer",
    "verify": "verification",
}

__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib import metadata

        return metadata.version("evofool")
    if name not in _HOMES:
        raise AttributeError(f"module 'evofool' has no attribute {name!r}")
    return getattr(importlib.import_module(f"evofool.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
