"""What a series of trials found."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["Outcome"]


class Outcome:
    """Counts of what happened, and every violation of a promise in words."""

    def __init__(self) -> None:
        self.trials = 0
        self.counts: Counter[str] = Counter()
        self.violations: list[str] = []
        self._began = time.monotonic()
        self.seconds = 0.0

    @contextmanager
    def trial(self, name: str) -> Iterator[None]:
        """One trial: an assertion that fails in it, or an error nobody expected, is a violation."""
        self.trials += 1
        try:
            yield
        except Exception as error:
            self.violations.append(f"{name}: {type(error).__name__}: {error}")
        self.seconds = time.monotonic() - self._began

    def text(self) -> str:
        """The counts in words, violations first."""
        counts = [f"{n:,} {what}" for what, n in self.counts.items()]
        return ", ".join([f"**{len(self.violations)} violations**" if self.violations else "0 violations", *counts])

    def facts(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "trials": self.trials,
            "counts": dict(self.counts),
            "violations": self.violations,
            "seconds": round(self.seconds, 1),
        }
