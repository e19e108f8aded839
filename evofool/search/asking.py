"""Ask and tell: a search whose images are scored by any kind of classifier, from outside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from evofool.archive.objectives import Objective, load_objective
from evofool.archive.scores import score_outputs
from evofool.config import Config, load_config
from evofool.config.files import Overrides, listed
from evofool.config.sections import TargetConfig
from evofool.encoding.contract import Encoding
from evofool.encoding.kinds import draw
from evofool.errors import EvofoolError
from evofool.evaluate.pool import Job, Overdue, PoolReport, never
from evofool.evaluate.problem import Problem, problem_of
from evofool.records import Cells, Scores
from evofool.search.loop import Search
from evofool.targets.opening import open_target
from evofool.targets.target import Preprocessing

__all__ = ["AskTellPool", "AskTellSearch", "make_search"]


class AskTellPool:
    """A pool without evaluators: it draws the images of a job for `ask`, and takes their scores from `tell`."""

    canary = ""

    def __init__(self, encoding: Encoding, cells: Cells, objective: Objective) -> None:
        self._encoding, self._cells, self._objective = encoding, cells, objective
        self._jobs: dict[int, Job] = {}
        self._question: tuple[int, NDArray[np.uint8]] | None = None  # ticket and images of the last `ask`
        self._scores: dict[int, Scores] = {}  # by ticket, until they are collected
        self.overdue = never

    def submit(self, job: Job) -> None:
        self._jobs[job.ticket] = job

    def ask(self, ticket: int) -> NDArray[np.uint8]:
        """The images of a job, which its caller is to score."""
        images = draw(self._encoding, self._jobs[ticket].batch)
        self._question = ticket, images
        return images

    def tell(self, outputs: ArrayLike, output: str) -> None:
        """Take a classifier's outputs for the images of the last `ask`; see `AskTellSearch.tell`."""
        if self._question is None:
            raise EvofoolError("tell() comes after ask().")
        (ticket, images), values = self._question, np.asarray(outputs)
        if values.ndim != 2 or len(values) != len(images) or values.shape[1] <= self._cells.classes.max():
            raise EvofoolError(f"tell() needs outputs of shape ({len(images)}, classes), not {values.shape}.")
        self._scores[ticket] = score_outputs(values, output, self._cells, images, self._objective)
        self._question = None

    def collect(self, ticket: int) -> Scores:
        """The scores that `tell` made; EvofoolError if it was not called for these images."""
        if self.overdue():
            raise Overdue
        if ticket not in self._scores:
            raise EvofoolError("this search has no target of its own; use ask() and tell().")
        del self._jobs[ticket]
        return self._scores.pop(ticket)

    def report(self) -> PoolReport:
        return PoolReport()

    def close(self) -> None:
        """Nothing to let go of."""


class AskTellSearch(Search):
    """A search for any kind of classifier, which its caller shows each generation to. Nothing is stored."""

    def __init__(self, problem: Problem) -> None:
        objective, _ = load_objective(problem.objective)
        self._answers = AskTellPool(problem.genomes, problem.cells, objective)
        super().__init__(problem.config, problem.genomes, self._answers, problem.cells, operators=problem.operators)

    def ask(self) -> NDArray[np.uint8]:
        """The images of the next generation to be scored, (n, height, width, channels) uint8."""
        self.generate()
        return self._answers.ask(self.in_flight[0].generation)

    def tell(self, outputs: ArrayLike, output: str = "probabilities") -> None:
        """Place the images of the last `ask` by what a classifier makes of them.

        Args:
            outputs: (n, classes) numbers: every class of the classifier, not only those with a cell.
            output: what they are: "logits", "probabilities" or "log_probabilities".

        Raises:
            EvofoolError: `ask` was not called before, or the shape is not (n, classes).
        """
        self._answers.tell(outputs, output)
        self.map(self.evaluate, ())
        self.update()


def make_search(
    config: str | Path | Mapping[str, object] | Config,
    overrides: Overrides = (),
    *,
    image_size: tuple[int, int],
    channels: int,
    class_names: Sequence[str],
    allow_code: bool = False,
) -> AskTellSearch:
    """A search by `ask` and `tell`, for any kind of classifier. Nothing is stored.

    Args:
        config: path of a YAML file, a nested mapping, or a Config.
        overrides: "KEY=VALUE", {key: value}, or a list of these.
        image_size: (height, width) of the images to breed.
        channels: 1 (grey) or 3 (RGB).
        class_names: one for each output of the classifier.
        allow_code: whether the user's own activations, operators and objective may run their code.
    """
    settings = load_config(config, [*listed(overrides), "target.spec=live"])
    preprocessing = Preprocessing(image_size, channels, (0.0,) * channels, (1.0,) * channels)
    # A target for its names and its geometry: nothing is put through it.
    opened = open_target(
        TargetConfig(spec="live"), live=torch.nn.Identity(), preprocessing=preprocessing, class_names=class_names
    )
    return AskTellSearch(problem_of(settings, opened, allow_code=allow_code))
