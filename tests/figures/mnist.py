"""Prints, as Markdown, docs/results.md's figures on MNIST: `make figures`.

LeNets go to weights/, runs to runs/figures/; what is there already is used again. Figures that chance plays in are over
at least five seeds.
"""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors import safe_open
from safetensors.torch import load_file

import evofool
from evofool.base.provenance import facts
from evofool.errors import ConfigError
from evofool.studies.compare import compare
from evofool.targets.training.datasets import load_dataset
from evofool.targets.training.train import train_lenet
from evofool.targets.zoo import lenet as lenet_module

WEIGHTS, RUNS = Path("weights"), Path("runs/figures")
SEEDS = (1, 2, 3, 4, 5)


def machine() -> None:
    """When and on what these figures were made."""
    found = facts()
    print(f"{date.today()}, {found['processor']}, {found['cores']} cores\n")


def lenet(dataset: str, seed: int) -> tuple[Path, float]:
    """A trained LeNet and its held-out accuracy."""
    path = WEIGHTS / f"lenet-{dataset}-{seed}.safetensors"
    if not path.exists():
        train_lenet(load_dataset(dataset, seed), seed, path, lambda line: None)
    with safe_open(str(path), framework="numpy") as file:
        return path, float(file.metadata()["held_out_accuracy"])


def accuracies() -> None:
    """LeNet over five training seeds, and once on Fashion-MNIST."""
    print("| data | seeds | held-out accuracy, median | lowest | highest |\n|---|---|---|---|---|")
    values = [lenet("mnist-5k", seed)[1] for seed in SEEDS]
    print(f"| mnist-5k (1,000 held out) | 1-5 | {np.median(values):.2%} | {min(values):.2%} | {max(values):.2%} |")
    try:
        value = lenet("fashion-mnist", 1)[1]
        print(f"| fashion-mnist (10,000 held out) | 1 | {value:.2%} | | |")
    except ConfigError as error:
        print(f"\nfashion-mnist left out: {error}", file=sys.stderr)


def search(kind: str, net: int, seed: int) -> Path:
    """A run of a MNIST preset, in this process."""
    out = RUNS / f"{kind}-lenet{net}-seed{seed}"
    path, _ = lenet("mnist-5k", net)
    overrides = [f"seed={seed}", f"target.spec=lenet:{path}", "evaluation.pool=inline"]
    evofool.run(f"configs/{kind}.yaml", overrides, out=out)
    return out


def at(path: Path, generation: int) -> pd.Series:
    """The counters of a run at a generation, counted from 1 as in the paper."""
    history = evofool.open_run(path).history()
    return history[history["generation"] == generation - 1].iloc[0]


def spread(values: list[float], digits: int) -> str:
    """Median and range; inf is printed as never."""
    shown = [f"{v:.{digits}f}" if np.isfinite(v) else "never" for v in (np.median(values), min(values), max(values))]
    return f"{shown[0]} ({shown[1]} to {shown[2]})"


