"""Transfer: what do other networks make of images that were evolved to fool one? (Nguyen et al. 2015, section 3.5.)

Every elite of a run is scored by every other target twice: as the pixels that were archived, fitted to the target's
size (`same_pixels`), and as its genome drawn at that size (`re_rendered`). What the network says that the elite was
evolved on lies in the elites table, so that network is not needed. Classes are matched by name.

Rows are kept in RUN/_studies/transfer.parquet by target, archive and variant, so that a second call scores only what is
missing; a run that went on meanwhile has another archive, and so new rows beside the old ones.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa

from evofool.base.source import Source
from evofool.config import EvaluationConfig
from evofool.errors import ConfigError, EvofoolError, Stopped
from evofool.evaluate.pool import Pool
from evofool.records import Facts
from evofool.store.reader import Run
from evofool.store.schemas import SCHEMA_VERSION
from evofool.studies.shared import tables
from evofool.studies.shared.elites import VARIANTS, Elites, score
from evofool.studies.shared.judging import cluster, judge, judge_of, opened, picture_pool, settings_of
from evofool.studies.shared.statistics import wilson
from evofool.targets.opening import OpenTarget
from evofool.targets.target import Target

__all__ = ["matrix", "summarise", "transfer"]

KEYS = ("to_fingerprint", "archive_hash", "variant")  # of what is kept
SURE = 0.9  # confidence at the source above which elites are also summed up by themselves

TRANSFER = pa.schema(
    [
        ("run_id", pa.string()),
        ("archive_hash", pa.string()),
        ("as_of_generation", pa.int32()),
        ("class_index", pa.int32()),
        ("class_name", pa.string()),
        ("individual_id", pa.int64()),
        ("source", pa.string()),
        ("source_fingerprint", pa.string()),
        ("to", pa.string()),
        ("to_fingerprint", pa.string()),
        ("variant", pa.string()),
        ("height", pa.int32()),  # of the picture that was scored, in pixels
        ("width", pa.int32()),
        ("channels", pa.int32()),
        ("source_confidence", pa.float32()),
        ("source_log_odds", pa.float32()),
        ("source_top1_class_index", pa.int32()),
        ("source_top1_class_name", pa.string()),  # null: not one of the run's classes
        ("source_top1_confidence", pa.float32()),
        ("target_class_index", pa.int32()),  # null: the target has no such class
        ("confidence", pa.float32()),
        ("log_odds", pa.float32()),
        ("rank", pa.int32()),
        ("margin", pa.float32()),
        ("class_is_top1", pa.bool_()),
        ("top1_class_index", pa.int32()),  # null: the network's outputs were not finite
        ("top1_class_name", pa.string()),
        ("top1_confidence", pa.float32()),
        ("same_top1", pa.bool_()),  # null: the target has no such class, or its name is not known
    ],
    metadata={"schema_version": str(SCHEMA_VERSION)},
)

Tell = Callable[[str], None]


def transfer(
    run: str | Path | Run,
    to: str | Target | Sequence[str | Target],
    *,
    variants: Sequence[str] = VARIANTS,
    pool: str | None = None,
    address: str | None = None,
    allow_code: bool = False,
    tell: Tell = lambda text: None,
) -> pd.DataFrame:
    """Score every elite of a run with other targets.

    Args:
        run: finished, or going on; its elites of this moment are taken.
        to: specs as of `target.spec`, or live targets. Specs are taken with native geometry and one crop; for another
            view give `evofool.load_target(spec, geometry=..., crops=...)`.
        variants: "same_pixels" and "re_rendered", or one of them.
        pool: "inline" or "ray" in place of the run's `evaluation.pool`. Device and shapes are each target's own.
        address: of a Ray cluster.
        allow_code: whether python: targets may run their code.
        tell: receives a sentence about each step.

    Returns:
        A row for each target, variant and elite of the current archive: the columns of TRANSFER.
        `rank` counts from 1, ties going to the lower index as in top-1; `margin` is the logit of the evolved class less
        the largest other. `class_is_top1`: the evolved class is the target's answer. `same_top1`: the target's answer
        is the source's, whichever class that is. Missing: what has no meaning where the target lacks the class.

    Raises:
        ConfigError: no such target, or none of the classes that have an elite is one of its classes.
        TargetError: a network fails; the rows of the targets before it are kept.
    """
    run = opened(run)
    given = [to] if isinstance(to, str | Target) else list(to)
    if not given:
        raise ConfigError("--to: give at least one target, for instance --to lenet:weights/other.safetensors.")
    if not variants or not set(variants) <= set(VARIANTS):
        raise ConfigError(f"variants: {list(variants)} is not a choice among {' and '.join(VARIANTS)}.")
    settings = settings_of(run, pool)
    elites = Elites(run, allow_code=allow_code)
    judges = {j.fingerprint: j for j in (judge(spec, allow_code=allow_code) for spec in given)}
    for by in judges.values():
        if not elites.shared(by.target):
            raise ConfigError(
                f"{by.target.spec}: none of the {len(elites.frame)} classes of {run.path} is one of its classes, and "
                f"these are matched by name; its first are {', '.join(by.target.class_names[:3])}."
            )
    with cluster(settings, address):
        return _score(elites, list(judges.values()), list(variants), settings, address, tell)


# ------------------------------------------------------------------------------------------------------------ scoring


def _score(
    elites: Elites,
    judges: list[OpenTarget],
    variants: list[str],
    settings: EvaluationConfig,
    address: str | None,
    tell: Tell,
) -> pd.DataFrame:
    """Score what is missing, target by target, and give the rows of this archive."""
    path, done = elites.run.path, 0
    try:
        for by in judges:
            there = set(_kept(path)[list(KEYS)].itertuples(index=False, name=None))
            missing = [v for v in variants if (by.fingerprint, elites.archive_hash, v) not in there]
            if missing:
                with picture_pool(elites.run, by, settings, address=address, warn=tell) as pool:
                    rows = _rows(elites, by, missing, pool)
                tables.add(elites.run, "transfer", TRANSFER, rows, KEYS)
            tell(f"{by.target.spec}: {_said(elites, by, missing)}")
            done += 1
    except KeyboardInterrupt:
        stopped = Stopped("stopped by an interrupt.", go_on="the same command, which scores only what is missing")
        raise _safe(stopped, path, done, len(judges)) from None
    except EvofoolError as error:
        raise _safe(error, path, done, len(judges)) from error
    frame = _kept(path)
    groups = frame.groupby(list(KEYS))
    parts = [
        # What is kept may have been scored when the file of the target had another name.
        groups.get_group((by.fingerprint, elites.archive_hash, variant)).assign(to=by.target.spec)
        for by in judges
        for variant in variants
    ]
    return pd.concat([frame[:0], *parts], ignore_index=True)


def _kept(path: Path) -> pd.DataFrame:
    return tables.read(path, "transfer", TRANSFER)


def _said(elites: Elites, by: OpenTarget, missing: list[str]) -> str:
    lacking = len(elites.frame) - elites.shared(by.target)
    text = f"{len(elites.frame)} elites scored as {' and '.join(missing)}" if missing else "nothing new to score"
    return text + (f"; it has no class for {lacking} of them, which stay without a score" if lacking else "")


def _safe(error: EvofoolError, path: Path, done: int, total: int) -> EvofoolError:
    error.safe = f"the rows of {done} of {total} targets are in {tables.table_path(path, 'transfer')}"
    return error


def _rows(elites: Elites, by: OpenTarget, variants: list[str], pool: Pool) -> pd.DataFrame:
    """The rows of one target."""
    archived = tuple(elites.run.provenance["image_size"])
    parts: list[pd.DataFrame] = []
    for variant in variants:
        # At its own size a genome draws what was archived, so there is nothing more to score.
        same = parts and archived == by.target.image_size
        parts.append(parts[0].assign(variant=variant) if same else score(elites, by, variant, pool))
    return pd.concat(parts, ignore_index=True)


# ------------------------------------------------------------------------------------------------------------ summing


def summarise(frame: pd.DataFrame) -> list[Facts]:
    """Shares for each target and variant, over all elites and over those the source is sure of.

    Args:
        frame: as `transfer` gives it.

    Returns:
        Dicts: to, variant, elites ("all" or "source >= 0.9"), n of them, the `individuals` they are, how many are
        without_class or not_finite at the target, median_confidence, and {share, low, high, count, n} of `same_top1`,
        `class_is_top1`, `both_99` and `both_9999` (confidence of the evolved class at least 0.99 or 0.9999 by both),
        and `source_surer` (of those with the same top-1, the source has the higher log-odds, which unlike confidence
        do not saturate). The intervals (95 %, Wilson) take elites for independent. An image that the target gives no
        finite scores counts as not transferred; one without a class there is left out.
    """
    result = []
    for (to, fingerprint, variant), group in frame.groupby(["to", "to_fingerprint", "variant"], sort=False):
        for label, part in (("all", group), (f"source >= {SURE}", group[group["source_confidence"] >= SURE])):
            has = part[part["target_class_index"].notna()]
            same = has[has["same_top1"].fillna(False)]
            sure = has[["source_confidence", "confidence"]].min(axis=1, skipna=False)
            facts = {"to": to, "to_fingerprint": fingerprint, "variant": variant, "elites": label, "n": len(part)}
            result.append(
                {
                    **facts,
                    "individuals": int(part["individual_id"].nunique()),
                    "without_class": len(part) - len(has),
                    "not_finite": int(part["top1_class_index"].isna().sum()),
                    "median_confidence": _median(has["confidence"]),
                    "same_top1": _share(part["same_top1"].dropna()),
                    "class_is_top1": _share(has["class_is_top1"]),
                    "both_99": _share(sure >= 0.99),
                    "both_9999": _share(sure >= 0.9999),
                    "source_surer": _share(same["source_log_odds"] > same["log_odds"]),
                }
            )
    return result


def _share(values: pd.Series) -> Facts:
    count, n = int(values.sum()), len(values)
    low, high = wilson(count, n)
    return {"share": count / n if n else None, "low": low, "high": high, "count": count, "n": n}


def _median(values: pd.Series) -> float | None:
    return float(values.median()) if values.notna().any() else None


# ------------------------------------------------------------------------------------------------------------- matrix


@dataclass
class _Group:
    """Runs against one target."""

    label: str
    judge: OpenTarget
    runs: list[Elites]


def matrix(
    runs: Sequence[str | Path | Run],
    *,
    variant: str = "same_pixels",
    targets: Sequence[Target] = (),
    pool: str | None = None,
    address: str | None = None,
    allow_code: bool = False,
    tell: Tell = lambda text: None,
) -> pd.DataFrame:
    """Every run's elites against every other run's target; runs against one target are one row together.

    Args:
        runs: against at least two targets, by fingerprint.
        variant: "same_pixels" or "re_rendered".
        targets: the live ones, where runs were made with such.
        pool, address, allow_code, tell: as of `transfer`.

    Returns:
        A row for each pair: source, to (labels), their fingerprints, runs, n (elites with a class there), the share
        class_is_top1 with its 95 % interval low, high, same_top1, median_confidence. A target against itself is told
        by the archive. NaN where two targets have no class in common.

    Raises:
        ConfigError: runs against one target only.
        IncompatibleRun: a target is not the one its run was made with.
    """
    if variant not in VARIANTS:
        raise ConfigError(f"--variant: {variant!r} is not {' or '.join(VARIANTS)}.")
    groups: dict[str, _Group] = {}
    for run in map(opened, runs):
        elites, fingerprint = Elites(run, allow_code=allow_code), run.provenance["target_fingerprint"]
        if fingerprint not in groups:
            groups[fingerprint] = _Group("", judge_of(run, targets, allow_code=allow_code), [])
        groups[fingerprint].runs.append(elites)
    if len(groups) < 2:
        raise ConfigError("a matrix needs runs against at least two targets; these are all against one.")
    _label(list(groups.values()))
    by_pair: dict[tuple[str, str], list[pd.DataFrame]] = {(a, b): [] for a in groups for b in groups}
    with contextlib.ExitStack() as stack:
        for name, elites in [(name, elites) for name, group in groups.items() for elites in group.runs]:
            settings = settings_of(elites.run, pool)
            stack.enter_context(cluster(settings, address))
            others = [g.judge for key, g in groups.items() if key != name and elites.shared(g.judge.target)]
            by_pair[name, name].append(_at_home(elites))
            for other, rows in _score(elites, others, [variant], settings, address, tell).groupby("to_fingerprint"):
                by_pair[name, other].append(rows)
    return pd.DataFrame([_entry(groups[a], groups[b], parts) for (a, b), parts in by_pair.items()])


def _at_home(elites: Elites) -> pd.DataFrame:
    """The rows of the source against itself, from the archive."""
    answered = elites.frame["top1_class_index"] == elites.frame["class_index"]
    return elites.rows.assign(confidence=elites.frame["confidence"], class_is_top1=answered, same_top1=True)


def _entry(source: _Group, to: _Group, parts: list[pd.DataFrame]) -> Facts:
    frame = pd.concat(parts, ignore_index=True) if parts else None
    has = None if frame is None else frame[frame["class_is_top1"].notna()]
    share = _share(pd.Series(dtype=bool) if has is None else has["class_is_top1"])
    same = None if frame is None else _share(frame["same_top1"].dropna())["share"]
    return {
        "source": source.label,
        "to": to.label,
        "source_fingerprint": source.judge.fingerprint,
        "to_fingerprint": to.judge.fingerprint,
        "runs": len(parts),
        "n": share["n"],
        "class_is_top1": share["share"],
        "low": share["low"],
        "high": share["high"],
        "same_top1": same,
        "median_confidence": None if has is None else _median(has["confidence"]),
    }


def _label(groups: list[_Group]) -> None:
    """Short names that differ: specs with files without their folders, and fingerprints where that is not enough."""
    for group in groups:
        group.label = group.judge.target.spec
        for file in group.judge.source.files if isinstance(group.judge.source, Source) else ():
            group.label = group.label.replace(file, Path(file).name)
    counts = Counter(group.label for group in groups)
    for group in groups:
        if counts[group.label] > 1:
            group.label += f" ({group.judge.fingerprint[:6]})"
