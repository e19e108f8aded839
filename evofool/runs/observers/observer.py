"""Observers: who is told what a run does. They see everything and change nothing."""

from __future__ import annotations

from evofool.config import Config
from evofool.records import Facts, Statistics

__all__ = ["Observer"]


class Observer:
    """The events of a run. Its methods do nothing: an observer overrides those of the events it is for."""

    def on_start(self, config: Config, facts: Facts) -> None:
        """The run begins or goes on.

        `facts`: run.json's, `evaluators`, `resumed_at` (a generation, or None) and `cluster`: of Ray `nodes`, `cpus`,
        `gpus` and `address` ("" if this run started it); inline on a GPU `gpu`; else nothing.
        """

    def on_generation(self, statistics: Statistics, facts: Facts) -> None:
        """A generation was placed. `facts`: `evaluators`, `requeued` chunks, `evaluations_per_second` so far."""

    def on_commit(self, generation: int, archive_hash: str) -> None:
        """Everything up to `generation` is on disk for good."""

    def on_warning(self, text: str) -> None:
        """Something a person should know; one sentence."""

    def on_stop(self, reason: str) -> None:
        """The run ends, after its last commit. It does not come after an error."""

    def on_end(self) -> None:
        """The last event of a session that began, whether it came to its end or to an error."""
