"""Every way evofool refuses or fails, and the exit code of each.

    EvofoolError ............................ 1   failed otherwise
    ├── ConfigError ......................... 2   usage or configuration
    │   ├── RunNotFound ..................... 2   there is no run at a path
    │   └── ClassNotFound ................... 2   a class that a network, or an archive, does not have
    ├── IncompatibleRun ..................... 3   config, weights or numerics differ from the run's
    ├── ResourcesMissing .................... 3   the cluster lacks something, or does not answer
    ├── CorruptData ......................... 4   a stored file is damaged, or verification failed
    │   └── InvalidGenome ................... 4   a stored genome breaks a rule
    ├── RunLocked ........................... 5   another driver writes this run
    ├── TargetError ......................... 6   the network under test failed
    ├── EvaluationFailed .................... 7   a poison chunk, or no healthy evaluator
    ├── StorageError ........................ 74  input/output: disk full, read-only, not permitted
    └── Stopped ............................. 130 / 143   by a signal, after a clean commit

A message is one sentence that names the key, file or value and the way out. `safe` says what is safely on disk and
`go_on` is the command that continues; the command line prints both.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "ClassNotFound",
    "ConfigError",
    "CorruptData",
    "EvaluationFailed",
    "EvofoolError",
    "IncompatibleRun",
    "InvalidGenome",
    "ResourcesMissing",
    "RunLocked",
    "RunNotFound",
    "Stopped",
    "StorageError",
    "TargetError",
    "first_line",
    "nearest",
]


class EvofoolError(Exception):
    """Base of all errors evofool raises on purpose.

    Args:
        message: one sentence: what is wrong, where, and the way out.
        safe: what is safely on disk, if a run was under way.
        go_on: the command that goes on from it.
    """

    exit_code = 1

    def __init__(self, message: str, *, safe: str | None = None, go_on: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.safe = safe
        self.go_on = go_on

    def __reduce__(self) -> tuple[object, ...]:
        # Errors cross process borders (Ray), and keyword arguments would be lost by the default.
        return (type(self), (self.message,), vars(self))


class ConfigError(EvofoolError):
    """A command line or a configuration that makes no sense."""

    exit_code = 2


class RunNotFound(ConfigError):
    """There is no run at a path, or something else."""


class ClassNotFound(ConfigError):
    """A class that the target does not have, or that has no elite."""


class IncompatibleRun(EvofoolError):
    """The request would not continue the same run."""

    exit_code = 3


class ResourcesMissing(EvofoolError):
    """The Ray cluster does not answer or has too little of something."""

    exit_code = 3


class CorruptData(EvofoolError):
    """A stored file is missing or damaged, or what it holds gives another result than when it was stored."""

    exit_code = 4


class InvalidGenome(CorruptData):
    """A genome that is not one: a cycle, a repeated id, a weight that is not finite, an absurd size."""


class RunLocked(EvofoolError):
    """Another driver holds the run directory."""

    exit_code = 5


class TargetError(EvofoolError):
    """The network under test could not be built, or does not give scores."""

    exit_code = 6


class EvaluationFailed(EvofoolError):
    """A chunk could not be scored anywhere, or no evaluator is left."""

    exit_code = 7


class StorageError(EvofoolError):
    """The file system refused."""

    exit_code = 74


class Stopped(EvofoolError):
    """A signal ended the run after its last generation was committed."""

    def __init__(
        self, message: str, *, safe: str | None = None, go_on: str | None = None, exit_code: int = 130
    ) -> None:
        super().__init__(message, safe=safe, go_on=go_on)
        self.exit_code = exit_code


def first_line(error: BaseException) -> str:
    """A library's error in short, to be quoted: its class and the first 160 characters of its text's first line."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:160]}".removesuffix(": ")


def nearest(name: str, known: Iterable[str], otherwise: str, cutoff: float = 0.6) -> str:
    """How a message about an unknown name goes on: "nearest are ..." with up to three known ones, or `otherwise`."""
    matches = difflib.get_close_matches(name, known, n=3, cutoff=cutoff)
    return f"nearest are {', '.join(matches)}" if matches else otherwise
