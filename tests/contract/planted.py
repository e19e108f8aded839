"""For each study something in which an effect was planted, and the same without it: what tests/contract/ tries it on.

A new study gets a function here and a row in FIXTURES. The function makes its subject in a folder, small enough for a
few seconds, and gives it with options and a test of the summary, `found`, that is true of the effect and false without.
There should be two groups of rows or more, so that a stop between them can be tried. Names are unfriendly on purpose.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

import evofool
from evofool.records import Facts
from evofool.studies import ablate, lineage, reproduce, retrain, score, transfer
from evofool.studies.shared import rules
from evofool.studies.study import NoOptions
from evofool.targets.training.datasets import load_dataset, of_classes
from evofool.targets.training.train import Recipe, train_network
from evofool.targets.zoo.imagenet import class_names, hypernyms, ids_of, super_classes

NASTY = ("<script>alert(1)</script>", "a & b", '"quoted"', "]]>", "bell\x07", "lone \udc80")
SIZE = (8, 8)


@dataclass(frozen=True)
class Planted:
    """A study's subject and options, and what the summary is asked."""

    subject: list[Any]
    found: Callable[[list[Facts]], bool]
    options: Any = field(default_factory=NoOptions)
    live: list[evofool.Target] = field(default_factory=list)  # that the subject was made with, where it is asked


class Seen(nn.Module):
    """One layer that sees some columns of the picture only."""

    def __init__(self, weight: torch.Tensor, columns: slice) -> None:
        super().__init__()
        mask = torch.zeros(SIZE)
        mask[:, columns] = 1
        self.weight = nn.Parameter(weight * mask.flatten())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        return x.flatten(1) @ self.weight.T


def target(weight: torch.Tensor, columns: slice = slice(None)) -> evofool.Target:
    """A grey network with a class for each row of a matrix."""
    names = tuple(f"{NASTY[i % len(NASTY)].encode('utf-8', 'replace').decode()} {i}" for i in range(len(weight)))
    return evofool.Target(Seen(weight, columns), evofool.Preprocessing(SIZE, 1, (127.5,), (60.0,)), names)


def random_weight(seed: int, classes: int = 30) -> torch.Tensor:
    """(classes, pixels) normal numbers."""
    return torch.randn(classes, SIZE[0] * SIZE[1], generator=torch.Generator().manual_seed(seed)) * 0.5


def evolve(out: Path, by: evofool.Target, *overrides: str, generations: int = 12) -> evofool.Run:
    """A small run."""
    search = {"offspring": 30, "initial": 30, "lag": 2, "generations": generations}
    config = {
        "target": {"spec": "live"},
        "variation": {"mutation_eta": 15.0},
        "search": search,
        "evaluation": {"pool": "inline"},
    }
    return evofool.run(config, list(overrides), target=by, out=out)


def of_transfer(folder: Path, effect: bool) -> Planted:
    """Elites shown to a network that sees as their own does; without the effect, to one that sees the other half."""
    left, right = slice(0, 4), slice(4, 8)
    run = evolve(folder / "run", target(random_weight(1), left))
    other = target(random_weight(1) * 0.9, left) if effect else target(random_weight(2), right)

    def found(summary: list[Facts]) -> bool:
        shares = [r for r in summary if r["figure"] == "class_is_top1" and r["variant"] == "same_pixels"]
        return bool(shares[0]["low"] > 1 / 30)  # chance

    return Planted([run], found, transfer.Options(to=(other,)))  # type: ignore[arg-type]


def of_compare(folder: Path, effect: bool) -> Planted:
    """Four runs of five generations and four others; these are of one generation where there is an effect."""
    by, runs = target(random_weight(1)), []
    for name, seeds, generations in (("first", range(1, 5), 5), ("second", range(5, 9), 1 if effect else 5)):
        for seed in seeds:
            out = folder / f"<&{name}>-{seed}"
            runs.append(evolve(out, by, f"name={name}", f"seed={seed}", generations=generations))
    return Planted(runs, lambda summary: next(r["value"] < 0.05 for r in summary if r["figure"] == "p_median"))


