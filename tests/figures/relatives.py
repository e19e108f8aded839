"""Transfer between small networks of four kinds, and from a network to its heads, on MNIST: `make figures-relatives`.

LeNet, MLP, ResNet, BagNets of 17 and 9 pixels, each trained from five seeds, and a CPPN run of 10,000 evaluations
against each. A run's elites are shown to the networks of its own seed, and to the heads of its LeNet: logistic
regression and nearest images, on the features of 100 labelled images. Three quarters of an hour on two cores; networks
and runs that are there are used again, and docs/results/relatives.csv has the rows of every finished seed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from mnist import machine
from rows import note

import evofool
from evofool.studies.shared.statistics import mean_interval
from evofool.studies.transfer import summarise
from evofool.targets.training.datasets import limited, load_dataset
from evofool.targets.training.heads import train_head
from evofool.targets.training.train import Recipe, train_network

WEIGHTS, RUNS, RESULTS = Path("weights/relatives"), Path("runs/relatives"), Path("docs/results")
SEEDS, GENERATIONS, LABELS = (1, 2, 3, 4, 5), 50, 100
KINDS = {
    "lenet": Recipe(),
    "mlp": Recipe("mlp"),
    "resnet": Recipe("resnet"),
    "bagnet17": Recipe("bagnet", patch=17),
    "bagnet9": Recipe("bagnet", patch=9),
}
HEADS = ("logistic", "knn")
FIGURES = ("class_is_top1", "same_top1", "both_99")


def networks(seed: int) -> dict[str, str]:
    """The networks of a seed, trained where they are missing, and their specs."""
    data, specs = load_dataset("mnist-5k", seed), {}
    for name, recipe in KINDS.items():
        file = WEIGHTS / f"{name}-{seed}.safetensors"
        if not file.is_file():
            train_network(recipe, data, seed, file, lambda line: None)
        specs[name] = f"{recipe.network}:{file}"
    for kind in HEADS:
        file = WEIGHTS / f"{kind}-{seed}.safetensors"
        if not file.is_file():
            train_head(kind, specs["lenet"], limited(data, LABELS, seed), seed, file, lambda line: None)
        specs[f"head {kind}"] = f"head:{file}"
    return specs


def rows_of(seed: int) -> list[dict[str, Any]]:
    """Every network's elites shown to every other of the seed; heads are only shown to."""
    specs, rows = networks(seed), []
    names = {spec: name for name, spec in specs.items()}
    for source in KINDS:
        keys = {"seed": seed, "target.spec": specs[source], "search.generations": GENERATIONS}
        run = evofool.run("mnist_cppn", {**keys, "evaluation.pool": "inline"}, out=RUNS / f"{source}-{seed}")
        others = [spec for spec in specs.values() if spec != specs[source]]
        for entry in summarise(evofool.transfer(run, others, variants=["same_pixels"])):
            if entry["elites"] == "all":
                facts = {"source": source, "to": names[entry["to"]], "seed": seed, "n": entry["n"]}
                chance = next(row["value"] for row in entry["besides"] if row["figure"] == "chance")
                shares = {figure: entry[figure]["share"] for figure in FIGURES}
                rows.append({**facts, **shares, "chance": chance, "median_confidence": entry["median_confidence"]})
    return rows


def main() -> None:
    """What is missing, seed by seed; then means over seeds with Student's interval of 95 %."""
    RESULTS.mkdir(exist_ok=True)
    place = RESULTS / "relatives.csv"
    rows: list[Any] = pd.read_csv(place).to_dict("records") if place.is_file() else []
    for seed in SEEDS:
        if seed not in {row["seed"] for row in rows}:
            rows += rows_of(seed)
            pd.DataFrame(rows).to_csv(place, index=False, float_format="%.6g")
            note("relatives", added=True)
    print("| evolved on | shown to | the evolved class, mean over seeds | 95 % | by chance |\n|---|---|---|---|---|")
    for (source, to), part in pd.DataFrame(rows).groupby(["source", "to"], sort=False):
        low, high = mean_interval(part["class_is_top1"].to_numpy(dtype=float))
        interval = "" if low is None else f"{low:.2f} to {high:.2f}"
        print(f"| {source} | {to} | {part['class_is_top1'].mean():.2f} | {interval} | {part['chance'].mean():.2f} |")


if __name__ == "__main__":
    machine()
    main()
