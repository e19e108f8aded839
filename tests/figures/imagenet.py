"""What docs/results.md says of efficientnet-lite0 by itself: `make figures-imagenet`, some ten minutes on two cores.

Rows of docs/results/imagenet_photographs.csv, and imagenet_thousand.csv of a run of `imagenet_cppn` over Ray; the
picture of the README, docs/imagenet50_cppn.jpg, is of the first run of `make figures-defaults`, and stays what it is
where that is missing. Runs lie in runs/ and go on where they stopped.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import rows
import torch
from mnist import machine

import evofool
from evofool.report.sheet import contact_sheet
from evofool.targets.checking.photographs import fit, photographs

RUNS, PICTURE = Path("runs"), Path("docs/imagenet50_cppn.jpg")


def photographs_confidence() -> None:
    """What the networks say of photographs: their own level of confidence."""
    found = []
    for variant in (0, 1, 2):
        target = evofool.load_target(f"efficientnet-lite:{variant}")
        images = np.stack([fit(target, photograph.image) for photograph in photographs()])
        with torch.inference_mode():
            z = target.outputs(torch.from_numpy(images)).astype(np.float64)
        top = np.exp(z.max(axis=1) - np.logaddexp.reduce(z, axis=1))
        figures = {"photographs": len(images), "median": np.median(top), "highest": top.max()}
        found.append({"network": f"lite{variant}", **figures})
    rows.write("imagenet_photographs", pd.DataFrame(found))


def thousand() -> None:
    """All classes, over Ray, in a process of its own; what was found and what it took."""
    command = str(Path(sys.executable).with_name("evofool"))
    subprocess.run([command, "run", "imagenet_cppn", "seed=1"], check=True)
    run = evofool.open_run(RUNS / "imagenet_cppn-1")
    last, sessions = run.history().iloc[-1], pd.DataFrame(run.provenance["sessions"])
    figures = {name: last[name] for name in ("evaluations", "filled", "median", "classes_99", "top1_share")}
    figures["seconds"] = sessions["seconds"].sum()
    peaks = {name: sessions[f"{name}_peak_rss_mib"].max() for name in ("driver", "evaluator")}
    figures |= {f"{name}_mib": peak for name, peak in peaks.items()}
    size = sum(file.stat().st_size for file in Path(run.path).rglob("*") if file.is_file())
    rows.write("imagenet_thousand", pd.DataFrame([{**figures, "disk_mib": size / 2**20}]))


def picture() -> None:
    """The elites of the first run of the defaults, where it is."""
    table = rows.read("defaults")
    [name] = table[(table["setting"] == "now") & (table["seed"] == 1)]["run"]
    run = RUNS / "defaults" / name
    if run.is_dir():
        contact_sheet(evofool.open_run(run).elites()).save(PICTURE, quality=88)


if __name__ == "__main__":
    machine()
    photographs_confidence()
    thousand()
    picture()
