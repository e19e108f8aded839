"""Transfer: what do other networks make of images that were evolved to fool one? (Nguyen et al. 2015, section 3.5.)

Every elite of a run is scored by every other target twice: as the pixels that were archived, fitted to the target's
size (`same_pixels`), and as its genome drawn at that size (`re_rendered`). What the elite's own target says of it is
read from the elites table. Classes are matched by WordNet id where both networks know theirs, else by name. Of several
runs without --to, the others' networks are asked.

What chance gives stands beside each share: the evolved classes permuted over the elites of a run, or over those of one
super-class (some forty kinds of things, of ImageNet's classes); and, if asked for, what photographs give.
"""

from __future__ import annotations

import contextlib
import itertools
import re
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from evofool.config.sections import EvaluationConfig
from evofool.errors import ConfigError
from evofool.evaluate.pool import Pool
from evofool.records import Facts
from evofool.store.reader import Run
from evofool.store.schemas import SCHEMA_VERSION
from evofool.studies.shared.chance import by_chance
from evofool.studies.shared.charts import Panel, dots, heat_maps
from evofool.studies.shared.elites import PHOTOGRAPHS, VARIANTS, Elites, Photographs, Shown, score
from evofool.studies.shared.judging import Tell, cluster, judge, judge_of, picture_pool, settings_of
from evofool.studies.shared.statistics import median_ranks, wilson
from evofool.studies.study import Study, Work, conduct
from evofool.targets.opening import OpenTarget
from evofool.targets.target import Target
from evofool.targets.zoo.imagenet import super_classes

__all__ = ["STUDY", "Options", "matrix", "summarise", "transfer"]

KEYS = ("run_id", "archive_hash", "to_fingerprint", "variant")
TOLD = 3  # targets in a sentence
SURE = (0.9, 0.99, 0.9999)  # confidences at the source above which elites are also summed up by themselves
SHARES = {
    "same_top1": "same answer as the source",
    "class_is_top1": "the answer is the evolved class",
    "both_99": "0.99 or more by both",
    "both_9999": "0.9999 or more by both",
    "source_surer": "source surer, where answers agree",
}
NUMBERS = ("class_is_top1", "low", "high", "same_top1", "median_confidence")  # of a matrix; NaN where there is none
PANELS = {
    "class_is_top1": "share whose class is the answer",
    "median_confidence": "median confidence of the class",
}

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


@dataclass(frozen=True)
class Options:
    """What the study can be asked for besides."""

    to: Annotated[
        tuple[str, ...],
        "Target to show the elites to, as target.spec; may be repeated. By default: of several runs, "
        "the network of every other run.",
    ] = ()
    variant: Annotated[
        tuple[str, ...],
        "same_pixels, as archived, or re_rendered, drawn at each target's size; may be repeated. By "
        "default both with --to, same_pixels without.",
    ] = ()
    photographs: Annotated[
        bool, "Show the networks labelled photographs, too, which packages of evofool[imagenet] bring."
    ] = False


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
    targets = (to,) if isinstance(to, str | Target) else tuple(to)
    if not targets or not variants:
        raise ConfigError("transfer: give at least one target and one variant.")
    options = Options(targets, tuple(variants))  # type: ignore[arg-type]  # live targets, in Python only
    return conduct("transfer", [run], options, pool=pool, address=address, allow_code=allow_code, tell=tell).frame


def _rows(work: Work) -> Generator[pd.DataFrame]:
    options: Options = work.options
    variants = options.variant or (VARIANTS if options.to else VARIANTS[:1])
    if not set(variants) <= set(VARIANTS):
        raise ConfigError(f"--variant: {', '.join(variants)} is not {' or '.join(VARIANTS)}.")
    runs: list[Run] = work.subject
    settings = [settings_of(run, work.pool) for run in runs]
    everyone = [Elites(run, allow_code=work.allow_code, limit=work.limit) for run in runs]
    judges = _others(work, everyone) if options.to else _own(work, runs)
    work.show_as("to", "to_fingerprint", {by.fingerprint: by.target.spec for by in judges})
    photographed: set[str] = set()  # fingerprints of the sources whose photographs were shown, once for all their runs
    with contextlib.ExitStack() as stack:
        for elites, evaluation in zip(everyone, settings):
            stack.enter_context(cluster(evaluation, work.address))
            for by in judges:
                if not options.to and by.fingerprint == elites.run.provenance["target_fingerprint"]:
                    if groups := work.missing(_groups(elites, by, variants)):
                        yield pd.concat([_at_home(elites, by).assign(variant=group[-1]) for group in groups])
                elif elites.shared(by.target):
                    groups = work.missing(_groups(elites, by, variants))
                    if groups:
                        with picture_pool(elites.run, by, evaluation, address=work.address, warn=work.tell) as pool:
                            yield from _scored(elites, by, [group[-1] for group in groups], pool)
                    work.tell(f"{by.target.spec}: {_progress(elites, by, [group[-1] for group in groups])}")
            if options.photographs and (home := elites.run.provenance["target_fingerprint"]) not in photographed:
                photographed.add(home)
                yield from _photographed(work, elites, judges, evaluation)


