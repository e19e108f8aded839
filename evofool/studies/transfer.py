"""Transfer: what do other networks make of images that were evolved to fool one? (Nguyen et al. 2015, section 3.5.)

Every elite of a run is scored by every other target twice: as the pixels that were archived, fitted to the target's
size (`same_pixels`), and as its genome drawn at that size (`re_rendered`). What the elite's own target says of it is
read from the elites table, so that target is not loaded. Classes are matched by name.

Rows are stored in RUN/_studies/transfer.parquet by target, archive and variant, so that a second call scores only what
is missing; a run that went on meanwhile has another archive, and so new rows beside the old ones.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa

from evofool.base.source import Source
from evofool.config.sections import EvaluationConfig
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

AGAIN = "the same command, which scores only what is missing"
KEYS = ("to_fingerprint", "archive_hash", "variant")  # the columns that tell groups of stored rows apart
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
        allow_code: whether python: targets, and activations of the user's own, may run their code.
        tell: receives a sentence about each step.

    Returns:
        A row for each target, variant and elite of the current archive: the columns of TRANSFER.
        `rank` counts from 1, ties going to the lower index as in top-1; `margin` is the logit of the evolved class less
        the largest other. `class_is_top1`: the evolved class is the target's answer. `same_top1`: the target's answer
        is the source's, whichever class that is. Missing: what has no meaning where the target lacks the class.

    Raises:
        ConfigError: no such target, or none of the classes that have an elite is one of its classes.
        TargetError: a network fails; the rows of the targets before it are stored.
    """
    run = opened(run)
    targets = [to] if isinstance(to, str | Target) else list(to)
    if not targets:
        raise ConfigError("--to: give at least one target, for instance --to lenet:weights/other.safetensors.")
    if not variants or not set(variants) <= set(VARIANTS):
        raise ConfigError(f"variants: {list(variants)} is not a choice among {' and '.join(VARIANTS)}.")
    settings = settings_of(run, pool)
    elites = Elites(run, allow_code=allow_code)
    judges = {j.fingerprint: j for j in (judge(target, allow_code=allow_code) for target in targets)}
    for by in judges.values():
        if not elites.shared(by.target):
            raise ConfigError(
                f"{by.target.spec}: none of the {len(elites.frame)} classes of {run.path} is one of its classes, and "
                f"these are matched by name; its first are {', '.join(by.target.class_names[:3])}."
            )
    with cluster(settings, address):
        return _score(elites, list(judges.values()), list(variants), settings, address, tell)


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
            stored = tables.read(path, "transfer", TRANSFER)[list(KEYS)]
            groups = set(stored.itertuples(index=False, name=None))
            missing = [v for v in variants if (by.fingerprint, elites.archive_hash, v) not in groups]
            if missing:
                with picture_pool(elites.run, by, settings, address=address, warn=tell) as pool:
                    rows = _rows(elites, by, missing, pool)
                tables.add(elites.run, "transfer", TRANSFER, rows, KEYS)
            tell(f"{by.target.spec}: {_progress(elites, by, missing)}")
            done += 1
    except (EvofoolError, KeyboardInterrupt) as error:
        failure = error if isinstance(error, EvofoolError) else Stopped("stopped by an interrupt.", go_on=AGAIN)
        failure.safe = f"the rows of {done} of {len(judges)} targets are in {tables.table_path(path, 'transfer')}"
        raise failure from failure.__cause__  # for Stopped there is none: the interrupt says nothing more
    frame = tables.read(path, "transfer", TRANSFER)
    by_key = frame.groupby(list(KEYS))
    parts = [
        # Stored rows may have been scored when the file of the target had another name.
        by_key.get_group((by.fingerprint, elites.archive_hash, variant)).assign(to=by.target.spec)
        for by in judges
        for variant in variants
    ]
    return pd.concat([frame[:0], *parts], ignore_index=True)


def _progress(elites: Elites, by: OpenTarget, missing: list[str]) -> str:
    lacking = len(elites.frame) - elites.shared(by.target)
    text = f"{len(elites.frame)} elites scored as {' and '.join(missing)}" if missing else "nothing new to score"
    return text + (f"; it has no class for {lacking} of them, which stay without a score" if lacking else "")


def _rows(elites: Elites, by: OpenTarget, variants: list[str], pool: Pool) -> pd.DataFrame:
    """The rows of one target."""
    archived = tuple(elites.run.provenance["image_size"])
    parts: list[pd.DataFrame] = []
    for variant in variants:
        # At its own size a genome draws what was archived, so there is nothing more to score.
        same = parts and archived == by.target.image_size
        parts.append(parts[0].assign(variant=variant) if same else score(elites, by, variant, pool))
    return pd.concat(parts, ignore_index=True)


def summarise(frame: pd.DataFrame) -> list[Facts]:
    """Shares for each target and variant, over all elites and over those the source is sure of.

    Args:
        frame: as `transfer` gives it.

    Returns:
        Dicts: to, to_fingerprint, variant, elites ("all" or "source >= 0.9"), n of them, the `individuals` they are,
        how many are without_class or not_finite at the target, median_confidence, and {share, low, high, count, n} of
        `same_top1`, `class_is_top1`, `both_99` and `both_9999` (confidence of the evolved class at least 0.99 or 0.9999
        by both), and `source_surer` (of those with the same top-1, the source has the higher log-odds, which unlike
        confidence do not saturate). The intervals (95 %, Wilson) take elites for independent. An image that the target
        gives no finite scores counts as not transferred; one whose class the target lacks is left out.
    """
    result = []
    for (to, fingerprint, variant), group in frame.groupby(["to", "to_fingerprint", "variant"], sort=False):
        facts = {"to": to, "to_fingerprint": fingerprint, "variant": variant}
        for label, part in (("all", group), (f"source >= {SURE}", group[group["source_confidence"] >= SURE])):
            result.append({**facts, "elites": label, "n": len(part), **_figures(part)})
    return result


