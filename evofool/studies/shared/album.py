"""What the rows of `lineage` come to over runs, and how that is drawn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evofool.records import Facts
from evofool.studies.shared.charts import Panel, dots, heat_maps, mosaics, stacked
from evofool.studies.shared.likeness import SIDE, likeness, stands_out
from evofool.studies.shared.statistics import mean_interval, stouffer

__all__ = ["figure", "pooled", "summarise"]

ENOUGH = 20  # pairs of siblings in a run, to be told of rather than of those of wider kinds
SIBLINGS = {"hypernym": "one hypernym", "super_class": "one super-class"}
FEW = 12  # classes, up to which each is shown by itself
TWO_SIDED = ("switch_excess",)
ALIKE = {"pixels": "blurred pixels", "spectrum": "spectrum"}
HEAD = ["target", "target_fingerprint", "encoding"]


def pooled(rows: pd.DataFrame, *, two_sided: bool) -> Facts:
    """One row for the rows of several runs: the mean with Student's interval over them, and p by Stouffer's method; of
    one run the row itself.

    Args:
        rows: of one figure, with value, low, high, p and n; those without a value do not count.
    """
    rows = rows[rows["value"].notna()]
    facts: Facts = {"value": None, "low": None, "high": None}
    if len(rows):
        values = rows["value"].to_numpy(dtype=float)
        facts = {name: rows[name].iloc[0] for name in ("value", "low", "high")}
        if len(rows) > 1:
            low, high = mean_interval(values)
            facts = {"value": float(values.mean()), "low": low, "high": high}
        if rows["p"].notna().all():
            ps = rows["p"].to_numpy(dtype=float)
            facts["p"] = float(ps[0]) if len(rows) == 1 else stouffer(ps, np.sign(values) if two_sided else None)
    nulls = rows["null"].dropna()
    return {**facts, "n": int(rows["n"].sum()), "runs": len(rows)} | ({"null": nulls.iloc[0]} if len(nulls) else {})


def summarise(frame: pd.DataFrame) -> list[Facts]:
    """Of each network and encoding, the figures of its runs together, and how alike the elites of these are."""
    summary: list[Facts] = []
    for keys, part in frame.groupby(HEAD, sort=False):
        head, figures = dict(zip(HEAD, keys)), part[part["part"] == "figure"]
        for (name, of, by), rows in figures.groupby(["figure", "of", "by"], sort=False, dropna=False):
            told = pooled(rows, two_sided=name in TWO_SIDED)
            summary.append({**head, "of": _text(of), "by": _text(by), "figure": name, **told})
        summary += [{**head, **row} for row in _alike(part)]
    return summary


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _alike(part: pd.DataFrame) -> Iterator[Facts]:
    """Whether elites of one class of different runs are alike, and which classes' pictures vary along rows."""
    elites, seen = part[part["part"] == "elite"], part[part["part"] == "seen"]
    kinds = [(of, elites, column) for column, of in ALIKE.items()]
    for (to, by), rows in seen.groupby(["to", "to_fingerprint"], sort=False):
        kinds.append((to if " " in by else f"log-odds of {to}", rows, "seen"))
    for of, rows, column in kinds:
        vectors, names = _by_run(rows, column)
        if found := likeness(vectors) if vectors else None:
            null = "classes permuted within runs"
            yield {"of": of, "by": "", "figure": "alike", **found, "runs": len(vectors), "null": null}
    # Null where a picture is flat.
    values, names = _by_run(elites.assign(across=elites["across"].astype("Float32").astype(float)), "across")
    table = np.array(values, dtype=float)
    if len(values) > 1 and len(names) <= FEW and np.isfinite(table).all():
        for i, name in enumerate(names):
            null = "classes permuted within runs"
            yield {"of": name, "by": "", "figure": "across", **stands_out(table, i), "runs": len(values), "null": null}


def _by_run(rows: pd.DataFrame, column: str) -> tuple[list[NDArray[np.float32]], list[str]]:
    """A column of the surest elite of each class that all runs have, by run; and the names of these classes."""
    surest = rows.sort_values("confidence").drop_duplicates(["run_id", "class_index"], keep="last")
    runs = [run.set_index("class_index") for _, run in surest.groupby("run_id", sort=False)]
    shared = sorted(set.intersection(*(set(run.index) for run in runs))) if runs else []
    if len({len(value) for run in runs for value in run[column] if hasattr(value, "__len__")}) > 1:
        return [], []  # networks that see other sizes or classes
    names = [str(runs[0]["class_name"][index]) for index in shared]
    return [np.stack(run.loc[shared, column].tolist()) for run in runs] if shared else [], names


