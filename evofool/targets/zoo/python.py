"""`python:FILE.py:callable` and `python:package.module:callable`: a target that the user's own code builds.

The callable takes no arguments and returns an `evofool.Target`. When it may run: usercode.py. What it reads beside its
own file it names in `Target.files`, so that the fingerprint sees it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from evofool.base.source import Source
from evofool.base.usercode import load_callable
from evofool.errors import TargetError
from evofool.targets.family import Family
from evofool.targets.target import Target

__all__ = ["FAMILY", "load"]


def load(source: Source) -> Target:
    """Run the callable of a spec.

    Raises:
        ConfigError: code is not allowed, or the file, module or callable is not there.
        TargetError: the callable raises, or returns something else than a Target.
    """
    factory, code_sha256 = load_callable(source, TargetError)
    name = source.argument.rpartition(":")[2]
    try:
        target = factory()
    except (Exception, SystemExit) as error:
        raise TargetError(f"{source.spec}: {name}() raised {type(error).__name__}: {error}") from error
    if not isinstance(target, Target):
        raise TargetError(
            f"{source.spec}: {name}() returned {type(target).__name__}, not evofool.Target; "
            "return evofool.Target(module, evofool.Preprocessing(...), class_names)."
        )
    return replace(target, spec=source.spec, code_sha256=_with_files(code_sha256, target.files, source))


def _with_files(code_sha256: str, named: Sequence[str | Path], source: Source) -> str:
    """The sha256 (hex) of the code, together with the files that its target names, if any.

    Each machine hashes the file that it has, since that is the one that the code opened.

    Raises:
        ConfigError: one cannot be read.
    """
    if isinstance(named, str | Path):
        named = (named,)
    hashes = []
    for path in map(str, named):
        blob = Source(source.spec, key=source.key).read(path, "Target(files=...) names it; give the path of a file")
        hashes.append(hashlib.sha256(blob).hexdigest())
    return hashlib.sha256(json.dumps([code_sha256, *hashes]).encode()).hexdigest() if hashes else code_sha256


def files(argument: str) -> list[str]:
    """The Python file of `FILE.py:callable`; a module is looked for where it is installed."""
    place = argument.rpartition(":")[0]
    return [place] if place.endswith(".py") else []


FAMILY = Family(form="python:FILE.py:callable or python:package.module:callable", load=load, files=files)