def of_score(folder: Path, effect: bool) -> Planted:
    """Noise shown to a network of large weights; without the effect, to one without any."""
    for i in range(150):
        noise = np.random.default_rng(i).integers(0, 256, SIZE, dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"<&{i:03}>.png")
    by = target(random_weight(1) * (20 if effect else 0))

    def found(summary: list[Facts]) -> bool:
        return next(bool(r["low"] > 0.5) for r in summary if r["figure"] == "share_0.99")

    return Planted([folder], found, score.Options(by))  # type: ignore[arg-type]


def of_siblings(folder: Path, effect: bool) -> Planted:
    """Runs against a network to which all dogs look nearly alike; without the effect, as different as other classes."""
    kinds = super_classes()
    dogs = [name for name, kind in kinds.items() if kind == "dog"][:12]
    others = [name for name, kind in kinds.items() if kind in ("fish", "snake", "building")][:18]
    weight = random_weight(1)
    if effect:
        weight[:12] = weight[0] + 0.02 * weight[:12]
    by = replace(target(weight), class_names=(*dogs, *others))
    runs = [evolve(folder / f"<&{seed}>", by, f"seed={seed}") for seed in (1, 2)]

    def found(summary: list[Facts]) -> bool:
        gaps = [r for r in summary if (r["figure"], r["super_class"]) == ("more_than_others", "dog")]
        measured = {r["measure"]: bool(r["high"] < 0 and r["p"] < 0.01) for r in gaps}
        return measured["log_odds"] and not measured["log_odds_without_siblings"]

    return Planted(runs, found, live=[by])


def of_ascend(folder: Path, effect: bool) -> Planted:
    """A linear network, whose slope leads to every class; without the effect, one that ignores its input."""
    by = target(random_weight(1, 40) * (1 if effect else 0))

    def found(summary: list[Facts]) -> bool:
        share = next(r for r in summary if r["figure"] == "share_0.99")
        return bool(share["low"] > share["null"])

    return Planted([by], found, rules.Options(steps=20))


def of_lineage(folder: Path, effect: bool) -> Planted:
    """Runs, from one individual on, against a network to which classes under one hypernym look nearly alike; without
    the effect, as different as others."""
    families: dict[str, list[str]] = {}
    for name, identity in zip(class_names(), ids_of(class_names())):
        families.setdefault(hypernyms()[identity][0], []).append(name)
    largest = sorted(families.values(), key=len, reverse=True)[:6]
    weight = random_weight(1)
    if effect:
        weight = weight[::5].repeat_interleave(5, 0) + 0.3 * weight
    by = replace(target(weight), class_names=tuple(name for family in largest for name in family[:5]))
    keys = ["search.initial=1", "search.lag=1", "encoding.kind=direct"]
    runs = [evolve(folder / f"<&{seed}>", by, f"seed={seed}", *keys, generations=40) for seed in (1, 2)]

    def found(summary: list[Facts]) -> bool:
        kin = [r for r in summary if (r["figure"], r["of"]) == ("siblings_apart", "hypernym")]
        return len(kin) == 2 and all(bool(r["value"] < 0 and r["p"] < 0.001) for r in kin)

    return Planted(runs, found, lineage.Options())


def striped(folder: Path) -> str:
    """The spec of a small network for three classes of blobs, all of which are finely chequered, as nothing evolved in
    a few generations is; its images are in the same folder, as idx files."""
    draw = np.random.default_rng(0)
    chequer = np.indices((28, 28)).sum(axis=0) % 2 * 140
    for part, count in (("train", 180), ("t10k", 90)):
        labels = np.arange(count, dtype=np.uint8) % 3
        images = np.zeros((count, 28, 28), dtype=np.uint8)
        for image, label in zip(images, labels):
            top, left = 9 + draw.integers(4), 1 + 7 * int(label) + draw.integers(4)
            image[top : top + 8, left : left + 8] = draw.integers(60, 115)
            image += chequer.astype(np.uint8)
        for name, array in (("images-idx3", images), ("labels-idx1", labels)):
            head = bytes((0, 0, 8, array.ndim)) + b"".join(side.to_bytes(4, "big") for side in array.shape)
            (folder / f"{part}-{name}-ubyte").write_bytes(head + array.tobytes())
    data = of_classes(load_dataset("mnist", 1, folder), ["0", "1", "2"])
    recipe = Recipe("lenet", width=0.15, epochs=30, augment=False)
    train_network(recipe, data, 1, folder / "striped.safetensors", lambda line: None)
    return f"lenet:{folder / 'striped.safetensors'}"