def figure(summary: list[Facts], frame: pd.DataFrame) -> tuple[str, str]:
    """The picture and the sentence."""
    charts, sentences = [], []
    for keys, part in frame.groupby(HEAD, sort=False):
        rows = [row for row in summary if row["target_fingerprint"] == keys[1] and row["encoding"] == keys[2]]
        title = f"{keys[0]}, {keys[2]}, {part['run_id'].nunique()} runs"
        charts.append(dots(f"Descent of elites: {title}", list(_panels(rows))))
        elites = part[part["part"] == "elite"]
        if shares := _from_to(elites):
            charts.append(heat_maps("Where champions come from", shares, "class of the parent", "class of the child"))
        vectors, names = _by_run(elites, "pixels")
        if len(vectors) > 1 and len(names) <= FEW:
            means = np.mean(vectors, axis=0).reshape(len(names), SIDE, SIDE, -1)
            charts.append(mosaics(f"Mean of {len(vectors)} elites, blurred", dict(zip(names, means))))
        sentences.append(f"{keys[0]} ({keys[2]}): {_told(rows)}.")
    return stacked("Descent and likeness of elites", charts), " ".join(sentences)


def _panels(rows: Sequence[Facts]) -> Iterator[Panel]:
    shares = [
        {**row, "label": _definition(row) + (", by chance" if "chance" in row["figure"] else "")}
        for row in rows
        if row["figure"] in ("switch_share", "switch_share_by_chance")
    ]
    if shares:
        yield Panel("Goal switches, share of new champions (drawn, strict, first: three definitions)", shares, (0, 1))
    if kin := [{**r, "label": _siblings(r)} for r in rows if r["figure"] == "siblings_apart"]:
        yield Panel("Generations between elites of sibling classes, less those between others", kin)
    if alike := [{**row, "label": row["of"]} for row in rows if row["figure"] == "alike"]:
        yield Panel(
            "Elites of one class of other runs: nearer than this share of the others (0.5: chance)", alike, (0, 1)
        )
    if across := [{**row, "label": row["of"]} for row in rows if row["figure"] == "across"]:
        yield Panel("Share of a picture's steps that are along rows (1: vertical bars)", across, (0, 1))


def _definition(row: Facts) -> str:
    return row["of"] + ("" if row["by"] == "first parent" else f", {row['by']}")


def _siblings(row: Facts) -> str:
    return SIBLINGS[row["of"]] + ("" if row["by"] == "all pairs" else ", two individuals")


def _from_to(elites: pd.DataFrame) -> dict[str, dict[tuple[str, str], float | None]]:
    """Shares of the new champions of each class by the class from which their parents were drawn; by super-class where
    there are many classes and these are known."""
    few = elites["class_index"].nunique() <= FEW
    if not few and elites["super_class"].isna().any():
        return {}
    names = dict(zip(elites["class_index"], elites["class_name" if few else "super_class"]))
    counts: dict[tuple[str, str], float] = {}
    for to, classes, numbers in zip(elites["class_index"], elites["from_classes"], elites["from_counts"]):
        for class_, number in zip(classes if classes is not None else (), numbers if numbers is not None else ()):
            pair = names[class_], names[to]
            counts[pair] = counts.get(pair, 0.0) + number
    every = list(dict.fromkeys(names.values()))
    totals = {to: sum(counts.get((from_, to), 0.0) for from_ in every) for to in every}
    if not any(totals.values()):
        return {}
    shares = {(a, b): counts.get((a, b), 0.0) / totals[b] if totals[b] else None for a in every for b in every}
    return {"Share of a class's new champions whose parent was drawn as the elite of": shares}


def _told(rows: Sequence[Facts]) -> str:
    """A finding each about goal switches, kin, likeness, and lines."""
    found = {(r["figure"], r["of"], r["by"]): r for r in rows}
    parts = []
    if share := found.get(("switch_share", "strict", "first parent")):
        chance = found["switch_share_by_chance", "strict", "first parent"]
        excess = found["switch_excess", "strict", "first parent"]
        parts.append(
            f"{share['value']:.1%}{_between(share, '.1%')} of {share['n']} new champions are goal switches (strict), "
            f"by chance {chance['value']:.1%}, p {excess['p']:.2g}"
        )
    apart = [r for r in rows if r["figure"] == "siblings_apart" and r["by"] != "all pairs"]
    if apart:
        kin = next((r for r in apart if r["n"] >= ENOUGH * r["runs"]), apart[-1])
        near = "fewer" if kin["value"] < 0 else "more"
        parts.append(
            f"between elites of classes under {SIBLINGS[kin['of']]} lie {abs(kin['value']):.1f} generations {near} "
            f"than between others{_between(kin, '+.1f')}, p {kin['p']:.2g} that they are no closer, {kin['n']} pairs"
        )
    if alike := found.get(("alike", ALIKE["pixels"], "")):
        parts.append(
            f"by their blurred pixels, the elite of the same class of another run is nearer than {alike['value']:.1%}"
            f"{_between(alike, '.1%')} of its others, by chance 50 %, p {alike['p']:.2g}, {alike['n']} elites"
        )
    steps, stones = found["steps", "", ""], found["stepping_stones", "", ""]
    parts.append(
        f"an elite has {steps['value']:.1f} ancestors, which took cells of {stones['value']:.1f} other classes"
    )
    return "; ".join(parts)


def _between(row: Facts, form: str) -> str:
    if row["low"] is None or row["high"] is None:
        return ""
    return f" (95 % interval {row['low']:{form}} to {row['high']:{form}})"
