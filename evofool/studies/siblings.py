"""Siblings: are classes that have many like them, such as ImageNet's 118 dogs, harder to fool a network for?

Nguyen et al. 2015 (section 3.3) find dogs and cats the hardest, and offer two reasons: there are more pictures of them
to learn from, and images of one dog breed are hard to make without also raising the scores of others, which softmax
counts against them. So of each elite, its own network tells the confidence and the log-odds; both as they would be if
only the classes of its super-class competed; and the log-odds if all others did and these did not. Where competition
among siblings is the reason, the last shows no gap. (Among themselves, many are harder to beat than few.)
"""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from evofool.archive.scores import confidence
from evofool.errors import ConfigError
from evofool.evaluate.pool import Pool
from evofool.records import Facts
from evofool.store.schemas import SCHEMA_VERSION
from evofool.studies.shared.charts import Panel, dots
from evofool.studies.shared.elites import OF_ELITE, VARIANTS, Elites, passes
from evofool.studies.shared.judging import cluster, judge_of, picture_pool, settings_of
from evofool.studies.shared.statistics import difference_of_medians, median_ranks
from evofool.studies.study import Study, Work
from evofool.targets.target import Target
from evofool.targets.zoo.imagenet import super_classes

__all__ = ["SIBLINGS", "STUDY", "against"]

TITLE = "Medians of super-classes, less those of all other classes: 95 % intervals"
CLASSES = 3  # of a super-class, and of all others, at least, to set the one against the others
TOLD = ("dog", "cat")  # in the sentence, where they are there: the paper's
MEASURES = {
    "confidence": "confidence",
    "log_odds": "log-odds",
    "confidence_among_siblings": "confidence among siblings",
    "log_odds_among_siblings": "log-odds among siblings",
    "log_odds_without_siblings": "log-odds without siblings",
}

SIBLINGS = pa.schema(
    [
        *OF_ELITE,
        ("image_sha256", pa.string()),
        ("target", pa.string()),
        ("target_fingerprint", pa.string()),
        ("super_class", pa.string()),
        ("siblings", pa.int32()),  # outputs of the super-class, the class among them
        ("confidence", pa.float32()),
        ("log_odds", pa.float32()),
        ("confidence_among_siblings", pa.float32()),  # null: the class has no other siblings
        ("log_odds_among_siblings", pa.float32()),  # likewise
        ("log_odds_without_siblings", pa.float32()),
    ],
    metadata={"schema_version": str(SCHEMA_VERSION)},
)


def against(log_odds: NDArray[np.float32], output: int, others: NDArray[np.int64]) -> NDArray[np.float64]:
    """The log-odds that a class would have if only it and some others were outputs of the softmax.

    Args:
        log_odds: (n, outputs) of all classes.
        output: of the class.
        others: (k,) outputs, without its own.

    Returns:
        (n,) float64; infinite without others.
    """
    log_p = -np.logaddexp(0.0, -log_odds.astype(np.float64))
    result: NDArray[np.float64] = log_p[:, output] - np.logaddexp.reduce(log_p[:, others], axis=1)
    return result


def _rows(work: Work) -> Generator[pd.DataFrame]:
    for run in work.subject:
        elites = Elites(run, allow_code=work.allow_code, limit=work.limit)
        if not any(name in super_classes() for name in elites.frame["class_name"]):
            raise ConfigError(
                f"{run.path}: none of its classes is one of ImageNet's thousand; of no others super-classes are known."
            )
        if not work.missing([(run.provenance["run_id"], elites.archive_hash)]):
            continue
        settings = settings_of(run, work.pool)
        home = judge_of(run, work.live, allow_code=work.allow_code)
        with (
            cluster(settings, work.address),
            picture_pool(run, home, settings, address=work.address, warn=work.tell) as pool,
        ):
            yield _of_run(elites, home.target, pool)
        work.tell(f"{run.path}: {len(elites.frame)} elites scored among their siblings")


