"""What an evaluator is built from, in whichever process."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from evofool.archive.objectives import load_objective
from evofool.base.source import Source
from evofool.encoding.cppn.activations import load_activations
from evofool.encoding.kinds import Encoding
from evofool.encoding.pictures import PictureEncoding
from evofool.errors import IncompatibleRun
from evofool.evaluate.pool import Evaluator
from evofool.records import Numerics
from evofool.targets.families import load_target
from evofool.targets.target import Target

__all__ = ["Recipe", "Work"]

LOG_ODDS = Source("log_odds", key="search.objective")


@dataclass(frozen=True)
class Work:
    """What evaluators are to score, and with what.

    Attributes:
        target: built in this process.
        source: what evaluators elsewhere build theirs from; the target itself where it was given live.
        class_indices: (cells,) output indices whose log-odds are wanted.
        objective: what cells rank by.
        activations: the user's own, that genomes use.
    """

    target: Target
    source: Source | Target
    encoding: Encoding | PictureEncoding
    class_indices: NDArray[np.int64]
    objective: Source = LOG_ODDS
    activations: tuple[Source, ...] = ()


@dataclass(frozen=True)
class Recipe:
    """All an evaluator is built from, anywhere. A live target travels itself, any other as its source."""

    target: Source | Target
    geometry: str
    output: str
    crops: int
    fingerprint: str
    encoding: Encoding | PictureEncoding
    class_indices: NDArray[np.int64]
    numerics: Numerics
    objective: Source
    activations: tuple[Source, ...] = ()

    @classmethod
    def of(cls, work: Work, numerics: Numerics) -> Self:
        """What evaluators elsewhere are built from to do the work."""
        target = work.target
        return cls(
            work.source,
            target.geometry,
            target.output,
            target.crops,
            target.fingerprint(),
            work.encoding,
            work.class_indices,
            numerics,
            work.objective,
            work.activations,
        )

    def build(self) -> Evaluator:
        """An evaluator in this process.

        Raises:
            IncompatibleRun: this machine's copy of the target is another one.
        """
        target = self.target
        if isinstance(target, Source):
            target = load_target(target, geometry=self.geometry, output=self.output, crops=self.crops)
        if target.fingerprint() != self.fingerprint:
            raise IncompatibleRun(
                f"{target.spec}: its weights or preprocessing on {socket.gethostname()} are not the run's."
            )
        load_activations(self.activations)
        objective, _ = load_objective(self.objective)
        return Evaluator(target, self.encoding, self.class_indices, self.numerics, objective)
