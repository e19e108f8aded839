"""When a search stops: limits, conditions, signals."""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

import numpy as np

from evofool.config import Config, parse_condition
from evofool.records import Statistics

__all__ = ["Stopper", "signals"]

_OPS = {">=": np.greater_equal, "<=": np.less_equal, ">": np.greater, "<": np.less}


class Stopper:
    """Says when to stop, and why."""

    def __init__(self, config: Config) -> None:
        self._limits = config.search
        self._conditions = [parse_condition(text) for text in config.search.stop_when]
        self._started = time.monotonic()
        self._deadline = math.inf
        self.signal: int | None = None
        self.checkpoint = False  # asked for by SIGUSR1
        self.reason = ""

    def stop(self, number: int, grace: float) -> None:
        """Stop after the generation under way, because of a signal; it is overdue after `grace` seconds."""
        self.signal, self._deadline = number, time.monotonic() + grace

    def overdue(self) -> bool:
        """Whether to abandon what is in flight."""
        return time.monotonic() > self._deadline

    def __call__(self, s: Statistics | None) -> bool:
        limits, elapsed = self._limits, time.monotonic() - self._started
        if self.signal is not None:
            self.reason = f"stopped by {signal.Signals(self.signal).name}"
        elif s is None:
            return False
        elif limits.generations is not None and s.generation + 1 >= limits.generations:
            self.reason = f"{s.generation + 1} generation{'s' * (s.generation > 0)} done"
        elif limits.max_evaluations is not None and s.evaluations >= limits.max_evaluations:
            self.reason = f"{s.evaluations} evaluations done"
        elif limits.max_time is not None and elapsed >= limits.max_time:
            self.reason = f"{elapsed:.0f} seconds are over"
        elif self._conditions and all(_OPS[op](getattr(s, name), value) for name, op, value in self._conditions):
            self.reason = f"{' and '.join(limits.stop_when)} at generation {s.generation}"
        return bool(self.reason)


@contextlib.contextmanager
def signals(stopper: Stopper, grace: float, tell: Callable[[str], None]) -> Iterator[None]:
    """Handle signals inside the `with`, in the main thread.

    The first SIGINT or SIGTERM asks the loop to finish its generation, for `grace` seconds at most, and to commit; a
    second SIGINT stops at once. SIGUSR1 asks for a commit and a view at the end of the generation.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def finish(number: int, frame: FrameType | None) -> None:
        if stopper.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        stopper.stop(number, grace)
        tell("finishing this generation, then committing; interrupt again to stop at once.")

    def checkpoint(number: int, frame: FrameType | None) -> None:
        stopper.checkpoint = True

    old = {number: signal.signal(number, finish) for number in (signal.SIGINT, signal.SIGTERM)}
    old[signal.SIGUSR1] = signal.signal(signal.SIGUSR1, checkpoint)
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