def _of_run(elites: Elites, target: Target, pool: Pool) -> pd.DataFrame:
    """The rows of one run: of the elites whose class has a super-class."""
    kinds = super_classes()
    kind_of = np.array([kinds.get(name, "") for name in target.class_names], dtype=object)
    columns = ["run_id", "as_of_generation", "class_index", "class_name", "individual_id", "image_sha256", "target"]
    frame = elites.frame[[*columns, "target_fingerprint", "confidence", "log_odds"]].assign(
        archive_hash=elites.archive_hash,
        super_class=[kinds.get(name) for name in elites.frame["class_name"]],
    )
    siblings = np.zeros(len(frame), dtype=np.int32)
    among, without = (np.full(len(frame), np.inf) for _ in range(2))
    for scores, at, rows in passes(elites, target, VARIANTS[0], pool):
        for place, row in zip(at, rows):
            output = int(frame["class_index"].iloc[row])
            alike = kind_of == kind_of[output]
            siblings[row] = alike.sum()
            odds, own = scores.log_odds[place : place + 1], np.arange(len(alike)) == output
            among[row], without[row] = (against(odds, output, np.flatnonzero(m))[0] for m in (alike & ~own, ~alike))
    frame["siblings"] = siblings
    for name, values in (("among", among), ("without", without)):
        odds = pd.Series(values, index=frame.index, dtype="Float32").mask(np.isinf(values))
        frame[f"log_odds_{name}_siblings"] = odds
    frame["confidence_among_siblings"] = pd.Series(confidence(among.astype(np.float32)), index=frame.index).where(
        np.isfinite(among)
    )
    return frame[frame["super_class"].notna()]


def _summarise(frame: pd.DataFrame) -> list[Facts]:
    """Of each network, super-class and measure: the median over classes, each averaged over its runs, and how much more
    that is than the median of all other classes. The null: the super-class's classes are any of them."""
    summary: list[Facts] = []
    for (target, fingerprint), part in frame.groupby(["target", "target_fingerprint"], sort=False):
        classes = part.groupby(["class_name", "super_class"], sort=False)[list(MEASURES)].mean().reset_index()
        head = {"target": target, "target_fingerprint": fingerprint, "runs": part["run_id"].nunique()}
        for group in dict.fromkeys([*TOLD, *sorted(classes["super_class"].unique())]):
            mask = classes["super_class"] == group
            for measure in MEASURES:
                inside, outside = (classes.loc[m, measure].dropna().to_numpy(dtype=float) for m in (mask, ~mask))
                if not len(inside):
                    continue
                facts = {**head, "super_class": group, "measure": measure}
                low, high = median_ranks(inside)
                value = float(np.median(inside))
                summary.append(
                    {**facts, "figure": "median", "value": value, "low": low, "high": high, "n": len(inside)}
                )
                if len(inside) >= CLASSES and len(outside) >= CLASSES:
                    gap = difference_of_medians(inside, outside)
                    null = "classes permuted"
                    summary.append({**facts, "figure": "more_than_others", **gap, "n": len(inside), "null": null})
    return summary


def _figure(summary: list[Facts], frame: pd.DataFrame) -> tuple[str, str]:
    gaps = [row for row in summary if row["figure"] == "more_than_others"]
    panels = [
        Panel(f"{title} ({target})", rows)
        for target in dict.fromkeys(row["target"] for row in gaps)
        for measure, title in MEASURES.items()
        if (
            rows := [
                {**row, "label": row["super_class"]}
                for row in gaps
                if (row["target"], row["measure"]) == (target, measure)
            ]
        )
    ]
    if not gaps:
        sentence = f"No super-class has {CLASSES} classes among these elites that could be set against as many others."
        return dots(TITLE, panels), sentence
    told = [group for group in TOLD if any(row["super_class"] == group for row in gaps)] or [gaps[0]["super_class"]]
    target = gaps[0]["target"]
    parts = []
    for group in told:
        by = {row["measure"]: row for row in gaps if (row["target"], row["super_class"]) == (target, group)}
        apart = by["log_odds_without_siblings"]
        parts.append(
            f"the {apart['n']} classes of {group} have log-odds {_told(by['log_odds'])}; if the others of {group} "
            f"did not compete, {_told(apart)}"
        )
    return dots(TITLE, panels), f"On {target}, {'; '.join(parts)}."


def _told(row: Facts) -> str:
    interval = f"{row['low']:+.2f} to {row['high']:+.2f}"
    return f"{row['value']:+.2f} from those of all others (95 % interval {interval}, p {row['p']:.2g})"


STUDY = Study(
    subject="runs",
    schema=SIBLINGS,
    keys=("run_id", "archive_hash"),
    rows=_rows,
    summarise=_summarise,
    figure=_figure,
    things="elites of each run",
    smoke=50,
    evaluates=True,
)
