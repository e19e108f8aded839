"""Networks that learn from what fooled those before them, on MNIST-5k and Fashion-MNIST: `make figures-retrain`.

MNIST-5k: ten networks of three seeds, and three of each control; Fashion-MNIST, as many images: three networks. What
is told first is made first: three networks of both data sets, the controls, then the fourth to the tenth. Every stage
writes docs/results/retrain.csv (the summary), retrain_networks.csv (a row for each network) and retrain_runs.csv (each
run) anew, and what is there is not made again: networks and runs lie in runs/retrain, rows in studies/. About three
hours of CPU: some two minutes for each of 75 networks, of which training takes a third.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import rows as tables
from mnist import machine

from evofool.studies.retrain import Options
from evofool.studies.shared.fooling_class import DEFENCES
from evofool.studies.study import Outcome, conduct
from evofool.targets.training.datasets import limited, load_dataset
from evofool.targets.training.train import train_lenet

RESULTS, IMAGES, SEED = Path("docs/results"), 4_000, 1
MNIST, FASHION = Path("weights/lenet.safetensors"), Path("weights/retrain-fashion.safetensors")
CONTROLS = tuple(DEFENCES)
OF_A_RUN = (
    *("data", "defence", "seed", "iteration", "run", "archive_hash", "encoding", "main", "evaluations", "median"),
    *("minimum", "share_9999", "median_log_odds", "minimum_log_odds", "evaluations_to_99"),
)
OF_ONE_PICTURE = ("class_name", "image_sha256")  # the figure's
STAGES = (  # data set, network, defences, networks of a chain
    *(("mnist-5k", MNIST, ("fooling",), n) for n in (2, 3)),
    ("fashion-mnist", FASHION, ("fooling", "real"), 3),
    *(("mnist-5k", MNIST, CONTROLS, n) for n in (2, 3, 4, 5, 6, 7, 8, 9, 10)),
)


def write(outcomes: dict[str, Outcome]) -> None:
    """What is known so far."""
    frames = {data: outcome.frame.drop(columns="image").assign(data=data) for data, outcome in outcomes.items()}
    rows = pd.concat(frames.values())
    tables.write("retrain_runs", rows[list(OF_A_RUN)])
    networks = rows.drop_duplicates(["data", "defence", "seed", "iteration"])
    others = [name for name in rows.columns if name not in (*OF_A_RUN, *OF_ONE_PICTURE, "run_id", "target")]
    tables.write("retrain_networks", networks[["data", "defence", "seed", "iteration", *others]])
    summary = [{"data": data, **row} for data, outcome in outcomes.items() for row in outcome.summary]
    tables.write("retrain", pd.DataFrame(summary))
    for data, outcome in outcomes.items():
        shutil.copy(outcome.files[1], RESULTS / f"retrain_{data}.svg")


def main() -> None:
    """Stage after stage; each says what is known then, and the seconds of CPU that it took."""
    RESULTS.mkdir(exist_ok=True)
    if not FASHION.is_file():
        data = limited(load_dataset("fashion-mnist", SEED), IMAGES, SEED)
        train_lenet(data, SEED, FASHION, lambda line: None)
    outcomes: dict[str, Outcome] = {}
    for data, network, defences, iterations in STAGES:
        asked = replace(Options(), iterations=iterations, defence=defences)
        before = time.process_time()
        outcome = conduct("retrain", [f"lenet:{network}"], asked, out=f"studies/retrain-{data}", tell=print)
        outcomes[data] = outcome
        write(outcomes)
        print(f"{data}, DNN_1 to DNN_{iterations} ({time.process_time() - before:.0f} s of CPU): {outcome.sentence}\n")


if __name__ == "__main__":
    machine()
    main()