def coloured(folder: Path, count: int = 40, names: tuple[str, str] = ("green", "red")) -> Path:
    """A folder with two folders of pictures, 60 x 50 pixels of noise, in which green is stronger, and red."""
    draw = np.random.default_rng(0)
    for name, channel in zip(names, (1, 0)):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            pixels = draw.integers(0, 150, (50, 60, 3), dtype=np.uint8)
            pixels[:, :, channel] += np.uint8(100)
            Image.fromarray(pixels).save(folder / name / f"{i:03}.png")
    return folder


def of_retrain(folder: Path, effect: bool) -> Planted:
    """A network that sees at once which images were evolved, and learns from such; without the effect, it gets a class
    of real images instead."""
    spec, config = striped(folder), folder / "search.yaml"
    config.write_text("target: {spec: 'lenet:none'}\nsearch: {offspring: 20, initial: 150}\n")
    options = retrain.Options(
        iterations=2,
        seeds=1,
        least=1,
        generations=4,
        first=120,
        per_run=120,
        config=str(config),
        data=str(folder),
        runs=str(folder / "runs"),
        defence=("fooling" if effect else "real",),
    )

    def found(summary: list[Facts]) -> bool:
        by = {row["figure"]: row for row in summary if row["iteration"] == 2}
        return bool(by["median"]["high"] < 0.5 and by["median_less_dnn_1"]["high"] < 0)

    return Planted([spec], found, options)


def of_ablate(folder: Path, effect: bool) -> Planted:
    """CPPNs against a network that sees one tile of sixteen, four pixels; without the effect, one that sees all."""
    weight = random_weight(1, 12)
    if effect:
        seen = torch.zeros(SIZE)
        seen[4:6, 2:4] = 1
        weight = 4 * weight * seen.flatten()
    by = target(weight)
    run = evolve(folder / "<&run>", by, "encoding.kind=cppn")

    def found(summary: list[Facts]) -> bool:
        mean, largest = (
            next(r for r in summary if (r["figure"], r.get("grid"), r["fill"]) == (figure, 4, "mean"))
            for figure in ("loss", "largest_loss")
        )
        return bool(largest["value"] > 8 * mean["value"] > 0)  # of sixteen tiles one has nearly all

    return Planted([run], found, ablate.Options(part=("occlusion", "genes"), fill=("mean",)), live=[by])


def of_reproduce(folder: Path, effect: bool) -> Planted:
    """A table of runs that come to the paper's value; without the effect, to no more than chance."""
    rows = [
        f"mnist_{kind},1,{seed},{0.99999 if effect else 0.08 + seed / 100},{5 + seed},0"
        for kind in ("cppn", "direct")
        for seed in range(1, 5)
    ]
    (folder / "mnist.csv").write_text("\n".join(["preset,lenet,seed,median,median_at,classes_9999_at_50", *rows, ""]))
    options = reproduce.Options(budget="none", results=str(folder), runs=str(folder / "runs"))
    return Planted(["mnist"], lambda summary: summary[0]["verdict"] == "same", options)


FIXTURES: dict[str, Callable[[Path, bool], Planted]] = {
    "transfer": of_transfer,
    "compare": of_compare,
    "score": of_score,
    "siblings": of_siblings,
    "ascend": of_ascend,
    "lineage": of_lineage,
    "retrain": of_retrain,
    "ablate": of_ablate,
    "reproduce": of_reproduce,
}
