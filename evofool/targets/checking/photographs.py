"""Photographs to try networks on: those that installed packages ship as files, and folders of a user's own.

scikit-learn, scikit-image and matplotlib carry a few. With each goes what a person would accept as its name among
ImageNet's classes, and some plain words for networks that know other classes. No network decided the names. foolbox
carries twenty of ImageNet's own, each with its label, which alone counts as right.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from evofool.base import picture_files, rng
from evofool.errors import ConfigError, nearest
from evofool.targets.target import Target
from evofool.targets.training.datasets import load_dataset, of_classes

__all__ = ["LabelledPictures", "Photograph", "choose", "fit", "held_out", "labelled_folder", "photographs"]

# package, file in it, accepted names; of foolbox's, the last number is the label. The flower is a dahlia, which
# ImageNet's thousand classes do not have.
_SHIPPED = (
    ("sklearn", "datasets/images/china.jpg", ("palace", "monastery", "bell cote", "stupa")),
    ("sklearn", "datasets/images/flower.jpg", ("dahlia", "flower")),
    ("skimage", "data/chelsea.png", ("tabby", "tiger cat", "Egyptian cat", "cat")),
    ("skimage", "data/coffee.png", ("espresso", "cup", "coffee mug", "coffee")),
    ("skimage", "data/rocket.jpg", ("missile", "projectile", "space shuttle", "rocket")),
    ("skimage", "data/camera.png", ("tripod", "camera")),
    ("skimage", "data/motorcycle_left.png", ("moped", "motor scooter", "disk brake", "motorcycle")),
    ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg", ("military uniform", "uniform")),
    *(
        ("foolbox", f"data/imagenet_{file}.jpg", (label,))
        for file, label in {
            "00_243": "bull mastiff",
            "01_559": "folding chair",
            "02_438": "beaker",
            "03_990": "buckeye",
            "04_949": "strawberry",
            "05_853": "thatch",
            "06_609": "jeep",
            "07_609": "jeep",
            "08_915": "yurt",
            "09_455": "bottlecap",
            "10_541": "drum",
            "11_630": "Loafer",
            "12_741": "prayer rug",
            "13_471": "cannon",
            "14_129": "spoonbill",
            "15_99": "goose",
            "16_251": "dalmatian",
            "17_22": "bald eagle",
            "18_317": "leafhopper",
            "19_305": "dung beetle",
        }.items()
    ),
)


@dataclass(frozen=True)
class Photograph:
    """A sample photograph: file name, (h, w, 3) uint8, and the names that count as right."""

    name: str
    image: NDArray[np.uint8]
    accepted: tuple[str, ...]

    def right_classes(self, class_names: tuple[str, ...]) -> list[int]:
        """Output indices of a network that are right; a name may be one of several between commas."""
        accepted = {name.lower() for name in self.accepted}
        return [i for i, name in enumerate(class_names) if not accepted.isdisjoint(name.lower().split(", "))]


@dataclass(frozen=True)
class LabelledPictures:
    """Pictures with known classes, fitted to a target.

    Attributes:
        images: (n, h, w, channels) uint8.
        labels: (n,) output indices of the target.
        unreadable: a sentence for each file that could not be read.
    """

    name: str
    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    unreadable: tuple[str, ...] = ()


def photographs() -> list[Photograph]:
    """The sample photographs whose packages are installed; none of the packages is imported, nothing is fetched."""
    samples = []
    for package, file, accepted in _SHIPPED:
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            continue
        path = Path(spec.submodule_search_locations[0], file)
        if path.is_file():
            samples.append(Photograph(path.name, picture_files.read(path, 3).pixels, accepted))
    return samples


def fit(target: Target, image: Image.Image | NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture of any size as an image the target takes: what its publisher would do with a photograph.

    The shorter side is resized to the publisher's size and the centre cropped. Where no such size is known, or it
    leaves a side too short, the picture is resized to cover the target's image size instead. Under `geometry:
    published` or `crops: 10` the last crop is left to the target. Transparency is dropped; a grey target gets the
    luminance (ITU-R 601).

    Args:
        image: a PIL image of any mode, or uint8 of shape (h, w), (h, w, 1), (h, w, 3) or (h, w, 4).

    Returns:
        (h, w, channels) uint8 at target.image_size.

    Raises:
        ConfigError: an array of another shape or type.
    """
    picture = _picture(image).convert("L" if target.channels == 1 else "RGB")
    height, width = target.image_size
    p = target.preprocessing
    native = target.geometry == "native" and target.crops == 1
    # With native geometry the publisher's size fits only a network whose input is the publisher's crop.
    shorter = 0 if p.resize is None or (native and (p.crop, p.crop) != p.image_size) else p.resize
    columns, rows = (shorter * side // min(picture.size) for side in picture.size)  # as torchvision's Resize rounds
    if columns < width or rows < height:
        scale = max(width / picture.width, height / picture.height)
        columns, rows = max(width, round(picture.width * scale)), max(height, round(picture.height * scale))
    method = Image.Resampling.BICUBIC if p.interpolation == "bicubic" else Image.Resampling.BILINEAR
    left, top = round((columns - width) / 2), round((rows - height) / 2)
    picture = picture.resize((columns, rows), method).crop((left, top, left + width, top + height))
    return np.asarray(picture).reshape(height, width, target.channels)


def labelled_folder(target: Target, folder: Path, limit: int) -> LabelledPictures:
    """Pictures in folders that are named after the target's classes.

    A folder's name is a class name (case and underscores do not matter) or an output index. For ImageNet's thousand
    classes WordNet ids (n01440764) will do where timm, which knows them, is installed.

    Args:
        limit: the most pictures read; which ones depends on nothing but how many there are.

    Raises:
        ConfigError: no such folder, a folder named after no class, or no picture that can be read.
    """
    if not folder.is_dir():
        raise ConfigError(f"--data: no folder {folder}.")
    places = [place for place in sorted(folder.iterdir()) if place.is_dir() and not place.name.startswith(".")]
    classes = _classes_by_name(target, [place.name for place in places], folder)
    files = [
        (path, label)
        for place, label in zip(places, classes)
        for path in sorted(place.iterdir())
        if path.suffix.lower() in picture_files.EXTENSIONS and not path.name.startswith(".")
    ]
    images, labels, unreadable = [], [], []
    for i in choose(len(files), limit):
        path, label = files[i]
        try:
            images.append(fit(target, picture_files.read(path, target.channels).pixels))
            labels.append(label)
        except ConfigError as error:
            unreadable.append(error.message)
    if not images:
        reason = f"; {unreadable[0]}" if unreadable else "."
        raise ConfigError(
            f"--data: {folder} holds no picture that can be read in a folder named after a class of "
            f"{target.spec}{reason}"
        )
    return LabelledPictures(str(folder), np.stack(images), np.array(labels, dtype=np.int64), tuple(unreadable))


def held_out(target: Target, dataset: str, seed: int, folder: Path | None, limit: int) -> LabelledPictures:
    """Held-out images of a data set (datasets.py), of the classes that a target has, fitted to it.

    Raises:
        ConfigError: the data set is not there, or the target has fewer than two of its classes.
        CorruptData: a file that is not what it should be.
    """
    data = load_dataset(dataset, seed, folder)
    missing = [name for name in data.class_names if name not in target.class_names]
    if len(missing) > len(data.class_names) - 2:
        raise ConfigError(f"--dataset {dataset}: {target.spec} has no class {missing[0]!r}; choose another.")
    if missing:
        data = of_classes(data, [name for name in data.class_names if name not in missing])
    index = np.array([target.class_names.index(name) for name in data.class_names])
    sample = choose(len(data.held_out_labels), limit)
    images = np.stack([fit(target, image) for image in data.held_out_images[sample]])
    return LabelledPictures(dataset, images, index[data.held_out_labels[sample]])


def choose(number: int, limit: int) -> list[int]:
    """Ascending indices of at most `limit` out of `number` things, always the same."""
    order = np.argsort(rng.uniforms(0, "targets.check", 0, (number,)), kind="stable")
    return sorted(order[:limit].tolist())


def _classes_by_name(target: Target, names: list[str], folder: Path) -> list[int]:
    """The output index of each folder's class; of several outputs with one name, the first."""
    outputs = {_plain(name): i for i, name in reversed(list(enumerate(target.class_names)))}
    if len(target.class_names) == 1000 and importlib.util.find_spec("timm") is not None:
        from timm.data import ImageNetInfo

        outputs = {name: i for i, name in enumerate(ImageNetInfo("imagenet-1k").label_names())} | outputs
    indices = [outputs.get(_plain(name), int(name) if name.isdecimal() else -1) for name in names]
    for name, index in zip(names, indices):
        if not 0 <= index < len(target.class_names):
            hint = nearest(_plain(name), outputs, f"its first are {', '.join(list(outputs)[:3])}")
            raise ConfigError(f"--data: {folder / name} is named after no class of {target.spec}; {hint}.")
    return indices


def _plain(name: str) -> str:
    return " ".join(name.lower().replace("_", " ").split())


def _picture(array: Image.Image | NDArray[np.uint8]) -> Image.Image:
    if isinstance(array, Image.Image):
        return array
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    coloured = array.ndim == 3 and array.shape[2] in (3, 4)
    if array.dtype != np.uint8 or not array.size or not (coloured or array.ndim == 2):
        raise ConfigError(f"a picture is uint8 (h, w), (h, w, 3) or (h, w, 4), not {array.dtype} {array.shape}.")
    return Image.fromarray(array)
