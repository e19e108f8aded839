"""Observers: who is told what a run does. They see everything and change nothing."""

from __future__ import annotations

from evofool.config import Config
from evofool.records import Facts, Statistics

__all__ = ["Observer"]


class Observer:
    """The events of a run; a base whose methods do nothing. An observer overrides what it wants to hear."""

    def on_start(self, config: Config, facts: Facts) -> None:
        """The run begins or goes on. `facts` is what run.json says, and `resumed_at` (a generation, or None)."""

    def on_generation(self, statistics: Statistics, facts: Facts) -> None:
        """A generation was placed. `facts` holds evaluators, requeued chunks and evaluations per second."""

    def on_commit(self, generation: int, archive_hash: str) -> None:
        """Everything up to `generation` is on disk for good."""

    def on_warning(self, text: str) -> None:
        """Something a person should know; one sentence."""

    def on_stop(self, reason: str) -> None:
        """The run ends, after its last commit."""
