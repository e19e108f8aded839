"""`timm:NAME` and `timm:NAME/FILE`: the networks of the package timm (PyTorch image models).

NAME is as timm has it: `resnet18`, `resnet18.a1_in1k` with the tag of its weights, `hf-hub:owner/name` or
`local-dir:/path`. Weights that are not on this machine come from the Hugging Face Hub. Weights that were loaded travel
to evaluators on other machines; the description of an `hf-hub:` or `local-dir:` network is read there again.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from safetensors.torch import save as save_safetensors
from torch import nn

from evofool.base.source import Source
from evofool.errors import ConfigError, nearest
from evofool.records import Facts
from evofool.targets.family import Family
from evofool.targets.target import Preprocessing, Target
from evofool.targets.zoo import imagenet
from evofool.targets.zoo.folding import fold_batch_norm
from evofool.targets.zoo.weights import SUFFIXES, Described, described, load_into, patience, read_tensors, with_weights

__all__ = ["FAMILY", "catalogue", "load"]

_HUB_PATIENCE = 5.0  # seconds in which the hub must begin to answer
_STATE = "timm.safetensors"  # what the weights are called among the files of a source


def catalogue() -> list[Facts]:
    """A dict for each network with published weights: its name with the tag of the weights, image_size (a side)."""
    import timm

    return [
        {"name": name, "image_size": timm.models.get_pretrained_cfg(name).input_size[-1]}
        for name in timm.list_pretrained()
    ]


def load(source: Source) -> Target:
    """The target of a spec.

    Raises:
        ConfigError: timm knows no such network or no weights for it, they cannot be fetched, or a file is missing,
            damaged or of another network.
    """
    import timm

    name, file = _parts(source.argument)
    _check_name(timm, name)
    blob = source.read(file, f"say timm:{name} for the published weights") if file else b""
    said = described(blob, file) if file else Described()
    model = _create(timm, name, pretrained=False) if file else _pretrained(timm, name, source)
    class_names, ids = _classes(timm, model)
    if not class_names and said.class_names is None:
        if model.num_classes < 2:
            raise ConfigError(f"target.spec: {source.spec} gives features, not scores; take one that was fine-tuned.")
        raise ConfigError(
            f"target.spec: nobody names the {model.num_classes} classes of {source.spec}; build the target in Python "
            "and name them there: python:FILE.py:callable."
        )
    if file:

        def build(classes: int, tensors: object) -> nn.Module:
            options: Facts = {} if classes == model.num_classes else {"num_classes": classes}
            if said.image_size and model.pretrained_cfg.get("fixed_input_size"):
                options["img_size"] = said.image_size
            return _create(timm, name, pretrained=False, **options) if options else model

        published = class_names
        model, class_names = with_weights(build, blob, file, class_names)
        ids = ids if class_names == published else ()
    preprocessing = _preprocessing(timm.data.resolve_model_data_config(model), source.spec)
    target = Target(model, preprocessing, class_names, spec=source.spec, family="timm", imagenet_ids=ids)
    return said.applied(target)


def _files(argument: str) -> list[str]:
    file = _parts(argument)[1]
    return [file] if file else []


def _parts(argument: str) -> tuple[str, str]:
    """Name and file of `NAME[/FILE]`: "hf-hub:a/b/c.pth" is "hf-hub:a/b" and "c.pth", "resnet18/a/b.pth" "resnet18" and
    "a/b.pth". A local-dir: has no file besides."""
    if argument.startswith("local-dir:") or not argument.endswith(SUFFIXES):
        return argument, ""
    slashes = 2 if argument.startswith(("hf-hub:", "hf_hub:")) else 1
    pieces = argument.split("/", slashes)
    return ("/".join(pieces[:-1]), pieces[-1]) if len(pieces) == slashes + 1 else (argument, "")


def _check_name(timm: ModuleType, name: str) -> None:
    if ":" in name:  # on the hub, or in a folder
        return
    base, _, tag = name.partition(".")
    if not timm.is_model(base):
        hint = nearest(base, timm.list_models(), "`evofool targets list timm` names them")
        raise ConfigError(f"target.spec: timm has no network {base!r}; {hint}.")
    tags = [pretrained.partition(".")[2] for pretrained in timm.list_pretrained(f"{base}.*")]
    if tag and tag not in tags:
        choices = ", ".join(tags) or "none"
        raise ConfigError(f"target.spec: timm has no weights {tag!r} of {base}; there are {choices}.")


def _create(timm: ModuleType, name: str, **options: Any) -> nn.Module:
    """A network; what timm raises becomes one sentence."""
    try:
        # Without weights only a name on the hub needs it, for the network's description.
        with _quick_hub() if options.get("pretrained") or ":" in name else contextlib.nullcontext():
            return timm.create_model(name, **options)
    except Exception as error:  # of timm, of the hub's client, of the network between
        text = (str(error).strip() or type(error).__name__).splitlines()[0]
        if "No pretrained weights" in text:
            raise ConfigError(
                f"target.spec: timm has no published weights of {name}; say timm:{name}/FILE with a file of yours."
            ) from None
        raise ConfigError(
            f"target.spec: timm:{name} cannot be loaded or fetched ({text[:200].rstrip('.')}); put its weights "
            f"somewhere as a .safetensors or .pth file and say timm:{name}/FILE."
        ) from None


def _pretrained(timm: ModuleType, name: str, source: Source) -> nn.Module:
    """A network with its published weights, which are then among the files of the source."""
    if _STATE not in source.files:
        model = _create(timm, name, pretrained=True)
        # Copies: safetensors refuses tensors that share memory.
        state = {key: tensor.detach().clone().contiguous() for key, tensor in model.state_dict().items()}
        source.files[_STATE] = save_safetensors(state)
        return model
    model = _create(timm, name, pretrained=False)
    load_into(model, read_tensors(source.files[_STATE], _STATE), _STATE)
    return model


def _classes(timm: ModuleType, model: nn.Module) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the outputs and their ids in WordNet, from the network's description or ImageNet's lists; () where
    neither has them."""
    if model.num_classes < 2:
        return (), ()
    labels = (getattr(model, "pretrained_cfg", None) or {}).get("label_names")
    if isinstance(labels, list | tuple) and len(labels) == model.num_classes:
        return tuple(map(str, labels)), ()
    subset = timm.data.infer_imagenet_subset(model)
    if not subset:
        return (), ()
    info = timm.data.ImageNetInfo(subset)
    ids = tuple(map(str, info.label_names()))
    if model.num_classes == imagenet.CLASSES:
        return imagenet.class_names(), ids
    return tuple(map(str, info.label_descriptions())), ids


