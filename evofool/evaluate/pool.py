"""Evaluation: genomes in, scores out.

An `Evaluator` renders and scores chunks on one device. A `Pool` hands a generation to evaluators and gives the scores
back in slot order, whoever scored what and whatever finished first. `InlinePool` is the pool in this process; the one
over Ray actors is in over_ray/.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from evofool.archive.objectives import Objective, log_odds
from evofool.archive.scores import score_outputs
from evofool.encoding import variation
from evofool.encoding.drawing.render import render
from evofool.encoding.kinds import Encoding
from evofool.encoding.pictures import PictureEncoding
from evofool.errors import EvofoolError, IncompatibleRun
from evofool.evaluate.memory import keep_freed_memory, peak_rss_mib
from evofool.records import Numerics, Offspring, Scores
from evofool.targets.target import Target

__all__ = [
    "AskTellPool",
    "Evaluator",
    "InlinePool",
    "Overdue",
    "Pool",
    "PoolReport",
    "chunks",
    "never",
    "other_numerics",
]

_CANARY_SEED = 20150607  # a constant: every evaluator of every run scores the same genomes


@dataclass(frozen=True)
class PoolReport:
    """What a pool has done so far; telemetry, not result."""

    evaluators: int = 0
    evaluations: int = 0
    core_seconds: float = 0.0  # inside evaluators
    requeued: int = 0  # chunks scored again because their evaluator was lost
    out_of_order: int = 0  # chunks that finished before one submitted earlier
    compared: int = 0  # chunks that two evaluators scored, with the same bits
    peak_rss_mib: float = 0.0  # of the largest evaluator
    nodes: tuple[dict[str, Any], ...] = ()  # of Ray: id, host, and whose answers for how many chunks were taken

    def facts(self) -> dict[str, Any]:
        """For provenance."""
        return {
            "evaluations": self.evaluations,
            "evaluators": self.evaluators,
            "evaluator_core_seconds": round(self.core_seconds, 3),
            "evaluator_peak_rss_mib": round(self.peak_rss_mib, 1),
            "requeued_chunks": self.requeued,
            "out_of_order_chunks": self.out_of_order,
            "compared_chunks": self.compared,
            "nodes": list(self.nodes),
        }


class Overdue(Exception):
    """The run is to stop now, with work in flight."""


def never() -> bool:
    """The `overdue` of a pool that nobody hurries."""
    return False


class Evaluator:
    """Renders and scores on one device, always in forward passes of `micro_batch` rows.

    Args:
        target: as `load_target` gives it.
        encoding: of the genomes.
        class_indices: (cells,) output indices that have a cell.
        numerics: shapes, threads and layout; torch's settings for this process are made to match.
        objective: what cells rank by.
    """

    def __init__(
        self,
        target: Target,
        encoding: Encoding | PictureEncoding,
        class_indices: NDArray[np.int64],
        numerics: Numerics,
        objective: Objective = log_odds,
    ) -> None:
        keep_freed_memory()
        torch.set_num_threads(numerics.threads)
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = numerics.precision == "tf32"
        target = target.to(numerics.device, numerics.memory_format)
        self.target = target.with_arithmetic(numerics.precision, numerics.compile)
        self.encoding = encoding
        self.class_indices = class_indices
        self.numerics = numerics
        self.objective = objective
        self.checked = False

    def score(self, genomes: Any) -> Scores:
        """Scores of a batch of genomes of any length.

        Raises:
            TargetError: the network fails, or returns what cannot be scores.
        """
        images = render(self.encoding, genomes, self.numerics.device)
        return self.score_images(images)

    def score_images(self, images: NDArray[np.uint8]) -> Scores:
        """Scores of images, (n, h, w, channels) uint8.

        A row's bits depend on the image and the numerics only: every forward pass has `micro_batch` rows, short ones
        being padded with black.
        """
        size = self.numerics.micro_batch
        parts = []
        with torch.inference_mode():
            for start in range(0, len(images), size):
                block = images[start : start + size]
                rows = len(block)
                if rows < size:
                    block = np.concatenate([block, np.zeros((size - rows, *block.shape[1:]), dtype=np.uint8)])
                outputs = self.target.outputs(torch.from_numpy(block).to(self.numerics.device))
                if not self.checked:
                    self.target.check_outputs(outputs[:rows])
                    self.checked = True
                rows_of = images[start : start + size]
                parts.append(score_outputs(outputs, self.target.returns, self.class_indices, rows_of, self.objective))
        return Scores.concatenate(parts)

    def render(self, genomes: Any) -> NDArray[np.uint8]:
        """The images that `score` judges."""
        return render(self.encoding, genomes, self.numerics.device)

    def canary(self) -> str:
        """sha256 (hex) of the scores and images of one fixed chunk: equal where the numerics are."""
        genomes = variation.initial(self.encoding, _CANARY_SEED, 0, self.numerics.micro_batch)
        scores = self.score(genomes)
        digest = hashlib.sha256(scores.image_sha256.tobytes())
        digest.update(scores.log_odds.astype("<f4").tobytes())
        return digest.hexdigest()


class Pool(Protocol):
    """What the search needs of whoever evaluates."""

    @property
    def canary(self) -> str:
        """What every evaluator must give (`Evaluator.canary`)."""

    overdue: Callable[[], bool]  # asked now and then; once it says yes, `collect` and `render` raise Overdue

    def submit(self, offspring: Offspring) -> None:
        """Begin to score a generation."""

    def collect(self, generation: int) -> Scores:
        """The scores of a submitted generation, in slot order; waits for them."""

    def render(self, genomes: Any) -> NDArray[np.uint8]:
        """The images of a batch of genomes, with the bits that scoring sees."""

    def score_images(self, images: NDArray[np.uint8]) -> Scores:
        """Scores of images."""

    def report(self) -> PoolReport:
        """What was done so far."""

    def close(self) -> None:
        """Let go of evaluators and of nothing that this pool did not start."""


def other_numerics(where: str) -> IncompatibleRun:
    """The error where a canary is not the run's."""
    return IncompatibleRun(
        f"{where} does not score the canary as the run's evaluators did (another processor, device or version of "
        "torch), so scores could have other bits; use a machine like the old one, or run and resume with "
        "--allow-numerics-change, which marks it in the next commit."
    )


