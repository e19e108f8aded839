"""Pictures from anywhere as a target takes them, batch by batch: those that can be read, each once."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evofool.base import picture_files
from evofool.base.picture_files import Picture
from evofool.errors import ConfigError
from evofool.studies.study import Work
from evofool.targets.checking.photographs import fit
from evofool.targets.target import Target

__all__ = ["batches", "fed", "files_of", "readable", "text"]

_NO_PIXELS = np.empty((0, 0, 1), dtype=np.uint8)


def files_of(work: Work) -> list[Path]:
    """The files of a study of pictures; raises ConfigError where there are none."""
    files = work.first(picture_files.find(work.subject, work.leave_out))
    if not files:
        extensions = " ".join(extension.removeprefix(".") for extension in picture_files.EXTENSIONS)
        raise ConfigError(f"there is no picture to score; name files, or folders that hold some ({extensions}).")
    return files


def readable(
    files: Iterable[Path], target: Target, refuse: Callable[[str], None]
) -> Iterator[tuple[Picture, NDArray[np.uint8]]]:
    """Pictures, each with the image that the target gets of it, (h, w, channels) uint8; the others are refused."""
    for path in files:
        try:
            picture = picture_files.read(path, target.channels)
        except ConfigError as error:
            refuse(error.message)
            continue
        same = picture.pixels.shape[:2] == target.image_size
        yield picture, picture.pixels if same else fit(target, picture.pixels)


def batches(
    pairs: Iterator[tuple[Picture, NDArray[np.uint8]]], size: int, pending: deque[list[Picture]]
) -> Iterator[NDArray[np.uint8]]:
    """Images, `size` at a time; the pictures they are of are appended to `pending`, without their pixels."""
    while batch := list(islice(pairs, size)):
        pending.append([replace(picture, pixels=_NO_PIXELS) for picture, _ in batch])
        yield np.stack([image for _, image in batch])


def text(path: Path) -> str:
    """A path as a text of a table; a name that is no UTF-8 cannot be one as it is."""
    return str(path).encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def fed(image: NDArray[np.uint8]) -> str:
    """sha256 (hex) of the pixels that a target is fed."""
    return hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest()