def _groups(elites: Shown, by: OpenTarget, variants: Sequence[str]) -> list[tuple[str, ...]]:
    """The values of KEYS."""
    who = elites.run.provenance["run_id"], elites.archive_hash, by.fingerprint
    return [(*who, variant) for variant in dict.fromkeys(variants)]


def _others(work: Work, everyone: list[Elites]) -> list[OpenTarget]:
    """The targets of --to, each once; raises ConfigError where one has none of a run's classes."""
    judges = {j.fingerprint: j for j in (judge(target, allow_code=work.allow_code) for target in work.options.to)}
    for by in judges.values():
        for elites in everyone:
            if not elites.shared(by.target):
                raise ConfigError(
                    f"{by.target.spec}: none of the {len(elites.frame)} classes of {elites.run.path} is one of its "
                    f"classes, and these are matched by name; its first are {', '.join(by.target.class_names[:3])}."
                )
    return list(judges.values())


def _own(work: Work, runs: list[Run]) -> list[OpenTarget]:
    """The targets that the runs were made with, each once."""
    if len({run.provenance["target_fingerprint"] for run in runs}) < 2:
        raise ConfigError("give --to TARGET, or runs against at least two targets; these are all against one.")
    judges: dict[str, OpenTarget] = {}
    for run in runs:
        if run.provenance["target_fingerprint"] not in judges:
            by = judge_of(run, work.live, allow_code=work.allow_code)
            judges[by.fingerprint] = by
    return list(judges.values())


def _progress(elites: Elites, by: OpenTarget, missing: list[str]) -> str:
    lacking = len(elites.frame) - elites.shared(by.target)
    text = f"{len(elites.frame)} elites scored as {' and '.join(missing)}" if missing else "nothing new to score"
    return text + (f"; it has no class for {lacking} of them, which stay without a score" if lacking else "")


def _scored(elites: Elites, by: OpenTarget, variants: list[str], pool: Pool) -> Generator[pd.DataFrame]:
    """The rows of one target, variant by variant."""
    # At its own size a genome draws what was archived, so there is nothing more to score.
    same = tuple(elites.run.provenance["image_size"]) == by.target.image_size
    rows: pd.DataFrame | None = None
    for variant in variants:
        rows = rows.assign(variant=variant) if same and rows is not None else score(elites, by, variant, pool)
        yield rows


def _photographed(
    work: Work, elites: Elites, judges: list[OpenTarget], evaluation: EvaluationConfig
) -> Generator[pd.DataFrame]:
    """Rows of photographs in the place of elites, for every target, the source's own among them where it is asked."""
    if not (missing := [by for by in judges if work.missing(_groups(elites, by, [PHOTOGRAPHS]))]):
        return
    home = judge_of(elites.run, work.live, allow_code=work.allow_code)
    with picture_pool(elites.run, home, evaluation, address=work.address, warn=work.tell) as pool:
        shown = Photographs(elites, home, pool, work.limit)
    for by in missing:
        with picture_pool(elites.run, by, evaluation, address=work.address, warn=work.tell) as pool:
            yield score(shown, by, PHOTOGRAPHS, pool)
        work.tell(f"{by.target.spec}: {len(shown.frame)} photographs scored")


def _at_home(elites: Elites, by: OpenTarget) -> pd.DataFrame:
    """The rows of the source against itself, from the archive, which has neither margins nor ranks."""
    frame, (height, width) = elites.frame, elites.run.provenance["image_size"]
    is_top1 = frame["top1_class_index"] == frame["class_index"]
    return elites.rows.assign(
        to=by.target.spec,
        to_fingerprint=by.fingerprint,
        height=height,
        width=width,
        channels=by.target.channels,
        target_class_index=frame["class_index"].astype("Int32"),
        confidence=frame["confidence"],
        log_odds=frame["log_odds"],
        rank=pd.Series(1, index=frame.index, dtype="Int32").where(is_top1),
        margin=np.float32(np.nan),
        class_is_top1=is_top1.astype("boolean"),
        top1_class_index=frame["top1_class_index"].astype("Int32"),
        top1_class_name=elites.rows["source_top1_class_name"],
        top1_confidence=frame["top1_confidence"],
        same_top1=pd.Series(True, index=frame.index, dtype="boolean"),
    )


