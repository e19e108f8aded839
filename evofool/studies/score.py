"""`evofool study score`: what a target says of any pictures, by the same evaluators that judge a run's."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from evofool.archive.scores import confidence
from evofool.base import picture_files
from evofool.base.picture_files import Picture
from evofool.config import load_config
from evofool.errors import ConfigError
from evofool.evaluate.opening import open_pool
from evofool.evaluate.pool import stream
from evofool.evaluate.problem import Problem, picture_problem
from evofool.records import Facts
from evofool.studies.shared import score_file
from evofool.targets.checking.photographs import fit
from evofool.targets.opening import open_target
from evofool.targets.target import Target

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Request", "score", "score_to"]

CHUNKS = 2  # for each evaluator in a batch

Warn = Callable[[str], None]
_NO_PIXELS = np.empty((0, 0, 1), dtype=np.uint8)


@dataclass(frozen=True)
class Request:
    """Which pictures are to be scored, by what.

    Attributes:
        paths: files and folders.
        target: a spec, or a target itself.
        classes: whose scores get a row each in the column "classes": "all", or names and output indices.
        geometry, crops, output: as in the section `target` of a configuration.
        pool: "inline" or "ray"; `address` is that of a cluster.
    """

    paths: Sequence[str | Path]
    target: str | Target
    classes: str | Sequence[str | int] = "all"
    allow_code: bool = False
    geometry: str = "native"
    crops: int = 1
    output: str = "declared"
    pool: str = "inline"
    address: str | None = None


@dataclass
class Result:
    """What became of the pictures."""

    rows: list[Facts] = field(default_factory=list)  # as in the table, without its column "classes"
    left_out: list[str] = field(default_factory=list)  # a sentence each


def score(
    paths: str | Path | Sequence[str | Path], target: str | Target, *, warn: Warn | None = None, **how: Any
) -> pd.DataFrame:
    """Score pictures of any size: files, and folders at any depth.

    >>> evofool.score("photos", target="efficientnet-lite:0", classes=["zebra", 281])   # doctest: +SKIP

    Args:
        paths: files and folders.
        target: a spec such as "efficientnet-lite:0", or an `evofool.Target`.
        warn: receives a sentence for each picture that is left out; they are logged by default.
        how: the other attributes of `Request`.

    Returns:
        A DataFrame with the columns of `score_file.SCORES`, one row for each picture that could be scored; the
        sentences about the others are in `attrs["evofool"]["left_out"]`.

    Raises:
        ConfigError: nothing to score, or a target, class or path that is not there.
    """
    request = Request([paths] if isinstance(paths, str | Path) else list(paths), target, **how)
    tables: list[score_file.Table] = []
    result = _score(request, warn or logging.getLogger("evofool").warning, tables.append)
    frame = score_file.frame_of(tables)
    frame.attrs["evofool"] = {"left_out": result.left_out}
    return frame


def score_to(out: Path, request: Request, warn: Warn) -> Result:
    """Score pictures into a Parquet file, in bounded memory however many they are.

    Raises:
        ConfigError: nothing to score; nothing is written then.
        StorageError: the file cannot be written; where the place is the reason, before anything is scored.
    """
    with score_file.writing(out) as write:
        return _score(request, warn, write)


def _score(request: Request, warn: Warn, write: Callable[[score_file.Table], None]) -> Result:
    result = Result()

    def refuse(sentence: str) -> None:
        result.left_out.append(sentence)
        warn(sentence)

    files = list(picture_files.find(request.paths, refuse))
    if not files:
        extensions = " ".join(extension.removeprefix(".") for extension in picture_files.EXTENSIONS)
        raise ConfigError(f"there is no picture to score; name files, or folders that hold some ({extensions}).")
    problem = _problem(request)
    target = problem.target
    classes = target.class_indices(_classes(request.classes, target))
    facts = {
        "target": target.spec,
        "target_fingerprint": problem.opened.fingerprint,
        "preprocessing_hash": target.preprocessing.sha256(),
    }
    with open_pool(problem, address=request.address, warn=warn) as (pool, numerics, _):
        size = numerics.chunk * CHUNKS * max(1, pool.report().evaluators)
        pending: deque[list[Picture]] = deque()  # batches whose scores are still to come
        for scores in stream(pool, "score_images", _batches(_readable(files, target, refuse), size, pending)):
            batch = pending.popleft()
            finite = np.isfinite(scores.log_odds).all(axis=1)
            for i in np.flatnonzero(~finite):
                refuse(f"{batch[i].path}: the network's outputs for it are not finite; check the target's weights.")
            if not finite.any():
                continue
            odds, confidences = scores.log_odds[finite], confidence(scores.log_odds[finite])
            pictures, hashes = [batch[i] for i in np.flatnonzero(finite)], scores.image_sha256[finite]
            rows = list(_rows(pictures, hashes, odds, confidences, target.class_names, facts))
            write(score_file.table_of(rows, classes, target.class_names, odds[:, classes], confidences[:, classes]))
            result.rows += rows
    if not result.rows:
        raise ConfigError(f"none of {len(files)} pictures could be scored; nothing was written.")
    return result


def _problem(request: Request) -> Problem:
    """The problem of scoring pictures with the target of a request, which is opened here."""
    live = request.target if isinstance(request.target, Target) else None
    view = {"geometry": request.geometry, "output": request.output, "crops": request.crops}
    section = {"spec": "live" if live else request.target, **view}
    config = load_config({"target": section, "evaluation": {"pool": request.pool}})
    opened = open_target(config.target, live=live, allow_code=request.allow_code, key="--target")
    return picture_problem(config, opened)


def _classes(classes: str | Sequence[str | int], target: Target) -> str | list[str | int]:
    """Classes as a target takes them; a number written as text is an index unless a class has that name."""
    if isinstance(classes, str):
        return classes
    names = set(target.class_names)
    return [int(c) if isinstance(c, str) and c.isdecimal() and c not in names else c for c in classes]


def _readable(files: Iterable[Path], target: Target, refuse: Warn) -> Iterator[tuple[Picture, NDArray[np.uint8]]]:
    """Pictures, each with the image that the target gets of it, (h, w, channels) uint8; the others are refused."""
    for path in files:
        try:
            picture = picture_files.read(path, target.channels)
        except ConfigError as error:
            refuse(error.message)
            continue
        same = picture.pixels.shape[:2] == target.image_size
        yield picture, picture.pixels if same else fit(target, picture.pixels)


def _batches(
    pairs: Iterator[tuple[Picture, NDArray[np.uint8]]], size: int, pending: deque[list[Picture]]
) -> Iterator[NDArray[np.uint8]]:
    """Images, `size` at a time; the pictures they are of are appended to `pending`, without their pixels."""
    while batch := list(islice(pairs, size)):
        pending.append([replace(picture, pixels=_NO_PIXELS) for picture, _ in batch])
        yield np.stack([image for _, image in batch])


def _rows(
    batch: list[Picture],
    hashes: NDArray[np.uint8],
    odds: NDArray[np.float32],
    confidences: NDArray[np.float32],
    names: tuple[str, ...],
    facts: dict[str, str],
) -> Iterator[Facts]:
    """The columns of each picture, but for "classes"; hashes are (n, 32), odds and confidences (n, outputs)."""
    p = confidences.astype(np.float64)
    p /= p.sum(axis=1, keepdims=True)
    entropy = -(p * np.log(np.where(p > 0, p, 1.0))).sum(axis=1)
    order = np.argsort(-odds, axis=1, kind="stable")[:, :5]
    for i, picture in enumerate(batch):
        best = int(order[i, 0])
        yield {
            # A name that is no UTF-8 cannot be a text of a table.
            "path": str(picture.path).encode("utf-8", "surrogateescape").decode("utf-8", "replace"),
            "width": picture.width,
            "height": picture.height,
            "mode": picture.mode,
            "image_sha256": hashes[i].tobytes().hex(),
            **facts,
            "top1_class_index": best,
            "top1_class_name": names[best],
            "top1_confidence": float(confidences[i, best]),
            "top5": [
                {"class_index": int(c), "class_name": names[c], "confidence": float(confidences[i, c])}
                for c in order[i]
            ],
            "entropy": float(entropy[i]),
        }
