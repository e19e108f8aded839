"""Descent and likeness of elites, for docs/lineage.md: `make figures-lineage`; or some parts, by their names.

    mnist     Thirty runs of 60 generations against quickstart's LeNet, with CPPNs and with pixels: goal switches beside
              chance, kin beside what the LeNet confuses on held-out digits, whether elites of one digit look alike, to
              another LeNet too, and how vertical they are beside real digits. Ten minutes on two cores.
    imagenet  The five finished runs of the defaults of `make figures-defaults`. A minute; left out without them.
    families  Three runs of 33,000 evaluations on ten families of five ImageNet classes each, which have one hypernym.
              Twenty minutes a run on one core.

Networks and runs that are there are used again. docs/results/lineage.csv has the summaries, part by part; the pictures
are docs/lineage_PART.svg.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import rows as tables
from mnist import RUNS, lenet, machine
from PIL import Image

import evofool
from evofool.errors import EvofoolError
from evofool.store import ancestry
from evofool.studies.lineage import Options
from evofool.studies.shared import kinship, likeness
from evofool.studies.shared.statistics import mean_interval, stouffer
from evofool.studies.study import conduct
from evofool.targets.target import outputs_in_batches
from evofool.targets.training.datasets import load_dataset
from evofool.targets.zoo.imagenet import class_names, hypernyms, ids_of, super_classes

DOCS, RESULTS, STUDIES = Path("docs"), Path("docs/results/lineage.csv"), Path("studies/lineage")
SEEDS, GENERATIONS = range(1, 31), 60
ENCODINGS = {"cppn": "mnist_cppn", "direct": "mnist_direct"}
HIDDEN = ("6",)  # of a LeNet, the last before its outputs
FAMILIES, MEMBERS, EVALUATIONS = 10, 5, 33_000
LITE0 = "python:tests/figures/fast.py:lite0"  # see `make figures-defaults`
COLUMNS = ["part", "encoding", "of", "by", "figure", "value", "low", "high", "p", "n", "runs", "null"]


def summed_up(part: str, runs: Sequence[Any], to: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The summary of some runs; their picture goes to docs/."""
    out = STUDIES / part
    options = Options(to=tuple(to), layer=HIDDEN if to else ())
    outcome = conduct("lineage", runs, options, out=out, pool="inline", allow_code=True)
    print(f"{part}: {outcome.sentence}\n", flush=True)
    (DOCS / f"lineage_{part}.svg").write_bytes(outcome.files[1].read_bytes())
    return [{"part": part, **row} for row in outcome.summary]


def mnist() -> list[dict[str, Any]]:
    """Both encodings."""
    rows, spec = [], f"lenet:{lenet('mnist-5k', 1)[0]}"
    for encoding, preset in ENCODINGS.items():
        keys = {"target.spec": spec, "evaluation.pool": "inline", "search.generations": GENERATIONS}
        runs = [evofool.run(preset, {**keys, "seed": s}, out=RUNS / f"lineage-{encoding}-{s}") for s in SEEDS]
        rows += summed_up(f"mnist_{encoding}", runs, [f"lenet:{lenet('mnist-5k', 2)[0]}"])
        rows.append({"part": f"mnist_{encoding}", "encoding": encoding, **confused(runs, spec)})
    data = load_dataset("mnist-5k", 1)
    for digit in range(10):
        images = data.held_out_images[data.held_out_labels == digit][..., None]
        values = np.array([likeness.across(image) for image in images])
        low, high = mean_interval(values)
        facts = {"figure": "across", "value": values.mean(), "low": low, "high": high, "n": len(values)}
        rows.append({"part": "mnist_digits", "of": str(digit), **facts})
    return rows


def confused(runs: Sequence[evofool.Run], spec: str) -> dict[str, Any]:
    """Whether digits that a LeNet confuses have elites that are nearer kin: Spearman-Mantel over pairs of digits of how
    rarely held-out images of the one are taken for the other, and how far their elites are from each other; the mean
    over runs, p by Stouffer's method."""
    data, target = load_dataset("mnist-5k", 1), evofool.load_target(spec)
    logits = outputs_in_batches(target, data.held_out_images[..., None], 50).astype(float)
    probability = np.exp(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))
    taken_for = np.array([probability[data.held_out_labels == digit].mean(axis=0) for digit in range(10)])
    found = []
    for run in runs:
        placed = run.placements()
        owners = placed.drop_duplicates("cell", keep="last").sort_values("cell")["individual_id"].tolist()
        tree = ancestry.first_parents(dict(zip(placed["individual_id"], placed["parent_ids"])), owners)
        apart = kinship.distances(tree, owners, {one: one >> 24 for one in tree})
        found.append(kinship.mantel(apart, -np.log(taken_for + taken_for.T)))
    values, ps = (np.array([row[key] for row in found if row]) for key in ("value", "p"))
    low, high = mean_interval(values)
    facts = {"figure": "mantel", "of": "confusion", "by": "all pairs", "value": values.mean(), "low": low, "high": high}
    return {**facts, "p": stouffer(ps), "n": 45 * len(values), "runs": len(values), "null": "classes permuted"}


def imagenet() -> list[dict[str, Any]]:
    """The runs of the defaults that `make figures-defaults` has left."""
    runs = sorted(Path("runs/defaults").glob("63b9982f1247-*"))
    if not runs:
        print("imagenet: left out; runs/defaults has no runs of the defaults (make figures-defaults).\n")
        return []
    conduct("lineage", runs[:1], Options(export=str(STUDIES / "lines")), out=STUDIES / "first", allow_code=True)
    Image.open(STUDIES / "lines" / "lines" / "0015_robin.png").save(DOCS / "lineage_robin.jpg", quality=80)
    return summed_up("imagenet", runs)


def families() -> list[dict[str, Any]]:
    """Classes that have four siblings each: the first of the most numerous direct hypernyms, one of a super-class."""
    above, kinds, members = hypernyms(), super_classes(), dict[str, list[str]]()
    for name, identity in zip(class_names(), ids_of(class_names())):
        members.setdefault(above[identity][0], []).append(name)
    largest: dict[str, list[str]] = {}
    for names in sorted(members.values(), key=len, reverse=True):
        largest.setdefault(kinds[names[0]], names[:MEMBERS])
    classes = [name for names in list(largest.values())[:FAMILIES] for name in names]
    runs = []
    for seed in (1, 2, 3):
        keys = {"seed": seed, "target.spec": LITE0, "target.classes": classes, "evaluation.pool": "inline"}
        stop = {"search.generations": None, "search.max_evaluations": EVALUATIONS}
        out = RUNS / f"lineage-families-{seed}"
        runs.append(evofool.run("imagenet50_cppn", {**keys, **stop}, out=out, allow_code=True))
    return summed_up("families", runs)


def main() -> None:
    """The parts that are named, or all; rows of others stay as they are."""
    parts = {"mnist": mnist, "imagenet": imagenet, "families": families}
    RESULTS.parent.mkdir(exist_ok=True)
    for name in sys.argv[1:] or parts:
        try:
            rows = pd.DataFrame(parts[name]()).reindex(columns=COLUMNS)
        except EvofoolError as error:  # a package that is missing; the other parts may do without
            print(f"{name}: left out: {error}\n", file=sys.stderr)
            continue
        if RESULTS.is_file():
            old = pd.read_csv(RESULTS)
            rows = pd.concat([old[~old["part"].isin(rows["part"])], rows]) if len(rows) else old
        rows.to_csv(RESULTS, index=False, float_format="%.6g")
        tables.note("lineage", added=True)


if __name__ == "__main__":
    machine()
    main()
