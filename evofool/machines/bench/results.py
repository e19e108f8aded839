"""What a benchmark found: stages with their rounds, and how the whole compares with the network alone."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field

from evofool.machines.bench.continued import Stretch
from evofool.machines.sweep import Choice
from evofool.records import Facts

__all__ = ["Bench", "Stage"]


@dataclass
class Stage:
    """One thing that was measured, round by round.

    Attributes:
        name: e.g. "render".
        kind: of genomes, or of the network's input or pool; "" where there is only one.
        cores: that it keeps busy.
        take: measures it for so many seconds; evaluations a second.
        weight: its share of a round's time, relative to others'.
    """

    name: str
    kind: str
    cores: int
    take: Callable[[float], float]
    weight: float = 0.5
    rounds: list[float] = field(default_factory=list)

    @property
    def per_second(self) -> float:
        """Evaluations a second, the median of the rounds."""
        return statistics.median(self.rounds)

    @property
    def core_microseconds(self) -> float:
        """Processor time of one evaluation, in microseconds."""
        return 1e6 * self.cores / self.per_second

    def as_dict(self, whole: Stage) -> Facts:
        """The stage as JSON data, its share being of all the processor time that `whole` has for an evaluation."""
        return {
            "name": self.name,
            "kind": self.kind,
            "cores": self.cores,
            "per_second": self.per_second,
            "per_second_least": min(self.rounds),
            "per_second_most": max(self.rounds),
            "microseconds": 1e6 / self.per_second,
            "microseconds_least": 1e6 / max(self.rounds),
            "microseconds_most": 1e6 / min(self.rounds),
            "share": self.core_microseconds / whole.core_microseconds,
            "rounds": self.rounds,
        }


@dataclass
class Bench:
    """All that was found.

    Attributes:
        stages: everything measured in turns but the network alone.
        forwards: the network alone, each of the choices that went into the turns.
        choices: that belong to `forwards`.
        stretches: what the search did in each round, by pool.
        pool: whose end_to_end counts for `ratio`: the configuration's, if it was measured.
        facts: about the configuration, the archive and the machine.
    """

    stages: list[Stage]
    forwards: list[Stage]
    choices: list[Choice]
    stretches: dict[str, list[Stretch]]
    pool: str
    facts: Facts

    @property
    def forward(self) -> Stage:
        """The network alone: the fastest choice."""
        return max(self.forwards, key=lambda stage: stage.per_second)

    def end_to_end(self, pool: str) -> Stage:
        """The whole search by a pool."""
        return next(stage for stage in self.stages if (stage.name, stage.kind) == ("end_to_end", pool))

    def ratio(self, pool: str) -> float:
        """Evaluations a second of the whole search over those of the network alone."""
        return self.end_to_end(pool).per_second / self.forward.per_second

    @property
    def shown(self) -> list[Facts]:
        """All stages as JSON data, in the order of the work."""
        whole = self.end_to_end(self.pool)
        return [stage.as_dict(whole) for stage in [self.forward, *self.stages]]

    def as_dict(self) -> Facts:
        """Everything as JSON data."""
        best = self.choices[self.forwards.index(self.forward)]
        return {
            "ratio": self.ratio(self.pool),
            "pool": self.pool,
            "ratios": {pool: self._ratio(pool) for pool in self.stretches},
            "stages": self.shown,
            "forward": {
                **_shape(best),
                "per_second": self.forward.per_second,
                "finalists": [
                    {**_shape(c), "per_second": s.per_second, "rounds": s.rounds}
                    for c, s in zip(self.choices, self.forwards)
                ],
            },
            "end_to_end": {pool: _search(stretches) for pool, stretches in self.stretches.items()},
            **self.facts,
        }

    def _ratio(self, pool: str) -> Facts:
        whole = self.end_to_end(pool)
        rounds = [a / b for a, b in zip(whole.rounds, self.forward.rounds)]
        return {
            "ratio": self.ratio(pool),
            "end_to_end": whole.per_second,
            "forward": self.forward.per_second,
            "ratio_rounds": rounds,
        }


def _shape(choice: Choice) -> Facts:
    n = choice.numerics
    return {
        "memory_format": n.memory_format,
        "micro_batch": n.micro_batch,
        "threads": n.threads,
        "processes": choice.evaluators,
    }


def _search(stretches: list[Stretch]) -> Facts:
    evaluations = sum(s.evaluations for s in stretches)
    return {
        "evaluators": stretches[0].evaluators,
        "evaluations": evaluations,
        "generations": sum(s.generations for s in stretches),
        "commits": sum(s.commits for s in stretches),
        "views": sum(s.views for s in stretches),
        "seconds": sum(s.seconds for s in stretches),
        "idle_share": statistics.median(s.idle for s in stretches),
        "idle_share_rounds": [s.idle for s in stretches],
        "driver_seconds_per_evaluation": statistics.median(s.driver_seconds / s.evaluations for s in stretches),
    }
