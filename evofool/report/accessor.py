"""`df.evofool`: what can be done with rows of an elites table, in pandas.

Frames that evofool reads have it, such as `run.elites()`. For those that come straight from Parquet, polars or duckdb
say `import evofool.pandas` first.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evofool.base.png import encode_png
from evofool.base.sheets import png_name
from evofool.encoding.exchange import render
from evofool.errors import ConfigError, EvofoolError
from evofool.records import Facts
from evofool.report import html
from evofool.store import files

__all__ = ["Elites"]

MAX_BYTES = 4 << 30  # of the array that `render` gives


@pd.api.extensions.register_dataframe_accessor("evofool")
class Elites:
    """Rows of an elites table, all of them or those that were selected; a notebook shows them as a gallery.

    Raises:
        AttributeError: the frame has neither the column `image` nor `genome_json`, so it is not of elites.
    """

    def __init__(self, frame: pd.DataFrame) -> None:
        if not {"image", "genome_json"} & {str(name) for name in frame.columns}:
            raise AttributeError(
                ".evofool is for rows of an elites table, and these have neither image nor genome_json; keep one."
            )
        self._frame = frame

    def __repr__(self) -> str:
        return (
            f"{len(self._frame)} elites; .gallery() shows them, .render(size) draws them, .to_png(folder) writes PNGs"
        )

    def _repr_html_(self) -> str:
        return str(self.gallery())

    def gallery(self, most: int = html.MOST, size: int = html.SIDE) -> html.Page:
        """The pictures with classes and confidences, in the order of the rows; a notebook shows it, `str` is its HTML.

        Args:
            most: pictures to show; a line says how many are left.
            size: the width of each, in pixels.

        Raises:
            CorruptData: a picture, or a genome in place of one, is damaged; the message names the class.
            ConfigError: a number is out of range.
        """
        return html.gallery(self._frame, most, size)

    def render(self, size: int | tuple[int, int] | None = None) -> NDArray[np.uint8]:
        """All rows drawn anew from `genome_json`, without the network: CPPNs are sharp at any size.

        Args:
            size: a side in pixels or (height, width); by default the size that they were evolved at.

        Returns:
            (n, height, width, 1 or 3) uint8, grey or RGB, in the order of the rows.

        Raises:
            InvalidGenome: a genome is damaged, or has activations of one's own that are not registered here.
            ConfigError: there is no genome_json, or no row, the pictures do not fit into one array, or into 4 GiB.
        """
        self._need("render", "genome_json")
        if self._frame.empty:
            raise ConfigError("render: there are no rows to draw.")
        images: list[NDArray[np.uint8]] = []
        for row in self._frame.to_dict("records"):
            images.append(_drawn(row, size))
            shape, other = images[0].shape, images[-1].shape
            if shape != other:
                raise ConfigError(
                    f"render: {_called(row)} is drawn as {other}, the first row as {shape} (height, width, channels), "
                    "which do not fit into one array; draw grey and colour apart, and give a size."
                )
            if images[0].nbytes * len(self._frame) > MAX_BYTES:
                raise ConfigError(
                    f"render: {len(self._frame)} pictures of {shape} are over {MAX_BYTES >> 20} MiB; draw fewer."
                )
        return np.stack(images)

    def to_png(
        self, folder: str | Path, size: int | tuple[int, int] | None = None, *, overwrite: bool = False
    ) -> list[Path]:
        """Write a PNG for each row, named by its class as `evofool export` does.

        Args:
            folder: is made where it is missing.
            size: as of `render`; by default the pictures as archived, bit for bit.
            overwrite: whether files of these names may be replaced.

        Returns:
            The files, in the order of the rows.

        Raises:
            ConfigError: a file is there already, and then none is written; or columns are missing.
            CorruptData: a picture or a genome is damaged.
            StorageError: the folder cannot be written.
        """
        self._need("to_png", "class_index", "class_name", *(() if size is None else ("genome_json",)))
        rows = self._frame.to_dict("records")
        paths = [Path(folder) / name for name in _file_names(rows)]
        taken = [path for path in paths if path.exists()]
        if taken and not overwrite:
            raise ConfigError(f"to_png: {taken[0]} is there already; give another folder, or overwrite=True.")
        with files.guard(Path(folder)):
            Path(folder).mkdir(parents=True, exist_ok=True)
        for path, row in zip(paths, rows):
            image = html.picture(row) if size is None else _drawn(row, size)
            with files.guard(path), path.open("wb" if overwrite else "xb") as file:
                file.write(encode_png(image))
        return paths

    def _need(self, method: str, *columns: str) -> None:
        if missing := [name for name in columns if name not in self._frame.columns]:
            raise ConfigError(f"{method}: the column {missing[0]} of the elites table is missing; keep it.")


def _called(row: Facts) -> str:
    return f"class {row['class_name']}" if "class_name" in row else f"genome {str(row['genome_json'])[:40]}"


def _drawn(row: Facts, size: int | tuple[int, int] | None) -> NDArray[np.uint8]:
    try:
        return render(row["genome_json"], size)
    except EvofoolError as error:
        error.message = f"{_called(row)}: {error.message}"
        error.args = (error.message,)
        raise


def _file_names(rows: list[Facts]) -> list[str]:
    """A name for each row; of rows of one class, such as those of two runs, the later ones get a number too."""
    seen: dict[str, int] = {}
    names = []
    for row in rows:
        name = png_name(int(row["class_index"]), str(row["class_name"]))
        seen[name] = seen.get(name, 0) + 1
        names.append(name if seen[name] == 1 else f"{name.removesuffix('.png')}-{seen[name]}.png")
    return names
