"""`evofool targets train`: small networks to fool."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from evofool.cli import output
from evofool.cli.options import Json, file_path
from evofool.cli.targets import targets_app
from evofool.errors import ConfigError


@targets_app.command("train")
def train(
    network: Annotated[str, Argument(metavar="NETWORK", help="lenet, the paper's for MNIST.")],
    out: Annotated[Path, Option(help="File to write (safetensors).", parser=file_path)],
    dataset: Annotated[str, Option(help="mnist-5k, mnist or fashion-mnist.")] = "mnist-5k",
    seed: Annotated[int, Option(help="Of weights, order and the split of mnist-5k.", min=0)] = 1,
    data: Annotated[
        Path | None, Option(help="Folder with the idx files of mnist or fashion-mnist.", parser=file_path)
    ] = None,
    as_json: Json = False,
) -> None:
    """Train a small network to fool: one recipe, 12 epochs."""
    if network != "lenet":
        raise ConfigError(f"NETWORK: {network!r} is none that can be trained; there is lenet.")
    from evofool.targets.training.datasets import load_dataset
    from evofool.targets.training.train import told, train_lenet

    result = train_lenet(load_dataset(dataset, seed, data), seed, out, output.tell)
    if as_json:
        output.print_json({**result, "file": str(out)})
        return
    print(f"{out}: {told(result)}")
