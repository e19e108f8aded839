"""`torchvision:NAME[/WEIGHTS]` and `torchvision:NAME/FILE`: the classification networks of torchvision.

Published weights are looked for where torch.hub keeps them (TORCH_HOME), else downloaded to there. A file of one's own
is taken to want what the default weights want: the same image size, mean and standard deviation.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from evofool.base.source import Source
from evofool.errors import ConfigError
from evofool.records import Facts
from evofool.targets.target import Preprocessing, Target
from evofool.targets.zoo import imagenet
from evofool.targets.zoo.folding import fold_batch_norm
from evofool.targets.zoo.weights import SUFFIXES, load_into, read_tensors, with_weights

__all__ = ["catalogue", "load", "names"]

_PATIENCE = 20.0  # seconds without a byte after which a download is given up
# Their published weights hold auxiliary heads, and want the input normalised otherwise than the caller does.
_WITH_HEADS = {"googlenet": ("aux1", "aux2"), "inception_v3": ("AuxLogits",)}
# Names of parts in the published weights of densenets, from before a dot in a name was forbidden.
_OLD_DENSENET = re.compile(r"^(.*denselayer\d+\.(?:norm|relu|conv))\.((?:[12])\.\w+)$")


def names() -> list[str]:
    """Names of the networks."""
    models = _models()
    return list(models.list_models(module=models))


def _models() -> Any:
    # Imported when it is wanted: it takes seconds, and who evolves digits needs none of it.
    from torchvision import models

    return models


def catalogue() -> list[Facts]:
    """A dict for each network and its weights: name, weights, image_size (side in pixels), on_disk."""
    return [
        {"name": name, "weights": w.name, "image_size": w.transforms().crop_size[0], "on_disk": _place(w).is_file()}
        for name in names()
        for w in _models().get_model_weights(name)
        if w.meta["categories"]
    ]


def load(source: Source, *, fold: bool = True) -> Target:
    """The target of a spec.

    Args:
        fold: whether batch normalisation becomes part of the convolutions.

    Raises:
        ConfigError: no such network or weights, a file that is missing or damaged, or weights of another network.
    """
    name, slash, rest = source.argument.partition("/")
    if name not in names():
        near = difflib.get_close_matches(name, names(), n=3)
        hint = f"nearest are {', '.join(near)}" if near else "`evofool targets list torchvision` names them"
        raise ConfigError(f"target.spec: torchvision has no classification network {name!r}; {hint}.")
    kinds = _models().get_model_weights(name)
    if slash and rest.endswith(SUFFIXES):
        weights = kinds["DEFAULT"]
        blob = source.read(rest, f"say torchvision:{name} for the published weights")
        tensors = read_tensors(blob, rest)
        module, class_names = with_weights(
            lambda classes: _network(name, weights, classes, tensors), blob, rest, imagenet.class_names()
        )
    else:
        weights = kinds.__members__.get(rest if slash else "DEFAULT")
        if weights is None or not weights.meta["categories"]:
            known = ", ".join(w.name for w in kinds if w.meta["categories"])
            raise ConfigError(
                f"target.spec: torchvision:{name} has no weights {rest!r}; there are {known}, DEFAULT, or a file that "
                f"ends in {', '.join(SUFFIXES)}."
            )
        class_names = tuple(weights.meta["categories"])
        file = _place(weights).name
        tensors = read_tensors(_published(source, name, weights), file)
        tensors = {_OLD_DENSENET.sub(r"\1\2", key): tensor for key, tensor in tensors.items()}
        module = _network(name, weights, len(class_names), tensors)
        load_into(module, tensors, file)
    for head in _WITH_HEADS.get(name, ()):  # used in training only
        setattr(module, head, None)
    module.eval().requires_grad_(False)
    module = fold_batch_norm(module) if fold else module
    return Target(module, _preprocessing(weights), class_names, spec=source.spec, family="torchvision")


def _network(name: str, weights: Any, classes: int, tensors: dict[str, torch.Tensor]) -> nn.Module:
    options: Facts = {}
    if name in _WITH_HEADS:
        heads = any(key.startswith(_WITH_HEADS[name]) for key in tensors)
        # As published: the network undoes the usual normalisation and applies that of its own training.
        options = {"aux_logits": heads, "transform_input": True, "init_weights": False}
    if name.startswith("vit_"):
        options["image_size"] = weights.meta["min_size"][0]
    return _models().get_model(name, weights=None, num_classes=classes, **options)


def _preprocessing(weights: Any) -> Preprocessing:
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


def _place(weights: Any) -> Path:
    """Where the file of published weights is kept."""
    return Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rsplit("/", 1)[-1]


def _published(source: Source, name: str, weights: Any) -> bytes:
    """The bytes of published weights; remembered by file name, since another machine keeps them elsewhere."""
    path = _place(weights)
    if path.name in source.files:
        return source.files[path.name]
    promised = re.search(r"-([0-9a-f]{8,})\.", path.name)
    if not path.is_file():
        _download(weights.url, path, name)
    try:
        blob = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"target.spec: {path} cannot be read ({error.strerror}).") from None
    if promised and not hashlib.sha256(blob).hexdigest().startswith(promised[1]):
        raise ConfigError(f"{path}: damaged: its sha256 does not begin with {promised[1]}; remove it and start again.")
    source.files[path.name] = blob
    return blob


def _download(url: str, path: Path, name: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _patience():
            # Of torch.hub only what fetches bytes is used: it writes beside, then renames, and unpickles nothing.
            torch.hub.download_url_to_file(url, str(path), progress=False)
    except Exception as error:  # of the network, a proxy or the file system
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise ConfigError(
            f"target.spec: the weights of torchvision:{name} are not on this machine and cannot be fetched ({reason}); "
            f"put {url} at {path}, or say torchvision:{name}/FILE."
        ) from None


@contextlib.contextmanager
def _patience() -> Iterator[None]:
    """urllib waits for ever unless told otherwise."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_PATIENCE)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
