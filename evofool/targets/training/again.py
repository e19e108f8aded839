"""Training again: the recipe and the images of a network, from the file that `evofool targets train` wrote."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evofool.base.source import Source
from evofool.errors import ConfigError
from evofool.records import Facts
from evofool.targets.specs import scheme_of
from evofool.targets.training import datasets, train
from evofool.targets.training.datasets import LabelledImages
from evofool.targets.training.losses import OUTLIER
from evofool.targets.training.train import NETWORKS, Recipe, facts_of
from evofool.targets.zoo.trained import contents

__all__ = ["FOOLING", "Taught", "digest", "read_taught", "with_class", "with_outliers"]

FOOLING = "fooling"  # the name of the class that holds fooling images


@dataclass(frozen=True)
class Taught:
    """A network as it was taught.

    Attributes:
        path: of its file.
        sha256: of its file (hex).
        recipe: the same bits for the same data and seed, on the same kind of CPU.
        facts: all that the file says.
        seed: that it was trained with.
        classes: names, one for each output.
    """

    path: str
    sha256: str
    recipe: Recipe
    facts: Facts
    seed: int
    classes: tuple[str, ...]

    def data(self, seed: int, folder: str | Path | None = None) -> LabelledImages:
        """The images that a network of a seed learns from, split as `evofool targets train --seed` does.

        Args:
            folder: where the idx files of mnist or fashion-mnist are, or the pictures; see `load_dataset`.

        Raises:
            ConfigError: the data set or its package is missing, or is not what this network learned from.
            CorruptData: a file of it is damaged.
        """
        side = json.loads(self.facts["image_size"])[0] if "image_size" in self.facts else None
        data = datasets.load_dataset(self.facts["dataset"], seed, folder, side)
        if self.classes != data.class_names:
            data = datasets.of_classes(data, list(self.classes))
        if (count := int(self.facts["train_images"])) < len(data.train_labels):
            data = datasets.limited(data, count, seed)
        if self.recipe.labels == "random":
            data = datasets.with_random_labels(data, seed)
        if seed == self.seed and (facts := facts_of(data, seed)) != {key: self.facts[key] for key in facts}:
            raise ConfigError(
                f"{self.path}: the images of {data.name} here are not those that it was trained on; give the folder "
                "that has them as --data, or train the network again."
            )
        return data


def read_taught(spec: str) -> Taught:
    """How the network of a spec was taught.

    Raises:
        ConfigError: nobody here knows how to train it from scratch; or as `trained.contents`.
    """
    if scheme_of(spec, "TARGET") not in NETWORKS:
        raise ConfigError(
            f"{spec}: only networks that `evofool targets train {'|'.join(NETWORKS)}` wrote can be trained again from "
            f"scratch; make one of your photographs: evofool targets train resnet --dataset {datasets.IMAGE_FOLDER} "
            "--data FOLDER --out FILE."
        )
    source = Source(spec, key="TARGET")
    _, facts, said = contents(source)
    path, names = source.argument, said.class_names or ()
    if FOOLING in names:
        raise ConfigError(f"{path}: has a class {FOOLING!r} already; give the network that it began with, DNN_1.")
    try:
        epochs = int(facts["epochs"])
        recipe = Recipe(
            network=source.scheme,
            width=float(facts.get("width", 1.0)),
            patch=int(facts["patch"]) if "patch" in facts else None,
            labels=facts.get("labels", "true"),
            epochs=None if epochs == train.EPOCHS else epochs,
            augment=facts.get("augment", "yes") == "yes",
            loss=facts.get("loss", Recipe.loss),
        )
        seed, facts = int(facts["seed"]), {**facts, "class_names": json.dumps(names)}
        return Taught(path, hashlib.sha256(source.files[path]).hexdigest(), recipe, facts, seed, names)
    except (LookupError, ValueError) as error:
        raise ConfigError(
            f"{path}: its metadata do not say how it was trained ({error}); train it again with `evofool targets train "
            f"{source.scheme}`."
        ) from None


def with_class(data: LabelledImages, images: NDArray[np.uint8]) -> LabelledImages:
    """Training images with one class more, FOOLING, that holds images of their size; the same data if there are none.

    Held-out images keep their labels: what is called FOOLING of them is a mistake.
    """
    if not len(images):
        return data
    return replace(_with(data, images, len(data.class_names)), class_names=(*data.class_names, FOOLING))


def with_outliers(data: LabelledImages, images: NDArray[np.uint8]) -> LabelledImages:
    """Training images with others of their size that are of no class, for a loss that learns from these."""
    return _with(data, images, OUTLIER)


def _with(data: LabelledImages, images: NDArray[np.uint8], label: int) -> LabelledImages:
    images = images.reshape(len(images), *data.train_images.shape[1:])  # grey ones have no channels there
    extra = np.full(len(images), label, dtype=np.int64)
    return replace(
        data,
        train_images=np.concatenate([data.train_images, images]),
        train_labels=np.concatenate([data.train_labels, extra]),
        train_indices=np.concatenate([data.train_indices, np.full(len(images), -1, dtype=np.int64)]),
    )


def digest(data: LabelledImages) -> str:
    """sha256 (hex) of the training images and labels, in their order."""
    parts = (data.train_images, data.train_labels.astype("<i8"), json.dumps(data.class_names).encode())
    sha = hashlib.sha256()
    for part in parts:
        sha.update(part if isinstance(part, bytes) else np.ascontiguousarray(part).tobytes())
    return sha.hexdigest()
