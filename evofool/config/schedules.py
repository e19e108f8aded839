"""How a rate of variation changes with the generation."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from evofool.config.fields import Positive, Rate, Section

__all__ = ["SCHEDULED", "Schedule"]


class Halving(Section):
    """The rate halves every so many generations (the paper: "drops by half every 1000 generations")."""

    kind: Literal["halving"]
    every: Positive
    floor: Rate = 0.0

    def rate(self, start: float, generation: int) -> float:
        """The rate of a generation, which never falls below the floor; one that starts below it stays as it is."""
        return max(start * 0.5 ** (generation // self.every), min(self.floor, start))


class Linear(Section):
    """The rate goes in a straight line from its value to `to`, reached at generation `until`."""

    kind: Literal["linear"]
    until: Positive
    to: Rate

    def rate(self, start: float, generation: int) -> float:
        return self.to if generation >= self.until else start + (self.to - start) * generation / self.until


class Steps(Section):
    """The rate jumps to a new value at each generation listed."""

    kind: Literal["steps"]
    at: Annotated[dict[int, Rate], Field(min_length=1)]

    def rate(self, start: float, generation: int) -> float:
        past = [g for g in self.at if g <= generation]
        return self.at[max(past)] if past else start


Schedule = Annotated[Halving | Linear | Steps, Field(discriminator="kind")]
SCHEDULED = (
    "crossover_rate",
    "mutation_rate",
    "activation_rate",
    "add_connection",
    "delete_connection",
    "rewire_connection",
    "split_connection",
    "delete_node",
)
