"""The figures of docs/results.md on MNIST, as rows of docs/results: `make figures`, half an hour.

LeNets go to weights/, runs to runs/figures/; what is there already is used again, and rows that are there are not
computed again: mnist.csv has one for each run, mnist_networks.csv for each network, mnist_memory.csv for the peaks of
memory. Figures that chance plays in are over at least five seeds.
"""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import rows
import torch
from safetensors import safe_open
from safetensors.torch import load_file

import evofool
from evofool.errors import ConfigError
from evofool.studies.shared.replicating import row_of
from evofool.targets.training.datasets import load_dataset
from evofool.targets.training.train import train_lenet
from evofool.targets.zoo import lenet as lenet_module

WEIGHTS, RUNS = Path("weights"), Path("runs/figures")
SEEDS = (1, 2, 3, 4, 5)
PRESETS = ("mnist_direct", "nguyen2015_mnist_direct", "mnist_cppn", "nguyen2015_mnist_cppn")
LOOP = "a plain loop of 30 lines, direct"


def machine() -> None:
    """When and on what these figures were made."""
    print(f"{date.today()}, {rows.here()}\n")


def lenet(dataset: str, seed: int) -> tuple[Path, float]:
    """A trained LeNet and its held-out accuracy."""
    path = WEIGHTS / f"lenet-{dataset}-{seed}.safetensors"
    if not path.exists():
        train_lenet(load_dataset(dataset, seed), seed, path, lambda line: None)
    with safe_open(str(path), framework="numpy") as file:
        return path, float(file.metadata()["held_out_accuracy"])


def networks() -> None:
    """LeNet over five training seeds, and once on Fashion-MNIST."""
    for dataset, seed in [*(("mnist-5k", seed) for seed in SEEDS), ("fashion-mnist", 1)]:
        try:
            key = {"data": dataset, "seed": seed}
            rows.have("mnist_networks", key, lambda: {"held_out_accuracy": lenet(*key.values())[1]})  # noqa: B023
        except ConfigError as error:
            print(f"{dataset} left out: {error}", file=sys.stderr)


def search(preset: str, net: int, seed: int) -> dict[str, Any]:
    """What a run of a MNIST preset, in this process, came to."""
    path, _ = lenet("mnist-5k", net)
    overrides = [f"seed={seed}", f"target.spec=lenet:{path}", "evaluation.pool=inline"]
    run = evofool.run(f"configs/{preset}.yaml", overrides, out=RUNS / f"{preset}-lenet{net}-seed{seed}")
    return row_of(run)


def mnist() -> None:
    """Our presets on five networks, those of the 2015 code on one: five seeds on LeNet 1, two on each of the others."""
    for net in SEEDS:  # the first network's rows first, as most of the page rests on it
        for preset in PRESETS:
            for seed in SEEDS if net == 1 else (1, 2) if preset.startswith("mnist") else ():
                key = {"preset": preset, "lenet": net, "seed": seed}
                rows.have("mnist", key, lambda: search(*key.values()))  # noqa: B023
    for seed in SEEDS:
        key = {"preset": LOOP, "lenet": 1, "seed": seed}
        rows.have("mnist", key, lambda: plain_loop(lenet("mnist-5k", 1)[0], seed))  # noqa: B023


def plain_loop(path: Path, seed: int) -> dict[str, Any]:
    """mnist_direct written down again in the plainest way, as a check on evofool; only the weights are shared."""
    net = lenet_module.network()
    net.load_state_dict(load_file(path))
    rng = np.random.default_rng(seed)
    genes, best, elites = rng.random((200, 784)), np.zeros(10), np.zeros((10, 784))
    found: dict[str, Any] = {"median_at": float("inf"), "minimum_at": float("inf"), "generations": 200}
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
            found["minimum_at_50"] = found["minimum"]
            found["classes_9999_at_50"] = int((best >= 0.9999).sum())
    return found | {"evaluations": 40_000, "classes": 10, "classes_9999": int((best >= 0.9999).sum())}


def memory() -> None:
    """Peak RSS of driver and evaluators over 40,000 evaluations, each run in a process of its own."""

    def peaks(preset: str) -> dict[str, Any]:
        out = RUNS / f"{preset}-ray"
        path, _ = lenet("mnist-5k", 1)
        command = ["evofool", "run", f"configs/{preset}.yaml", f"target.spec=lenet:{path}", "evaluation.evaluators=2"]
        command[0] = str(Path(sys.executable).with_name("evofool"))
        subprocess.run([*command, "--out", str(out)], check=True, capture_output=True)
        session = json.loads((out / "_evofool" / "run.json").read_text())["sessions"][0]
        return {"driver_mib": session["driver_peak_rss_mib"], "evaluator_mib": session["evaluator_peak_rss_mib"]}

    for preset in ("mnist_direct", "mnist_cppn"):
        rows.have("mnist_memory", {"preset": preset}, lambda: peaks(preset))  # noqa: B023


if __name__ == "__main__":
    machine()
    mnist()
    networks()
    memory()
