"""Observers: who is told what a run does. They see everything and change nothing."""

from __future__ import annotations

import contextlib
import logging
import traceback
from collections.abc import Iterable
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from evofool.config import Config
from evofool.errors import first_line
from evofool.records import Facts, GenerationResult, Statistics

__all__ = [
    "Audience",
    "Committed",
    "Event",
    "GenerationPlaced",
    "Observer",
    "RunEnded",
    "RunStarted",
    "RunStopped",
    "Warned",
]

_T = TypeVar("_T")


@dataclass(frozen=True)
class RunStarted:
    """The run begins or goes on."""

    config: Config
    path: Path  # of the run; of one in an object store, of its working copy on this machine
    provenance: Facts  # what run.json says: target, encoding, cells, numerics, versions ...
    resumed_at: int | None  # the last generation of the sessions before; None for a new run
    evaluators: int
    cluster: Facts  # of Ray: nodes, cpus, gpus, address ("" if this run started it); inline on a GPU: gpu; or nothing


@dataclass(frozen=True)
class GenerationPlaced:
    """A generation was placed."""

    result: GenerationResult  # its arrays are read-only; whoever keeps one keeps the whole generation in memory
    evaluators: int
    requeued: int  # chunks that had to be scored again, so far
    evaluations_per_second: float  # so far

    @property
    def statistics(self) -> Statistics:
        """The state of the search: what a row of the history has."""
        return self.result.statistics


@dataclass(frozen=True)
class Committed:
    """Everything up to a generation is on disk for good."""

    generation: int
    archive_hash: str  # hex


@dataclass(frozen=True)
class Warned:
    """Something a person should know; it may come before the start."""

    text: str  # one sentence


@dataclass(frozen=True)
class Waiting:
    """Something takes seconds before the start."""

    text: str  # what, and the way round it


@dataclass(frozen=True)
class RunStopped:
    """The run stops after its last commit. It does not come after an error; alone, where there was nothing to do."""

    reason: str  # one sentence


@dataclass(frozen=True)
class RunEnded:
    """The last event of a session that started, whether it came to its end or to an error."""


Event = RunStarted | GenerationPlaced | Committed | Warned | Waiting | RunStopped | RunEnded


class Observer:
    """Is told of the events of a run. Its methods do nothing: an observer overrides those of the events it is for.

    One that raises is left out of the rest of the run, after a last `on_end`, and the run goes on as if it had not been
    there. KeyboardInterrupt and SystemExit end the run.

    Attributes:
        extra: of evofool, that installs the package it needs; for one that can be named in `observers.trackers`.
    """

    extra = ""

    def on_start(self, event: RunStarted) -> None:
        """The run begins or goes on."""

    def on_generation(self, event: GenerationPlaced) -> None:
        """A generation was placed."""

    def on_commit(self, event: Committed) -> None:
        """Everything up to a generation is on disk for good."""

    def on_warning(self, event: Warned) -> None:
        """Something a person should know."""

    def on_wait(self, event: Waiting) -> None:
        """Something takes seconds before the start."""

    def on_stop(self, event: RunStopped) -> None:
        """The run stops after its last commit."""

    def on_end(self, event: RunEnded) -> None:
        """The session ends; also after an error, so this is where to let go of files and connections."""


_METHODS = {
    RunStarted: "on_start",
    GenerationPlaced: "on_generation",
    Committed: "on_commit",
    Warned: "on_warning",
    Waiting: "on_wait",
    RunStopped: "on_stop",
    RunEnded: "on_end",
}


class Audience:
    """The observers of a session, each told of every event for as long as it does not raise."""

    def __init__(self, observers: Iterable[Observer]) -> None:
        self._observers = list(observers)

    def tell(self, event: Event) -> None:
        """Tell all of an event, whose arrays they cannot write to."""
        if not self._observers:
            return
        event, method = _read_only(event), _METHODS[type(event)]
        for observer in list(self._observers):
            if not any(other is observer for other in self._observers):
                continue  # left out while another was told
            try:
                getattr(observer, method)(event)
            except Exception as error:
                self._leave_out(observer, method, error)

    def _leave_out(self, observer: Observer, method: str, error: Exception) -> None:
        self._observers = [other for other in self._observers if other is not observer]
        where = traceback.extract_tb(error.__traceback__)[-1]
        text = (
            f"the observer {type(observer).__name__} is left out of the rest of this run, which goes on: its {method} "
            f"raised {first_line(error)} ({Path(where.filename).name}, line {where.lineno})."
        )
        if method != "on_end":
            with contextlib.suppress(Exception):
                observer.on_end(RunEnded())  # it may hold a file, or the terminal
        if any(type(other).on_warning is not Observer.on_warning for other in self._observers):
            self.tell(Warned(text))
        else:
            logging.getLogger("evofool").warning(text)  # nobody else would hear of it


def _read_only(value: _T) -> _T:
    """A record with views of its arrays that cannot be written to, and copies of its dicts and lists."""
    if isinstance(value, np.ndarray):
        view = value.view()
        view.flags.writeable = False
        return view
    if isinstance(value, dict):
        return type(value)((key, _read_only(item)) for key, item in value.items())
    if isinstance(value, list):
        return type(value)(map(_read_only, value))
    if isinstance(value, Config):
        return value.model_copy(deep=True)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: _read_only(getattr(value, f.name)) for f in fields(value) if f.init})
    return value