def _figures(part: pd.DataFrame) -> Facts:
    with_class = part[part["target_class_index"].notna()]
    same = with_class[with_class["same_top1"].fillna(False)]
    lower = with_class[["source_confidence", "confidence"]].min(axis=1, skipna=False)
    return {
        "individuals": int(part["individual_id"].nunique()),
        "without_class": len(part) - len(with_class),
        "not_finite": int(part["top1_class_index"].isna().sum()),
        "median_confidence": _median(with_class["confidence"]),
        "same_top1": _share(part["same_top1"].dropna()),
        "class_is_top1": _share(with_class["class_is_top1"]),
        "both_99": _share(lower >= 0.99),
        "both_9999": _share(lower >= 0.9999),
        "source_surer": _share(same["source_log_odds"] > same["log_odds"]),
    }


def _share(values: pd.Series) -> Facts:
    count, n = int(values.sum()), len(values)
    low, high = wilson(count, n)
    return {"share": count / n if n else None, "low": low, "high": high, "count": count, "n": n}


def _median(values: pd.Series) -> float | None:
    return float(values.median()) if values.notna().any() else None


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
        runs: made with at least two targets, by fingerprint.
        variant: "same_pixels" or "re_rendered".
        targets: the live ones, where runs were made with such.
        pool, address, allow_code, tell: as of `transfer`.

    Returns:
        A row for each pair: source, to (labels), their fingerprints, runs, n (elites with a class there), the share
        class_is_top1 with its 95 % interval low, high, same_top1, median_confidence. A target against itself is read
        from the archive. NaN where two targets have no class in common.

    Raises:
        ConfigError: no such variant, or runs made with one target only.
        IncompatibleRun: a target is not the one its run was made with.
    """
    if variant not in VARIANTS:
        raise ConfigError(f"--variant: {variant!r} is not {' or '.join(VARIANTS)}.")
    # By fingerprint: targets, and the elites of the runs made with each.
    judges: dict[str, OpenTarget] = {}
    sources: dict[str, list[Elites]] = {}
    for run in map(opened, runs):
        elites, fingerprint = Elites(run, allow_code=allow_code), run.provenance["target_fingerprint"]
        if fingerprint not in judges:
            judges[fingerprint] = judge_of(run, targets, allow_code=allow_code)
        sources.setdefault(fingerprint, []).append(elites)
    if len(judges) < 2:
        raise ConfigError("a matrix needs runs against at least two targets; these are all against one.")
    by_pair: dict[tuple[str, str], list[pd.DataFrame]] = {(a, b): [] for a in judges for b in judges}
    with contextlib.ExitStack() as stack:
        for source, elites in [(source, elites) for source, group in sources.items() for elites in group]:
            settings = settings_of(elites.run, pool)
            stack.enter_context(cluster(settings, address))
            others = [by for to, by in judges.items() if to != source and elites.shared(by.target)]
            by_pair[source, source].append(_at_home(elites))
            for to, rows in _score(elites, others, [variant], settings, address, tell).groupby("to_fingerprint"):
                by_pair[source, to].append(rows)
    labels = _labels(judges)
    return pd.DataFrame(
        [
            {"source": labels[a], "to": labels[b], "source_fingerprint": a, "to_fingerprint": b, **_entry(parts)}
            for (a, b), parts in by_pair.items()
        ]
    )


def _at_home(elites: Elites) -> pd.DataFrame:
    """The rows of the source against itself, from the archive."""
    is_top1 = elites.frame["top1_class_index"] == elites.frame["class_index"]
    return elites.rows.assign(confidence=elites.frame["confidence"], class_is_top1=is_top1, same_top1=True)


def _entry(parts: list[pd.DataFrame]) -> Facts:
    no_rows = pd.DataFrame(columns=["class_is_top1", "same_top1", "confidence"])
    frame = pd.concat(parts, ignore_index=True) if parts else no_rows
    with_class = frame[frame["class_is_top1"].notna()]
    share = _share(with_class["class_is_top1"])
    return {
        "runs": len(parts),
        "n": share["n"],
        "class_is_top1": share["share"],
        "low": share["low"],
        "high": share["high"],
        "same_top1": _share(frame["same_top1"].dropna())["share"],
        "median_confidence": _median(with_class["confidence"]),
    }


def _labels(judges: dict[str, OpenTarget]) -> dict[str, str]:
    """Short names that differ, by fingerprint: specs with the names of files alone, such as "lenet:a.safetensors", and
    the beginning of the fingerprint where specs are the same."""
    labels = {}
    for fingerprint, by in judges.items():
        labels[fingerprint] = by.target.spec
        for file in by.source.files if isinstance(by.source, Source) else ():
            labels[fingerprint] = labels[fingerprint].replace(file, Path(file).name)
    counts = Counter(labels.values())
    return {key: f"{label} ({key[:6]})" if counts[label] > 1 else label for key, label in labels.items()}
