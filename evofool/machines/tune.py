"""`evofool tune`: which shapes, layout and threads score most images a second here, measured over the whole machine.

Nothing timed ever chooses numerics at run time; this measures on request, and the user puts the choice into the
configuration.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from evofool.base.source import Source
from evofool.config import Config
from evofool.errors import ConfigError
from evofool.evaluate.memory import gpus
from evofool.evaluate.opening import resolve_numerics
from evofool.machines.probe import opened_problem
from evofool.machines.sweep import SLOW, Choice, Machine, alternated, coarse, share_used, whole_chunk
from evofool.records import Numerics

__all__ = ["KEYS", "LEAST_GAIN", "Choice", "Tuning", "lines_of", "share_used", "tune"]

KEYS = ("threads", "micro_batch", "chunk", "memory_format")
LEAST_GAIN = 1.03
FINALISTS = 3
ROUNDS = (3, 15)  # of the final, at least and at most


@dataclass
class Tuning:
    """What was measured."""

    present: Choice
    best: Choice
    choices: list[Choice]  # all of them, the fastest first
    ratios: list[float]  # best to present, round by round
    not_measured: str  # why larger micro-batches were left out, or ""

    @property
    def gain(self) -> float:
        """The median ratio."""
        return statistics.median(self.ratios)

    @property
    def worth_it(self) -> bool:
        """Whether the best is another than the present one, over 3 % faster, and in three rounds of four."""
        ordered = sorted(self.ratios)
        lower_quartile = ordered[(len(ordered) - 1) // 4]
        return self.best is not self.present and self.gain > LEAST_GAIN and lower_quartile > 1


def tune(
    config: Config, *, seconds: float = 60.0, allow_code: bool = False, tell: Callable[[str], None] = lambda text: None
) -> Tuning:
    """Measure this machine for a configuration's target and encoding: coarsely, then the best few in turns.

    Args:
        seconds: about how long, after the processes have started.
        tell: receives a sentence now and then.

    Raises:
        EvofoolError: the target cannot be built, or fails.
    """
    source = Source(config.target.spec, allow_code)
    problem = opened_problem(config, source)
    settings, search = config.evaluation, config.search
    numerics = resolve_numerics(settings, problem.target.family, gpus() > 0)
    machine = Machine(config, source, numerics.device)
    present = Choice(numerics, machine.evaluators(numerics.threads))
    try:
        machine.start()
        if machine.rate(present, 0.0) is None:
            raise ConfigError("evaluation.micro_batch: the present choice does not fit into memory; lower it.")
        started = time.monotonic()
        choices, why = coarse(machine, present, seconds / 2)
        choices.sort(key=lambda choice: -choice.coarse)
        finalists: list[Choice] = []
        for choice in [c for c in choices if c.coarse > SLOW * choices[0].coarse][:FINALISTS]:
            exact = _fitted(choice, search.offspring, numerics)
            if exact.numerics not in [numerics, *(f.numerics for f in finalists)]:
                finalists.append(exact)
        tell(f"{len(choices)} choices measured once; the best {len(finalists)} and the present one again, in turns.")
        _final(machine, [present, *finalists], started + seconds)
    finally:
        machine.close()
    best = max([present, *finalists], key=lambda choice: choice.per_second)
    ratios = [new / old for new, old in zip(best.rounds, present.rounds)]
    again = {choice.numerics for choice in (present, *finalists)}
    rest = [choice for choice in choices if choice.numerics not in again]
    ranked = sorted([present, *finalists], key=lambda choice: -choice.per_second)
    return Tuning(present, best, [*ranked, *rest], ratios, why)


def _final(machine: Machine, choices: list[Choice], deadline: float) -> None:
    """Measure in turns."""
    for number in range(ROUNDS[1]):
        left = deadline - time.monotonic()
        if number >= ROUNDS[0] and left <= 0:
            return
        share = max(0.2, left / (len(choices) * max(1, 6 - number)))
        for choice in alternated(choices, number):
            choice.rounds.append(machine.rate(choice, share / 2) or 0.0)


def _fitted(choice: Choice, offspring: int, present: Numerics) -> Choice:
    """The smallest micro-batch that takes as many forward passes for a generation: the same work, less padding."""
    n = choice.numerics
    micro = math.ceil(offspring / math.ceil(offspring / n.micro_batch))
    exact = replace(n, chunk=whole_chunk(micro, present), micro_batch=micro)
    return Choice(exact, choice.evaluators, choice.coarse)


def lines_of(numerics: Numerics) -> list[str]:
    """The YAML lines of a choice."""
    return ["evaluation:", *(f"  {key}: {getattr(numerics, key)}" for key in KEYS)]
