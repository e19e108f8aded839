"""`head:FILE`: few labels on a frozen network's features, by `evofool targets train head`.

The last layer of another network, the base, is left out, and what that layer was given are the features of an image: on
them stands logistic regression, or the nearest of the labelled images vote. The file has the head alone and names its
base, whose spec is opened as any other; it has to be the network that the head was made for, by its fingerprint.
"""

from __future__ import annotations

import contextlib
import copy

import torch
from torch import nn
from torch.nn import functional

from evofool.base.places import as_path
from evofool.base.source import Source
from evofool.config.sections import TargetConfig
from evofool.errors import ConfigError
from evofool.records import Facts
from evofool.targets.families import family_of
from evofool.targets.family import Family
from evofool.targets.opening import built
from evofool.targets.target import Target
from evofool.targets.zoo.trained import contents
from evofool.targets.zoo.weights import load_into, metadata

__all__ = ["FAMILY", "KINDS", "Neighbours", "base_target", "features", "load"]

KINDS = ("logistic", "knn")
_TEMPERATURE = 0.07  # of the votes, as Wu et al. have it


class Neighbours(nn.Module):
    """The k nearest of some labelled images vote, nearer ones more (Wu et al. 2018, CVPR, section 3.4).

    A vote counts exp(s / 0.07), where s is the cosine of the two images' features. Each class has one vote more, of an
    image opposite to the one that is asked for (s = -1), so that no probability is 0. Ties go to whichever torch takes.

    Attributes:
        features: (m, d) float32 of the labelled images, of length 1.
        labels: (m,) int64.
        count: k, as a tensor of one int64.
    """

    def __init__(self, images: int, width: int, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.features: torch.Tensor
        self.labels: torch.Tensor
        self.count: torch.Tensor
        self.register_buffer("features", torch.zeros(images, width))
        self.register_buffer("labels", torch.zeros(images, dtype=torch.int64))
        self.register_buffer("count", torch.ones(1, dtype=torch.int64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, d) features to (n, classes) logits."""
        similar = functional.normalize(x, dim=1) @ self.features.T
        nearest, which = similar.topk(int(self.count), dim=1)
        voters = functional.one_hot(self.labels, self.classes)[which].to(x.dtype)  # (n, k, classes)
        votes = torch.logsumexp(nearest[:, :, None] / _TEMPERATURE + voters.log(), dim=1)
        return torch.logaddexp(votes, torch.full_like(votes, -1 / _TEMPERATURE))


def base_target(spec: str, source: Source, key: str) -> Target:
    """The target that a head stands on.

    Args:
        source: of the head, whose files are read and kept with the base's.
        key: of the command line or the metadata, for messages.

    Raises:
        ConfigError: there is none, or it is one that runs the user's code, or a head.
        TargetError: it cannot be built.
    """
    if spec.partition(":")[0] in ("python", "head", "live"):
        raise ConfigError(f"{key}: {spec!r} can bear no head; name a network of another kind than python: and head:.")
    return built(Source(spec, files=source.files, key=key), TargetConfig(spec=spec))


def features(base: Target) -> tuple[nn.Module, int]:
    """The network of a target without its last layer, (n, channels, h, w) to (n, d), and d.

    The last layer is the last of its linear layers and convolutions; a convolution's inputs come out as what the
    network does afterwards makes of them, which is their mean over places.

    Raises:
        ConfigError: it has no such layer.
    """
    module = copy.deepcopy(base.module)
    layers = [(name, part) for name, part in module.named_modules() if isinstance(part, nn.Linear | nn.Conv2d)]
    if not layers or not layers[-1][0]:
        raise ConfigError(f"{base.spec}: has no last layer to put a head in the place of; name another network.")
    name, last = layers[-1]
    module.set_submodule(name, nn.Identity())
    return module, last.in_features if isinstance(last, nn.Linear) else last.in_channels


def load(source: Source) -> Target:
    """The target in a safetensors file, over its base.

    Raises:
        ConfigError: the file or its base is missing, of another kind, or they do not belong together.
        TargetError: the base cannot be built.
    """
    path, (tensors, facts, said) = source.argument, contents(source)
    base = base_target(str(facts.get("base")), source, f"{path}: its base")
    if base.fingerprint() != facts.get("base_fingerprint"):
        raise ConfigError(
            f"{path}: {base.spec} is not the network that this head was made for, by its fingerprint; put the old "
            f"weights back, or train the head again with --base {base.spec}."
        )
    module, width = features(base)
    names = said.class_names or ()
    head: nn.Module = nn.Linear(width, len(names))
    if facts.get("head") == "knn":
        labels = tensors.get("labels", torch.zeros(0))
        head = Neighbours(labels.numel(), width, len(names))
    load_into(head, tensors, path)
    if isinstance(head, Neighbours):
        _check(head, path)
    target = Target(nn.Sequential(module, head), base.preprocessing, names, spec=source.spec, family="head")
    return said.applied(target)


def _check(head: Neighbours, path: str) -> None:
    labels, count = head.labels, int(head.count)
    if not len(labels) or labels.min() < 0 or labels.max() >= head.classes or not 1 <= count <= len(labels):
        raise ConfigError(f"{path}: its labels or its number of neighbours cannot be; train it again.")


def _files(argument: str) -> list[str]:
    said: Facts = {}
    with contextlib.suppress(OSError, ValueError, ConfigError):
        said = metadata(as_path(argument).read_bytes())
    base = str(said.get("base", ""))
    with contextlib.suppress(ConfigError):
        return [argument, *family_of(base).files(base.partition(":")[2])]
    return [argument]


FAMILY = Family(form="head:FILE", load=load, files=_files)
