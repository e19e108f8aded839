"""Which shapes, layout, threads and processes are fastest on this machine: a coarse sweep, and fair turns after it."""

from __future__ import annotations

import math
import os
import statistics
import time
from dataclasses import dataclass, field, replace
from typing import TypeVar

from evofool.base.source import Source
from evofool.config import Config
from evofool.evaluate.memory import available_mib, gpus
from evofool.evaluate.pool import chunks
from evofool.evaluate.room import demand, room
from evofool.machines.probe import EvaluatorSubject, Probe, Subject
from evofool.records import Numerics

__all__ = ["FINALISTS", "SLOW", "Choice", "Machine", "alternated", "coarse", "passes", "share_used", "whole_chunk"]

MICRO_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
FIRST = 8  # of them to be tried
SLOW = 0.35  # a share of the fastest, below which a layout or arrangement is dropped
FINALISTS = 3  # of the coarse sweep, which are measured again in turns
FORMATS = ("contiguous", "channels_last")
MEMORY_SHARE = 0.8  # of what is free

T = TypeVar("T")


@dataclass
class Choice:
    """Numerics, and the evaluations a second of all their evaluators together."""

    numerics: Numerics
    evaluators: int
    coarse: float = 0.0
    rounds: list[float] = field(default_factory=list)

    @property
    def per_second(self) -> float:
        """The median over the rounds of the final, or the one coarse figure."""
        return statistics.median(self.rounds) if self.rounds else self.coarse


def passes(individuals: int, numerics: Numerics) -> int:
    """Forward passes that score a generation of so many individuals, chunk by chunk."""
    parts = chunks(individuals, numerics.chunk)
    return sum(math.ceil((part.stop - part.start) / numerics.micro_batch) for part in parts)


def share_used(numerics: Numerics, evaluators: int, offspring: int, lag: int) -> float:
    """The share of a machine's rows that are individuals, where generations of `offspring` are scored.

    The rest is padding of short forward passes, and evaluators without a chunk: with a lag of 1 they wait for a
    generation's last chunk, with more they have the next generation's.
    """
    rows = passes(offspring, numerics) * numerics.micro_batch
    parts = math.ceil(offspring / numerics.chunk)
    turns = math.ceil(parts / evaluators)
    busy = parts / (evaluators * turns) if lag == 1 else min(1.0, lag * parts / evaluators)
    return offspring / rows * busy


class Machine:
    """As many measuring processes as a choice has room for, measured at the same time."""

    kind: type[Subject] = EvaluatorSubject  # what runs in each of them

    def __init__(self, config: Config, source: Source, device: str) -> None:
        self.config, self.source, self.device = config, source, device
        self.cores = len(os.sched_getaffinity(0))
        self._probes: list[Probe] = []
        self.free = available_mib()

    def evaluators(self, threads: int) -> int:
        """How many a run of this configuration would have here, but no more than there are cores and GPUs for."""
        settings = self.config.evaluation
        if settings.pool == "inline":
            return 1
        each = demand(threads, self.device, settings.evaluators_per_gpu)
        most = room({"CPU": self.cores, "GPU": gpus()}, each)
        return max(1, most if settings.evaluators == "auto" else min(most, settings.evaluators))

    def threads(self) -> list[int]:
        """1, 2, 4, ... and all cores."""
        if self.device == "cuda":
            return [self.config.evaluation.threads]
        return sorted({2**i for i in range(self.cores.bit_length())} | {self.cores})

    def arrangements(self) -> list[tuple[int, int]]:
        """What may be tried: (threads of each, evaluators)."""
        return [(threads, self.evaluators(threads)) for threads in self.threads()]

    def start(self) -> None:
        """Start as many processes as any choice needs, and wait for them."""
        present = self.evaluators(self.config.evaluation.threads)
        count = max([present, *(evaluators for _, evaluators in self.arrangements())])
        self._probes = [Probe(self.kind, self.config, self.source, index) for index in range(count)]
        self.peak()

    def share(self, choice: Choice) -> float:
        """The share of a choice's rows that a run's individuals would fill."""
        search = self.config.search
        return share_used(choice.numerics, choice.evaluators, search.offspring, search.lag)

    def rate(self, choice: Choice, seconds: float, method: str = "measure") -> float | None:
        """Evaluations a second of all evaluators; None if one of them has not the memory.

        Args:
            method: of the subjects, which returns a Reading.
        """
        probes = self._probes[: choice.evaluators]
        for probe in probes:
            probe.ask("prepare", choice.numerics)
        fits = [probe.answer() for probe in probes]
        if not all(fits):
            return None
        for probe in probes:
            probe.ask(method, seconds)
        return self.share(choice) * sum(probe.answer().per_second for probe in probes)

    def peak(self) -> float:
        """The largest peak of a process so far, in MiB."""
        for probe in self._probes:
            probe.ask("memory")
        return max(probe.answer()[1] for probe in self._probes)

    def close(self) -> None:
        for probe in self._probes:
            probe.close()


