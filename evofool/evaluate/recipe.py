"""What an evaluator is built from, in whichever process."""

from __future__ import annotations

import socket
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evofool.encoding import Encoding
from evofool.encoding.activations import load_activations
from evofool.encoding.pictures import PictureEncoding
from evofool.errors import IncompatibleRun
from evofool.evaluate.pool import Evaluator
from evofool.objectives import load_objective
from evofool.records import Numerics
from evofool.targets import Source, Target, load_target

__all__ = ["Recipe"]


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
