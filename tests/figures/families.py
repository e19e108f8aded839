"""Transfer between four ImageNet networks, and ensembles of three: `make figures-families SQUEEZENET=FILE`.

Fifty classes in seven families; 10,000 evaluations, three seeds; the networks of fast.py. Hours on two cores, so it
goes on where it stopped: runs lie in runs/families/, and every finished run adds its row to
docs/results/families_runs.csv at once. The matrix, its photographs and its chance are in families_transfer.csv beside
it, dogs and cats in families_siblings.csv; ensembles by the mean of their probabilities, as in the paper, with the
network that each leaves out, in families_ensembles.csv.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import rows
from mnist import machine

import evofool
from evofool.studies.shared.protocols import CLASSES
from evofool.studies.study import conduct
from evofool.studies.transfer import Options, summarise

RUNS, RESULTS = Path("runs/families"), Path("docs/results")
NETWORKS = {name: f"python:tests/figures/fast.py:{name}" for name in ("lite0", "lite1", "lite2", "squeezenet")}
SEEDS, EVALUATIONS = (1, 2, 3), 10_000


def run(name: str, spec: str | list[str], seed: int) -> evofool.Run:
    """One run, made or gone on with; its row is written once it is whole."""
    config = {
        "name": name,
        "seed": seed,
        "target": {"spec": spec, "classes": CLASSES, "combine": "mean"},
        "encoding": {"kind": "cppn"},
        "search": {"generations": None, "max_evaluations": EVALUATIONS},
        "evaluation": {"pool": "inline"},
    }
    made = evofool.run(config, out=RUNS / f"{name}-{seed}", allow_code=True)
    last = made.history().iloc[-1]
    row = {
        "run": name,
        "seed": seed,
        "target": made.provenance["target"],
        "evaluations": int(last["evaluations"]),
        "median": float(last["median"]),
        "classes_99": int(last["classes_99"]),
        "seconds": round(sum(session["seconds"] for session in made.provenance["sessions"])),
        "archive_hash": made.archive_hash,
    }
    place = RESULTS / "families_runs.csv"
    before = pd.read_csv(place).to_dict("records") if place.is_file() else []
    if (name, seed) not in {(r["run"], r["seed"]) for r in before}:
        pd.DataFrame([*before, row]).to_csv(place, index=False)
        rows.note("families_runs", added=True)
    return made


def answers(name: str, runs: list[evofool.Run], out: str, options: object = None) -> None:
    """Ask a study of runs; its summary becomes a table of docs/results, its sentence is printed."""
    outcome = conduct(name, runs, options, out=RUNS / out, pool="inline", allow_code=True, tell=print)
    frame = pd.DataFrame(outcome.summary)
    frame = frame.drop(columns=[column for column in frame if column.endswith("_fingerprint")])
    frame.to_csv(RESULTS / f"{out}.csv", index=False, float_format="%.6g")
    rows.note(out)
    print(f"\n{outcome.sentence}\n")


def main() -> None:
    """The networks by themselves, the matrix, dogs and cats; then ensembles of three."""
    RESULTS.mkdir(exist_ok=True)
    alone = {(name, seed): run(name, NETWORKS[name], seed) for seed in SEEDS for name in NETWORKS}
    runs = list(alone.values())
    answers("transfer", runs, "families_transfer", Options(variant=("same_pixels",), photographs=True))
    answers("siblings", runs, "families_siblings")
    if "--no-ensembles" in sys.argv:
        return
    parts = []
    for left_out, spec in NETWORKS.items():
        members = [other for name, other in NETWORKS.items() if name != left_out]
        made = run(f"mean-without-{left_out}", members, 1)
        everyone = list(NETWORKS.values())
        frame = evofool.transfer(made, everyone, variants=["same_pixels"], pool="inline", allow_code=True)
        for entry in summarise(frame):
            if entry["elites"] == "all":
                to, shares = entry["to"], entry["class_is_top1"]
                facts = {"left_out": left_out, "to": to, "is_left_out": to == spec, "n": entry["n"]}
                facts |= {"class_is_top1": shares["share"], "low": shares["low"], "high": shares["high"]}
                chance = next(row["value"] for row in entry["besides"] if row["figure"] == "chance")
                parts.append(facts | {"chance": chance, "median_confidence": entry["median_confidence"]})
        pd.DataFrame(parts).to_csv(RESULTS / "families_ensembles.csv", index=False, float_format="%.6g")
        rows.note("families_ensembles")


if __name__ == "__main__":
    machine()
    main()
