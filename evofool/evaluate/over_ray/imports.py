"""What evaluators import besides evofool: whether workers of this machine would find it, asked before any is started.

A worker is a new process: what a program has put on its import path since it began is not on the worker's.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from ray import cloudpickle

from evofool.base.source import Source
from evofool.errors import ConfigError
from evofool.evaluate.problem import Problem
from evofool.targets.specs import sources_of

__all__ = ["is_imported_from", "refuse_missing"]

_THERE = {"evofool", "numpy", "torch", "torchvision", *sys.stdlib_module_names}
_LOOK = """
import importlib.util, json, sys
folders, names = json.loads(sys.argv[1])
sys.path[:0] = folders
print(json.dumps([name for name in names if importlib.util.find_spec(name) is None]))
"""


def is_imported_from(folder: str) -> bool:
    """Whether this process imports from a folder."""
    return os.path.realpath(folder) in {os.path.realpath(entry) for entry in sys.path}


def refuse_missing(problem: Problem) -> None:
    """Refuse a problem for whose evaluators a worker of this machine could not import a module.

    Raises:
        ConfigError: naming the module, who needs it, and the way out.
    """
    needed = {name: why for name, why in _needed(problem) if name not in _THERE}
    if not needed:
        return
    # Ray puts these two in front, where this process has them.
    folders = [str(f) for f in (Path(sys.argv[0]).resolve().parent, Path.cwd()) if is_imported_from(str(f))]
    command = [sys.executable, "-P", "-c", _LOOK, json.dumps([folders, list(needed)])]
    answer = subprocess.run(command, capture_output=True, text=True).stdout
    if missing := json.loads(answer or "[]"):
        raise ConfigError(f"{needed[missing[0]]}.")


def _needed(problem: Problem) -> Iterator[tuple[str, str]]:
    """Each module that evaluators import, by its name up to the first dot, and what to say if they cannot."""
    source = problem.opened.source
    sources = [problem.objective, *problem.activations]
    if isinstance(source, Source):
        sources += sources_of(problem.opened.section, source)
    else:
        by_value = cloudpickle.list_registry_pickle_by_value() | {"__main__"}
        for module in {type(part).__module__ for part in source.module.modules()} - by_value:
            name = module.partition(".")[0]
            yield (
                name,
                f"target: the live network has classes of the module {name}, which this program found"
                f"{_place_of(name)} and evaluators over Ray would not; set PYTHONPATH to its folder, or name the "
                "network by a spec, python:FILE.py:callable, in place of a live one",
            )
    for source in sources:
        place = source.argument.rpartition(":")[0]
        if source.scheme == "python":
            for name in _imports(source.files.get(place, b"")) if place.endswith(".py") else [place.partition(".")[0]]:
                yield (
                    name,
                    f"{source.key}: {source.spec} imports {name}, which this program found{_place_of(name)} and "
                    "evaluators over Ray would not; set PYTHONPATH to its folder",
                )


def _imports(code: bytes) -> list[str]:
    """The modules that a file imports whatever happens, by their names up to the first dot."""
    names = []
    for statement in ast.parse(code).body:
        if isinstance(statement, ast.Import):
            names += [alias.name for alias in statement.names]
        elif isinstance(statement, ast.ImportFrom) and not statement.level and statement.module:
            names.append(statement.module)
    return [name.partition(".")[0] for name in names]


def _place_of(name: str) -> str:
    file = getattr(sys.modules.get(name), "__file__", None)
    return f" at {file}" if file else ""
