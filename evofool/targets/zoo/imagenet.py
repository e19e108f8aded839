"""The thousand classes of ILSVRC 2012, in the order of every network's outputs: names, WordNet's ids, super-classes.

Also what is above them in WordNet.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources

__all__ = ["CLASSES", "class_names", "hypernyms", "ids_of", "super_classes", "synset_words"]

CLASSES = 1000


def class_names() -> tuple[str, ...]:
    """Names as torchvision has them, all different."""
    return tuple(row["name"] for row in _table())


def ids_of(names: Sequence[str]) -> tuple[str, ...]:
    """WordNet's ids of a network's classes, where these are the thousand under torchvision's names; else ()."""
    if len(names) != CLASSES or tuple(names) != class_names():
        return ()
    return tuple(row["wordnet_id"] for row in _table())


def super_classes() -> dict[str, str]:
    """What kind of thing each of the thousand is, by its name: {"Chihuahua": "dog"}; some forty kinds.

    A kind is all that lies below one synset of WordNet 3.0, the special before the general ones
    (tests/targets/wordnet.py wrote the tables).
    """
    return {row["name"]: row["super_class"] for row in _table()}


@cache
def hypernyms() -> Mapping[str, tuple[str, ...]]:
    """The synsets directly above each that is one of the thousand, or is above one, by id; in WordNet's order.

    {"n02085620": ("n02085374",)}: a Chihuahua is a toy dog. Only n00001740, entity, has none.
    """
    return {row["synset"]: tuple(row["above"].split()) for row in _table("imagenet_hypernyms.csv")}


def synset_words() -> dict[str, str]:
    """A word for each synset of `hypernyms`, by id: {"n02085374": "toy dog"}."""
    return {row["synset"]: row["word"] for row in _table("imagenet_hypernyms.csv")}


@cache
def _table(name: str = "imagenet_classes.csv") -> tuple[dict[str, str], ...]:
    text = (resources.files(__package__) / name).read_text(encoding="utf-8")
    return tuple(csv.DictReader(text.splitlines()))
