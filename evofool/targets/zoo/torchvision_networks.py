"""`torchvision:NAME[/WEIGHTS]` and `torchvision:NAME/FILE`: the classification networks of torchvision.

Published weights are looked for where torch.hub keeps them (TORCH_HOME), else downloaded to there. A file of one's own
is taken to want what the default weights want, the same image size, mean and standard deviation, unless its metadata
say otherwise.
"""

from __future__ import annotations

import functools
import hashlib
import re
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import torch
from torch import nn

from evofool.base.source import Source
from evofool.errors import ConfigError, nearest
from evofool.records import Facts
from evofool.targets.family import Family
from evofool.targets.target import Preprocessing, Target
from evofool.targets.zoo import imagenet
from evofool.targets.zoo.folding import fold_batch_norm
from evofool.targets.zoo.weights import SUFFIXES, Described, described, load_into, patience, read_tensors, with_weights

if TYPE_CHECKING:
    from torchvision.models import WeightsEnum

__all__ = ["FAMILY", "catalogue", "load", "names"]

# Networks with heads that are used in training only, which their published weights hold too: the names of the heads.
_WITH_HEADS = {"googlenet": ("aux1", "aux2"), "inception_v3": ("AuxLogits",)}
# Names of parts in the published weights of densenets, from before a dot in a name was forbidden.
_OLD_DENSENET = re.compile(r"^(.*denselayer\d+\.(?:norm|relu|conv))\.((?:[12])\.\w+)$")


def _models() -> ModuleType:
    # Imported when first used: it takes seconds, and a search against a LeNet does without it.
    from torchvision import models

    return models


def names() -> list[str]:
    """Names of the networks."""
    return list(_models().list_models(module=_models()))


def catalogue() -> list[Facts]:
    """A dict for each network and each of its weights: name, weights, image_size (side in pixels), on_disk."""
    return [
        {"name": name, "weights": w.name, "image_size": w.transforms().crop_size[0], "on_disk": _place(w).is_file()}
        for name in names()
        for w in _models().get_model_weights(name)
        if w.meta["categories"]
    ]


def load(source: Source) -> Target:
    """The target of a spec.

    Raises:
        ConfigError: no such network or weights, a file that is missing or damaged, or weights of another network.
    """
    name, slash, rest = source.argument.partition("/")
    if name not in names():
        hint = nearest(name, names(), "`evofool targets list torchvision` names them")
        raise ConfigError(f"target.spec: torchvision has no classification network {name!r}; {hint}.")
    kinds = _models().get_model_weights(name)
    said = Described()
    if slash and rest.endswith(SUFFIXES):
        weights = kinds["DEFAULT"]
        blob = source.read(rest, f"say torchvision:{name} for the published weights")
        said = described(blob, rest)
        side = said.image_size[0] if said.image_size else None
        build = functools.partial(_network, name, weights, side)
        module, class_names = with_weights(build, blob, rest, imagenet.class_names())
    else:
        weights = kinds.__members__.get(rest if slash else "DEFAULT")
        if weights is None or not weights.meta["categories"]:
            choices = ", ".join(w.name for w in kinds if w.meta["categories"])
            raise ConfigError(
                f"target.spec: torchvision:{name} has no weights {rest!r}; there are {choices}, DEFAULT, or a file "
                f"that ends in {', '.join(SUFFIXES)}."
            )
        class_names = tuple(weights.meta["categories"])
        file = _place(weights).name
        tensors = read_tensors(_published(source, name, weights), file)
        tensors = {_OLD_DENSENET.sub(r"\1\2", key): tensor for key, tensor in tensors.items()}
        module = _network(name, weights, None, len(class_names), tensors)
        load_into(module, tensors, file)
    for head in _WITH_HEADS.get(name, ()):
        setattr(module, head, None)
    target = Target(
        module,
        _preprocessing(weights),
        class_names,
        spec=source.spec,
        family="torchvision",
        imagenet_ids=imagenet.ids_of(class_names),
    )
    return said.applied(target)


def _files(argument: str) -> list[str]:
    rest = argument.partition("/")[2]
    return [rest] if rest.endswith(SUFFIXES) else []


def _network(
    name: str, weights: WeightsEnum, side: int | None, classes: int, tensors: dict[str, torch.Tensor]
) -> nn.Module:
    """The network that fits such weights, still with random ones; with auxiliary heads if the tensors have them.

    Args:
        side: of its images in pixels, where a network is built for one size; None for that of the weights.
    """
    options: Facts = {}
    if name in _WITH_HEADS:
        heads = any(key.startswith(_WITH_HEADS[name]) for key in tensors)
        # As published: the network undoes the usual normalisation and applies that of its own training.
        options = {"aux_logits": heads, "transform_input": True, "init_weights": False}
    if name.startswith("vit_"):
        options["image_size"] = side or weights.meta["min_size"][0]
    return _models().get_model(name, weights=None, num_classes=classes, **options)


def _preprocessing(weights: WeightsEnum) -> Preprocessing:
    transform = weights.transforms()
    side = transform.crop_size[0]
    return Preprocessing(
        image_size=(side, side),
        channels=3,
        mean=tuple(255 * value for value in transform.mean),
        std=tuple(255 * value for value in transform.std),
        resize=transform.resize_size[0],
        crop=side,
        interpolation="bicubic" if transform.interpolation.value == "bicubic" else "bilinear",
    )


def _place(weights: WeightsEnum) -> Path:
    """Where the file of published weights is kept."""
    return Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rsplit("/", 1)[-1]


def _published(source: Source, name: str, weights: WeightsEnum) -> bytes:
    """The bytes of published weights; remembered by file name, since another machine keeps them elsewhere."""
    path = _place(weights)
    if path.name in source.files:
        return source.files[path.name]
    if not path.is_file():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with patience():
                # Of torch.hub only what fetches bytes is used: it writes beside, then renames, and unpickles nothing.
                torch.hub.download_url_to_file(weights.url, str(path), progress=False)
        except Exception as error:  # of the network, a proxy or the file system
            reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
            raise ConfigError(
                f"target.spec: the weights of torchvision:{name} are not on this machine and cannot be fetched "
                f"({reason}); put {weights.url} at {path}, or say torchvision:{name}/FILE."
            ) from None
    try:
        blob = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"target.spec: {path} cannot be read ({error.strerror}).") from None
    sha256 = re.search(r"-([0-9a-f]{8,})\.", path.name)  # its first digits, as in resnet18-f37072fd.pth
    if sha256 and not hashlib.sha256(blob).hexdigest().startswith(sha256[1]):
        raise ConfigError(f"{path}: damaged: its sha256 does not begin with {sha256[1]}; remove it and start again.")
    source.files[path.name] = blob
    return blob


FAMILY = Family(
    form="torchvision:NAME[/WEIGHTS] or torchvision:NAME/FILE",
    load=load,
    package="torchvision",
    files=_files,
    catalogue=catalogue,
    fold=fold_batch_norm,
)
