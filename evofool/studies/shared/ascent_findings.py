"""What the rows of `evofool ascend` say: the summary, the picture, the sentence."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from evofool.records import Facts
from evofool.studies.shared.charts import Panel, dots
from evofool.studies.shared.curves import Curve, curves
from evofool.studies.shared.pace import LEVELS, log_odds_of
from evofool.studies.shared.statistics import mean_interval, median_ranks, wilson

__all__ = ["CLIMB", "CONTROL", "EVOLUTION", "NO_GRADIENT", "REACHED", "STUCK", "figure", "summarise"]

CLIMB, CONTROL, EVOLUTION = "ascent", "shuffled gradients", "evolution"
STUCK, NO_GRADIENT = "stuck", "no gradient"
REACHED = ("top1", *map(str, LEVELS))
TOLD = "0.99"  # the level of the sentence and of the curves
RESTARTS = 3  # from so many on, restarts are the sample, since classes of one network are not independent


def summarise(frame: pd.DataFrame) -> list[Facts]:
    """Of each method and its rules: shares that reached each level, with the start's as the null, steps and passes."""
    summary: list[Facts] = []
    for (method, rules), part in frame.groupby(["method", "rules"], sort=False):
        head = {"method": method, "rules": rules}
        if part["class_index"].isna().all():
            summary += [{**head, **row} for row in _of_units(part)]
            continue
        for level in REACHED:
            null = None
            if method != EVOLUTION:
                start = (
                    part["start_is_top1"] if level == "top1" else part["start_log_odds"] >= log_odds_of(float(level))
                )
                null = float(start.astype(float).mean())
            reached = part[f"passes_{level}"].notna()
            summary.append({**head, "figure": f"share_{level}", **_share(reached, part["restart"]), "null": null})
        for name in ("step", "passes") if method != EVOLUTION else ("passes",):
            for level in REACHED:
                values = part[f"{name}_{level}"].astype(float).fillna(np.inf).to_numpy()
                summary.append({**head, "figure": f"median_{name}_{level}", **_median(values)})
        summary.append({**head, "figure": "median_confidence", **_median(part["confidence"].to_numpy(dtype=float))})
        for note in (STUCK, NO_GRADIENT):
            if count := int((part["note"] == note).sum()):
                low, high = wilson(count, len(part))
                value = count / len(part)
                facts = {"figure": f"share_{note.replace(' ', '_')}", "value": value, "low": low, "high": high}
                summary.append({**head, **facts, "n": len(part)})
    return [*summary, *_compared(frame)]


def _of_units(part: pd.DataFrame) -> Iterator[Facts]:
    start, best = (part[name].to_numpy(dtype=float) for name in ("start_objective", "objective"))
    null = float(np.median(start))
    yield {"figure": "median_activation", **_median(best), "null": null}
    yield {"figure": "median_rise", **_median(best - start), "null": 0.0}


def _share(reached: pd.Series, restart: pd.Series) -> Facts:
    """The share of climbs that reached a level; its interval is over restarts where these differ, else over goals."""
    share, n = float(reached.mean()), len(reached)
    by_restart = reached.groupby(restart).mean().to_numpy(dtype=float)
    if len(by_restart) >= RESTARTS and np.ptp(by_restart) > 0:
        low, high = np.clip(np.array(mean_interval(by_restart), dtype=float), 0.0, 1.0).tolist()
        return {"value": share, "low": low, "high": high, "n": n, "interval_over": "restarts"}
    low, high = wilson(int(reached.sum()), n)
    return {"value": share, "low": low, "high": high, "n": n, "interval_over": "climbs"}


