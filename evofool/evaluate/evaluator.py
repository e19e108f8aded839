"""An evaluator: renders and scores on one device; and the table of all it can be asked."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from evofool.archive.objectives import Objective, log_odds
from evofool.archive.scores import score_outputs
from evofool.base import rng
from evofool.encoding import variation
from evofool.encoding.contract import Encoding
from evofool.encoding.drawing.render import render
from evofool.errors import EvofoolError
from evofool.records import Cells, Genomes, Numerics, Scores
from evofool.targets.target import Target

__all__ = ["VERBS", "Evaluator", "Verb"]

_CANARY_SEED = 20150607  # a constant: every evaluator of every run scores the same genomes


class Evaluator:
    """Renders and scores on one device, always in forward passes of `micro_batch` rows.

    Torch's settings must be those that the numerics need (settings.py).

    Args:
        target: as `load_target` gives it.
        encoding: of the genomes; None where only images are scored.
        cells: of the archive.
        numerics: shapes, threads and layout.
        objective: what cells rank by.
    """

    def __init__(
        self,
        target: Target,
        encoding: Encoding | None,
        cells: Cells,
        numerics: Numerics,
        objective: Objective = log_odds,
    ) -> None:
        target = target.to(numerics.device, numerics.memory_format)
        self.target = target.with_arithmetic(numerics.precision, numerics.compile)
        self.encoding, self.cells, self.numerics, self.objective = encoding, cells, numerics, objective
        self._is_checked = False  # whether the network's outputs can be what they are said to be

    def score(self, genomes: Genomes) -> Scores:
        """Scores of a batch of genomes of any length.

        Raises:
            TargetError: the network fails, or returns what cannot be scores.
        """
        return self.score_images(self.render(genomes))

    def score_images(self, images: NDArray[np.uint8]) -> Scores:
        """Scores of images, (n, h, w, channels) uint8.

        A row's bits depend on the image and the numerics only.
        """
        kind, cells, objective = self.target.returns, self.cells, self.objective
        passes = self.passes(images)
        return Scores.concatenate([score_outputs(outputs, kind, cells, shown, objective) for shown, outputs in passes])

    def passes(self, images: NDArray[np.uint8]) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.float32]]]:
        """Images, `micro_batch` at a time, with the network's outputs, whose last rows may be of padding."""
        size = self.numerics.micro_batch
        for start in range(0, len(images), size):
            block = shown = images[start : start + size]
            if len(shown) < size:
                block = np.concatenate([shown, np.zeros((size - len(shown), *shown.shape[1:]), dtype=np.uint8)])
            with torch.inference_mode():
                outputs = self.target.outputs(torch.from_numpy(block).to(self.numerics.device))
            if not self._is_checked:
                self.target.check_outputs(outputs[: len(shown)])
                self._is_checked = True
            yield shown, outputs

    def render(self, genomes: Genomes) -> NDArray[np.uint8]:
        """The images that `score` judges."""
        if self.encoding is None:
            raise EvofoolError("this evaluator scores images alone; it has no encoding to draw genomes with.")
        return render(self.encoding, genomes, self.numerics.device)

    def canary(self) -> str:
        """sha256 (hex) of the scores and images of one fixed chunk: equal where the numerics are."""
        rows = self.numerics.micro_batch
        if self.encoding is None:
            shape = (rows, *self.target.image_size, self.target.channels)
            noise = rng.uniforms(_CANARY_SEED, "initial.0", 0, shape)
            scores = self.score_images((noise * 256).astype(np.uint8))
        else:
            scores = self.score(variation.initial(self.encoding, _CANARY_SEED, 0, rows))
        digest = hashlib.sha256(scores.image_sha256.tobytes())
        digest.update(scores.log_odds.astype("<f4").tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class Verb:
    """Something an evaluator can do with a batch.

    Attributes:
        perform: from some rows of a batch to their results, row by row; of a row, whatever the others are, the same
            bits.
        join: one result of those of consecutive rows.
        stand_in: what stands for (rows, classes) whose evaluators were all lost, so that the others count. None: such
            a job fails.
    """

    perform: Callable[[Evaluator, Any], Any]
    join: Callable[[list[Any]], Any] = np.concatenate
    stand_in: Callable[[int, int], Any] | None = None

    @property
    def evaluates(self) -> bool:
        """Whether its rows are individuals that were scored."""
        return self.stand_in is not None


# To add a verb: one row. Pools, also those of other processes, take it from here.
VERBS: dict[str, Verb] = {
    "score": Verb(Evaluator.score, Scores.concatenate, Scores.not_finite),
    "score_images": Verb(Evaluator.score_images, Scores.concatenate, Scores.not_finite),
    "render": Verb(Evaluator.render),
}
