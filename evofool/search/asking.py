"""Ask and tell: a search whose images are scored from outside, by any kind of classifier; or by a target, for DEAP."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from evofool.archive.objectives import Objective, load_objective
from evofool.archive.scores import OUTPUTS, score_outputs, sums
from evofool.config import Config, load_config
from evofool.config.files import Overrides, listed
from evofool.config.sections import TargetConfig
from evofool.encoding.contract import Encoding
from evofool.encoding.kinds import draw
from evofool.errors import ConfigError, EvofoolError, first_line
from evofool.evaluate.inline import InlinePool
from evofool.evaluate.pool import Job, Overdue, Pool, PoolReport, never
from evofool.evaluate.problem import Problem, problem_of
from evofool.evaluate.resolving import usable_numerics
from evofool.records import Cells, Scores
from evofool.search.loop import Search
from evofool.targets.opening import open_target
from evofool.targets.target import Preprocessing, Target

__all__ = ["AskTellPool", "AskTellSearch", "make_search"]


class AskTellPool:
    """A pool that draws the images of a job for `ask`, and takes their scores from `tell`.

    Args:
        classes: how many outputs the classifier has.
        evaluators: score what nobody told; None where only `tell` can.
    """

    canary = ""

    def __init__(
        self, encoding: Encoding, cells: Cells, objective: Objective, classes: int, evaluators: Pool | None = None
    ) -> None:
        self._encoding, self._cells, self._objective, self._classes = encoding, cells, objective, classes
        self._evaluators = evaluators
        self._jobs: dict[int, Job] = {}
        self._question: tuple[int, NDArray[np.uint8]] | None = None  # ticket and images of the last `ask`
        self._scores: dict[int, Scores] = {}  # by ticket, until they are collected
        self.overdue = never

    def submit(self, job: Job) -> None:
        self._jobs[job.ticket] = job

    def ask(self, ticket: int) -> NDArray[np.uint8]:
        """The images of a job, which its caller is to score."""
        if self._question is not None and self._question[0] == ticket:
            warnings.warn("ask() gives the same images again, until tell() says what they are.", stacklevel=3)
        images = draw(self._encoding, self._jobs[ticket].batch)
        self._question = ticket, images
        return images

    def tell(self, outputs: ArrayLike | torch.Tensor, output: str) -> None:
        """Take a classifier's outputs for the images of the last `ask`; see `AskTellSearch.tell`."""
        if self._question is None:
            raise EvofoolError("tell() comes after ask().")
        if self._cells.units:
            raise EvofoolError("tell(): cells are of units (target.readouts), whose activations no outputs tell.")
        ticket, images = self._question
        values = _numbers(outputs)
        _refuse_other(values, output, len(images), self._classes)
        self._scores[ticket] = score_outputs(values, output, self._cells, images, self._objective)
        self._question = None

    def collect(self, ticket: int) -> Scores:
        """The scores that `tell` made, else those of the evaluators; EvofoolError where there are neither."""
        if self.overdue():
            raise Overdue
        if ticket not in self._scores:
            if self._evaluators is None:
                raise EvofoolError(
                    "this search has no target of its own; use ask() and tell(), or make_search(config, target=...)."
                )
            self._evaluators.submit(self._jobs[ticket])
            self._scores[ticket] = self._evaluators.collect(ticket)
            self._question = None
        del self._jobs[ticket]
        return self._scores.pop(ticket)

    def report(self) -> PoolReport:
        return PoolReport() if self._evaluators is None else self._evaluators.report()

    def close(self) -> None:
        """Nothing to let go of."""


def _numbers(outputs: ArrayLike | torch.Tensor) -> NDArray[np.floating]:
    """Outputs as an array; of tensors, also those with gradients, on a GPU, or of a dtype that numpy lacks."""
    if isinstance(outputs, Sequence) and any(isinstance(row, torch.Tensor) for row in outputs):
        outputs = [_numbers(row) for row in outputs]
    try:
        if isinstance(outputs, torch.Tensor):
            # Whatever was smaller keeps its value, so no score gets other bits.
            values = outputs.detach().to("cpu", torch.complex128 if outputs.is_complex() else torch.float64).numpy()
        else:
            values = np.asarray(outputs)
        if values.dtype.kind in "cUSOMm":
            raise TypeError(f"dtype {values.dtype}")
        return values.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise EvofoolError(
            f"tell() needs an array, tensor or list of numbers, one row for each image ({first_line(error)})."
        ) from None