def coarse(machine: Machine, present: Choice, seconds: float) -> tuple[list[Choice], str]:
    """Larger and larger micro-batches while they gain, then smaller ones.

    A layout or arrangement that is about a third as fast as another is not tried again.

    Returns:
        What was measured, the fastest first; and why other micro-batches were left out, "" if none were.
    """
    kinds = [(layout, *arrangement) for layout in FORMATS for arrangement in machine.arrangements()]
    each = seconds / (len(kinds) * len(MICRO_BATCHES))
    deadline = time.monotonic() + seconds
    choices: list[Choice] = []
    why: list[str] = []
    base, best = machine.peak(), 0.0
    middle = MICRO_BATCHES.index(FIRST)
    for sizes in (MICRO_BATCHES[middle:], MICRO_BATCHES[middle - 1 :: -1]):
        poorer, pace = 0, 0.0
        for micro in sizes:
            rest = f"micro-batches from {micro} {'on' if sizes[0] == FIRST else 'down'}"
            chunk = whole_chunk(micro, present.numerics)
            if time.monotonic() + 2 * pace * chunk > deadline:
                why.append(f"{rest} were left out, since they would take longer than --seconds allows")
                break
            if 2 * (machine.peak() - base) * present.evaluators > MEMORY_SHARE * machine.free:
                why.append(f"{rest} were left out, since they could need more memory than is free")
                break
            level = []
            for layout, threads, evaluators in kinds:
                shapes = replace(present.numerics, chunk=chunk, micro_batch=micro)
                choice = Choice(replace(shapes, threads=threads, memory_format=layout), evaluators)
                rate = machine.rate(choice, each)
                if rate is None:
                    why.append(f"{rest} do not fit into memory")
                    break
                choice.coarse = rate
                level.append(choice)
            choices += level
            if len(level) < len(kinds):
                break
            top = max(choice.coarse for choice in level)
            survivors = [(kind, choice) for kind, choice in zip(kinds, level) if choice.coarse > SLOW * top]
            kinds = [kind for kind, _ in survivors]
            pace = sum(choice.evaluators / choice.coarse for _, choice in survivors)
            poorer, best = 0 if top > best else poorer + 1, max(best, top)
            if poorer == 2:
                why.append(f"{rest} are slower")
                break
    return sorted(choices, key=lambda choice: -choice.coarse), "; ".join(why)


def alternated(items: list[T], number: int) -> list[T]:
    """The items as round `number` takes them, forwards or backwards: what else the machine does falls on all alike."""
    return items if number % 2 == 0 else items[::-1]


def whole_chunk(micro_batch: int, present: Numerics) -> int:
    """A chunk about as large as the present one, in whole micro-batches."""
    return micro_batch * max(1, present.chunk // micro_batch)
