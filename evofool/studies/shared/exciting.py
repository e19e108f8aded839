"""Which of many pictures excite a unit of a network most: what `evofool study score --readout` asks.

As in Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks" (ECCV 2014), section 4, whose figure
shows for each feature map the nine pictures of the validation set with the highest activations.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from evofool.base import picture_files
from evofool.base.picture_files import Picture
from evofool.errors import ConfigError
from evofool.evaluate.opening import open_pool
from evofool.evaluate.pool import stream
from evofool.evaluate.problem import Problem
from evofool.records import Facts, Scores
from evofool.store.schemas import SCHEMA_VERSION
from evofool.studies.shared import readable
from evofool.studies.shared.charts import Tile, contact_sheet
from evofool.studies.shared.pictures import fitted
from evofool.studies.shared.statistics import median_ranks, wilson
from evofool.studies.study import Study, Work

__all__ = ["EXCITATIONS", "study_of"]

MOST = 100  # pictures of a unit
CHUNKS = 2  # for each evaluator in a batch
LARGEST = 160  # pixels of a picture's longer side in the figure
SHOWN = 40  # readouts that the figure has

EXCITATIONS = pa.schema(
    [
        ("path", pa.string()),
        ("width", pa.int32()),  # of the picture in the file, in pixels
        ("height", pa.int32()),
        ("image_sha256", pa.string()),  # of the pixels that the target was fed
        ("target", pa.string()),
        ("target_fingerprint", pa.string()),
        ("preprocessing_hash", pa.string()),
        ("readout", pa.string()),
        ("layer", pa.string()),
        ("unit", pa.int32()),
        ("activation", pa.float32()),
        ("top1_class_index", pa.int32()),
        ("top1_class_name", pa.string()),
        ("top1_confidence", pa.float32()),
    ],
    metadata={"schema_version": str(SCHEMA_VERSION)},
)
KEYS = ("path", "image_sha256", "target_fingerprint", "readout")


def study_of(problem: Callable[[Work], Problem], top: int) -> Study:
    """The study of what pictures excite the units of a problem.

    Args:
        problem: of the study's work; its cells are of units.
        top: how many pictures of each unit are told and shown.

    Raises:
        ConfigError: `top` is out of range.
    """
    if not 1 <= top <= MOST:
        raise ConfigError(f"--top: {top} pictures cannot be shown; give 1 to {MOST}.")
    return Study(
        subject="pictures",
        schema=EXCITATIONS,
        keys=KEYS,
        rows=lambda work: _rows(work, problem(work)),
        summarise=lambda frame: _summarise(frame, top),
        figure=_figure,
        things="pictures",
        smoke=20,
        evaluates=True,
    )


def _rows(work: Work, problem: Problem) -> Generator[pd.DataFrame]:
    """A row for each picture and readout that are not stored, batch by batch."""
    files = readable.files_of(work)
    left_out = len(work.left_out)
    with open_pool(problem, address=work.address, warn=work.tell) as (pool, numerics, _):
        size = numerics.chunk * CHUNKS * max(1, pool.report().evaluators)
        pending: deque[list[Picture]] = deque()  # batches whose scores are still to come
        pairs = _missing(readable.readable(files, problem.target, work.leave_out), work, problem)
        for scores in stream(pool, "score_images", readable.batches(pairs, size, pending)):
            batch = pending.popleft()
            finite = np.isfinite(scores.objective).all(axis=1)
            for i in np.flatnonzero(~finite):
                work.leave_out(f"{batch[i].path}: its activations are not finite; check the target's weights.")
            if finite.any():
                yield _table(problem, batch, scores, np.flatnonzero(finite), work)
    if len(work.left_out) - left_out == len(files):
        raise ConfigError(f"none of {len(files)} pictures could be scored; nothing was written.")


def _missing(
    pairs: Iterator[tuple[Picture, NDArray[np.uint8]]], work: Work, problem: Problem
) -> Iterator[tuple[Picture, NDArray[np.uint8]]]:
    """Those pictures of which a readout is not stored."""
    for picture, image in pairs:
        head = (readable.text(picture.path), readable.fed(image), problem.opened.fingerprint)
        if work.missing([(*head, unit.name) for unit in problem.cells.units]):
            yield picture, image


def _table(
    problem: Problem, batch: Sequence[Picture], scores: Scores, finite: NDArray[np.int64], work: Work
) -> pd.DataFrame:
    """The rows of a batch that are not stored, in order of pictures, then readouts."""
    target = problem.target
    rows = []
    for i in finite:
        picture, sha256 = batch[i], scores.image_sha256[i].tobytes().hex()
        for unit, activation in zip(problem.cells.units, scores.objective[i].tolist()):
            if (readable.text(picture.path), sha256, problem.opened.fingerprint, unit.name) in work.stored:
                continue
            rows.append(
                {
                    "path": readable.text(picture.path),
                    "width": picture.width,
                    "height": picture.height,
                    "image_sha256": sha256,
                    "target": target.spec,
                    "target_fingerprint": problem.opened.fingerprint,
                    "preprocessing_hash": target.preprocessing.sha256(),
                    "readout": unit.name,
                    "layer": unit.layer,
                    "unit": unit.channel,
                    "activation": activation,
                    "top1_class_index": int(scores.top_classes[i, 0]),
                    "top1_class_name": target.class_names[scores.top_classes[i, 0]],
                    "top1_confidence": float(scores.top_confidences[i, 0]),
                }
            )
    return pd.DataFrame(rows)


def _summarise(frame: pd.DataFrame, top: int) -> list[Facts]:
    """Of each target and readout: the pictures that excite it most, and what it makes of all of them."""
    summary: list[Facts] = []
    for (target, fingerprint, readout), part in frame.groupby(["target", "target_fingerprint", "readout"], sort=False):
        head = {"target": target, "target_fingerprint": fingerprint, "readout": readout}
        values, n = part["activation"].to_numpy(dtype=float), len(part)
        low, high = median_ranks(values)
        first = part.sort_values("activation", ascending=False, kind="stable").head(top)
        for rank, row in enumerate(first.to_dict("records"), 1):
            facts = {"path": row["path"], "answer": row["top1_class_name"], "figure": "activation"}
            summary.append(
                {**head, "rank": rank, **facts, "value": row["activation"], "low": None, "high": None, "n": n}
            )
        head |= {"rank": None, "path": None, "answer": None}
        median = {"figure": "median_activation", "value": float(np.median(values)), "low": low, "high": high}
        summary.append({**head, **median, "n": n})
        low, high = wilson(int((values > 0).sum()), n)
        share = {"figure": "share_above_0", "value": float((values > 0).mean()), "low": low, "high": high}
        summary.append({**head, **share, "n": n})
    return summary


def _figure(summary: list[Facts], frame: pd.DataFrame) -> tuple[str, str]:
    """A contact sheet with the pictures of each readout; and a sentence on the first."""
    told: dict[tuple[str, str, str], list[Facts]] = {}
    for row in summary:
        told.setdefault((row["target"], row["target_fingerprint"], row["readout"]), []).append(row)
    sheets = {}
    for number, ((target, _, readout), rows) in enumerate(told.items()):
        *shown, median, _ = rows
        heading = f"{readout} of {target}: median {_number(median['value'])} of {median['n']} pictures"
        captions = [(f"{row['rank']}: {_number(row['value'])}", Path(row["path"]).name) for row in shown]
        images = [_picture(row["path"]) if number < SHOWN else None for row in shown]
        sheets[heading] = [Tile(image, caption) for image, caption in zip(images, captions)]
    (target, _, readout), (first, *_, median, _) = next(iter(told.items()))
    more = "" if len(told) == 1 else f"; the table has {len(told)} readouts"
    low, high = median["low"], median["high"]
    interval = "" if low is None or high is None else f" (95 % interval {_number(low)} to {_number(high)})"
    sentence = (
        f"Of {first['n']} pictures {Path(first['path']).name} excites {readout} of {target} most, to "
        f"{_number(first['value'])}; the median of all is {_number(median['value'])}{interval}{more}."
    )
    return contact_sheet("The pictures that excite a unit most", dict(islice(sheets.items(), SHOWN))), sentence


def _picture(path: str) -> NDArray[np.uint8] | None:
    """A picture file, reduced where it is large, (height, width, 3) uint8; None where it is gone."""
    try:
        pixels = picture_files.read(Path(path), 3).pixels
    except ConfigError:
        return None
    scale = LARGEST / max(pixels.shape[:2])
    if scale >= 1:
        return pixels
    height, width = (max(1, round(side * scale)) for side in pixels.shape[:2])
    return fitted(pixels, (height, width), 3)


def _number(value: float) -> str:
    return f"{value:.4g}"
