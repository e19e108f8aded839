"""Prints, as Markdown, docs/results.md's figures on transfer from one LeNet to another: `make figures-transfer`.

Two LeNets, one recipe, trained from other seeds; thirty CPPN runs against each, of 60 generations, give 300 images.
Every image is scored by the other network.
"""

from __future__ import annotations

from typing import Any

import pandas as pd
from mnist import RUNS, lenet, machine

import evofool
from evofool.studies.transfer import summarise

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


def share(entry: dict[str, Any]) -> str:
    """A share with its interval and what it is of."""
    return f"{entry['share']:.1%} ({entry['low']:.1%} to {entry['high']:.1%}; {entry['count']} of {entry['n']})"


def main() -> None:
    """One row for each direction, then each digit by itself."""
    columns = ["from, to", "images", "same answer", ">= 0.99 by both", ">= 0.9999 by both", "source surer, same answer"]
    print(f"| {' | '.join(columns)} | median confidence there |\n|{'---|' * (len(columns) + 1)}")
    digits = {}
    for source, to in ((1, 2), (2, 1)):
        frame = scored(source, to)
        row = next(r for r in summarise(frame) if r["elites"] == "all")
        figures = [share(row[name]) for name in ("same_top1", "both_99", "both_9999", "source_surer")]
        print(f"| LeNet {source}, {to} | {row['n']} | {' | '.join(figures)} | {row['median_confidence']:.6f} |")
        digits[source] = frame.groupby("class_name")["class_is_top1"].mean()
    names = sorted(digits[1].index)
    print(f"\n| share whose digit is the answer | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
    for source, to in ((1, 2), (2, 1)):
        print(f"| LeNet {source}, {to} | {' | '.join(f'{digits[source][name]:.0%}' for name in names)} |")


if __name__ == "__main__":
    machine()
    main()
