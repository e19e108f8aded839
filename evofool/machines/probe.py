"""Measuring evaluators, each in a process of its own as a run has them: how fast, and how much memory.

A process of its own, because threads, memory that was freed and peaks of memory are a process's; several at once,
because evaluators of one machine share its caches and its memory's speed.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
import torch

from evofool.base.source import Source
from evofool.config import Config
from evofool.encoding import variation
from evofool.encoding.direct.genome import DirectEncoding
from evofool.errors import EvaluationFailed, EvofoolError
from evofool.evaluate.memory import gpus, keep_freed_memory, memory_mib
from evofool.evaluate.problem import Problem, problem_of
from evofool.evaluate.settings import settle
from evofool.records import Numerics
from evofool.search.breeding import Breeder
from evofool.targets.opening import open_target

__all__ = [
    "Probe",
    "Reading",
    "Subject",
    "grown",
    "opened_problem",
    "repeated",
]

GROWN = 20  # generations of mutation, after which a CPPN has hidden nodes as an elite's has


def opened_problem(config: Config, source: Source) -> Problem:
    """The problem of a configuration.

    Args:
        source: of its target.

    Raises:
        ConfigError: no such target, class or activation, or code that may not run.
        TargetError: the target cannot be built.
    """
    return problem_of(config, open_target(config.target, source=source), allow_code=source.allow_code)


def grown(problem: Problem, rows: int, generations: int = GROWN) -> Any:
    """A batch of random genomes after some generations of mutation."""
    config, encoding = problem.config, problem.genomes
    genomes = variation.initial(encoding, config.seed, 0, rows)
    mutate = problem.operators.get("mutate", Breeder(config, encoding, 1, None).mutate)
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
        self.problem = opened_problem(config, source)
        self.index = index
        self.breeder = Breeder(config, self.problem.genomes, 1, None)
        direct = isinstance(self.problem.encoding, DirectEncoding)
        # Pixels stay as large whatever happens to them, and many would take long to mutate.
        self.genomes = grown(self.problem, 16, 1) if direct else grown(self.problem, 256)

    def prepare(self, numerics: Numerics) -> bool:
        """Build the evaluator and warm it with one chunk; False if that does not fit into memory."""
        if numerics.device == "cuda":
            torch.cuda.set_device(self.index % gpus())
        keep_freed_memory()
        settle(numerics)
        try:
            self.evaluator = self.problem.evaluator(numerics)
            rows = np.arange(numerics.chunk) % len(self.genomes)
            self.chunk = self.problem.genomes.take(self.genomes, rows)
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