def _preprocessing(config: Facts, spec: str) -> Preprocessing:
    channels, height, width = config["input_size"]
    if channels not in (1, 3):
        raise ConfigError(f"target.spec: {spec} takes {channels} channels; evofool knows grey (1) and RGB (3).")
    square = height == width
    return Preprocessing(
        image_size=(height, width),
        channels=channels,
        mean=tuple(255 * float(value) for value in config["mean"][:channels]),
        std=tuple(255 * float(value) for value in config["std"][:channels]),
        resize=math.floor(height / config["crop_pct"]) if square else None,
        crop=height if square else None,
        interpolation="bicubic" if config["interpolation"] == "bicubic" else "bilinear",
    )


@contextlib.contextmanager
def _quick_hub() -> Iterator[None]:
    """Where the hub does not answer, look on this machine only: its client would try for a minute and more."""
    from huggingface_hub import constants, get_session

    offline = constants.HF_HUB_OFFLINE
    try:
        if not offline:
            try:
                get_session().head(constants.ENDPOINT, timeout=_HUB_PATIENCE)
            except Exception:  # whatever its client raises, the hub cannot be reached
                constants.HF_HUB_OFFLINE = True
        with patience():  # some weights lie elsewhere than on the hub
            yield
    finally:
        constants.HF_HUB_OFFLINE = offline


FAMILY = Family(
    form="timm:NAME[/FILE]",
    load=load,
    package="timm",
    extra="timm",
    files=_files,
    catalogue=catalogue,
    fold=fold_batch_norm,
)
