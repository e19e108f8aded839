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
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import pyarrow as pa

from evofool.config.sections import EvaluationConfig
from evofool.errors import ConfigError
from evofool.evaluate.pool import Pool
from evofool.records import Facts
from evofool.store.reader import Run
from evofool.store.schemas import SCHEMA_VERSION
from evofool.studies.shared.agreement import SHARES, summarise, tidy, tidy_pairs
from evofool.studies.shared.charts import Panel, dots, heat_maps
from evofool.studies.shared.elites import OF_ELITE, PHOTOGRAPHS, VARIANTS, Elites, Photographs, Shown, score
from evofool.studies.shared.judging import Tell, cluster, judge, judge_of, picture_pool, settings_of
from evofool.studies.study import Study, Work, conduct
from evofool.targets.opening import OpenTarget
from evofool.targets.target import Target

__all__ = ["STUDY", "Options", "matrix", "summarise", "transfer"]

KEYS = ("run_id", "archive_hash", "to_fingerprint", "variant")
TOLD = 3  # targets in a sentence
NUMBERS = ("class_is_top1", "low", "high", "same_top1", "median_confidence")  # of a matrix; NaN where there is none
PANELS = {
    "class_is_top1": "share whose class is the answer",
    "median_confidence": "median confidence of the class",
}

TRANSFER = pa.schema(
    [
        *OF_ELITE,
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
                    "classes (matched by WordNet id, else by name); its first are "
                    f"{', '.join(by.target.class_names[:3])}."
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
    for row in tidy_pairs(outcome.frame):
        if row["elites"] != "all":
            continue
        head = {name: row[name] for name in ("source", "to", "source_fingerprint", "to_fingerprint", "runs")}
        entry = pairs.setdefault((row["source_fingerprint"], row["to_fingerprint"]), head)
        entry[row["figure"]] = row["value"]
        if row["figure"] == "class_is_top1":
            entry |= {name: row[name] for name in ("low", "high", "n")}
    return pd.DataFrame(pairs.values()).astype(dict.fromkeys(NUMBERS, float))


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
    summarise=tidy,
    figure=_figure,
    things="elites of each run",
    options=Options,
    evaluates=True,
)
