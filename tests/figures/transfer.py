"""The figures of docs/results.md on transfer from one LeNet to another: `make figures-transfer`, a quarter of an hour.

Two LeNets, one recipe, trained from other seeds; thirty CPPN runs against each, of 60 generations, give 300 images.
Every image is scored by the other network. Runs go to runs/figures/, and go on where they stopped; the shares, of all
images and of each digit's, are rows of docs/results/transfer.csv.
"""

from __future__ import annotations

from typing import Any

import pandas as pd
import rows
from mnist import RUNS, lenet, machine

import evofool
from evofool.studies.shared.agreement import tidy
from evofool.studies.shared.statistics import wilson

SEEDS, GENERATIONS = range(1, 31), 60


def scored(source: int, to: int) -> pd.DataFrame:
    """The images of thirty runs against LeNet `source`, scored by LeNet `to`."""
    other, parts = f"lenet:{lenet('mnist-5k', to)[0]}", []
    for seed in SEEDS:
        overrides = [f"seed={seed}", f"target.spec=lenet:{lenet('mnist-5k', source)[0]}", "evaluation.pool=inline"]
        out = RUNS / f"transfer-lenet{source}-seed{seed}"
        run = evofool.run("configs/mnist_cppn.yaml", [*overrides, f"search.generations={GENERATIONS}"], out=out)
        parts.append(evofool.transfer(run, other, variants=["same_pixels"]))
    return pd.concat(parts, ignore_index=True)


def shares(source: int, to: int) -> list[dict[str, Any]]:
    """The summary of the study, and the share of each digit by itself."""
    frame = scored(source, to)
    found = [{**row, "runs": len(SEEDS)} for row in tidy(frame)]
    for digit, part in frame.groupby("class_name"):
        right, n = int(part["class_is_top1"].sum()), len(part)
        low, high = wilson(right, n)
        facts = {"figure": "class_is_top1", "value": right / n, "low": low, "high": high, "n": n, "runs": len(SEEDS)}
        found.append({"to": found[0]["to"], "variant": "same_pixels", "elites": f"digit {digit}", **facts})
    return found


if __name__ == "__main__":
    machine()
    for pair in ((1, 2), (2, 1)):
        rows.have("transfer", dict(zip(("from_lenet", "to_lenet"), pair)), lambda: shares(*pair))  # noqa: B023
