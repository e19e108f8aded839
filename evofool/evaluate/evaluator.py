"""An evaluator: draws genomes and scores images on one device; and the table of verbs, what it can be asked to do."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from evofool.archive.objectives import LOG_ODDS, Objective
from evofool.archive.scores import score_outputs
from evofool.base import rng
from evofool.encoding import variation
from evofool.encoding.contract import Encoding
from evofool.encoding.kinds import draw
from evofool.errors import ConfigError, EvaluationFailed, EvofoolError, IncompatibleRun, first_line
from evofool.evaluate.pool import Batch, Question, Result
from evofool.records import Cells, Facts, Genomes, Numerics, Scores
from evofool.targets.gradients import Gradients, concatenate, gradients
from evofool.targets.readout import LayerReading, ReadoutReading, parse_readout
from evofool.targets.soundness import refuse_unsound
from evofool.targets.target import Target

__all__ = ["VERBS", "Evaluator", "Verb", "device_failed", "is_alike", "other_canary"]

_CANARY_SEED = 20150607  # a constant: every evaluator of every run scores the same genomes


class Evaluator:
    """Renders and scores on one device, always in forward passes of `micro_batch` rows.

    Torch's settings must be those that the numerics need (settings.py).

    Args:
        target: its network is moved to the device.
        encoding: of the genomes; None where only images are scored.
        cells: of the archive.
        numerics: device, shapes, layout and precision.
        objective: what cells rank by.
    """

    def __init__(
        self,
        target: Target,
        encoding: Encoding | None,
        cells: Cells,
        numerics: Numerics,
        objective: Objective = LOG_ODDS,
    ) -> None:
        target = target.to(numerics.device, numerics.memory_format)
        self._layer = LayerReading(target, objective.layer) if objective.layer else None
        self._units = ReadoutReading(target, [parse_readout(unit.name)[0] for unit in cells.units])
        self.target = target.with_arithmetic(numerics.precision, numerics.compile)
        self.encoding, self.cells, self.numerics, self.objective = encoding, cells, numerics, objective
        self._is_checked = False  # whether outputs were compared with what `target.output` says of them

    def score(self, genomes: Genomes) -> Scores:
        """Scores of the images that genomes draw, however many; raises as `render` and `score_images` do."""
        return self.score_images(self.render(genomes))

    def score_images(self, images: NDArray[np.uint8]) -> Scores:
        """Scores of images, (n, height, width, channels) uint8: the bits of a row depend on its image and the numerics.

        Raises:
            TargetError: the network fails, or returns what cannot be scores.
        """
        kind, cells, objective, parts = self.target.returns, self.cells, self.objective, []
        with self._layer.reading() if self._layer else contextlib.nullcontext(), self._units.reading():
            for rows, outputs in self.passes(images):
                layer = self._layer.values(len(outputs)) if self._layer else None
                units = self._units.values(len(outputs)).to(torch.float32).cpu().numpy() if cells.units else None
                parts.append(score_outputs(outputs, kind, cells, rows, objective, layer, units))
        return Scores.concatenate(parts)

    def passes(self, images: NDArray[np.uint8]) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.float32]]]:
        """Images, up to `micro_batch` at a time, with `micro_batch` rows of outputs: the last may be of padding."""
        size = self.numerics.micro_batch
        for start in range(0, len(images), size):
            block = rows = images[start : start + size]
            if len(rows) < size:
                block = np.concatenate([rows, np.zeros((size - len(rows), *rows.shape[1:]), dtype=np.uint8)])
            with torch.inference_mode():
                outputs = self.target.outputs(torch.from_numpy(block).to(self.numerics.device))
            if not self._is_checked:
                self.target.check_outputs(outputs[: len(rows)])
                self._is_checked = True
            yield rows, outputs

    def outputs(self, batch: Batch) -> NDArray[np.float32]:
        """What the network returns for images, (n, outputs), or for a Question what one of its layers gives, (n, ...).

        Raises:
            ConfigError: there is no such layer, or the network is compiled.
            TargetError: as `score_images`.
        """
        question = batch if isinstance(batch, Question) else Question(batch)
        layer = LayerReading(self._readable(), question.layer) if question.layer else None
        parts = []
        with layer.reading() if layer else contextlib.nullcontext():
            for rows, outputs in self.passes(question.images):
                values = layer.values(len(outputs)) if layer else outputs
                if layer and question.pooled and values.ndim > 2:  # of tokens, (n, t, c), channels are the last
                    values = values.mean(axis=1) if values.ndim == 3 else values.mean(axis=(2, 3))
                parts.append(values[: len(rows)])
        return np.concatenate(parts)

    def gradients(self, question: Batch) -> Gradients:
        """How the network's answers change with the pixels of a Question; raises as `targets.gradients.gradients`."""
        assert isinstance(question, Question) and question.of is not None
        size, parts = self.numerics.micro_batch, []
        target = self._readable() if question.readouts else self.target
        for start in range(0, len(question), size):
            images, of = question.images[start : start + size], question.of[start : start + size]
            rows, missing = len(images), size - len(images)
            if missing:
                images = np.concatenate([images, np.zeros((missing, *images.shape[1:]), dtype=images.dtype)])
                of = np.pad(of, (0, missing))
            shown = torch.from_numpy(images).to(self.numerics.device)
            whole = gradients(target, shown, of, question.objective, question.readouts)
            parts.append(Gradients(*(array[:rows] for array in vars(whole).values())))
        return concatenate(parts)

    def _readable(self) -> Target:
        """The target; raises ConfigError where it is compiled, since no layer is left to be read then."""
        if self.numerics.compile != "none":
            raise ConfigError(
                f"evaluation.compile: {self.numerics.compile} compiles layers away, which are to be read; say "
                "evaluation.compile=none."
            )
        return self.target

    def render(self, genomes: Genomes) -> NDArray[np.uint8]:
        """The images that genomes draw, (n, height, width, channels) uint8; EvofoolError without an encoding."""
        if self.encoding is None:
            raise EvofoolError("this evaluator scores images alone; it has no encoding to draw genomes with.")
        return draw(self.encoding, genomes, self.numerics.device)

    def canary(self) -> str:
        """sha256 (hex) of images and scores of fixed genomes, or of noise: the same where scores have the same bits.

        Raises:
            TargetError: the network is no function of one image (targets/soundness.py), or as `score_images`.
        """
        rows = self.numerics.micro_batch
        exact = self.numerics.device == "cpu" and self.numerics.precision == "float32"
        refuse_unsound(self.target, lambda images: next(self.passes(images))[1], rows, exact=exact)
        if self.encoding is None:
            shape = (rows, *self.target.image_size, self.target.channels)
            noise = rng.uniforms(_CANARY_SEED, "initial.0", 0, shape)
            scores = self.score_images((noise * 256).astype(np.uint8))
        else:
            scores = self.score(variation.initial(self.encoding, _CANARY_SEED, 0, rows))
        digest = hashlib.sha256(scores.image_sha256.tobytes())
        digest.update(scores.log_odds.astype("<f4").tobytes())
        return digest.hexdigest()


