"""What chains of networks come to: how much each defence protects, what it costs; and the picture and the sentence."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evofool.base.png import decode_png
from evofool.records import Facts
from evofool.studies.shared.bands import Bands, bands
from evofool.studies.shared.fooling_class import DEFENCES, SETS, SURE, SUREST
from evofool.studies.shared.pictures import fitted
from evofool.studies.shared.statistics import clustered_medians, mann_whitney, median_interval, wilson

__all__ = ["figure", "summarise"]

OF_RUNS = {  # columns of which the median over seeds of the median over runs is told
    "median": "median confidence over the real classes",
    "minimum": "smallest confidence of a real class",
    "share_9999": f"share of real classes of {SUREST} or more",
    "median_log_odds": "median log-odds over the real classes",
    "evaluations_to_99": f"images scored until the median is {SURE}",
}
OF_NETWORKS = (
    "held_out_accuracy",
    "false_alarms",
    *(f"recall_{name}" for name in SETS),
    *(f"confidence_{name}" for name in SETS),
)
CHANGES = ("median", "median_log_odds")  # since DNN_1, and beside each control


def summarise(frame: pd.DataFrame) -> list[Facts]:
    """Of each network of each defence: what runs against it came to, what it makes of images, and the change since
    DNN_1. The nulls: no change; and what the controls do."""
    summary: list[Facts] = []
    frame = frame.assign(evaluations_to_99=frame["evaluations_to_99"].astype("Float64").fillna(np.inf))
    for (defence, iteration), part in frame.groupby(["defence", "iteration"], sort=False):
        head = {"defence": defence, "iteration": int(iteration)}
        runs = part[part["main"]]
        for figure in OF_RUNS:
            summary.append({**head, "figure": figure, **_of_clusters(_by_seed(runs, figure))})
        others = _by_seed(part[~part["main"]], "median")
        summary.append({**head, "figure": "median_other_encoding", **_of_clusters(others)})
        networks = part.drop_duplicates("seed")
        for figure in OF_NETWORKS:
            values = networks[figure].dropna().to_numpy(dtype=float)
            if len(values):
                summary.append({**head, "figure": figure, **_of_seeds(values, networks, figure)})
        for other, wanted in (("", (defence, 1)), *((name, (name, iteration)) for name in DEFENCES)):
            rivals = frame[(frame["defence"] == wanted[0]) & (frame["iteration"] == wanted[1]) & frame["main"]]
            if iteration == 1 or rivals.empty or (other and (defence != "fooling" or other == defence)):
                continue
            summary += [
                {**head, "figure": f"{figure}_less_{other or 'dnn_1'}", **_difference(runs, rivals, figure)}
                for figure in CHANGES
            ]
    return summary


def _by_seed(runs: pd.DataFrame, column: str) -> dict[int, NDArray[np.float64]]:
    """What the runs of each seed came to."""
    return {int(seed): part[column].to_numpy(dtype=float) for seed, part in runs.groupby("seed")}


def _of_clusters(values: dict[int, NDArray[np.float64]]) -> Facts:
    numbers = [None if np.isinf(v) else v for v in clustered_medians(list(values.values()))]
    runs = np.concatenate(list(values.values()))
    facts = dict(zip(("value", "low", "high"), numbers)) | {"n": len(runs), "seeds": len(values)}
    return facts | ({"never": int(np.isinf(runs).sum())} if np.isinf(runs).any() else {})


def _of_seeds(values: NDArray[np.float64], networks: pd.DataFrame, figure: str) -> Facts:
    """The median over networks; of one network the interval of a share of its held-out images."""
    value, (low, high) = float(np.median(values)), (None, None)
    if len(values) > 1:
        low, high = median_interval(values)
    elif figure in ("held_out_accuracy", "false_alarms"):
        images = int(networks["held_out_images"].iloc[0])
        low, high = wilson(round(value * images), images)
    return {"value": value, "low": low, "high": high, "n": len(values), "seeds": len(values)}


def _difference(runs: pd.DataFrame, rivals: pd.DataFrame, figure: str) -> Facts:
    """By how much the median of runs is more than that of others of the same seed; p: Mann-Whitney, of seeds' medians;
    p_runs: of runs, among which those against one network are kin."""
    here, there = _by_seed(runs, figure), _by_seed(rivals, figure)
    seeds = [seed for seed in here if seed in there]
    if not seeds:
        return {"value": None, "low": None, "high": None, "n": 0, "seeds": 0, "null": "no difference"}
    one, two = [here[seed] for seed in seeds], [there[seed] for seed in seeds]
    value, low, high = clustered_medians(one, two)
    return {
        "value": value,
        "low": low,
        "high": high,
        "n": sum(map(len, one)),
        "seeds": len(seeds),
        "p": mann_whitney(*(np.array([np.median(v) for v in side]) for side in (one, two))) if len(one) > 1 else None,
        "p_runs": mann_whitney(np.concatenate(one), np.concatenate(two)),
        "null": "no difference",
    }


def figure(summary: list[Facts], frame: pd.DataFrame) -> tuple[str, str]:
    def lines(figure: str) -> dict[str, list[Facts]]:
        found: dict[str, list[Facts]] = {}
        for row in summary:
            if row["figure"] == figure:
                found.setdefault(row["defence"], []).append({**row, "x": row["iteration"]})
        return found

    panels = [
        Bands("Median confidence over the real classes", lines("median"), (0, 1)),
        Bands("Smallest confidence of a real class", lines("minimum"), (0, 1)),
        Bands("Median log-odds over the real classes", lines("median_log_odds")),
        Bands("Share of held-out images whose class is the answer", lines("held_out_accuracy")),
    ]
    first = frame.dropna(subset="image").sort_values("seed", kind="stable").drop_duplicates(["defence", "iteration"])
    shown = first[first["defence"] == first["defence"].iloc[0]]
    pictures = {int(row["iteration"]): _thumbnail(row["image"]) for row in shown.to_dict("records")}
    heading = f"Elites of class {shown['class_name'].iloc[0]} against each network"
    title = "Networks that learned from what fooled those before them"
    return bands(
        title, panels, "network, DNN_1, DNN_2 ...; medians over seeds, 95 % intervals", (heading, pictures)
    ), _sentence(summary)


def _sentence(summary: list[Facts]) -> str:
    by = {(row["defence"], row["iteration"], row["figure"]): row for row in summary}
    defence = summary[0]["defence"]
    numbers = sorted({row["iteration"] for row in summary if row["defence"] == defence})
    one = by[defence, 1, "median"]
    runs = f"{one['n']} runs of {_seeds(one)}"
    if len(numbers) == 1:
        return f"DNN_1 is fooled with a median confidence of {_told(one)}, {runs}; nothing has learned from that yet."
    parts = []
    for number in dict.fromkeys([numbers[1], numbers[-1]]):
        change = by[defence, number, "median_log_odds_less_dnn_1"]
        test = f"p {change['p']:.2g} of {_seeds(change)}" if change["p"] else f"p {change['p_runs']:.2g} of the runs"
        less = f"log-odds {change['value']:+.2f}, 95 % interval {change['low']:+.2f} to {change['high']:+.2f}"
        fooled = f"DNN_{number} by a median confidence of {_told(by[defence, number, 'median'])}"
        parts.append(f"{fooled} ({less}; Mann-Whitney's {test})")
    first, last = (by[defence, number, "evaluations_to_99"]["value"] for number in (1, numbers[-1]))
    accuracy = [by[defence, number, "held_out_accuracy"]["value"] for number in (1, numbers[-1])]
    return (
        f"With {DEFENCES[defence]}, runs fool {' and '.join(parts)}, and DNN_1 by {_told(one)} ({runs}); a median of "
        f"{SURE} takes {_images(last)} instead of {_images(first)} images, and the held-out accuracy goes from "
        f"{accuracy[0]:.1%} to {accuracy[1]:.1%}."
    )


def _thumbnail(png: bytes) -> NDArray[np.uint8]:
    """(height, width) uint8 of a picture for the figure, whose strips are of grey; a colour one is made small."""
    pixels = decode_png(png, "image")
    return (pixels if pixels.shape[2] == 1 else fitted(pixels, (28, 28), 1))[:, :, 0]


def _images(number: float | None) -> str:
    return "more than all" if number is None else f"{number:,.0f}"


def _told(row: Facts) -> str:
    """In four decimals, and never rounded up to 1."""
    return f"{math.floor(row['value'] * 1e4) / 1e4:.4f}"


def _seeds(row: Facts) -> str:
    return f"{row['seeds']} seed{'s' if row['seeds'] > 1 else ''}"
