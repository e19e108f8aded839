"""A run's elites scored by some target: who they are, which of its classes are theirs, and what it makes of them.

In their place labelled photographs can be shown, for what real pictures give between the same networks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from evofool.archive.scores import confidence
from evofool.errors import ConfigError
from evofool.evaluate.pool import Batch, Pool, Question, stream
from evofool.records import Scores
from evofool.store.reader import Run, encoding_of
from evofool.studies.shared import pictures, tables
from evofool.targets.checking.photographs import fit, photographs
from evofool.targets.classes import match
from evofool.targets.opening import OpenTarget
from evofool.targets.target import Target
from evofool.targets.zoo.imagenet import ids_of

__all__ = ["OF_ELITE", "PHOTOGRAPHS", "VARIANTS", "Elites", "Photographs", "Shown", "passes", "score"]

VARIANTS = ("same_pixels", "re_rendered")
PHOTOGRAPHS = "photographs"  # in the column of variants
OF_ELITE = (  # the columns that say which elite a row is of
    ("run_id", pa.string()),
    ("archive_hash", pa.string()),
    ("as_of_generation", pa.int32()),
    ("class_index", pa.int32()),
    ("class_name", pa.string()),
    ("individual_id", pa.int64()),
)
BATCH, BATCH_BYTES = 256, 64 << 20  # pictures drawn at a time, and the room they may take


class Shown(ABC):
    """Pictures of a run: `frame` is their table, `rows` what a study says of them for any target, and `names` are the
    source's class names by output index, as far as these are known.

    Args:
        frame: with the columns of the elites table that `rows` is made of.
    """

    def __init__(self, run: Run, frame: pd.DataFrame, archive_hash: str) -> None:
        self.run, self.frame, self.archive_hash = run, frame, archive_hash
        provenance = run.provenance
        outputs = provenance.get("output_names", [])
        self.names = run.output_names
        self._ids = dict(enumerate(provenance.get("imagenet_ids") or ids_of(outputs)))
        self.rows = frame[["run_id", "as_of_generation", "class_index", "class_name", "individual_id"]].assign(
            archive_hash=archive_hash,
            source=frame["target"],
            source_fingerprint=frame["target_fingerprint"],
            source_confidence=frame["confidence"],
            source_log_odds=frame["log_odds"],
            source_top1_class_index=frame["top1_class_index"],
            source_top1_class_name=[self.names.get(i) for i in frame["top1_class_index"]],
            source_top1_confidence=frame["top1_confidence"],
        )

    @abstractmethod
    def picture(self, row: int, variant: str, target: Target) -> NDArray[np.uint8]:
        """A picture as a target takes it, by its row of `frame`: (height, width, channels) uint8."""

    def outputs(self, target: Target, column: str) -> NDArray[np.int64]:
        """(pictures,) the target's output for the class in a column of indices; -1 where it has none."""
        outputs = match(self.names, target.class_names, self._ids, target.imagenet_ids)
        return np.array([outputs.get(int(index), -1) for index in self.frame[column]], dtype=np.int64)

    def shared(self, target: Target) -> int:
        """How many pictures are of a class that the target has."""
        return int((self.outputs(target, "class_index") >= 0).sum())


class Elites(Shown):
    """The elites of a run at one moment.

    Args:
        allow_code: whether activations of the user's own may run, where genomes that have some are drawn.
        limit: of how many cells, the first in their order; None for all.
    """

    def __init__(self, run: Run, *, allow_code: bool = False, limit: int | None = None) -> None:
        self._allow_code = allow_code
        frame, archive_hash = tables.read_elites(run, allow_code=allow_code)
        super().__init__(run, frame[:limit], archive_hash)

    @cached_property
    def code(self) -> dict[str, str]:
        """sha256 (hex) of the files of the user's activations, by spec; this loads them, so that genomes can be drawn.

        Raises:
            ConfigError: code is not allowed.
            IncompatibleRun: it is not what it was.
        """
        encoding_of(self.run.store, self._allow_code)
        return dict(self.run.provenance.get("code", {}))

    def picture(self, row: int, variant: str, target: Target) -> NDArray[np.uint8]:
        """An elite as a target takes it, by its row of `frame`: (height, width, channels) uint8."""
        elite = self.frame.iloc[row].to_dict()
        if variant == "re_rendered":
            image = pictures.redrawn(elite, target.image_size, lambda: self.code)
        else:
            image = pictures.archived(elite)
        return pictures.fitted(image, target.image_size, target.channels)


