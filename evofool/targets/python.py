"""`python:FILE.py:callable` and `python:package.module:callable`: a target that the user's own code builds.

The callable takes no arguments and returns an `evofool.Target`. It runs only where --allow-code was given on this
command line (or `allow_code=True` in Python), never because a config or a run directory says so. Neither the current
directory nor the run directory is put on the import path.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
import types
from dataclasses import replace
from pathlib import Path

from evofool.errors import ConfigError, TargetError
from evofool.targets.source import Source
from evofool.targets.target import Target

__all__ = ["load"]


def load(source: Source) -> Target:
    """Run the callable of a spec.

    Raises:
        ConfigError: code is not allowed, or the file, module or callable is not there.
        TargetError: the callable raises, or returns something else than a Target.
    """
    place, _, name = source.argument.rpartition(":")
    if not place or not name.isidentifier():
        raise ConfigError(
            f"target.spec: {source.spec!r} is not python:FILE.py:callable or python:package.module:callable."
        )
    if not source.allow_code:
        raise ConfigError(
            f"target.spec: {source.spec} runs code from {place}; add --allow-code to this command if you trust it."
        )
    module, code = _from_file(source, place) if place.endswith(".py") else _installed(place)
    factory = getattr(module, name, None)
    if not callable(factory):
        there = ", ".join(n for n in vars(module) if callable(getattr(module, n)) and not n.startswith("_")) or "none"
        raise ConfigError(f"target.spec: {place} has no callable {name!r}; it has {there}.")
    try:
        target = factory()
    except (Exception, SystemExit) as error:
        raise TargetError(f"{source.spec}: {name}() raised {type(error).__name__}: {error}") from error
    if not isinstance(target, Target):
        raise TargetError(
            f"{source.spec}: {name}() returned {type(target).__name__}, not evofool.Target; "
            "return evofool.Target(module, evofool.Preprocessing(...), class_names)."
        )
    return replace(target, spec=source.spec, code_sha256=hashlib.sha256(code).hexdigest() if code else "")


def _from_file(source: Source, place: str) -> tuple[types.ModuleType, bytes]:
    code = source.read(place, "give the path of a Python file")
    # Named by content: the same file is the same module, whatever its path on this machine.
    name = f"evofool_target_{hashlib.sha256(code).hexdigest()[:16]}"
    if name in sys.modules:
        return sys.modules[name], code
    module = types.ModuleType(name)
    module.__file__ = str(Path(place).absolute())
    sys.modules[name] = module  # before execution: dataclasses and the like look themselves up there
    try:
        exec(compile(code, place, "exec"), vars(module))
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise TargetError(f"{source.spec}: {place} raised {type(error).__name__}: {error}") from error
    return module, code


def _installed(place: str) -> tuple[types.ModuleType, bytes]:
    try:
        module = importlib.import_module(place)
    except (ImportError, TypeError) as error:  # TypeError: a relative name
        raise ConfigError(f"target.spec: module {place} cannot be imported ({error}).") from None
    except (Exception, SystemExit) as error:
        raise TargetError(f"python:{place}: importing it raised {type(error).__name__}: {error}") from error
    file = getattr(module, "__file__", None)
    return module, Path(file).read_bytes() if file else b""
