"""The result of a benchmark: stages with their rounds, and how the whole compares with the network alone."""

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
        kind: of genomes, of the network's input or of pool; "" for a stage that has one kind only.
        cores: that it keeps busy.
        take: measures it for so many seconds, and returns evaluations a second.
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
        """The stage as JSON data; its share is of the processor time that `whole` takes for an evaluation."""
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
    """The result of a benchmark.

    Attributes:
        stages: all that was measured in turns, without the network alone.
        forwards: the network alone, once for each choice.
        choices: shapes and processes of `forwards`, in the same order.
        stretches: what the search did in each round, by pool.
        pool: whose end_to_end counts for the ratio: the configuration's, if it was measured.
        facts: about the configuration, the archive and the machine; part of the JSON.
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

    def as_dict(self) -> Facts:
        """Everything as JSON data; stages in the order of the work."""
        best, whole = self.choices[self.forwards.index(self.forward)], self.end_to_end(self.pool)
        ratios = {pool: self._ratio(pool) for pool in self.stretches}
        return {
            "ratio": ratios[self.pool]["ratio"],
            "pool": self.pool,
            "ratios": ratios,
            "stages": [stage.as_dict(whole) for stage in [self.forward, *self.stages]],
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
        """Evaluations a second of the whole search over those of the network alone."""
        whole, forward = self.end_to_end(pool), self.forward
        return {
            "ratio": whole.per_second / forward.per_second,
            "end_to_end": whole.per_second,
            "forward": forward.per_second,
            "ratio_rounds": [a / b for a, b in zip(whole.rounds, forward.rounds)],
        }


def _shape(choice: Choice) -> Facts:
    keys = ("memory_format", "micro_batch", "threads")
    return {**{key: getattr(choice.numerics, key) for key in keys}, "processes": choice.evaluators}


def _search(stretches: list[Stretch]) -> Facts:
    keys = ("evaluations", "generations", "commits", "views", "seconds")
    return {
        "evaluators": stretches[0].evaluators,
        **{key: sum(getattr(s, key) for s in stretches) for key in keys},
        "idle_share": statistics.median(s.idle for s in stretches),
        "idle_share_rounds": [s.idle for s in stretches],
        "driver_seconds_per_evaluation": statistics.median(s.driver_seconds / s.evaluations for s in stretches),
    }