def _median(values: np.ndarray) -> Facts:
    """The median, infinity where most did not arrive, and its interval; an end that is infinite is None."""
    ranked = np.sort(values)
    low, high = median_ranks(values)
    value = float(ranked[(len(ranked) - 1) // 2]) if np.isinf(ranked).any() else float(np.median(values))
    if not np.isfinite(value) or high is None or not np.isfinite(high):
        low = high = None
    return {"value": value, "low": low, "high": high, "n": len(values)}


def _compared(frame: pd.DataFrame) -> Iterator[Facts]:
    """How many times the passes of the ascent a run of evolution took to a class, the median over classes of both."""
    groups = dict(list(frame[frame["class_index"].notna()].groupby(["method", "rules"], sort=False)))
    first = next((key for key in groups if key[0] == CLIMB), None)
    for key, part in groups.items():
        if first is None or key[0] != EVOLUTION:
            continue
        for level in ("0.9", TOLD, "0.9999"):
            column = f"passes_{level}"
            both = pd.concat(
                [p.groupby("class_index")[column].median().rename(i) for i, p in enumerate((groups[first], part))],
                axis=1,
            ).dropna()
            if len(both):
                ratio = (both[1].astype(float) / both[0].astype(float)).to_numpy()
                facts = {**_median(ratio), "null": 1.0}
                yield {"method": key[0], "rules": key[1], "figure": f"times_passes_{level}", **facts}


def figure(summary: list[Facts], frame: pd.DataFrame) -> tuple[str, str]:
    """Shares of classes over 0.99 against passes; of units, how much they rose."""
    if frame["class_index"].isna().all():
        rows = [
            {"label": unit, **_median(part["objective"].to_numpy(dtype=float)), "n": len(part)}
            for unit, part in frame.groupby("unit", sort=False)
        ]
        starts = [
            {"label": unit, **_median(part["start_objective"].to_numpy(dtype=float)), "n": len(part)}
            for unit, part in frame.groupby("unit", sort=False)
        ]
        panels = [Panel("At the best picture", rows), Panel("At the start", starts)]
        return dots("What excites units most: activations", panels), _of_units_told(summary)
    lines = []
    for (method, rules), part in frame.groupby(["method", "rules"], sort=False):
        passes = np.sort(part[f"passes_{TOLD}"].dropna().to_numpy(dtype=float))
        share = np.arange(1, len(passes) + 1) / len(part)
        end = float(part["passes"].max())
        points = [(1.0, 0.0), *zip(np.maximum(1.0, passes).tolist(), share.tolist())]
        last = share[-1] if len(share) else 0.0
        lines.append(Curve(f"{method}: {rules}", [*points, (max(end, points[-1][0]), float(last))]))
    across = "passes of a class: forward 1, backward 2; evolution's over all classes"
    title = f"Share of climbs, or classes, at {TOLD} and more"
    return curves(title, lines, across, "share"), _told(summary)


def _of_units_told(summary: list[Facts]) -> str:
    rows = {row["figure"]: row for row in summary if row["method"] == CLIMB}
    best, rise = rows["median_activation"], rows["median_rise"]
    interval = "" if rise["low"] is None else f" (95 % interval of the rise {rise['low']:.3g} to {rise['high']:.3g})"
    return (
        f"The median unit goes from {best['null']:.3g} at the start to {best['value']:.3g} at its best picture"
        f"{interval}, of {best['n']} climbs."
    )


def _told(summary: list[Facts]) -> str:
    found = [row for row in summary if row["method"] == CLIMB]
    if not found:
        return "Nothing was climbed to."
    rules, by = found[0]["rules"], {row["figure"]: row for row in found if row["rules"] == found[0]["rules"]}
    share, passes, notes = by[f"share_{TOLD}"], by[f"median_passes_{TOLD}"], []
    text = (
        f"By {rules}, {share['value']:.1%} of {share['n']} climbs reach {TOLD} (95 % interval {share['low']:.1%} to "
        f"{share['high']:.1%}), and {share['null']:.1%} of the pictures that they start from are there"
    )
    if passes["value"] is not None and np.isfinite(passes["value"]):
        text += f"; the median climb is there after {passes['value']:g} passes"
    for row in summary:
        if row["figure"] == f"times_passes_{TOLD}":
            interval = "" if row["low"] is None else f", 95 % interval {row['low']:.3g} to {row['high']:.3g}"
            notes.append(f"{row['method']} takes {row['value']:.3g} times the passes (n {row['n']}{interval})")
    if "share_stuck" in by:
        n = round(by["share_stuck"]["value"] * share["n"])
        notes.append(f"{n} are stuck where the objective has next to no slope; log_odds has one everywhere")
    if "share_no_gradient" in by:
        n = round(by["share_no_gradient"]["value"] * share["n"])
        notes.append(f"for {n} the gradient is 0 everywhere, as of a network that does not look at the picture")
    return "; ".join([text, *notes]) + "."
