"""Code of the user, named by `python:FILE.py:callable` or `python:package.module:callable`.

It runs only with --allow-code on this command line (or `allow_code=True` in Python), never because a configuration or a
run directory says so. Neither the current directory nor the run directory is put on the import path.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from evofool.base.places import as_path, quoted
from evofool.base.source import Source
from evofool.errors import ConfigError, EvofoolError, IncompatibleRun

__all__ = ["code_place", "load_callable"]


def load_callable(source: Source, error: type[EvofoolError] = ConfigError) -> tuple[Callable[..., Any], str]:
    """The callable of a spec.

    Args:
        error: raised if the code itself raises.

    Returns:
        The callable, and the sha256 (hex) of its file; "" for a module without a file.

    Raises:
        ConfigError: code is not allowed, or the file, module or callable does not exist.
        IncompatibleRun: the code has another sha256 than the source says. Code in a file has not run then; a module has
            been imported.
    """
    place, name = code_place(source), source.argument.rpartition(":")[2]
    module, code = _from_file(source, place, error) if place.endswith(".py") else _installed(source, place, error)
    function = getattr(module, name, None)
    if not callable(function):
        others = ", ".join(n for n in vars(module) if callable(getattr(module, n)) and not n.startswith("_")) or "none"
        raise ConfigError(f"{source.key}: {place} has no callable {name!r}; it has {others}.")
    return function, _sha256(code)


def code_place(source: Source) -> str:
    """The file or module of a spec; its code does not run.

    Raises:
        ConfigError: it is not of that form, or code is not allowed.
    """
    place, _, name = source.argument.rpartition(":")
    if source.scheme != "python" or not place or not name.isidentifier():
        raise ConfigError(
            f"{source.key}: {source.spec!r} is not python:FILE.py:callable or python:package.module:callable."
        )
    if not source.allow_code:
        raise ConfigError(
            f"{source.key}: {source.spec} runs code from {place}; add --allow-code to this command if you trust it."
        )
    return place


def _from_file(source: Source, place: str, error: type[EvofoolError]) -> tuple[types.ModuleType, bytes]:
    code = source.read(place, "give the path of a Python file")
    _refuse_other(source, code)
    # Named by content: the same file is the same module, whatever its path on this machine.
    name = f"evofool_user_{hashlib.sha256(code).hexdigest()[:16]}"
    if name in sys.modules:
        return sys.modules[name], code
    module = types.ModuleType(name)
    module.__file__ = str(as_path(place).absolute())
    sys.modules[name] = module  # before execution: dataclasses and the like look themselves up there
    try:
        exec(compile(code, place, "exec"), vars(module))
    except (Exception, SystemExit) as problem:
        del sys.modules[name]
        text = f"{source.spec}: {place} raised {type(problem).__name__}: {problem}"
        if isinstance(problem, ModuleNotFoundError):
            folder = quoted(Path(module.__file__).parent)
            text += f"; if that lies beside the file, set PYTHONPATH={folder}, as nothing is imported from there else."
        raise error(text) from problem
    return module, code


def _installed(source: Source, place: str, error: type[EvofoolError]) -> tuple[types.ModuleType, bytes]:
    try:
        module = importlib.import_module(place)
    except (ImportError, TypeError) as problem:  # TypeError: a relative name
        raise ConfigError(f"{source.key}: module {place} cannot be imported ({problem}).") from None
    except (Exception, SystemExit) as problem:
        raise error(f"python:{place}: importing it raised {type(problem).__name__}: {problem}") from problem
    file = getattr(module, "__file__", None)
    code = Path(file).read_bytes() if file else b""
    _refuse_other(source, code)
    return module, code


def _sha256(code: bytes) -> str:
    return hashlib.sha256(code).hexdigest() if code else ""


def _refuse_other(source: Source, code: bytes) -> None:
    if source.sha256 and _sha256(code) != source.sha256:
        raise IncompatibleRun(
            f"{source.key}: the code of {source.spec} is not what it was; put the old file back, or start a new run "
            "from this one's elites with --seed-from."
        )
