"""A run's elites scored by some target: who they are, which of its classes are theirs, and what it makes of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evofool.archive.scores import confidence
from evofool.evaluate.pool import Pool, stream
from evofool.records import Scores
from evofool.store.reader import Run, encoding_of
from evofool.studies.shared import pictures, tables
from evofool.targets.opening import OpenTarget
from evofool.targets.target import Target

__all__ = ["VARIANTS", "Elites", "match", "score"]

VARIANTS = ("same_pixels", "re_rendered")
BATCH, BATCH_BYTES = 256, 64 << 20  # pictures drawn at a time, and the room they may take


class Elites:
    """The elites of one moment, and what the rows of the study say of them.

    Args:
        allow_code: whether activations of the user's own may run, where genomes that have some are drawn anew.
    """

    def __init__(self, run: Run, *, allow_code: bool = False) -> None:
        self.run, self._allow_code = run, allow_code
        self.frame, attrs = tables.read_elites(run)
        self.archive_hash: str = attrs["archive_hash"]
        provenance = run.provenance
        self.names: dict[int, str] = dict(zip(provenance["class_indices"], provenance["class_names"]))
        self.names |= dict(enumerate(provenance.get("output_names", [])))  # also of classes without a cell
        frame = self.frame
        kept = frame[["run_id", "as_of_generation", "class_index", "class_name", "individual_id"]]
        self.rows = kept.assign(
            archive_hash=self.archive_hash,
            source=frame["target"],
            source_fingerprint=frame["target_fingerprint"],
            source_confidence=frame["confidence"],
            source_log_odds=frame["log_odds"],
            source_top1_class_index=frame["top1_class_index"],
            source_top1_class_name=[self.names.get(i) for i in frame["top1_class_index"]],
            source_top1_confidence=frame["top1_confidence"],
        )

    @cached_property
    def code(self) -> dict[str, str]:
        """sha256 (hex) of the files of the activations that genomes use, by spec; loaded, for genomes to be drawn.

        Raises:
            ConfigError: code is not allowed.
            IncompatibleRun: it is not what it was.
        """
        encoding_of(self.run.store, self._allow_code)
        return dict(self.run.provenance.get("code", {}))

    def picture(self, elite: Mapping[str, Any], variant: str, target: Target) -> NDArray[np.uint8]:
        """What a target is shown of a row of the elites table, (height, width, channels) uint8."""
        image = pictures.archived(elite)
        if variant == "re_rendered":
            image = pictures.redrawn(elite, target.image_size, lambda: self.code)
        return pictures.fitted(image, target.image_size, target.channels)

    def outputs(self, target: Target, column: str) -> NDArray[np.int64]:
        """(elites,) the target's output for the class in a column of indices; -1 where it has none."""
        found = match(self.names, target.class_names)
        return np.array([found.get(int(index), -1) for index in self.frame[column]], dtype=np.int64)

    def shared(self, target: Target) -> int:
        """How many elites were evolved for a class that the target has."""
        return int((self.outputs(target, "class_index") >= 0).sum())


def match(source: dict[int, str], names: Sequence[str]) -> dict[int, int]:
    """Which output of a target is which class of the source, by name.

    A name that several outputs bear, here or there, says nothing alone: it is matched at its own index, or not at all.

    Args:
        source: {index: name}.
        names: of the target's outputs.

    Returns:
        {source index: target index}.
    """
    here, there = Counter(source.values()), Counter(names)
    place = {name: index for index, name in enumerate(names)}
    found = {}
    for index, name in source.items():
        if here[name] == there[name] == 1:
            found[index] = place[name]
        elif index < len(names) and names[index] == name:
            found[index] = index
    return found


def score(elites: Elites, by: OpenTarget, variant: str, pool: Pool) -> pd.DataFrame:
    """The rows of one target and variant, in the order of the elites: the columns of `evofool.transfer`."""
    target, names = by.target, np.array(by.target.class_names, dtype=object)
    classes, top1 = elites.outputs(target, "class_index"), elites.outputs(target, "top1_class_index")
    # One individual may hold many cells; it is drawn and scored once.
    ids, first, holder = np.unique(elites.frame["individual_id"], return_index=True, return_inverse=True)
    height, width = target.image_size
    size = max(1, min(BATCH, BATCH_BYTES // (height * width * target.channels)))

    def batches() -> Iterator[NDArray[np.uint8]]:
        for start in range(0, len(ids), size):
            shown = (elites.frame.iloc[i] for i in first[start : start + size])
            yield np.stack([elites.picture(elite, variant, target) for elite in shown])

    parts = []
    for number, scores in enumerate(stream(pool, "score_images", batches())):
        here = np.nonzero(holder // size == number)[0]
        parts.append(_judged(scores, holder[here] % size, classes[here], here))
    judged = pd.concat(parts).sort_index()
    judged["class_is_top1"] = _nullable(judged["top1"] == classes, "boolean", classes >= 0)
    judged["same_top1"] = _nullable(judged["top1"] == top1, "boolean", top1 >= 0)
    return elites.rows.assign(
        to=target.spec,
        to_fingerprint=by.fingerprint,
        variant=variant,
        height=height,
        width=width,
        channels=target.channels,
        target_class_index=_nullable(pd.Series(classes), "Int32", classes >= 0),
        top1_class_index=_nullable(judged["top1"], "Int32", judged["top1"] >= 0),
        top1_class_name=[names[i] if i >= 0 else None for i in judged["top1"]],
        **{name: judged[name] for name in judged.columns if name != "top1"},
    )


def _judged(scores: Scores, rows: Any, classes: Any, index: Any) -> pd.DataFrame:
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
    told = finite & (classes >= 0)
    own = np.where(told, odds[rows, classes], np.float32(np.nan))
    frame = pd.DataFrame(
        {
            "confidence": confidence(own),
            "log_odds": own,
            "margin": np.where(told, scores.objective[rows, classes], np.float32(np.nan)),
            "top1": np.where(finite, scores.top1_class[rows], -1),
            "top1_confidence": np.where(finite, scores.top1_confidence[rows], np.float32(np.nan)),
        },
        index=index,
    )
    frame["rank"] = _nullable(pd.Series(rank[rows, classes], index=index), "Int32", told)
    return frame


def _nullable(values: pd.Series, dtype: str, known: Any) -> pd.Series:
    return values.astype(dtype).where(known)