def summarise(frame: pd.DataFrame) -> list[Facts]:
    """Shares for each target and variant, over all elites and over those the source is sure of.

    Args:
        frame: as `transfer` gives it.

    Returns:
        Dicts: to, to_fingerprint, variant, elites ("all", or "source >= 0.9", 0.99 or 0.9999), n of them, the
        `individuals` they are, how many are without_class or not_finite at the target, median_confidence with its
        median_interval (of ranks), and {share, low, high, count, n} of `same_top1`, `class_is_top1`, `both_99` and
        `both_9999` (confidence of the evolved class at least 0.99 or 0.9999 by both), and `source_surer` (of those with
        the same top-1, the source has the higher log-odds, which unlike confidence do not saturate); and `besides`,
        tidy rows of what chance gives, of super-classes, and of rank and log-odds. The intervals (95 %; of shares
        Wilson's) take elites for independent. An image that the target gives no finite scores counts as not
        transferred; one whose class the target lacks is left out.
    """
    result = []
    for (to, fingerprint, variant), group in frame.groupby(["to", "to_fingerprint", "variant"], sort=False):
        facts = {"to": to, "to_fingerprint": fingerprint, "variant": variant}
        for label, part in _by_confidence(group):
            result.append({**facts, "elites": label, "n": len(part), **_figures(part)})
    return result


