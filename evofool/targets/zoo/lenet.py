"""`lenet:FILE`: the MNIST network of the paper, from a file that `evofool targets train lenet` wrote.

Layers as in the 2015 code (model/lenet/lenet_image_memory_data.prototxt): convolution 20 of 5x5, max pool 2,
convolution 50 of 5x5, max pool 2, fully connected 500, ReLU, fully connected 10.
"""

from __future__ import annotations

from torch import nn

from evofool.base.source import Source
from evofool.errors import ConfigError
from evofool.records import Numerics
from evofool.targets.family import Family
from evofool.targets.specs import lenet_file
from evofool.targets.target import Preprocessing, Target
from evofool.targets.zoo.weights import described, load_into, metadata, read_safetensors

__all__ = ["FAMILY", "MEAN", "STD", "build", "load", "network"]

# Mean and standard deviation of MNIST's training pixels, 0 .. 255; part of the recipe, also for Fashion-MNIST.
MEAN, STD = 33.3184, 78.5675


def network(classes: int = 10) -> nn.Sequential:
    """The untrained network: (n, 1, 28, 28) float32 to (n, classes) logits."""
    return nn.Sequential(
        nn.Conv2d(1, 20, 5),
        nn.MaxPool2d(2),
        nn.Conv2d(20, 50, 5),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(800, 500),
        nn.ReLU(),
        nn.Linear(500, classes),
    )


def build(module: nn.Module, class_names: tuple[str, ...], spec: str = "live") -> Target:
    """The target around a trained network."""
    preprocessing = Preprocessing(image_size=(28, 28), channels=1, mean=(MEAN,), std=(STD,))
    return Target(module, preprocessing, class_names, output="logits", spec=spec, family="lenet")


def load(source: Source) -> Target:
    """The target in a safetensors file.

    Raises:
        ConfigError: the file is missing, of another kind, or its tensors do not match key by key.
    """
    path, blob = source.argument, lenet_file(source)
    tensors, facts = read_safetensors(blob, path), metadata(blob)
    if facts.get("format") != "evofool.lenet.1":
        raise ConfigError(
            f"{path}: not written by `evofool targets train lenet`; load other networks with python:FILE.py:callable."
        )
    said = described(blob, path)
    if said.class_names is None:
        raise ConfigError(
            f"{path}: its metadata has no list of class names; train it again with `evofool targets train lenet`."
        )
    module = network(len(said.class_names))
    load_into(module, tensors, path)
    return said.applied(build(module, said.class_names, spec=source.spec))


FAMILY = Family(
    form="lenet:FILE",
    load=load,
    files=lambda argument: [argument],
    numerics={
        "cpu": Numerics(device="cpu", chunk=100, micro_batch=50, threads=1, memory_format="contiguous"),
        "cuda": Numerics(device="cuda", chunk=200, micro_batch=200, threads=1, memory_format="contiguous"),
    },
)