class Photographs(Shown):
    """Labelled photographs that installed packages bring, in the place of a run's elites: the class of each is its
    label, and what the run's own network says of it is what the source says.

    Args:
        home: the network that the run was made with.
        pool: that scores pictures by it.
        limit: of how many, the first in their order; None for all.

    Raises:
        ConfigError: no package that brings some is installed, or they are of no class that the network has.
    """

    def __init__(self, elites: Elites, home: OpenTarget, pool: Pool, limit: int | None = None) -> None:
        target = home.target
        self._samples = [p for p in photographs() if len(p.accepted) == len(p.right_classes(target.class_names)) == 1]
        self._samples = self._samples[:limit]
        if not self._samples:
            raise ConfigError(
                f"--photographs: there is none of a class of {target.spec}; foolbox brings twenty of ImageNet's: "
                "pip install 'evofool[imagenet]'."
            )
        labels = np.array([p.right_classes(target.class_names)[0] for p in self._samples])
        images = np.stack([fit(target, sample.image) for sample in self._samples])
        [scores] = stream(pool, "score_images", iter([images]))
        own = scores.log_odds[np.arange(len(labels)), labels]
        frame = pd.DataFrame(
            {
                "run_id": elites.run.provenance["run_id"],
                "as_of_generation": int(elites.frame["as_of_generation"].iloc[0]),
                "class_index": labels,
                "class_name": [target.class_names[label] for label in labels],
                "individual_id": np.arange(len(labels)),
                "target": target.spec,
                "target_fingerprint": home.fingerprint,
                "confidence": confidence(own),
                "log_odds": own,
                "top1_class_index": scores.top_classes[:, 0],
                "top1_confidence": scores.top_confidences[:, 0],
            }
        )
        super().__init__(elites.run, frame, elites.archive_hash)

    def picture(self, row: int, variant: str, target: Target) -> NDArray[np.uint8]:
        """A photograph as a target takes it, as its publisher would: (height, width, channels) uint8."""
        return fit(target, self._samples[row].image)


def passes(
    shown: Shown, target: Target, variant: str, pool: Pool, layer: str | None = None
) -> Iterator[tuple[Any, NDArray[np.int64], NDArray[np.int64]]]:
    """What a pool of the target makes of all pictures, some at a time.

    Args:
        layer: whose outputs are asked for, of each channel the mean, in place of scores.

    Yields:
        Scores of some pictures against all outputs, or (pictures, channels) float32 of the layer; (m,) which of them
        each of m rows of `frame` is; these rows.
    """
    # One individual may hold many cells; it is drawn and scored once.
    _, first, holder = np.unique(shown.frame["individual_id"], return_index=True, return_inverse=True)
    height, width = target.image_size
    size = max(1, min(BATCH, BATCH_BYTES // (height * width * target.channels)))

    def batches() -> Iterator[Batch]:
        for start in range(0, len(first), size):
            images = np.stack([shown.picture(row, variant, target) for row in first[start : start + size]])
            yield images if layer is None else Question(images, layer=layer)

    verb = "score_images" if layer is None else "outputs"
    for number, answers in enumerate(stream(pool, verb, batches())):
        rows = np.nonzero(holder // size == number)[0]
        yield answers, holder[rows] % size, rows


def score(elites: Shown, by: OpenTarget, variant: str, pool: Pool) -> pd.DataFrame:
    """The rows of one target and variant, in the order of the elites: the columns of `evofool.transfer`."""
    target = by.target
    classes, top1 = elites.outputs(target, "class_index"), elites.outputs(target, "top1_class_index")
    parts = [_verdicts(scores, at, classes[rows], rows) for scores, at, rows in passes(elites, target, variant, pool)]
    verdicts = pd.concat(parts).sort_index()
    verdicts["class_is_top1"] = _nullable(verdicts["top1"] == classes, "boolean", classes >= 0)
    verdicts["same_top1"] = _nullable(verdicts["top1"] == top1, "boolean", top1 >= 0)
    return elites.rows.assign(
        to=target.spec,
        to_fingerprint=by.fingerprint,
        variant=variant,
        height=target.image_size[0],
        width=target.image_size[1],
        channels=target.channels,
        target_class_index=_nullable(pd.Series(classes), "Int32", classes >= 0),
        top1_class_index=_nullable(verdicts["top1"], "Int32", verdicts["top1"] >= 0),
        top1_class_name=[target.class_names[i] if i >= 0 else None for i in verdicts["top1"]],
        **{name: verdicts[name] for name in verdicts.columns if name != "top1"},
    )


def _verdicts(
    scores: Scores, rows: NDArray[np.int64], classes: NDArray[np.int64], index: NDArray[np.int64]
) -> pd.DataFrame:
    """What scores against all outputs say of some classes.

    Args:
        scores: of n pictures; cells are all outputs, the objective is the margin.
        rows, classes: (m,) which picture, and which output; -1 where the target has no such class.
        index: (m,) of the frame.
    """
    odds = scores.log_odds
    order = np.argsort(-odds, axis=1, kind="stable")
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.arange(1, order.shape[1] + 1)[None, :], axis=1)
    finite = ~np.isnan(odds[rows, 0])  # a row is NaN throughout, or nowhere
    scored = finite & (classes >= 0)
    own = np.where(scored, odds[rows, classes], np.float32(np.nan))
    frame = pd.DataFrame(
        {
            "confidence": confidence(own),
            "log_odds": own,
            "margin": np.where(scored, scores.objective[rows, classes], np.float32(np.nan)),
            "top1": np.where(finite, scores.top_classes[rows, 0], -1),
            "top1_confidence": np.where(finite, scores.top_confidences[rows, 0], np.float32(np.nan)),
        },
        index=index,
    )
    frame["rank"] = _nullable(pd.Series(rank[rows, classes], index=index), "Int32", scored)
    return frame


def _nullable(values: pd.Series, dtype: str, valid: NDArray[np.bool_] | pd.Series) -> pd.Series:
    """Values in one of pandas' nullable types; null where not valid."""
    return values.astype(dtype).where(valid)
