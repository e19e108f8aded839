"""What the rows of transfer come to: shares, and what they are by chance, for each network or each pair of networks."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pandas as pd

from evofool.records import Facts
from evofool.studies.shared.chance import by_chance
from evofool.studies.shared.statistics import median_ranks, wilson
from evofool.targets.zoo.imagenet import super_classes

__all__ = ["SHARES", "summarise", "tidy", "tidy_pairs"]

SURE = (0.9, 0.99, 0.9999)  # confidences at the source above which elites are also summed up by themselves
SHARES = {
    "same_top1": "same answer as the source",
    "class_is_top1": "the answer is the evolved class",
    "both_99": "0.99 or more by both",
    "both_9999": "0.9999 or more by both",
    "source_surer": "source surer, where answers agree",
}


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
        tidy rows of what chance gives (of `same_top1` and of `class_is_top1`), of super-classes, and of rank and
        log-odds. The intervals (95 %; of shares Wilson's) take elites for independent. An image that the target gives
        no finite scores counts as not transferred; one whose class the target lacks is left out.
    """
    result, answers = [], _answers_there(frame)
    for (to, fingerprint, variant), group in frame.groupby(["to", "to_fingerprint", "variant"], sort=False):
        facts = {"to": to, "to_fingerprint": fingerprint, "variant": variant}
        for label, part in _by_confidence(group):
            result.append({**facts, "elites": label, "n": len(part), **_figures(part, answers)})
    return result


def _by_confidence(group: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """All rows, and those of which the source is sure at several levels."""
    yield "all", group
    for level in SURE:
        yield f"source >= {level}", group[group["source_confidence"] >= level]


def _answers_there(frame: pd.DataFrame) -> dict[tuple[str, str], int]:
    """The output that each class is at each target, by the target's fingerprint and the class's name: of its own answers,
    and by the source's names of answers in which both agreed, and of classes that something was evolved for."""
    found: dict[tuple[str, str], int] = {}
    for said, there, rows in (
        ("top1_class_name", "top1_class_index", frame),
        ("source_top1_class_name", "top1_class_index", frame[frame["same_top1"].fillna(False)]),
        ("class_name", "target_class_index", frame),
    ):
        rows = rows.dropna(subset=[said, there]).drop_duplicates(["to_fingerprint", said])
        found |= dict(zip(zip(rows["to_fingerprint"], rows[said]), rows[there].astype(int)))
    return found


def _figures(part: pd.DataFrame, answers: dict[tuple[str, str], int]) -> Facts:
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
        "besides": [*_same_beside_chance(part, answers), *_beside_chance(with_class)],
    }


def _same_beside_chance(part: pd.DataFrame, answers: dict[tuple[str, str], int]) -> Iterator[Facts]:
    """What `same_top1` is when the source's answers are permuted over the elites of a run, and by how much it is more.

    Two networks that each give nearly all pictures the same few answers agree often, whatever the pictures are.
    """
    known = part[part["same_top1"].notna()]
    theirs = [answers.get(key, -1) for key in zip(known["to_fingerprint"], known["source_top1_class_name"])]
    ours = known["top1_class_index"].astype(object).where(known["top1_class_index"].notna(), None)
    by = by_chance(theirs, ours.tolist(), known["run_id"].tolist())
    yield {"figure": "same_by_chance", **by, "null": "answers permuted"}
    yield {"figure": "excess_of_same", **_excess(_share(known["same_top1"]), by), "null": "answers permuted"}


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


def _labels(specs: dict[str, str]) -> dict[str, str]:
    """Short names that differ, by fingerprint: specs with the names of files alone, such as "lenet:a.safetensors", and
    the beginning of the fingerprint where specs are the same."""
    labels = {key: re.sub(r"(?<=:)[^:]*/(?=[^/:]*\.)", "", spec) for key, spec in specs.items()}
    counts = Counter(labels.values())
    return {key: f"{label} ({key[:6]})" if counts[label] > 1 else label for key, label in labels.items()}


def tidy(frame: pd.DataFrame) -> list[Facts]:
    """The summary of the study: of every pair of networks where the runs' own are among them, else of every target."""
    if (frame["source_fingerprint"] == frame["to_fingerprint"]).any() and frame["source_fingerprint"].nunique() > 1:
        return list(tidy_pairs(frame))
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


def tidy_pairs(frame: pd.DataFrame) -> Iterator[Facts]:
    """Of every pair of networks, by variant; runs against one network are one source together."""
    labels, answers = _labels(dict(zip(frame["to_fingerprint"], frame["to"]))), _answers_there(frame)
    for variant, rows in frame.groupby("variant", sort=False):
        for a, b in itertools.product(labels, labels):
            pair = rows[(rows["source_fingerprint"] == a) & (rows["to_fingerprint"] == b)]
            head = {"source": labels[a], "to": labels[b], "source_fingerprint": a, "to_fingerprint": b}
            head |= {"variant": variant, "runs": pair["run_id"].nunique()}
            told: dict[int, str] = {}  # the first label of as many elites
            for label, part in _by_confidence(pair):
                if label == "all" or (len(part) and len(part) not in told):
                    told[len(part)] = label
                    yield from ({**head, "elites": label, **row} for row in _of_pair(part, answers))


def _of_pair(part: pd.DataFrame, answers: dict[tuple[str, str], int]) -> Iterator[Facts]:
    with_class = part[part["class_is_top1"].notna()]
    for name, values in (("class_is_top1", with_class["class_is_top1"]), ("same_top1", part["same_top1"])):
        yield _share_row(name, _share(values.dropna()))
    confidences = with_class["confidence"].dropna().to_numpy(dtype=float)
    low, high = median_ranks(confidences)
    facts = {"figure": "median_confidence", "value": _median(with_class["confidence"])}
    yield {**facts, "low": low, "high": high, "n": len(confidences)}
    yield from _same_beside_chance(part, answers)
    yield from _beside_chance(with_class)


def _share_row(name: str, share: Facts) -> Facts:
    return {"figure": name, "value": share["share"], "low": share["low"], "high": share["high"], "n": share["n"]}
