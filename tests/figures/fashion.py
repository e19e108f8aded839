"""Fooling against what a LeNet learned from, on Fashion-MNIST: `make figures-fashion`.

The paper's "larger data sets fool less", and the question whether many classes or a wide network do. One thing is
changed at a time; every network is shown the same number of images in all, so that small data sets are seen more often.
Five seeds, each of a network and of the run against it. An hour and a quarter of one core; every finished run adds its
row to docs/results/fashion.csv at once, and what has a row is not computed again. Differences: fashion_effects.csv.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mnist import machine
from rows import note

import evofool
from evofool.studies.shared.statistics import mean_interval
from evofool.targets.training.datasets import LabelledImages, limited, load_dataset, of_classes, with_random_labels
from evofool.targets.training.train import Recipe, train_network

WEIGHTS, RUNS, RESULTS = Path("weights/fashion"), Path("runs/fashion"), Path("docs/results")
SEEDS, SHOWN, GENERATIONS = (1, 2, 3, 4, 5), 120_000, 50
COMMON: dict[str, Any] = {"images": 10_000, "classes": 10, "width": 1.0, "labels": "true", "augment": True}
PER_CLASS = 2_000  # images, where the number of classes is varied
FACTORS: dict[str, dict[str, dict[str, Any]]] = {  # factor: {level: what it changes}; the last is the reference
    "images": {str(n): {"images": n} for n in (500, 2_000, 10_000, 60_000)},
    "classes": {str(n): {"classes": n, "images": n * PER_CLASS} for n in (2, 5, 10)},
    "width": {"0.25": {"width": 0.25}, "2": {"width": 2.0}, "1": {}},
    "labels": {
        name: {"labels": name, "images": 2_000, "augment": False} for name in ("random", "true")
    },  # unchanged pictures, which alone can be learned by heart
}
FIGURES = ("median", "median_log_odds", "classes_9999", "evaluations_to_99", "test_error")


def data_of(asked: dict[str, Any], seed: int) -> LabelledImages:
    """The training images of a network; which classes, where not all, depends on the seed."""
    data = load_dataset("fashion-mnist", seed)
    if asked["classes"] < 10:
        chosen = np.random.default_rng(seed).permutation(10)[: asked["classes"]]
        data = of_classes(data, [str(number) for number in sorted(chosen)])
    if asked["images"] < len(data.train_labels):
        data = limited(data, asked["images"], seed)
    return with_random_labels(data, seed) if asked["labels"] == "random" else data


@functools.cache
def figures(images: int, classes: int, width: float, labels: str, augment: bool, seed: int) -> dict[str, Any]:
    """Train a network, evolve against it, and say what came of both; once for levels that ask for the same."""
    asked = {"images": images, "classes": classes, "width": width, "labels": labels, "augment": augment}
    name = "-".join(map(str, [*asked.values(), seed]))
    data, file = data_of(asked, seed), WEIGHTS / f"{name}.safetensors"
    epochs = max(1, round(SHOWN / len(data.train_labels)))
    recipe = Recipe("lenet", asked["width"], None, asked["labels"], epochs, asked["augment"])
    trained = train_network(recipe, data, seed, file, lambda line: None)
    overrides = {"seed": seed, "target.spec": f"lenet:{file}", "search.generations": GENERATIONS}
    run = evofool.run("mnist_cppn", {**overrides, "evaluation.pool": "inline"}, out=RUNS / name)
    history, elites = run.history(), run.elites(pictures=False)
    reached = history[history["median"] >= 0.99]["evaluations"]
    last = history.iloc[-1]
    return {
        "epochs": epochs,
        "train_accuracy": float(trained["train_accuracy"]),
        "test_error": round(1 - float(trained["held_out_accuracy"]), 4),
        "evaluations": int(last["evaluations"]),
        "median": float(last["median"]),
        "median_log_odds": float(elites["log_odds"].median()),
        "classes_9999": int(last["classes_9999"]) / asked["classes"],
        "evaluations_to_99": int(reached.iloc[0]) if len(reached) else None,
        "archive_hash": run.archive_hash,
    }


def effects(rows: pd.DataFrame) -> pd.DataFrame:
    """Each level less the reference, the last of its factor, of the same seed: mean over seeds, Student's 95 %."""
    found = []
    for factor, levels in FACTORS.items():
        *others, reference = levels
        part = rows[rows["factor"] == factor].set_index(["level", "seed"])
        for level in others:
            for figure in FIGURES:
                values = (part.loc[level, figure] - part.loc[reference, figure]).dropna().to_numpy(dtype=float)
                low, high = mean_interval(values) if len(values) else (None, None)
                value = float(values.mean()) if len(values) else None
                facts = {"factor": factor, "level": level, "against": reference, "figure": figure, "value": value}
                found.append({**facts, "low": low, "high": high, "n": len(values), "null": "no difference"})
    return pd.DataFrame(found)


def main() -> None:
    """What is missing, seed by seed; then the differences."""
    RESULTS.mkdir(exist_ok=True)
    place = RESULTS / "fashion.csv"
    rows: list[Any] = pd.read_csv(place, dtype={"level": str}).to_dict("records") if place.is_file() else []
    done = {(row["factor"], row["level"], row["seed"]) for row in rows}
    for seed in SEEDS:
        for factor, levels in FACTORS.items():
            for level in levels:
                if (factor, level, seed) not in done:
                    key = {"factor": factor, "level": level, "seed": seed}
                    rows.append(key | figures(**(COMMON | FACTORS[factor][level]), seed=seed))
                    pd.DataFrame(rows).to_csv(place, index=False)
                    note("fashion", added=True)
                    print(*rows[-1].values())
    frame = pd.DataFrame(rows)
    print(frame.groupby(["factor", "level"], sort=False)[list(FIGURES)].mean().to_string(float_format="{:.4g}".format))
    effects(frame).to_csv(RESULTS / "fashion_effects.csv", index=False, float_format="%.6g")
    note("fashion_effects")


if __name__ == "__main__":
    machine()
    main()
