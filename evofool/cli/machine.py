"""`evofool config`, `train`, `doctor`: before a run."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from evofool.cli import output
from evofool.cli.options import AllowCode, ConfigPath, Insecure, Json, Overrides, app, cluster, group

__all__: list[str] = []

config_app = group("config", "Look at configurations.")
train_app = group("train", "Train small networks to fool.")


@config_app.command("show")
def config_show(config: ConfigPath, overrides: Overrides = None, as_json: Json = False) -> None:
    """The whole configuration with defaults and overrides, each key with its kind and description."""
    from evofool.config import flatten, key_table, load_config

    settings = load_config(config, list(overrides or []))
    if as_json:
        output.print_json(settings.model_dump())
        return
    values, section = flatten(settings), ""
    for key, (kind, _, description) in key_table().items():
        head, dot, name = key.rpartition(".")
        if head != section:
            section = head
            print(f"{head}:")
        print(f"{'  ' * bool(dot)}{name}: {json.dumps(values[key])}   # {kind}: {description}")


@config_app.command("schema")
def config_schema() -> None:
    """The JSON Schema of configurations, for editors."""
    from evofool.config import Config

    output.print_json(Config.model_json_schema())


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


@app.command()
def doctor(
    config: Annotated[
        Path | None, typer.Argument(metavar="[CONFIG]", help="Also look at this config's target.")
    ] = None,
    storage: Annotated[str, typer.Option(help="Folder runs are to be kept in, or its URL.")] = "runs",
    address: Annotated[
        str | None, typer.Option(help="Also look at every node of this Ray cluster: HOST:PORT or auto.")
    ] = None,
    insecure_cluster: Insecure = False,
    allow_code: AllowCode = False,
    as_json: Json = False,
) -> None:
    """What of this machine, or of a cluster, would stand in the way of a run, and what to do about it."""
    from evofool.machines.doctor import examine

    findings = examine(
        str(config) if config else None, storage, allow_code, address and cluster(address, insecure_cluster)
    )
    if as_json:
        output.print_json([vars(finding) for finding in findings])
    else:
        output.table(["", "", ""], [[f.subject, f.level, f.text + (f" -> {f.fix}" if f.fix else "")] for f in findings])
    if any(finding.level == "failure" for finding in findings):
        raise typer.Exit(1)