def _by_confidence(group: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """All rows, and those of which the source is sure at several levels."""
    yield "all", group
    for level in SURE:
        yield f"source >= {level}", group[group["source_confidence"] >= level]


def _figures(part: pd.DataFrame) -> Facts:
    with_class = part[part["target_class_index"].notna()]
    same = with_class[with_class["same_top1"].fillna(False)]
    lower = with_class[["source_confidence", "confidence"]].min(axis=1, skipna=False)
    return {
        "individuals": len(part[["run_id", "individual_id"]].drop_duplicates()),
        "without_class": len(part) - len(with_class),
        "not_finite": int(part["top1_class_index"].isna().sum()),
        "median_confidence": _median(with_class["confidence"]),
        "median_interval": median_ranks(with_class["confidence"].dropna().to_numpy(dtype=float)),
        "same_top1": _share(part["same_top1"].dropna()),
        "class_is_top1": _share(with_class["class_is_top1"]),
        "both_99": _share(lower >= 0.99),
        "both_9999": _share(lower >= 0.9999),
        "source_surer": _share(same["source_log_odds"] > same["log_odds"]),
        "besides": list(_beside_chance(with_class)),
    }


def _beside_chance(part: pd.DataFrame) -> Iterator[Facts]:
    """Of elites whose class the target has: what `class_is_top1` is by chance and by how much it is more, overall and
    within super-classes; answers of the right super-class, likewise; the median rank and log-odds of the class.

    Every row names its null. The interval of an excess is Wilson's, less what is expected by chance.
    """
    runs = part["run_id"].tolist()
    answers = part["top1_class_index"].astype(object).where(part["top1_class_index"].notna(), None)
    kinds = super_classes()
    made, said = ([kinds.get(name) for name in part[key]] for key in ("class_name", "top1_class_name"))
    nulls: dict[str, tuple[str, list[Any]]] = {"chance": ("classes permuted", runs)}
    if all(made):
        nulls["chance_in_super_class"] = ("permuted within super-class", list(zip(runs, made)))
    observed = _share(part["class_is_top1"])
    for name, (null, blocks) in nulls.items():
        by = by_chance(part["target_class_index"].tolist(), answers.tolist(), blocks)
        yield {"figure": name, **by, "null": null}
        yield {"figure": name.replace("chance", "excess"), **_excess(observed, by), "null": null}
    if all(made):
        right = _share(pd.Series([a == b for a, b in zip(made, said)], dtype=bool))
        by = by_chance(made, said, runs)
        yield _share_row("same_super_class", right)
        yield {"figure": "excess_of_super_class", **_excess(right, by), "null": "classes permuted"}
    for name, column in (("median_rank", "rank"), ("median_log_odds", "log_odds")):
        values = part[column].dropna().to_numpy(dtype=float)
        low, high = median_ranks(values)
        yield {"figure": name, "value": _median(part[column]), "low": low, "high": high, "n": len(values)}


def _excess(observed: Facts, chance: Facts) -> Facts:
    """By how much a share is more than by chance; values of `_share` and `by_chance`."""
    if not observed["n"]:
        return {"value": None, "low": None, "high": None, "n": 0}
    value, low, high = (observed[key] - chance["value"] for key in ("share", "low", "high"))
    return {"value": value, "low": low, "high": high, "p": chance["p"], "n": observed["n"]}


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
    out: str | Path | None = None,
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
        out: the folder to store the rows in; studies/transfer by default.
        pool, address, allow_code, tell: as of `transfer`.

    Returns:
        A row for each pair: source, to (labels), their fingerprints, runs, n (elites with a class there), the share
        class_is_top1 with its 95 % interval low, high, same_top1, median_confidence. A target against itself is read
        from the archive. NaN where two targets have no class in common.

    Raises:
        ConfigError: no such variant, or runs made with one target only.
        IncompatibleRun: a target is not the one its run was made with.
    """
    outcome = conduct(
        "transfer",
        runs,
        Options(variant=(variant,)),
        out=out,
        pool=pool,
        address=address,
        allow_code=allow_code,
        live=targets,
        tell=tell,
    )
    pairs: dict[tuple[str, str], Facts] = {}
    for row in _tidy_pairs(outcome.frame):
        if row["elites"] != "all":
            continue
        head = {name: row[name] for name in ("source", "to", "source_fingerprint", "to_fingerprint", "runs")}
        entry = pairs.setdefault((row["source_fingerprint"], row["to_fingerprint"]), head)
        entry[row["figure"]] = row["value"]
        if row["figure"] == "class_is_top1":
            entry |= {name: row[name] for name in ("low", "high", "n")}
    return pd.DataFrame(pairs.values()).astype(dict.fromkeys(NUMBERS, float))


def _labels(specs: dict[str, str]) -> dict[str, str]:
    """Short names that differ, by fingerprint: specs with the names of files alone, such as "lenet:a.safetensors", and
    the beginning of the fingerprint where specs are the same."""
    labels = {key: re.sub(r"(?<=:)[^:]*/(?=[^/:]*\.)", "", spec) for key, spec in specs.items()}
    counts = Counter(labels.values())
    return {key: f"{label} ({key[:6]})" if counts[label] > 1 else label for key, label in labels.items()}


def _tidy(frame: pd.DataFrame) -> list[Facts]:
    """The summary of the study: of every pair of networks where the runs' own are among them, else of every target."""
    if (frame["source_fingerprint"] == frame["to_fingerprint"]).any() and frame["source_fingerprint"].nunique() > 1:
        return list(_tidy_pairs(frame))
    # Where the source is sure of all its elites, a summary of the sure ones would repeat that of all; of none, there is
    # nothing to say.
    told: dict[tuple[str, str, int], Facts] = {}
    for entry in summarise(frame):
        if entry["n"]:
            told.setdefault((entry["to_fingerprint"], entry["variant"], entry["n"]), entry)
    return [row for entry in told.values() for row in _tidy_entry(entry)]


def _tidy_entry(entry: Facts) -> Iterator[Facts]:
    head = {name: entry[name] for name in ("to", "to_fingerprint", "variant", "elites")}
    for name in ("n", "individuals", "without_class", "not_finite"):
        figure = {"n": "elites"}.get(name, name)
        yield {**head, "figure": figure, "value": entry[name], "low": None, "high": None, "n": entry["n"]}
    low, high = entry["median_interval"]
    facts = {"figure": "median_confidence", "value": entry["median_confidence"], "low": low, "high": high}
    yield {**head, **facts, "n": entry["n"] - entry["without_class"]}
    for name in SHARES:
        yield {**head, **_share_row(name, entry[name])}
    yield from ({**head, **row} for row in entry["besides"])


def _tidy_pairs(frame: pd.DataFrame) -> Iterator[Facts]:
    """Of every pair of networks, by variant; runs against one network are one source together."""
    labels = _labels(dict(zip(frame["to_fingerprint"], frame["to"])))
    for variant, rows in frame.groupby("variant", sort=False):
        for a, b in itertools.product(labels, labels):
            pair = rows[(rows["source_fingerprint"] == a) & (rows["to_fingerprint"] == b)]
            head = {"source": labels[a], "to": labels[b], "source_fingerprint": a, "to_fingerprint": b}
            head |= {"variant": variant, "runs": pair["run_id"].nunique()}
            told: dict[int, str] = {}  # the first label of as many elites
            for label, part in _by_confidence(pair):
                if label == "all" or (len(part) and len(part) not in told):
                    told[len(part)] = label
                    yield from ({**head, "elites": label, **row} for row in _of_pair(part))


def _of_pair(part: pd.DataFrame) -> Iterator[Facts]:
    with_class = part[part["class_is_top1"].notna()]
    for name, values in (("class_is_top1", with_class["class_is_top1"]), ("same_top1", part["same_top1"])):
        yield _share_row(name, _share(values.dropna()))
    confidences = with_class["confidence"].dropna().to_numpy(dtype=float)
    low, high = median_ranks(confidences)
    facts = {"figure": "median_confidence", "value": _median(with_class["confidence"])}
    yield {**facts, "low": low, "high": high, "n": len(confidences)}
    yield from _beside_chance(with_class)


def _share_row(name: str, share: Facts) -> Facts:
    return {"figure": name, "value": share["share"], "low": share["low"], "high": share["high"], "n": share["n"]}


def _figure(summary: list[Facts], frame: pd.DataFrame) -> tuple[str, str]:
    if "source" in summary[0]:
        maps = {
            f"{title} ({variant})": {
                (row["source"], row["to"]): row["value"]
                for row in summary
                if row["figure"] == name and row["variant"] == variant and row["elites"] == "all"
            }
            for variant in dict.fromkeys(row["variant"] for row in summary)
            for name, title in PANELS.items()
        }
        return heat_maps("Elites shown to the networks of the other runs", maps, "evolved on", "shown to"), _most(
            summary
        )
    whole = [row for row in summary if row["elites"] == "all"]
    shown = SHARES | {"chance": "the evolved class, by chance"}
    panels = [
        Panel(
            f"{to} ({variant})",
            [
                {**row, "label": shown[row["figure"]]}
                for row in whole
                if row["figure"] in shown and (row["to"], row["variant"]) == (to, variant)
            ],
            (0, 1),
        )
        for to, variant in dict.fromkeys((row["to"], row["variant"]) for row in whole)
    ]
    return dots("Elites shown to other networks: shares, 95 % intervals", panels), _told(whole)


def _told(summary: list[Facts]) -> str:
    """What each target, as many as a sentence holds, says of the elites, as the first variant has them."""
    first = [r for r in summary if r["variant"] == summary[0]["variant"]]
    rows = [r for r in first if r["figure"] == "class_is_top1"]
    chance = {r["to_fingerprint"]: f", by chance {r['value']:.1%}" for r in first if r["figure"] == "chance" and r["n"]}
    told = "; ".join(
        f"{row['to']} gives it to {_interval(row)}{chance.get(row['to_fingerprint'], '')}" for row in rows[:TOLD]
    )
    more = f"; {len(rows) - TOLD} others are in the table" if len(rows) > TOLD else ""
    return f"The answer that elites were evolved for, as {summary[0]['variant']}: {told}{more}."


def _most(summary: list[Facts]) -> str:
    """The pairs of networks between which most transfers, and least."""
    pairs = [r for r in summary if r["source"] != r["to"] and r["elites"] == "all" and r["n"]]
    pairs = [r for r in pairs if r["variant"] == summary[0]["variant"]]
    rows = [r for r in pairs if r["figure"] == "class_is_top1"]
    if not rows:
        return "No two of these networks have a class in common, so nothing could be compared."
    rows.sort(key=lambda row: row["value"])
    least, most = (f"{row['to']} gives it to {_interval(row)} of {row['source']}" for row in (rows[0], rows[-1]))
    chance = max(r["value"] for r in pairs if r["figure"] == "chance")
    told = f"{least}, the fewest; {most}, the most; by chance {chance:.1%} at most"
    return f"The answer that elites were evolved for: {told}."


def _interval(row: Facts) -> str:
    if not row["n"]:
        return "none, since no class is its own"
    return f"{row['value']:.1%} (95 % interval {row['low']:.1%} to {row['high']:.1%}) of {row['n']} elites"


STUDY = Study(
    subject="runs",
    schema=TRANSFER,
    keys=KEYS,
    rows=_rows,
    summarise=_tidy,
    figure=_figure,
    things="elites of each run",
    options=Options,
    evaluates=True,
)
