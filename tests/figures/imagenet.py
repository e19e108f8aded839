"""Prints, as Markdown, docs/results.md's figures on ImageNet networks, with its pictures: `make figures-imagenet`.

Hours on two cores. Runs lie in runs/ and go on where they stopped; what is missing of them is computed first, unless
`--no-runs` is given: then every figure is of the evaluations there are.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from mnist import machine

import evofool
from evofool.evaluate.memory import keep_freed_memory
from evofool.report.sheet import contact_sheet
from evofool.targets.checking.photographs import fit, photographs

RUNS, PICTURES = Path("runs"), Path("docs")
POINTS = (5_000, 10_000, 25_000, 50_000, 100_000)  # evaluations at which a run is looked at
COMMANDS = [
    *(["imagenet50_cppn", f"seed={seed}"] for seed in (1, 2, 3)),
    ["imagenet50_direct", "seed=1"],
    ["imagenet_cppn", "seed=1"],
    *(
        ["imagenet50_cppn", f"target.spec=efficientnet-lite:{v}", f"name=lite{v}", "search.generations=125"]
        for v in (1, 2)
    ),
]


def run_all() -> None:
    """Every run, each in a process of its own."""
    evofool_command = str(Path(sys.executable).with_name("evofool"))
    for config, *overrides in COMMANDS:
        subprocess.run([evofool_command, "run", f"configs/{config}.yaml", *overrides], check=True)


def progress(name: str, runs: list[Path]) -> None:
    """Median, minimum, classes >= 0.9 and top-1 share over evaluations."""
    for point in POINTS:
        rows = [history[history["evaluations"] <= point] for history in (evofool.open_run(r).history() for r in runs)]
        reached = [row.iloc[-1] for row in rows if len(row) and row.iloc[-1]["evaluations"] >= 0.97 * point]
        if not reached:
            continue
        columns = [[float(row[c]) for row in reached] for c in ("median", "minimum", "top1_share")]
        sure = [int((best_at(run, point) >= 0.9).sum()) for run in runs[: len(reached)]]
        shown = [f"{np.median(v):.4f} ({min(v):.4f} to {max(v):.4f})" for v in columns]
        print(f"| `{name}` | {point:,} | {len(reached)} | {shown[0]} | {shown[1]} | {sure} | {shown[2]} |")


def best_at(run: Path, evaluations: int) -> Any:
    """The confidences of a run's elites when so many evaluations were done."""
    opened = evofool.open_run(run)
    history = opened.history()
    last = history[history["evaluations"] <= evaluations]["generation"].max()
    placements = opened.placements()
    return placements[placements["generation"] <= last].groupby("class_index")["confidence"].last().to_numpy()


def photographs_confidence() -> None:
    """What the networks say of photographs: their own level of confidence."""
    print("\n| network | photographs | median of the top-1 confidence | highest |\n|---|---|---|---|")
    for variant in (0, 1, 2):
        target = evofool.load_target(f"efficientnet-lite:{variant}")
        images = np.stack([fit(target, photograph.image) for photograph in photographs()])
        with torch.inference_mode():
            z = target.outputs(torch.from_numpy(images)).astype(np.float64)
        powers = np.exp(z - z.max(axis=1, keepdims=True))
        top = powers.max(axis=1) / powers.sum(axis=1)
        print(f"| efficientnet-lite{variant} | {len(images)} | {np.median(top):.3f} | {top.max():.3f} |")


def transfer() -> None:
    """The elites of each network shown to the two others; the heat maps are in runs/transfer-VARIANT/transfer.svg."""
    runs = [RUNS / name for name in ("imagenet50_cppn-1", "lite1", "lite2")]
    print("\n| evolved on | shown to | pixels | n | same answer | the evolved class | median confidence |")
    print("|---|---|---|---|---|---|---|")
    for variant in ("same_pixels", "re_rendered"):
        frame = evofool.matrix(runs, variant=variant, pool="inline", out=RUNS / f"transfer-{variant}")
        for row in frame[frame["source"] != frame["to"]].to_dict("records"):
            low, high = (f"{100 * row[name]:.1f}" for name in ("low", "high"))
            print(
                f"| {row['source']} | {row['to']} | {variant.replace('_', ' ')} | {row['n']} | {row['same_top1']:.0%} "
                f"| {row['class_is_top1']:.0%} ({low} to {high}) | {row['median_confidence']:.4f} |"
            )


def speed() -> None:
    """Evaluations/s of a run over Ray beside the bare network's images/s, both on all cores, in alternation."""
    target = evofool.load_target("efficientnet-lite:0").to("cpu", "channels_last")
    keep_freed_memory()
    x = torch.randint(0, 256, (16, 224, 224, 3), dtype=torch.uint8)
    bare, whole = [], []
    for repeat in range(3):
        with torch.inference_mode():
            target.outputs(x)
            started = time.perf_counter()
            for _ in range(10):
                target.outputs(x)
            bare.append(160 / (time.perf_counter() - started))
        overrides = ["search.generations=4", "name=speed"]
        run = evofool.run("configs/imagenet_cppn.yaml", overrides, out=RUNS / f"speed-{repeat}", resume="never")
        seconds = run.history()["seconds"]
        whole.append(3 * 400 / float(seconds.iloc[-1] - seconds.iloc[0]))
    ratio = np.median(whole) / np.median(bare)
    print(f"\nbare network, images/s on all threads: {bare}; evaluations/s over Ray: {whole}; ratio {ratio:.2f}")


def cost(run: Path) -> None:
    """Time, memory and disk of a run."""
    provenance = json.loads((run / "_evofool" / "run.json").read_text())
    sessions = pd.DataFrame(provenance["sessions"])
    size = sum(file.stat().st_size for file in run.rglob("*") if file.is_file()) / 2**20
    evaluations, seconds = sessions["evaluations"].sum(), sessions["seconds"].sum()
    rate = evaluations / sessions["evaluator_core_seconds"].sum()
    driver, evaluator = sessions["driver_peak_rss_mib"].max(), sessions["evaluator_peak_rss_mib"].max()
    print(
        f"| `{run.name}` | {evaluations:,} | {seconds:.0f} s | {rate:.1f} | {driver:.0f} MiB | {evaluator:.0f} MiB "
        f"| {size:.1f} MiB |"
    )


def main() -> None:
    """All of it."""
    if "--no-runs" not in sys.argv:
        run_all()
    fifty = [RUNS / f"imagenet50_cppn-{seed}" for seed in (1, 2, 3)]
    columns = ["run", "evaluations", "seeds", "median", "minimum", "classes >= 0.9", "top-1 share"]
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    progress("imagenet50_cppn", fifty)
    progress("imagenet50_direct", [RUNS / "imagenet50_direct-1"])
    photographs_confidence()
    columns = ["run", "evaluations", "time", "per evaluator and second", "driver, peak RSS", "evaluator", "disk"]
    print(f"\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for name in ("imagenet_cppn-1", "imagenet50_cppn-1", "imagenet50_direct-1"):
        cost(RUNS / name)
    PICTURES.mkdir(exist_ok=True)
    contact_sheet(evofool.open_run(fifty[0]).elites()).save(PICTURES / "imagenet50_cppn.jpg", quality=88)
    transfer()
    if "--no-speed" not in sys.argv:
        speed()


if __name__ == "__main__":
    machine()
    main()
