"""`evofool score`: what a target says of any pictures, by the same evaluators that judge a run's."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

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
        classes: "all", or names and output indices; those whose scores are wanted one by one.
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
) -> Any:
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
    tables: list[Any] = []
    result = _score(request, warn or logging.getLogger("evofool").warning, tables.append)
    frame = score_file.frame_of(tables)
    frame.attrs["evofool"] = {"left_out": result.left_out}
    return frame


def score_to(out: Path, request: Request, warn: Warn) -> Result:
    """Score pictures into a Parquet file, in bounded memory however many they are.

    Raises:
        ConfigError: nothing to score; nothing is written then.
        StorageError: the file cannot be written, known before anything is scored.
    """
    with score_file.ScoreFile(out) as file:
        result = _score(request, warn, file.write)
        file.keep()
    return result


def _score(request: Request, warn: Warn, take: Callable[[Any], None]) -> Result:
    result = Result()

    def refuse(sentence: str) -> None:
        result.left_out.append(sentence)
        warn(sentence)

    found = list(picture_files.find(request.paths, refuse))
    if not found:
        extensions = " ".join(extension.removeprefix(".") for extension in picture_files.EXTENSIONS)
        raise ConfigError(f"there is no picture to score; name files, or folders that hold some ({extensions}).")
    problem = _problem(request)
    target = problem.target
    asked = target.class_indices(_classes(request.classes, target))
    facts = {
        "target": target.spec,
        "target_fingerprint": problem.opened.fingerprint,
        "preprocessing_hash": target.preprocessing.sha256(),
    }
    with open_pool(problem, address=request.address, warn=warn) as (pool, numerics, _):
        size = numerics.chunk * CHUNKS * max(1, pool.report().evaluators)
        read: deque[list[Picture]] = deque()  # whose scores are still to come
        for scores in stream(pool, "score_images", _batches(_readable(found, target, refuse), size, read)):
            batch = read.popleft()
            kept = np.asarray(np.isfinite(scores.log_odds).all(axis=1))
            for i in np.flatnonzero(~kept):
                refuse(f"{batch[i].path}: the network's outputs for it are not finite; check the target's weights.")
            if not kept.any():
                continue
            odds, sure = scores.log_odds[kept], confidence(scores.log_odds[kept])
            scored = [picture for picture, ok in zip(batch, kept) if ok]
            hashes = [row.tobytes().hex() for row in scores.image_sha256[kept]]
            rows = list(_rows(scored, hashes, odds, sure, target.class_names, facts))
            take(score_file.table_of(rows, asked, target.class_names, odds[:, asked], sure[:, asked]))
            result.rows += rows
    if not result.rows:
        raise ConfigError(f"none of {len(found)} pictures could be scored; nothing was written.")
    return result


def _problem(request: Request) -> Problem:
    """What is asked, with its target opened."""
    view = {"geometry": request.geometry, "output": request.output, "crops": request.crops}
    live = request.target if isinstance(request.target, Target) else None
    spec = "live" if isinstance(request.target, Target) else request.target
    config = load_config({"target": {"spec": spec, **view}, "evaluation": {"pool": request.pool}})
    opened = open_target(config.target, live=live, allow_code=request.allow_code, key="--target")
    return picture_problem(config, opened)


def _classes(wanted: str | Sequence[str | int], target: Target) -> str | list[str | int]:
    """Classes as a target takes them; a number written as text is an index unless a class has that name."""
    if isinstance(wanted, str):
        return wanted
    names = set(target.class_names)
    return [int(c) if isinstance(c, str) and c.isdecimal() and c not in names else c for c in wanted]


def _readable(found: Iterable[Path], target: Target, refuse: Warn) -> Iterator[tuple[Picture, NDArray[np.uint8]]]:
    """Pictures with what the target is fed of them; the others are refused."""
    for path in found:
        try:
            picture = picture_files.read(path, target.channels)
        except ConfigError as error:
            refuse(error.message)
            continue
        same = picture.pixels.shape[:2] == target.image_size
        yield picture, picture.pixels if same else fit(target, picture.pixels)


def _batches(
    fed: Iterator[tuple[Picture, NDArray[np.uint8]]], size: int, read: deque[list[Picture]]
) -> Iterator[NDArray[np.uint8]]:
    """Images by so many; the pictures they are of are appended to `read`, batch by batch, without their pixels."""
    while some := list(islice(fed, size)):
        read.append([replace(picture, pixels=_NO_PIXELS) for picture, _ in some])
        yield np.stack([image for _, image in some])


def _rows(
    batch: list[Picture],
    hashes: list[str],
    odds: NDArray[np.float32],
    sure: NDArray[np.float32],
    names: tuple[str, ...],
    facts: dict[str, str],
) -> Iterator[Facts]:
    """The columns of each picture, but for "classes"; `odds` and `sure`, its confidence, are (n, outputs)."""
    p = sure.astype(np.float64)
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
            "image_sha256": hashes[i],
            **facts,
            "top1_class_index": best,
            "top1_class_name": names[best],
            "top1_confidence": float(sure[i, best]),
            "top5": [
                {"class_index": int(c), "class_name": names[c], "confidence": float(sure[i, c])} for c in order[i]
            ],
            "entropy": float(entropy[i]),
        }
