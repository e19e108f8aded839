"""`evofool cluster tune`: which shapes, layout and threads score most images a second here, over the whole machine.

Nothing timed ever chooses numerics at run time; this measures on request, and the user puts the choice into the
configuration.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace

from evofool.config import Config
from evofool.errors import ConfigError
from evofool.evaluate.memory import gpus
from evofool.evaluate.resolving import resolve_numerics
from evofool.machines.probe import TOO_LARGE, opened_problem
from evofool.machines.sweep import FINALISTS, SLOW, Choice, Machine, alternated, coarse, whole_chunk
from evofool.records import Numerics
from evofool.targets.specs import source_of

__all__ = ["KEYS", "LEAST_GAIN", "Tuning", "lines_of", "tune"]

KEYS = ("threads", "micro_batch", "chunk", "memory_format")
LEAST_GAIN = 1.03
ROUNDS = (3, 15)  # of the final, at least and at most


@dataclass
class Tuning:
    """What was measured."""

    present: Choice
    best: Choice
    choices: list[Choice]  # the present one and the finalists, the fastest first, and then those measured once
    ratios: list[float]  # best to present, round by round
    not_measured: str  # why some micro-batches were left out, or ""

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
    source = source_of(config.target, allow_code)
    problem = opened_problem(config, source)
    numerics = resolve_numerics(config.evaluation, problem.target.family, gpus() > 0)
    with closing(Machine(config, source, numerics.device)) as machine:
        present = Choice(numerics, machine.evaluators(numerics.threads))
        machine.start()
        if machine.rate(present, 0.0) is None:
            raise ConfigError(TOO_LARGE)
        started = time.monotonic()
        choices, why = coarse(machine, present, seconds / 2)
        finalists = [present]
        for choice in [c for c in choices if c.coarse > SLOW * choices[0].coarse][:FINALISTS]:
            exact = _fitted(choice, config.search.offspring, numerics)
            if exact.numerics not in [finalist.numerics for finalist in finalists]:
                finalists.append(exact)
        others = len(finalists) - 1
        tell(f"{len(choices)} choices measured once; the best {others} and the present one again, in turns.")
        _final(machine, finalists, started + seconds)
    ranked = sorted(finalists, key=lambda choice: -choice.per_second)
    ratios = [new / old for new, old in zip(ranked[0].rounds, present.rounds)]
    rest = [choice for choice in choices if choice.numerics not in [finalist.numerics for finalist in finalists]]
    return Tuning(present, ranked[0], [*ranked, *rest], ratios, why)


def _final(machine: Machine, choices: list[Choice], deadline: float) -> None:
    """Measure in turns until the deadline, a value of time.monotonic()."""
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
