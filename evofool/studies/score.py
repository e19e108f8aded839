"""`evofool study score`: what a target says of any pictures, by the same evaluators that judge a run's."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from evofool.archive.scores import confidence
from evofool.base.picture_files import Picture
from evofool.config import load_config
from evofool.errors import ConfigError
from evofool.evaluate.opening import open_pool
from evofool.evaluate.pool import stream
from evofool.evaluate.problem import Problem, picture_problem, unit_problem
from evofool.records import Facts
from evofool.store.schemas import SCHEMA_VERSION
from evofool.studies.shared import exciting, readable
from evofool.studies.shared.charts import Panel, dots
from evofool.studies.shared.statistics import median_ranks, wilson
from evofool.studies.study import Study, Work
from evofool.targets.opening import open_target
from evofool.targets.specs import section_named
from evofool.targets.target import Target

__all__ = ["SCORES", "STUDY", "Options", "score"]

CHUNKS = 2  # for each evaluator in a batch
SURE = (0.99, 0.9999)
ANSWERS = 20  # that are summed up by themselves, the most frequent ones

_CLASS = pa.struct(
    [("class_index", pa.int32()), ("class_name", pa.string()), ("log_odds", pa.float32()), ("confidence", pa.float32())]
)
_TOP = pa.struct([("class_index", pa.int32()), ("class_name", pa.string()), ("confidence", pa.float32())])

SCORES = pa.schema(
    [
        ("path", pa.string()),
        ("width", pa.int32()),  # of the picture in the file, in pixels
        ("height", pa.int32()),
        ("mode", pa.string()),
        ("image_sha256", pa.string()),  # of the pixels that the target was fed
        ("target", pa.string()),
        ("target_fingerprint", pa.string()),
        ("preprocessing_hash", pa.string()),
        ("top1_class_index", pa.int32()),
        ("top1_class_name", pa.string()),
        ("top1_confidence", pa.float32()),
        ("top5", pa.list_(_TOP)),
        ("entropy", pa.float64()),  # of the probabilities over all outputs, in nats
        ("asked", pa.string()),  # whose scores are in the next column: "all", or output indices
        ("classes", pa.list_(_CLASS)),
    ],
    metadata={"schema_version": str(SCHEMA_VERSION)},
)
KEYS = ("path", "image_sha256", "target_fingerprint", "asked")


@dataclass(frozen=True)
class Options:
    """By which network, and how its view and output are taken."""

    target: Annotated[str, "Network to score with, as target.spec, e.g. efficientnet-lite:0."]
    classes: Annotated[
        tuple[str, ...], "Class whose scores are kept, by name or output index; may be repeated. All by default."
    ] = ()
    geometry: Annotated[str, "native or published, as target.geometry."] = "native"
    crops: Annotated[int, "1 or 10, as target.crops."] = 1
    output: Annotated[str, "declared, logits, probabilities or log_probabilities, as target.output."] = "declared"
    readout: Annotated[
        tuple[str, ...],
        "Unit, LAYER:CHANNEL as in target.readouts, to find the pictures that excite it most; may be repeated. "
        "`evofool targets layers` lists layers.",
    ] = ()
    top: Annotated[int, "With --readout, how many pictures of each are shown."] = 9


def score(
    paths: str | Path | Sequence[str | Path],
    target: str | Target,
    *,
    classes: str | Sequence[str | int] = "all",
    geometry: str = "native",
    crops: int = 1,
    output: str = "declared",
    readouts: str | Sequence[str] = (),
    pool: str = "inline",
    address: str | None = None,
    allow_code: bool = False,
    warn: Callable[[str], None] | None = None,
) -> pd.DataFrame:
    """Score pictures of any size: files, and folders at any depth. Nothing is stored.

    >>> evofool.score("photos", target="efficientnet-lite:0", classes=["zebra", 281])   # doctest: +SKIP

    Args:
        paths: files and folders.
        target: a spec such as "efficientnet-lite:0", or an `evofool.Target`.
        classes: whose scores get a row each in the column "classes": "all", or names and output indices.
        geometry, crops, output: as in the section `target` of a configuration.
        readouts: units, as in `target.readouts`, whose activations are told in place of the scores of classes.
        pool: "inline" or "ray"; `address` is that of a cluster.
        allow_code: whether a python: target may run its code.
        warn: receives a sentence for each picture that is left out; they are logged by default.

    Returns:
        A DataFrame with the columns of SCORES, one row for each picture that could be scored; with `readouts` those of
        EXCITATIONS (studies/shared/exciting.py), one row for each picture and readout. The sentences about the pictures
        that are left out are in `attrs["evofool"]["left_out"]`.

    Raises:
        ConfigError: nothing to score, or a target, class, readout or path that is not there.
    """
    units = (readouts,) if isinstance(readouts, str) else tuple(readouts)
    asked = () if classes == "all" else (classes,) if isinstance(classes, str) else tuple(classes)
    work = Work(
        [paths] if isinstance(paths, str | Path) else list(paths),
        Options(target, asked, geometry, crops, output, units),  # type: ignore[arg-type]  # what no command line can give
        pool=pool,
        address=address,
        allow_code=allow_code,
        tell=warn or logging.getLogger("evofool").warning,
    )
    if units:
        frame = pd.concat(list(STUDY.asked(work.options)[1].rows(work)), ignore_index=True)
    else:
        frame = pa.concat_tables(list(_rows(work))).to_pandas()
    frame.attrs["evofool"] = {"left_out": work.left_out}
    return frame


def _rows(work: Work) -> Generator[pa.Table]:
    """The rows of the pictures that are not stored, batch by batch, however many there are."""
    files = readable.files_of(work)
    problem = _problem(work)
    target = problem.target
    asked = work.options.classes
    classes = target.class_indices(_classes(asked, target) if asked else "all")
    facts = {
        "target": target.spec,
        "target_fingerprint": problem.opened.fingerprint,
        "preprocessing_hash": target.preprocessing.sha256(),
        "asked": " ".join(map(str, classes)) if asked else "all",
    }
    left_out = len(work.left_out)
    with open_pool(problem, address=work.address, warn=work.tell) as (pool, numerics, _):
        size = numerics.chunk * CHUNKS * max(1, pool.report().evaluators)
        pending: deque[list[Picture]] = deque()  # batches whose scores are still to come
        pairs = _missing(readable.readable(files, target, work.leave_out), work, facts)
        for scores in stream(pool, "score_images", readable.batches(pairs, size, pending)):
            batch = pending.popleft()
            finite = np.isfinite(scores.log_odds).all(axis=1)
            for i in np.flatnonzero(~finite):
                sentence = "the network's outputs for it are not finite; check the target's weights."
                work.leave_out(f"{batch[i].path}: {sentence}")
            if not finite.any():
                continue
            odds, confidences = scores.log_odds[finite], confidence(scores.log_odds[finite])
            pictures, hashes = [batch[i] for i in np.flatnonzero(finite)], scores.image_sha256[finite]
            rows = list(_facts(pictures, hashes, odds, confidences, target.class_names, facts))
            yield _table(rows, classes, target.class_names, odds[:, classes], confidences[:, classes])
    if len(work.left_out) - left_out == len(files):
        raise ConfigError(f"none of {len(files)} pictures could be scored; nothing was written.")


def _missing(
    pairs: Iterable[tuple[Picture, NDArray[np.uint8]]], work: Work, facts: dict[str, str]
) -> Iterator[tuple[Picture, NDArray[np.uint8]]]:
    """Those pictures whose rows are not stored."""
    for picture, image in pairs:
        head = readable.text(picture.path), readable.fed(image)
        if work.missing([(*head, facts["target_fingerprint"], facts["asked"])]):
            yield picture, image


def _problem(work: Work) -> Problem:
    """The problem of scoring pictures with the target of the options, which is opened here."""
    options = work.options
    live = options.target if isinstance(options.target, Target) else None
    view = {"geometry": options.geometry, "output": options.output, "crops": options.crops}
    section = {**({"spec": "live"} if live else section_named(str(options.target), "--target")), **view}
    config = load_config({"target": section, "evaluation": {"pool": work.pool or "inline"}})
    opened = open_target(config.target, live=live, allow_code=work.allow_code, key="--target")
    if options.readout:
        return unit_problem(config, opened, options.readout, "--readout")
    return picture_problem(config, opened)


def _instead(options: Options) -> tuple[str, Study] | None:
    """With readouts, the study of what excites them."""
    if not options.readout:
        return None
    if options.classes:
        raise ConfigError("--classes: with --readout it is units whose numbers are told; leave one of the two out.")
    return "-readouts", exciting.study_of(_problem, options.top)


def _classes(classes: Sequence[str | int], target: Target) -> list[str | int]:
    """Classes as a target takes them; a number written as text is an index unless a class has that name."""
    names = set(target.class_names)
    return [int(c) if isinstance(c, str) and c.isdecimal() and c not in names else c for c in classes]


def _facts(
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
            "path": readable.text(picture.path),
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


def _table(
    rows: list[Facts],
    class_indices: NDArray[np.int64],
    class_names: tuple[str, ...],
    log_odds: NDArray[np.float32],
    confidences: NDArray[np.float32],
) -> pa.Table:
    """Rows as a table.

    Args:
        rows: every column but "classes".
        class_indices: (c,) the output indices that were asked for; `class_names` are all of the target's.
        log_odds, confidences: (len(rows), c).
    """
    indices = np.tile(class_indices, len(rows)).astype(np.int32)
    entries = pa.StructArray.from_arrays(
        [
            pa.array(indices),
            pa.array(class_names).take(pa.array(indices)),
            pa.array(np.ascontiguousarray(log_odds).reshape(-1)),
            pa.array(np.ascontiguousarray(confidences).reshape(-1)),
        ],
        fields=list(_CLASS),
    )
    offsets = pa.array(np.arange(len(rows) + 1, dtype=np.int32) * len(class_indices))
    columns = [pa.array([row[field.name] for row in rows], type=field.type) for field in list(SCORES)[:-1]]
    return pa.Table.from_arrays([*columns, pa.ListArray.from_arrays(offsets, entries)], schema=SCORES)


def _summarise(frame: pd.DataFrame) -> list[Facts]:
    """Of each target: medians over pictures, shares of sure ones, the share of each of the most frequent answers."""
    summary: list[Facts] = []
    for (target, fingerprint), part in frame.groupby(["target", "target_fingerprint"], sort=False):
        head = {"target": target, "target_fingerprint": fingerprint, "answer": None}
        for figure, column in (("median_top1_confidence", "top1_confidence"), ("median_entropy", "entropy")):
            values = part[column].to_numpy(dtype=float)
            low, high = median_ranks(values)
            facts = {"figure": figure, "value": float(np.median(values)), "low": low, "high": high}
            summary.append({**head, **facts, "n": len(part)})
        for level in SURE:
            sure = int((part["top1_confidence"] >= level).sum())
            summary.append({**head, **_share(f"share_{level}", sure, len(part))})
        for answer, count in part["top1_class_name"].value_counts()[:ANSWERS].items():
            summary.append({**head, "answer": answer, **_share("share_of_answer", int(count), len(part))})
    return summary


def _share(figure: str, count: int, n: int) -> Facts:
    low, high = wilson(count, n)
    return {"figure": figure, "value": count / n, "low": low, "high": high, "n": n}


def _figure(summary: list[Facts], frame: pd.DataFrame) -> tuple[str, str]:
    labels = {"median_top1_confidence": "median confidence of the answer"}
    labels |= {f"share_{level}": f"share of {level} or more" for level in SURE}
    sure = [{**row, "label": labels[row["figure"]]} for row in summary if row["figure"] in labels]
    answers = [{**row, "label": row["answer"]} for row in summary if row["figure"] == "share_of_answer"]
    panels = [Panel("How sure", sure, (0, 1)), Panel("What it says: share of pictures", answers, (0, 1))]
    target, figures = summary[0]["target"], {row["figure"]: row for row in summary}
    share = figures[f"share_{SURE[0]}"]
    sentence = (
        f"{target} is at least {SURE[0]:.0%} sure of its answer to {share['value']:.1%} of {share['n']} pictures (95 % "
        f"interval {share['low']:.1%} to {share['high']:.1%}); it says {answers[0]['answer']} most often."
    )
    return dots(f"What {target} says of {len(frame)} pictures", panels), sentence


STUDY = Study(
    subject="pictures",
    schema=SCORES,
    keys=KEYS,
    rows=_rows,
    summarise=_summarise,
    figure=_figure,
    things="pictures",
    options=Options,
    smoke=20,
    reads=("target", "target_fingerprint", "top1_class_name", "top1_confidence", "entropy"),
    shown=("path", "width", "height", "mode", "top1_class_name", "top1_confidence", "entropy"),
    evaluates=True,
    instead=_instead,
)
