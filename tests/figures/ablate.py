"""What the confidence rests on, for CPPNs and pixels on MNIST and CPPNs on ImageNet: `make figures-ablate`.

MNIST: five seeds each of CPPNs and pixels, 10,000 evaluations against LeNet; some ten minutes on two cores. ImageNet:
the runs of `make figures-defaults` with the defaults of today, 50 classes each, against lite0 through ONNX Runtime, as
many as are there; some fifty minutes of one core for a run. Runs that are there are not made again, nor elites ablated
again, and docs/results/ablate.csv has the summary of every finished set. `make figures-ablate SETS=mnist`: MNIST alone.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import rows as tables
from mnist import machine

import evofool
from evofool.studies.study import conduct

RUNS, RESULTS = Path("runs/ablate"), Path("docs/results")
SEEDS, EVALUATIONS = (1, 2, 3, 4, 5), 10_000


def mnist(kind: str) -> list[Path]:
    """The runs of an encoding, made where they are missing."""
    found = []
    for seed in SEEDS:
        out = RUNS / f"mnist-{kind}-{seed}"
        changes = [f"seed={seed}", f"search.max_evaluations={EVALUATIONS}", "search.generations=null"]
        evofool.run(f"mnist_{kind}", [*changes, "evaluation.pool=inline"], out=out, resume="auto")
        found.append(out)
    return found


def imagenet() -> list[Path]:
    """The runs of defaults.yaml with the defaults of today, as many as are finished."""
    design = Path("runs/defaults/design.csv")
    if not design.is_file():
        return []
    rows = pd.read_csv(design)
    return [design.parent / run for run in rows.loc[rows["setting"] == "now", "run"]]


def main(sets: list[str]) -> None:
    """Every set's summary, in one table."""
    RESULTS.mkdir(exist_ok=True)
    made = {"mnist cppn": lambda: mnist("cppn"), "mnist direct": lambda: mnist("direct"), "imagenet cppn": imagenet}
    table = RESULTS / "ablate.csv"
    rows = pd.read_csv(table).to_dict("records") if table.is_file() else []
    for name, make in made.items():
        if (sets and name.split()[0] not in sets) or not (runs := make()):
            continue
        outcome = conduct("ablate", runs, out=RUNS / name.replace(" ", "-"), pool="inline", allow_code=True, tell=print)
        rows = [row for row in rows if row["set"] != name]
        rows += [{"set": name, "runs": len(runs), **row} for row in outcome.summary]
        pd.DataFrame(rows).to_csv(table, index=False, float_format="%.6g")
        tables.note("ablate", added=True)
        print(f"{name}: {outcome.sentence}")


if __name__ == "__main__":
    machine()
    main(sys.argv[1:])