def _refuse_other(values: NDArray[np.floating], output: str, rows: int, classes: int) -> None:
    """Raise EvofoolError unless values can be a classifier's outputs, of the kind that `output` says."""
    if output not in OUTPUTS:
        raise EvofoolError(f"tell(): output is {', '.join(OUTPUTS[:2])} or {OUTPUTS[2]}, not {output!r}.")
    if values.shape != (rows, classes):
        raise EvofoolError(
            f"tell() needs outputs of shape ({rows}, classes), a column for each of the {classes} classes, "
            f"not {values.shape}."
        )
    finite = np.isfinite(values).all(axis=1)
    if not finite.any():
        raise EvofoolError("tell(): every row has a value that is NaN or infinite; nothing could be placed.")
    total, wrong = sums(values[finite], output)
    if wrong.any():
        row, value = int(np.flatnonzero(finite)[wrong.argmax()]), float(total[wrong.argmax()])
        raise EvofoolError(
            f"tell(): as {output}, row {row} sums to {value:.6g}, with {values[row].min():.6g} as its lowest value; "
            "say output='logits' if these are raw scores."
        )


class AskTellSearch(Search):
    """A search for any kind of classifier, which its caller shows each generation to. Nothing is stored.

    One with evaluators scores by itself whatever it is not told of: its toolbox is for DEAP's own loops.
    """

    def __init__(self, problem: Problem, evaluators: Pool | None = None) -> None:
        objective, _ = load_objective(problem.objective)
        classes = len(problem.target.class_names)
        self._answers = AskTellPool(problem.genomes, problem.cells, objective, classes, evaluators)
        super().__init__(problem.config, problem.genomes, self._answers, problem.cells, operators=problem.operators)

    def ask(self) -> NDArray[np.uint8]:
        """The images of the next generation to be scored, (n, height, width, channels) uint8.

        They are the same, and a UserWarning says so, until `tell` was told of them.
        """
        self.generate()
        return self._answers.ask(self.in_flight[0].generation)

    def tell(self, outputs: ArrayLike | torch.Tensor, output: str = "probabilities") -> None:
        """Place the images of the last `ask` by what a classifier makes of them.

        Args:
            outputs: (n, classes) numbers, an array, tensor or lists: every class of the classifier, not only those
                with a cell. A row with NaN or an infinity takes no cell.
            output: what they are: "logits", "probabilities" or "log_probabilities". Those of a row sum to 1 within
                1e-2.

        Raises:
            EvofoolError: `ask` was not called before, or the outputs are not such; they can be told again.
        """
        self._answers.tell(outputs, output)
        self.map(self.evaluate, ())
        self.update()


def make_search(
    config: str | Path | Mapping[str, object] | Config,
    overrides: Overrides = (),
    *,
    target: torch.nn.Module | Target | None = None,
    preprocessing: Preprocessing | None = None,
    image_size: tuple[int, int] | None = None,
    channels: int | None = None,
    class_names: Sequence[str] | None = None,
    allow_code: bool = False,
) -> AskTellSearch:
    """A search without a run directory, for a loop of one's own: by DEAP, or by `ask` and `tell`.

    With `image_size`, `channels` and `class_names` there is no target, and any kind of classifier is asked and told.
    Without them the target scores, in this process whatever `evaluation.pool` says, and the archive is that of
    `evofool run`.

    Args:
        config: path of a YAML file, a nested mapping, or a Config.
        overrides: "KEY=VALUE", {key: value}, or a list of these.
        target: a live network in place of `target.spec`; it is copied. A bare module needs `preprocessing` and
            `class_names`.
        preprocessing: what the network is fed.
        image_size: (height, width) of the images to breed.
        channels: 1 (grey) or 3 (RGB).
        class_names: one for each output of the classifier or network.
        allow_code: whether python: targets, and the user's own activations, operators and objective may run their code.

    Raises:
        EvofoolError: one of the tree in errors.py.
    """
    asks = image_size is not None or channels is not None
    if asks and (image_size is None or channels is None or class_names is None):
        raise ConfigError("make_search(): image_size, channels and class_names go together, for ask() and tell().")
    if asks and not (target is None and preprocessing is None):
        raise ConfigError(
            "make_search(): a target brings its own image_size and channels; leave these out, or for ask() and tell() "
            "leave target and preprocessing out."
        )
    if not asks and target is None and not (preprocessing is None and class_names is None):
        raise ConfigError(
            "make_search(): preprocessing and class_names are those of a live target=...; for ask() and tell() give "
            "image_size, channels and class_names."
        )
    if image_size is not None and channels is not None:
        preprocessing = Preprocessing(image_size, channels, (0.0,) * channels, (1.0,) * channels)
        target = torch.nn.Identity()  # for its names and its geometry: nothing is put through it
    settings = load_config(config, [*listed(overrides), *(["target.spec=live"] if target is not None else [])])
    opened = open_target(
        TargetConfig(spec="live") if asks else settings.target,
        live=target,
        preprocessing=preprocessing,
        class_names=class_names,
        allow_code=allow_code,
    )
    if asks and settings.target.readouts:
        raise ConfigError("target.readouts: what is asked and told has no layers to read; give a target=... that has.")
    problem = problem_of(settings, opened, allow_code=allow_code)
    if asks:
        return AskTellSearch(problem)
    warn = logging.getLogger("evofool").warning
    numerics = usable_numerics(problem, torch.cuda.is_available(), None, warn)
    return AskTellSearch(problem, InlinePool(lambda: problem.evaluator(numerics), numerics))
