"""Pictures from anywhere: files listed from folders, read within bounds, or refused with a sentence.

Whoever made a file may not mean well, so formats are few, sizes are checked before anything is unpacked, and whatever
the decoder raises becomes a sentence that names the file.
"""

from __future__ import annotations

import os
import re
import stat
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from evofool.base.places import as_path
from evofool.errors import ConfigError

__all__ = ["EXTENSIONS", "MAX_FILE", "MAX_PIXELS", "MAX_STRETCH", "Picture", "find", "read", "read_square"]

EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF")
MAX_FILE = 1 << 29  # bytes
MAX_PIXELS = 1 << 26  # 8192 x 8192; unpacked, a few hundred MiB
MAX_STRETCH = 64  # a longer strip would be blown up without bound when its shorter side is resized to the network's
_OPAQUE = ("1", "L", "P", "RGB")
_DEEP = re.compile(r";(16|32)[BLNSF]")  # e.g. [('RGB;16B', 0, 1)]; but BGR;16 is a BMP of 5 or 6 bits a channel
_TRANSPARENT = ("LA", "La", "PA", "RGBA", "RGBa")


@dataclass(frozen=True)
class Picture:
    """A picture that was read."""

    path: Path
    width: int  # of the picture as a viewer shows it, in pixels
    height: int
    mode: str  # of the file, in Pillow's words, e.g. "RGB"
    pixels: NDArray[np.uint8]  # (height, width, 1 or 3)


def find(paths: Iterable[str | Path], refuse: Callable[[str], None]) -> Iterator[Path]:
    """Picture files: those named, whatever their names, and those in folders, at any depth, by extension.

    Hidden files and linked folders are passed over; a file that comes up twice is yielded once. Order: that of `paths`,
    and by name below each folder.

    Args:
        refuse: receives a sentence about each folder that cannot be read.

    Raises:
        ConfigError: a path that does not exist.
    """
    named = [as_path(path) for path in paths]
    for path in named:
        if not os.path.lexists(path):
            raise ConfigError(f"{path}: no such file or folder; check the path.")
    seen: set[str] = set()
    for path in named:
        for file in _below(path, refuse) if path.is_dir() else [path]:
            real = os.path.realpath(file)
            if real not in seen:
                seen.add(real)
                yield file


def _below(folder: Path, refuse: Callable[[str], None]) -> Iterator[Path]:
    def unreadable(error: OSError) -> None:
        refuse(f"{error.filename}: cannot be read ({error.strerror}); change its permissions.")

    for place, folders, names in os.walk(folder, onerror=unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and name.lower().endswith(EXTENSIONS):
                yield Path(place, name)


def read(path: Path, channels: int) -> Picture:
    """The pixels of a picture file, of its first frame, turned as its Exif orientation says.

    Args:
        channels: of the result: 1 (grey) or 3 (RGB), to which the picture is converted.

    Raises:
        ConfigError: not a picture, damaged, too large, or of a kind with no one meaning as a network's input
            (transparent, CMYK, more than 8 bits); the sentence names the file, the reason and the way out.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError(f"{path}: is not a regular file; leave it out.")
        if status.st_size > MAX_FILE:
            raise ConfigError(f"{path}: has {status.st_size:,} bytes, over the limit of {MAX_FILE:,}; scale it down.")
        with warnings.catch_warnings():  # Pillow warns of large pictures, and of odd metadata; both are dealt with here
            warnings.simplefilter("ignore")
            with Image.open(path, formats=_FORMATS) as picture:
                _refuse(path, picture)
                mode = picture.mode
                upright = ImageOps.exif_transpose(picture)
                if mode in _TRANSPARENT or "transparency" in upright.info:
                    upright = _opaque(path, upright)
                pixels = np.asarray(upright.convert("L" if channels == 1 else "RGB"))
    except ConfigError:
        raise
    except UnidentifiedImageError:
        extensions = " ".join(extension.removeprefix(".") for extension in EXTENSIONS)
        raise ConfigError(f"{path}: is no picture that can be read ({extensions}); save it anew as a PNG.") from None
    except Image.DecompressionBombError:
        raise ConfigError(f"{path}: unpacks to far over {MAX_PIXELS:,} pixels; scale it down.") from None
    except MemoryError:
        raise ConfigError(f"{path}: does not fit into memory; scale it down.") from None
    except Exception as error:  # decoders raise nearly anything for a damaged file
        reason = " ".join(str(getattr(error, "strerror", None) or error).split()) or type(error).__name__
        raise ConfigError(f"{path}: damaged or not readable ({reason[:120]}); save it anew, or leave it out.") from None
    return Picture(path, pixels.shape[1], pixels.shape[0], mode, np.atleast_3d(pixels))


def read_square(path: Path, side: int) -> NDArray[np.uint8]:
    """(side, side, 3) the middle of a picture in colour, scaled so that its shorter side fits. Raises as `read`."""
    picture = Image.fromarray(read(path, 3).pixels)
    return np.asarray(ImageOps.fit(picture, (side, side), Image.Resampling.BILINEAR))


def _refuse(path: Path, picture: Image.Image) -> None:
    """Refuse by what the header says, before anything is unpacked."""
    width, height = picture.size
    if width < 1 or height < 1:
        raise ConfigError(f"{path}: has no pixels; leave it out.")
    if width * height > MAX_PIXELS:
        raise ConfigError(f"{path}: has {width} x {height} pixels, over the limit of {MAX_PIXELS:,}; scale it down.")
    if max(width, height) > MAX_STRETCH * min(width, height):
        raise ConfigError(f"{path}: is {width} x {height}, more than {MAX_STRETCH} times as long as wide; crop it.")
    # Pillow makes 8 bits of a 16-bit colour PNG or TIFF without a word; how it unpacks it gives that away.
    layout = repr([tile[3] for tile in getattr(picture, "tile", ())])
    if picture.mode.startswith(("I", "F")) or _DEEP.search(layout):
        raise ConfigError(f"{path}: has more than 8 bits a channel ({picture.mode}); save it as an 8-bit PNG.")
    if picture.mode not in _OPAQUE + _TRANSPARENT:
        raise ConfigError(f"{path}: is {picture.mode}, which has no one meaning as RGB; save it as an RGB PNG.")


def _opaque(path: Path, picture: Image.Image) -> Image.Image:
    """The picture without its alpha channel, which must be fully opaque."""
    full = picture.convert("RGBA")
    if full.getchannel("A").getextrema()[0] != 255:
        raise ConfigError(f"{path}: is partly transparent; put it on a background and save it without alpha.")
    return full
