"""Torch's settings, which are the whole process's: made to fit numerics, and put back."""

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
    """What an evaluator needs of torch beside its threads."""

    deterministic: bool
    warn_only: bool
    fill_uninitialized_memory: bool
    cudnn_benchmark: bool
    cudnn_tf32: bool
    matmul_tf32: bool

    @classmethod
    def of(cls, numerics: Numerics) -> Settings:
        """Those that numerics need."""
        tf32 = numerics.precision == "tf32"
        # Deterministic algorithms fill memory that is about to be overwritten, to catch operators that read it first.
        return cls(
            deterministic=True,
            warn_only=False,
            fill_uninitialized_memory=False,
            cudnn_benchmark=False,
            cudnn_tf32=tf32,
            matmul_tf32=tf32,
        )

    @classmethod
    def present(cls) -> Settings:
        """Those of now."""
        return cls(
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
            torch.utils.deterministic.fill_uninitialized_memory,
            torch.backends.cudnn.benchmark,
            torch.backends.cudnn.allow_tf32,
            torch.backends.cuda.matmul.allow_tf32,
        )

    def apply(self) -> None:
        """Make them torch's."""
        torch.use_deterministic_algorithms(self.deterministic, warn_only=self.warn_only)
        torch.utils.deterministic.fill_uninitialized_memory = self.fill_uninitialized_memory
        torch.backends.cudnn.benchmark = self.cudnn_benchmark
        torch.backends.cudnn.allow_tf32 = self.cudnn_tf32
        torch.backends.cuda.matmul.allow_tf32 = self.matmul_tf32


_turn = threading.Condition()
_applied: Settings | None = None
_before: Settings | None = None
_users = 0


@contextlib.contextmanager
def applied(numerics: Numerics) -> Iterator[None]:
    """Torch's settings as numerics need them; afterwards they are what they were.

    Threads that need the same settings work at once; one that needs others waits its turn. The number of threads is
    each thread's own.
    """
    global _applied, _before, _users
    wanted, threads = Settings.of(numerics), torch.get_num_threads()
    with _turn:
        while _users and _applied != wanted:
            _turn.wait()
        if not _users:
            _before, _applied = Settings.present(), wanted
            wanted.apply()
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
    """The same for good, in a process that is an evaluator's own."""
    torch.set_num_threads(numerics.threads)
    Settings.of(numerics).apply()
