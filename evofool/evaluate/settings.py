"""Torch's settings, which belong to the whole process: set as numerics need them, and put back afterwards."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch

from evofool.errors import ConfigError
from evofool.records import Numerics

__all__ = ["Settings", "applied", "settle"]

# cuBLAS is deterministic only with one of these in its environment, and torch looks once, at the first product of
# matrices on a GPU. So it is set as soon as this file is imported; without a GPU nobody reads it.
_WORKSPACE, _DETERMINISTIC = "CUBLAS_WORKSPACE_CONFIG", (":4096:8", ":16:8")
_came_too_late = _WORKSPACE not in os.environ and torch.cuda.is_initialized()
os.environ.setdefault(_WORKSPACE, _DETERMINISTIC[0])

_COMPILER = "torch._inductor.config"
_BACKENDS = {  # by field of Settings
    "cudnn_conv": torch.backends.cudnn.conv,
    "cudnn_rnn": torch.backends.cudnn.rnn,
    "cuda_matmul": torch.backends.cuda.matmul,
    "mkldnn_conv": torch.backends.mkldnn.conv,
    "mkldnn_rnn": torch.backends.mkldnn.rnn,
    "mkldnn_matmul": torch.backends.mkldnn.matmul,
}
_T = TypeVar("_T")


@dataclass(frozen=True)
class Settings:
    """Torch's settings that scores depend on, besides the number of threads; by default as evaluators need them.

    What float32 is computed in, torch keeps twice: in a newer form for each kind of operation ("ieee" is what it says,
    "tf32" and "bf16" are less, "none" stands for a default), and in an older one, which must not contradict it where
    networks are compiled, and which cannot be read (None) where a user's contradicts it.
    """

    deterministic: bool = True
    warn_only: bool = False
    # Deterministic algorithms fill memory that is about to be overwritten, to catch operators that read it first.
    fill_uninitialized_memory: bool = False
    cudnn_benchmark: bool = False
    older_cudnn_tf32: bool | None = False
    older_matmul: str | None = "highest"  # or "high" (tf32), "medium" (bfloat16 where a processor has it)
    cudnn_conv: str = "ieee"
    cudnn_rnn: str = "ieee"
    cuda_matmul: str = "ieee"
    mkldnn_conv: str = "ieee"
    mkldnn_rnn: str = "ieee"
    mkldnn_matmul: str = "ieee"

    @classmethod
    def of(cls, numerics: Numerics) -> Settings:
        """The settings that numerics need."""
        if numerics.precision != "tf32":
            return cls()
        return cls(older_cudnn_tf32=True, older_matmul="high", cudnn_conv="tf32", cudnn_rnn="tf32", cuda_matmul="tf32")

    @classmethod
    def present(cls) -> Settings:
        """The settings that torch has now."""
        return cls(
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
            torch.utils.deterministic.fill_uninitialized_memory,
            torch.backends.cudnn.benchmark,
            _older(lambda: torch.backends.cudnn.allow_tf32),
            _older(torch.get_float32_matmul_precision),
            *(backend.fp32_precision for backend in _BACKENDS.values()),
        )

    def apply(self) -> None:
        """Set torch to these settings."""
        _set_deterministic(self.deterministic, self.warn_only)
        torch.utils.deterministic.fill_uninitialized_memory = self.fill_uninitialized_memory
        torch.backends.cudnn.benchmark = self.cudnn_benchmark
        # The older form first, since it changes some of the newer.
        if self.older_cudnn_tf32 is not None:
            torch.backends.cudnn.allow_tf32 = self.older_cudnn_tf32
        if self.older_matmul is not None:
            torch.set_float32_matmul_precision(self.older_matmul)
        for name, backend in _BACKENDS.items():
            backend.fp32_precision = getattr(self, name)


def _set_deterministic(on: bool, warn_only: bool) -> None:
    """As torch.use_deterministic_algorithms, which for the sake of compiled networks imports torch's compiler: for
    seconds, in every process that evaluates. Where that is not loaded yet, it is told by the environment."""
    if _COMPILER in sys.modules:
        torch.use_deterministic_algorithms(on, warn_only=warn_only)
        return
    torch.set_deterministic_debug_mode(("warn" if warn_only else "error") if on else "default")
    os.environ["TORCHINDUCTOR_DETERMINISTIC"] = str(int(on))  # which it reads when it is imported


def _older(read: Callable[[], _T]) -> _T | None:
    """A setting in its older form; None where a newer one contradicts it."""
    try:
        return read()
    except RuntimeError:
        return None


_turn = threading.Condition()
_users = 0  # calls of `applied` under way
_current: Settings | None = None  # what they all need
_before: Settings | None = None  # what was set before the first of them


@contextlib.contextmanager
def applied(numerics: Numerics) -> Iterator[None]:
    """Torch's settings as numerics need them, inside the `with`; afterwards they are what they were.

    Threads that need the same settings work at the same time; a thread that needs others waits until those are done.
    Torch keeps its number of threads for each thread separately.

    Raises:
        ConfigError: a GPU is wanted in a process whose cuBLAS is not deterministic.
    """
    global _users, _current, _before
    _require_determinism(numerics)
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
    """Set torch as numerics need it and leave it so, in a process that does nothing but evaluate.

    Raises:
        ConfigError: as `applied`.
    """
    _require_determinism(numerics)
    torch.set_num_threads(numerics.threads)
    Settings.of(numerics).apply()


def _require_determinism(numerics: Numerics) -> None:
    """Refuse a process whose cuBLAS is set up, or was, so that it is not deterministic."""
    if numerics.device != "cuda" or (os.environ[_WORKSPACE] in _DETERMINISTIC and not _came_too_late):
        return
    has = "was not set before this process first used its GPU" if _came_too_late else f"is {os.environ[_WORKSPACE]!r}"
    raise ConfigError(
        f"the environment variable {_WORKSPACE} {has}, so products of matrices would not be deterministic; set it to "
        f"{_DETERMINISTIC[0]} before the process starts, or say evaluation.pool=ray, whose evaluators have their own."
    )