def mnist() -> None:
    """Our presets on five networks, those of the 2015 code on one: five seeds on LeNet 1, two on each of the others."""
    columns = ["preset", "runs", "median passes 0.9999 at", "minimum passes", "never", "median at 200"]
    columns += ["minimum at 50", "minimum at 200"]
    print(f"\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for kind in ("mnist_direct", "nguyen2015_mnist_direct", "mnist_cppn", "nguyen2015_mnist_cppn"):
        groups = {"LeNet 1, seeds 1-5": [search(kind, 1, seed) for seed in SEEDS]}
        if kind.startswith("mnist"):
            groups["LeNets 2-5, seeds 1-2"] = [search(kind, net, seed) for net in SEEDS[1:] for seed in (1, 2)]
        for name, paths in groups.items():
            runs = compare(paths)
            medians_at = list(runs["median_at"].fillna(np.inf) + 1)
            minima_at = list(runs["minimum_at"].fillna(np.inf) + 1)
            print(
                f"| `{kind}`, {name} | {len(paths)} | {spread(medians_at, 0)} | {spread(minima_at, 0)} "
                f"| {sum(np.isinf(minima_at))} of {len(paths)} | {spread(list(runs['median']), 6)} "
                f"| {spread([at(p, 50)['minimum'] for p in paths], 4)} | {spread(list(runs['minimum']), 6)} |"
            )


def plain_loop(path: Path, seed: int) -> dict[str, float]:
    """mnist_direct written down again in the plainest way, as a check on evofool; only the weights are shared."""
    net = lenet_module.network()
    net.load_state_dict(load_file(path))
    rng = np.random.default_rng(seed)
    genes, best, elites = rng.random((200, 784)), np.zeros(10), np.zeros((10, 784))
    found: dict[str, float] = {"median_at": float("inf"), "minimum_at": float("inf")}
    for generation in range(1, 201):
        if generation > 1:
            genes = elites[rng.integers(0, 10, 200)]
            u = rng.random(genes.shape)
            step = np.where(u < 0.5, (2 * u) ** (1 / 16) - 1, 1 - (2 - 2 * u) ** (1 / 16))
            genes = np.clip(genes + step * (rng.random(genes.shape) < 0.1), 0, 1)
        pixels = torch.from_numpy(np.floor(genes * 255 + 0.5).astype(np.float32)).reshape(-1, 1, 28, 28)
        with torch.inference_mode():
            scores = net((pixels - lenet_module.MEAN) / lenet_module.STD).double().softmax(1).numpy()
        for cell in range(10):
            slot = int(scores[:, cell].argmax())
            if scores[slot, cell] > best[cell]:
                best[cell], elites[cell] = scores[slot, cell], genes[slot]
        found["median"], found["minimum"] = float(np.median(best)), float(best.min())
        for name in ("median", "minimum"):
            if found[name] >= 0.9999:
                found[f"{name}_at"] = min(found[f"{name}_at"], generation)
        if generation == 50:
            found["minimum_50"] = found["minimum"]
    return found


def plain() -> None:
    """The plain loop over five seeds, as a row of the table above."""
    rows = [plain_loop(lenet("mnist-5k", 1)[0], seed) for seed in SEEDS]
    shown = {name: [row[name] for row in rows] for name in rows[0]}
    print(
        f"| a plain loop of 30 lines, direct, LeNet 1, seeds 1-5 | 5 | {spread(shown['median_at'], 0)} "
        f"| {spread(shown['minimum_at'], 0)} | {sum(np.isinf(shown['minimum_at']))} of 5 "
        f"| {spread(shown['median'], 6)} "
        f"| {spread(shown['minimum_50'], 4)} | {spread(shown['minimum'], 6)} |"
    )


def memory() -> None:
    """Peak RSS of driver and evaluators over 40,000 evaluations, each run in a process of its own."""
    print("\n| 40,000 evaluations | driver, peak RSS | evaluator, peak RSS |\n|---|---|---|")
    path, _ = lenet("mnist-5k", 1)
    for kind in ("mnist_direct", "mnist_cppn"):
        out = RUNS / f"{kind}-ray"
        command = ["evofool", "run", f"configs/{kind}.yaml", f"target.spec=lenet:{path}", "evaluation.evaluators=2"]
        command[0] = str(Path(sys.executable).with_name("evofool"))
        subprocess.run([*command, "--out", str(out)], check=True, capture_output=True)
        session = json.loads((out / "_evofool" / "run.json").read_text())["sessions"][0]
        print(
            f"| `{kind}`, Ray, 2 evaluators | {session['driver_peak_rss_mib']:.0f} MiB "
            f"| {session['evaluator_peak_rss_mib']:.0f} MiB |"
        )


if __name__ == "__main__":
    machine()
    accuracies()
    mnist()
    plain()
    memory()
