"""Measuring evaluators, each in a process of its own as a run has them: how fast, and how much memory.

A process of its own, because threads, memory that was freed and peaks of memory are a process's; several at once,
because evaluators of one machine share its caches and its memory's speed.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from evofool.archive.objectives import Objective, load_objective
from evofool.base.source import Source
from evofool.config import Config
from evofool.encoding import variation
from evofool.encoding.cppn.activations import load_activations
from evofool.encoding.direct.genome import DirectEncoding
from evofool.encoding.kinds import Encoding, make_encoding
from evofool.encoding.own import load_operators
from evofool.errors import EvaluationFailed, EvofoolError
from evofool.evaluate.pool import Evaluator
from evofool.records import Numerics
from evofool.search.breeding import Breeder
from evofool.store.reader import activation_sources
from evofool.targets.families import load_target
from evofool.targets.target import Target

__all__ = [
    "Ingredients",
    "Probe",
    "Reading",
    "Subject",
    "available_mib",
    "gpu_peak_mib",
    "gpus",
    "grown",
    "ingredients_of",
    "memory_mib",
    "repeated",
]

GROWN = 20  # generations of mutation, after which a CPPN has hidden nodes as an elite's has


def gpus() -> int:
    """CUDA devices that torch sees."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def gpu_peak_mib() -> float:
    """The most memory of a GPU that tensors of this process took, in MiB; 0 without one."""
    return torch.cuda.max_memory_allocated() / (1 << 20) if gpus() else 0.0


def memory_mib() -> tuple[float, float]:
    """Resident memory of this process now and at its peak, in MiB."""
    # Not getrusage: its peak begins with that of the process that started this one.
    lines = Path("/proc/self/status").read_text().splitlines()
    kib = {name: value for name, _, value in (line.partition(":") for line in lines)}
    return int(kib["VmRSS"].split()[0]) / 1024, int(kib["VmHWM"].split()[0]) / 1024


def available_mib() -> float:
    """Memory that new processes of this machine can have, in MiB."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")) / 1024


@dataclass(frozen=True)
class Ingredients:
    """What a run makes of a configuration before it opens its pool."""

    config: Config
    target: Target
    class_indices: NDArray[np.int64]
    encoding: Encoding
    objective: Objective
    operators: dict[str, Callable[..., Any]]  # the user's own, in place of `select`, `mate` or `mutate`


def ingredients_of(config: Config, source: Source) -> Ingredients:
    """The ingredients of a run.

    Raises:
        ConfigError: no such target, class or activation, or code that may not run.
        TargetError: the target cannot be built.
    """
    own = config.target
    target = load_target(source, geometry=own.geometry, output=own.output, crops=own.crops)
    class_indices = target.class_indices(own.classes)
    load_activations(activation_sources(config, source.allow_code))
    encoding = make_encoding(config.encoding, target.image_size, target.channels)
    objective, _ = load_objective(Source(config.search.objective, source.allow_code, key="search.objective"))
    operators, _ = load_operators(config, source.allow_code)
    return Ingredients(config, target, class_indices, encoding, objective, operators)


def grown(given: Ingredients, rows: int, generations: int = GROWN) -> Any:
    """A batch of random genomes after some generations of mutation."""
    config, encoding = given.config, given.encoding
    genomes = variation.initial(encoding, config.seed, 0, rows)
    mutate = given.operators.get("mutate", Breeder(config, encoding, 1, None).mutate)
    for generation in range(generations):
        genomes, _ = mutate(generation, genomes)
    return genomes


@dataclass(frozen=True)
class Reading:
    """What one evaluator did in a stretch of time."""

    rows: int
    seconds: float
    slowest: float  # seconds of its slowest chunk
    fastest: float

    @property
    def per_second(self) -> float:
        """Individuals a second."""
        return self.rows / self.seconds


def repeated(work: Callable[[], Any], rows: int, seconds: float) -> Reading:
    """Do some work on `rows` individuals again and again, at least once, for so many seconds."""
    slowest, fastest, total, times = 0.0, float("inf"), 0.0, 0
    while not times or total < seconds:
        started = time.perf_counter()
        work()
        taken = time.perf_counter() - started
        slowest, fastest, total, times = max(slowest, taken), min(fastest, taken), total + taken, times + 1
    return Reading(times * rows, total, slowest, fastest)


class Subject:
    """An evaluator to be measured, in this process."""

    def __init__(self, config: Config, source: Source, index: int) -> None:
        self.given = ingredients_of(config, source)
        self.index = index
        self.breeder = Breeder(config, self.given.encoding, 1, None)
        direct = isinstance(self.given.encoding, DirectEncoding)
        # Pixels stay as large whatever happens to them, and many would take long to mutate.
        self.genomes = grown(self.given, 16, 1) if direct else grown(self.given, 256)

    def prepare(self, numerics: Numerics) -> bool:
        """Build the evaluator and warm it with one chunk; False if that does not fit into memory."""
        if numerics.device == "cuda":
            torch.cuda.set_device(self.index % gpus())
        given = self.given
        try:
            self.evaluator = Evaluator(given.target, given.encoding, given.class_indices, numerics, given.objective)
            rows = np.arange(numerics.chunk) % len(self.genomes)
            self.chunk = given.encoding.take(self.genomes, rows)
            self.evaluator.score(self.chunk)
        except (MemoryError, torch.OutOfMemoryError):
            return False
        return True

    def measure(self, seconds: float) -> Reading:
        """Score the chunk again and again, at least once."""
        return repeated(lambda: self.evaluator.score(self.chunk), len(self.chunk), seconds)

    def memory(self) -> tuple[float, float]:
        """Resident memory of this process now and at its peak, in MiB."""
        return memory_mib()


class Probe:
    """A subject in a process of its own. Ask, then take the answer; between the two, others can be asked.

    Args:
        kind: the subject's class; its methods are what can be asked.
        config, source, index: the arguments it is made of.
    """

    def __init__(self, kind: type[Any], config: Config, source: Source, index: int = 0) -> None:
        context = multiprocessing.get_context("spawn")
        self._end, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, kind, config, source, index), daemon=True)
        self._process.start()
        other.close()

    def ask(self, method: str, *arguments: Any) -> None:
        """Have the subject do something."""
        self._end.send((method, arguments))

    def answer(self) -> Any:
        """What the oldest question gave.

        Raises:
            EvofoolError: what the subject raised, or that its process died.
        """
        try:
            answer = self._end.recv()
        except (EOFError, ConnectionResetError):
            raise EvaluationFailed(
                "a measuring process died, perhaps for want of memory; lower evaluation.micro_batch and try again."
            ) from None
        if isinstance(answer, EvofoolError):
            raise answer
        return answer

    def call(self, method: str, *arguments: Any) -> Any:
        """Ask, and wait for the answer."""
        self.ask(method, *arguments)
        return self.answer()

    def __enter__(self) -> Probe:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        self._end.close()
        self._process.terminate()
        self._process.join()


def _serve(end: Any, kind: type[Any], config: Config, source: Source, index: int) -> None:
    """Answer questions until nobody asks any more."""
    try:
        subject = kind(config, source, index)
        while True:
            method, arguments = end.recv()
            end.send(getattr(subject, method)(*arguments))
    except EvofoolError as error:
        end.send(error)
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        return
    except Exception as error:
        end.send(EvaluationFailed(f"measuring failed: {type(error).__name__}: {error}"))