def chunks(rows: int, size: int) -> Iterator[slice]:
    """Slices of at most `size` that cover `rows`. A function of the config alone, never of the evaluators."""
    for start in range(0, rows, size):
        yield slice(start, min(start + size, rows))


class InlinePool:
    """The pool in this process: scores when collected. Torch's settings are put back when it closes.

    Args:
        build: makes the evaluator.
    """

    def __init__(self, build: Callable[[], Evaluator]) -> None:
        self._threads = torch.get_num_threads()
        self._deterministic = torch.are_deterministic_algorithms_enabled()
        self._pending: dict[int, Offspring] = {}
        self._report = PoolReport(evaluators=1)
        self.overdue = never
        try:
            self._evaluator = build()
            self.canary = self._evaluator.canary()
        except BaseException:
            self.close()
            raise

    def submit(self, offspring: Offspring) -> None:
        """Remember a generation."""
        self._pending[offspring.generation] = offspring

    def collect(self, generation: int) -> Scores:
        """Score a remembered generation, chunk by chunk."""
        offspring = self._pending.pop(generation)
        started = time.perf_counter()
        encoding, size, parts = self._evaluator.encoding, self._evaluator.numerics.chunk, []
        for rows in chunks(len(offspring), size):
            if self.overdue():
                raise Overdue
            parts.append(self._evaluator.score(encoding.take(offspring.genomes, rows)))
        scores = Scores.concatenate(parts)
        self._report = replace(
            self._report,
            evaluations=self._report.evaluations + len(offspring),
            core_seconds=self._report.core_seconds + time.perf_counter() - started,
            peak_rss_mib=peak_rss_mib(),
        )
        return scores

    def render(self, genomes: Any) -> NDArray[np.uint8]:
        """The images of a batch of genomes."""
        if self.overdue():
            raise Overdue
        return self._evaluator.render(genomes)

    def score_images(self, images: NDArray[np.uint8]) -> Scores:
        """Scores of images."""
        return self._evaluator.score_images(images)

    def report(self) -> PoolReport:
        """What was done so far."""
        return self._report

    def close(self) -> None:
        """Give torch's settings back."""
        torch.set_num_threads(self._threads)
        torch.use_deterministic_algorithms(self._deterministic)


class AskTellPool:
    """The pool of `Search.ask` and `tell`: it only renders; whoever asked does the scoring."""

    canary = ""

    def __init__(self, encoding: Encoding) -> None:
        self._encoding = encoding
        self.overdue = never

    def submit(self, offspring: Offspring) -> None:
        """Nothing to do before the images are asked for."""

    def collect(self, generation: int) -> Scores:
        """Not possible: scores come through `Search.tell`."""
        raise EvofoolError("this search has no target of its own; use ask() and tell().")

    def render(self, genomes: Any) -> NDArray[np.uint8]:
        """The images of a batch of genomes."""
        return render(self._encoding, genomes)

    def score_images(self, images: NDArray[np.uint8]) -> Scores:
        """Not possible: scores come through `Search.tell`."""
        raise EvofoolError("this search has no target of its own; use ask() and tell().")

    def report(self) -> PoolReport:
        """Nothing is evaluated here."""
        return PoolReport()

    def close(self) -> None:
        """Nothing to let go of."""
