"""The defaults of the search beside those that evofool had before: `make figures-defaults`.

Three designs: screen.yaml, from which the defaults were chosen; defaults.yaml, the same at a larger budget with five
seeds; defaults_mnist.yaml, whether MNIST loses. Hours on two cores, so what is finished in runs/ is not run
again; then the rows are in docs/results/, and the curves of defaults.yaml in docs/defaults.svg.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import rows
from mnist import machine

import evofool

HERE, RUNS, RESULTS = Path("tests/figures"), Path("runs"), Path("docs/results")
POINTS = (5_000, 10_000, 20_000, 33_000)  # evaluations at which a run is looked at
DASHES = ("-", "--", ":", "-.")


def medians(run: Path) -> pd.Series:
    """The median confidence by evaluations."""
    return evofool.open_run(run).history().set_index("evaluations")["median"]


def draw(curves: dict[str, list[pd.Series]], path: Path) -> None:
    """Each setting's median over its seeds, and their range."""
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    grid = np.linspace(200, POINTS[-1], 300)
    for dashes, (setting, runs) in zip(DASHES, curves.items()):
        values = np.array([np.interp(grid, run.index, run) for run in runs])
        (line,) = axes.plot(grid, np.median(values, axis=0), dashes, label=f"{setting}, {len(runs)} seeds")
        axes.fill_between(grid, values.min(axis=0), values.max(axis=0), color=line.get_color(), alpha=0.2, linewidth=0)
    axes.set(xlabel="evaluations", ylabel="median confidence of 50 classes", xlim=(0, POINTS[-1]), ylim=(0, None))
    axes.legend(frameon=False)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """The three designs, their rows, the curves."""
    RESULTS.mkdir(exist_ok=True)
    matplotlib.rcParams["svg.hashsalt"] = "evofool"  # or every drawing would be another file
    for name in ("screen", "defaults", "defaults_mnist"):
        made = evofool.run_design(HERE / f"{name}.yaml", allow_code=True)
        made.frame.to_csv(RESULTS / f"{name}.csv", index=False)
        rows.note(name)
        if name != "defaults":
            continue
        curves: dict[str, list[pd.Series]] = {}
        print("| setting | evaluations | seeds | median confidence |\n|---|---|---|---|")
        for setting, part in made.frame.groupby("setting", sort=False):
            curves[str(setting)] = [medians(RUNS / name / run) for run in part["run"]]
            for point in POINTS:
                at = [float(run[run.index <= point].iloc[-1]) for run in curves[str(setting)]]
                print(f"| {setting} | {point:,} | {len(at)} | {np.median(at):.3f} ({min(at):.3f} to {max(at):.3f}) |")
        draw(curves, Path("docs/defaults.svg"))
        print(pd.DataFrame(made.effects).to_string())


if __name__ == "__main__":
    machine()
    main()