def other_numerics(where: str) -> IncompatibleRun:
    """The error where a canary is not the run's; `where` begins its sentence, e.g. "this machine"."""
    return IncompatibleRun(
        f"{where} does not score the canary as the run's evaluators did (another processor, device or version of "
        "torch), so scores could have other bits; use a machine like the old one, or run and resume with "
        "--allow-numerics-change, which marks it in the next commit."
    )


def other_canary(where: str, stored: Facts | None, numerics: Numerics, platforms: Collection[str]) -> IncompatibleRun:
    """The error where a canary is not the run's, though `other_numerics` may not be the reason.

    Args:
        stored: the numerics that the run has stored.
        numerics: those now.
        platforms: what the scores are made by (`memory.platform`), of all evaluators that were asked.
    """
    if not is_alike(stored, numerics, platforms):
        return other_numerics(where)
    return IncompatibleRun(
        f"{where} does not score the canary as the run's evaluators did, on the same device with the same versions and "
        "numerics, so the network's weights or code have changed where its fingerprint does not see it; put the old "
        "ones back (and let a python: target name the files it reads, Target(files=...)), or start a new run from this "
        "one's elites with --seed-from."
    )


def is_alike(stored: Facts | None, numerics: Numerics, platforms: Collection[str]) -> bool:
    """Whether scores are made by and with what the run's were; arguments as of `other_canary`."""
    return bool(stored and stored.get("platform") in platforms and Numerics.of(stored) == numerics)


def device_failed(numerics: Numerics, error: Exception) -> EvaluationFailed:
    """The error to end with where one of DEVICE_FAILURES leaves nobody to go on."""
    if isinstance(error, torch.OutOfMemoryError):
        way_out = (
            f"lower evaluation.micro_batch ({numerics.micro_batch} images) or evaluation.evaluators_per_gpu, or end "
            "what else is on the GPU (nvidia-smi lists it)"
        )
    else:
        way_out = "the GPU does nothing more for this process, so resume in a new one; if it comes again, see dmesg"
    return EvaluationFailed(f"the device failed ({first_line(error)}); {way_out}.")


@dataclass(frozen=True)
class Verb:
    """Something an evaluator can do with a batch.

    Attributes:
        perform: makes a result of some rows of a batch; a row's bits must not depend on the other rows.
        join: makes one result of those of consecutive rows.
        stand_in: from (rows, classes), the result of rows that take down every evaluator, so that the job can go on
            without them. None: the job fails.
    """

    perform: Callable[[Evaluator, Batch], Result]
    join: Callable[[list[Result]], Result] = np.concatenate
    stand_in: Callable[[int, int], Result] | None = None

    @property
    def evaluates(self) -> bool:
        """Whether its rows are individuals that were scored."""
        return self.stand_in is not None


# A new verb is a row of this table: pools take it from here, and send it to evaluators in other processes.
VERBS: dict[str, Verb] = {
    "score": Verb(Evaluator.score, Scores.concatenate, Scores.not_finite),
    "score_images": Verb(Evaluator.score_images, Scores.concatenate, Scores.not_finite),
    "render": Verb(Evaluator.render),
    "outputs": Verb(Evaluator.outputs),
    "gradients": Verb(Evaluator.gradients, concatenate),
}
