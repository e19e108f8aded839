"""Measuring evaluators, each in a process of its own as a run has them: how fast, and how much memory.

A process of its own, because threads, memory that was freed and peaks of memory are a process's; several at once,
because evaluators of one machine share its caches and its memory's speed.
"""

from __future__ import annotations

import multiprocessing
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch

from evofool.base.source import Source
from evofool.config import Config
from evofool.encoding import variation
from evofool.encoding.kinds import kind_of
from evofool.errors import ConfigError, EvaluationFailed, EvofoolError
from evofool.evaluate.memory import gpus, keep_freed_memory, memory_mib
from evofool.evaluate.problem import Problem, problem_of
from evofool.evaluate.settings import settle
from evofool.records import Numerics
from evofool.search.breeding import Breeder
from evofool.targets.opening import open_target

__all__ = ["EvaluatorSubject", "Probe", "Reading", "Subject", "opened_problem", "repeated"]

TOO_LARGE = "evaluation.micro_batch: the present choice does not fit into memory; lower it."
MUTATIONS = 20  # of each genome, after which a CPPN has hidden nodes as an elite's has


def opened_problem(config: Config, source: Source) -> Problem:
    """The problem of a configuration, whose target comes from `source`.

    Raises:
        ConfigError: no such target, class or activation, or code that may not run.
        TargetError: the target cannot be built.
    """
    return problem_of(config, open_target(config.target, source=source), allow_code=source.allow_code)


@dataclass(frozen=True)
class Reading:
    """What was done in a stretch of time."""

    evaluations: int  # individuals scored; of a part of the work, individuals that went through it
    seconds: float

    @property
    def per_second(self) -> float:
        """Evaluations a second."""
        return self.evaluations / self.seconds


def repeated(work: Callable[[], object], rows: int, seconds: float) -> Reading:
    """Do some work on `rows` individuals again and again, at least once, until it has taken so many seconds."""
    total, times = 0.0, 0
    while not times or total < seconds:
        started = time.perf_counter()
        work()
        total += time.perf_counter() - started
        times += 1
    return Reading(times * rows, total)


class Subject(ABC):
    """What a Probe measures.

    Args:
        index: its number among the subjects of this machine; on CUDA, they take the GPUs in turn.
    """

    def __init__(self, config: Config, source: Source, index: int) -> None:
        self.index = index

    def prepare(self, numerics: Numerics) -> bool:
        """Build what is measured and let it score once; False if that does not fit into memory."""
        if numerics.device == "cuda":
            torch.cuda.set_device(self.index % gpus())
        keep_freed_memory()
        try:
            self.build(numerics)
        except (MemoryError, torch.OutOfMemoryError):
            return False
        return True

    def begin(self, numerics: Numerics) -> None:
        """Prepare, where there is no other choice to try; ConfigError if that does not fit into memory."""
        if not self.prepare(numerics):
            raise ConfigError(TOO_LARGE)

    @abstractmethod
    def build(self, numerics: Numerics) -> None:
        """Build what is measured and let it score once."""

    @abstractmethod
    def measure(self, seconds: float) -> Reading:
        """Score again and again, at least once."""

    def memory(self) -> tuple[float, float]:
        """Resident memory of this process now and at its peak, in MiB."""
        return memory_mib()


class EvaluatorSubject(Subject):
    """An evaluator of a run, which scores one chunk."""

    def __init__(self, config: Config, source: Source, index: int) -> None:
        super().__init__(config, source, index)
        self.problem = opened_problem(config, source)
        breeder = Breeder(config, self.problem.genomes, self.problem.cells, None)
        operators = self.problem.operators
        self.mate, self.mutate = (operators.get(name, getattr(breeder, name)) for name in ("mate", "mutate"))
        # Those that do not grow, such as pixels, stay as large whatever happens to them, and may take long to mutate.
        rows, generations = (256, MUTATIONS) if kind_of(self.problem.genomes).grows else (16, 1)
        self.genomes = variation.initial(self.problem.genomes, config.seed, 0, rows)
        for generation in range(generations):
            self.genomes, _ = self.mutate(generation, self.genomes)

    def build(self, numerics: Numerics) -> None:
        """Build the evaluator and let it score one chunk."""
        settle(numerics)
        self.evaluator = self.problem.evaluator(numerics)
        rows = np.arange(numerics.chunk) % len(self.genomes)
        self.chunk = self.problem.genomes.take(self.genomes, rows)
        self.evaluator.score(self.chunk)

    def measure(self, seconds: float) -> Reading:
        """Score the chunk again and again, at least once."""
        return repeated(lambda: self.evaluator.score(self.chunk), len(self.chunk), seconds)

    def pace(self, numerics: Numerics) -> float:
        """About how many evaluations a second this process makes: of one chunk, after one to warm up."""
        self.begin(numerics)
        return self.measure(0.0).per_second


class Probe:
    """A subject in a process of its own. Ask, then take the answer; between the two, others can be asked.

    Args:
        kind: the subject's class; its methods are what can be asked.
        config, source, index: the arguments it is made of.
    """

    def __init__(self, kind: type[Subject], config: Config, source: Source, index: int = 0) -> None:
        context = multiprocessing.get_context("spawn")
        self._end, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, kind, config, source, index), daemon=True)
        self._process.start()
        other.close()

    def ask(self, method: str, *arguments: object) -> None:
        """Have the subject do something."""
        self._end.send((method, arguments))

    def answer(self) -> Any:
        """What the method returned; of several, the answers come in the order they were asked for.

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

    def call(self, method: str, *arguments: object) -> Any:
        """Ask, and wait for the answer."""
        self.ask(method, *arguments)
        return self.answer()

    def close(self) -> None:
        """End the process."""
        self._end.close()
        self._process.terminate()
        self._process.join()


def _serve(end: Connection, kind: type[Subject], config: Config, source: Source, index: int) -> None:
    """Answer a Probe until it is closed."""
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
