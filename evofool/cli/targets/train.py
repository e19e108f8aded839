"""`evofool targets train`: small networks to fool, and heads on the features of any."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from evofool.base.registry import known
from evofool.cli import output
from evofool.cli.options import Json, file_path
from evofool.cli.targets import targets_app
from evofool.errors import ConfigError

NETWORKS = ("lenet", "mlp", "resnet", "bagnet", "head")
_ONLY = {  # option -> the networks that have it
    "--width": ("lenet", "mlp", "resnet", "bagnet"),
    "--epochs": ("lenet", "mlp", "resnet", "bagnet"),
    "--no-augment": ("lenet", "mlp", "resnet", "bagnet"),
    "--patch": ("bagnet",),
    "--base": ("head",),
    "--kind": ("head",),
    "--neighbours": ("head",),
}


@targets_app.command("train")
def train(
    network: Annotated[
        str,
        Argument(
            metavar="NETWORK",
            help="lenet, the paper's for MNIST; mlp; resnet; bagnet, which sees small patches only; head, on another's "
            "features.",
        ),
    ],
    out: Annotated[Path, Option(help="File to write (safetensors).", parser=file_path)],
    dataset: Annotated[
        str, Option(help="mnist-5k, mnist, fashion-mnist, or imagefolder: pictures of your own.")
    ] = "mnist-5k",
    seed: Annotated[
        int, Option(help="Of weights, order, --limit, random labels and the split of mnist-5k.", min=0)
    ] = 1,
    data: Annotated[
        Path | None,
        Option(
            help="Folder with the idx files of mnist or fashion-mnist; of imagefolder: with folders named after "
            "classes, or with train and val that have such folders.",
            parser=file_path,
        ),
    ] = None,
    size: Annotated[
        int | None, Option(help="Of imagefolder: side to which pictures are scaled and cut, in pixels. Default: 64.")
    ] = None,
    classes: Annotated[
        str | None, Option(help="Train on some classes only: names or numbers between commas, e.g. 3,5,8.")
    ] = None,
    limit: Annotated[
        int | None, Option(help="Train on so many images, of each class its share. Default: all; of a head 100.", min=1)
    ] = None,
    labels: Annotated[str, Option(help="true, or random: drawn anew for each training image.")] = "true",
    width: Annotated[float | None, Option(help="Factor on channels and hidden units, 0.05 to 16. Default: 1.")] = None,
    epochs: Annotated[int | None, Option(help="Times that every image is shown. Default: 12.", min=1)] = None,
    no_augment: Annotated[bool, Option("--no-augment", help="Neither shift nor turn the images.")] = False,
    patch: Annotated[int | None, Option(help="Of bagnet: pixels it sees at once, 9 or 17. Default: 17.")] = None,
    base: Annotated[
        str | None, Option(metavar="SPEC", help="Of head: the network whose features it uses, as target.spec.")
    ] = None,
    kind: Annotated[str | None, Option(help="Of head: logistic or knn. Default: logistic.")] = None,
    neighbours: Annotated[int | None, Option(help="Of head knn: nearest images that vote. Default: 10.", min=1)] = None,
    as_json: Json = False,
) -> None:
    """Train a small network to fool: one recipe, 12 epochs; or a head on few labels."""
    if network not in NETWORKS:
        raise ConfigError(f"NETWORK: {network!r} is none that can be trained; {known(network, NETWORKS)}")
    given = {
        "--width": width,
        "--epochs": epochs,
        "--no-augment": no_augment or None,
        "--patch": patch,
        "--base": base,
        "--kind": kind,
        "--neighbours": neighbours,
    }
    for option, value in given.items():
        if value is not None and network not in _ONLY[option]:
            raise ConfigError(f"{option}: is for {', '.join(_ONLY[option])}, not for {network}; leave it out.")
    for option, choice, choices in (("--labels", labels, ("true", "random")), ("--kind", kind, ("logistic", "knn"))):
        if choice is not None and choice not in choices:
            raise ConfigError(f"{option}: is {' or '.join(choices)}, not {choice!r}.")
    if network == "head" and base is None:
        raise ConfigError(
            "--base: is missing; name the network whose features the head uses, e.g. efficientnet-lite:0."
        )
    if neighbours is not None and kind != "knn":
        raise ConfigError("--neighbours: is for --kind knn; leave it out.")
    # With torch, for which a mistake on the command line need not wait.
    from evofool.targets.training.datasets import IMAGE_FOLDER, limited, load_dataset, of_classes, with_random_labels
    from evofool.targets.training.heads import LABELS, NEIGHBOURS, train_head
    from evofool.targets.training.train import Recipe, told, train_network
    from evofool.targets.zoo.trained import PATCHES, SIDES, WIDTHS

    if width is not None and not WIDTHS[0] <= width <= WIDTHS[1]:
        raise ConfigError("--width: is a factor from {:g} to {:g}, not {:g}.".format(*WIDTHS, width))
    if patch is not None and patch not in PATCHES:
        raise ConfigError(f"--patch: is {' or '.join(map(str, PATCHES))}, not {patch}.")
    if size is not None and dataset != IMAGE_FOLDER:
        raise ConfigError(f"--size: is for --dataset {IMAGE_FOLDER}; the images of {dataset} have theirs.")
    if size is not None and not SIDES[0] <= size <= SIDES[1]:
        raise ConfigError("--size: is a number of pixels from {} to {}, not {}.".format(*SIDES, size))
    images = load_dataset(dataset, seed, data, size, output.tell)
    if classes is not None:
        images = of_classes(images, [name.strip() for name in classes.split(",")])
    if limit is None and network == "head":
        limit = min(LABELS, len(images.train_labels))
    if limit is not None:
        images = limited(images, limit, seed)
    if labels == "random":
        images = with_random_labels(images, seed)
    if network == "head":
        result = train_head(
            kind or "logistic", str(base), images, seed, out, output.tell, neighbours or NEIGHBOURS, labels
        )
    else:
        recipe = Recipe(network, width or 1.0, patch, labels, epochs, not no_augment)
        result = train_network(recipe, images, seed, out, output.tell)
    if as_json:
        output.print_json({**result, "file": str(out)})
        return
    print(f"{out}: {told(result)}; it is the target {network}:{out}")
