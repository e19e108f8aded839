"""Torch's settings, which belong to the whole process: set as numerics need them, and put back afterwards."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from evofool.records import Numerics

__all__ = ["Settings", "applied", "settle"]


@dataclass(frozen=True)
class Settings:
    """Torch's settings that scores depend on, besides the number of threads; by default as evaluators need them."""

    deterministic: bool = True
    warn_only: bool = False
    # Deterministic algorithms fill memory that is about to be overwritten, to catch operators that read it first.
    fill_uninitialized_memory: bool = False
    cudnn_benchmark: bool = False
    cudnn_tf32: bool = False
    matmul_tf32: bool = False

    @classmethod
    def of(cls, numerics: Numerics) -> Settings:
        """The settings that numerics need."""
        tf32 = numerics.precision == "tf32"
        return cls(cudnn_tf32=tf32, matmul_tf32=tf32)

    @classmethod
    def present(cls) -> Settings:
        """The settings that torch has now."""
        return cls(
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
            torch.utils.deterministic.fill_uninitialized_memory,
            torch.backends.cudnn.benchmark,
            torch.backends.cudnn.allow_tf32,
            torch.backends.cuda.matmul.allow_tf32,
        )

    def apply(self) -> None:
        """Set torch to these settings."""
        torch.use_deterministic_algorithms(self.deterministic, warn_only=self.warn_only)
        torch.utils.deterministic.fill_uninitialized_memory = self.fill_uninitialized_memory
        torch.backends.cudnn.benchmark = self.cudnn_benchmark
        torch.backends.cudnn.allow_tf32 = self.cudnn_tf32
        torch.backends.cuda.matmul.allow_tf32 = self.matmul_tf32


_turn = threading.Condition()
_users = 0  # calls of `applied` under way
_current: Settings | None = None  # what they all need
_before: Settings | None = None  # what was set before the first of them


@contextlib.contextmanager
def applied(numerics: Numerics) -> Iterator[None]:
    """Torch's settings as numerics need them, inside the `with`; afterwards they are what they were.

    Threads that need the same settings work at the same time; a thread that needs others waits until those are done.
    Torch keeps its number of threads for each thread separately.
    """
    global _users, _current, _before
    settings, threads = Settings.of(numerics), torch.get_num_threads()
    with _turn:
        while _users and _current != settings:
            _turn.wait()
        if not _users:
            _before, _current = Settings.present(), settings
            settings.apply()
        _users += 1
    torch.set_num_threads(numerics.threads)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        with _turn:
            _users -= 1
            if not _users and _before is not None:
                _before.apply()
            _turn.notify_all()


def settle(numerics: Numerics) -> None:
    """Set torch as numerics need it and leave it so, in a process that does nothing but evaluate."""
    torch.set_num_threads(numerics.threads)
    Settings.of(numerics).apply()
