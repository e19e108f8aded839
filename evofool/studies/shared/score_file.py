"""The table of `evofool study score`: one row for each picture, written by row groups, there whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from evofool.errors import ConfigError
from evofool.records import Facts
from evofool.store import files
from evofool.store.schemas import SCHEMA_VERSION

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["SCORES", "Table", "frame_of", "table_of", "writing"]

Table: TypeAlias = pa.Table  # of the schema SCORES

_CLASS = pa.struct(
    [("class_index", pa.int32()), ("class_name", pa.string()), ("log_odds", pa.float32()), ("confidence", pa.float32())]
)
_TOP = pa.struct([("class_index", pa.int32()), ("class_name", pa.string()), ("confidence", pa.float32())])

SCORES = pa.schema(
    [
        ("path", pa.string()),
        ("width", pa.int32()),  # of the picture in the file, in pixels
        ("height", pa.int32()),
        ("mode", pa.string()),
        ("image_sha256", pa.string()),  # of the pixels that the target was fed
        ("target", pa.string()),
        ("target_fingerprint", pa.string()),
        ("preprocessing_hash", pa.string()),
        ("top1_class_index", pa.int32()),
        ("top1_class_name", pa.string()),
        ("top1_confidence", pa.float32()),
        ("top5", pa.list_(_TOP)),
        ("entropy", pa.float64()),  # of the probabilities over all outputs, in nats
        ("classes", pa.list_(_CLASS)),  # those of the request
    ],
    metadata={"schema_version": str(SCHEMA_VERSION)},
)


def table_of(
    rows: list[Facts],
    class_indices: NDArray[np.int64],
    class_names: tuple[str, ...],
    log_odds: NDArray[np.float32],
    confidences: NDArray[np.float32],
) -> Table:
    """Rows as a table.

    Args:
        rows: every column but "classes".
        class_indices: (c,) the output indices of the request; `class_names` are all of the target's.
        log_odds, confidences: (len(rows), c).
    """
    indices = np.tile(class_indices, len(rows)).astype(np.int32)
    entries = pa.StructArray.from_arrays(
        [
            pa.array(indices),
            pa.array(class_names).take(pa.array(indices)),
            pa.array(np.ascontiguousarray(log_odds).reshape(-1)),
            pa.array(np.ascontiguousarray(confidences).reshape(-1)),
        ],
        fields=list(_CLASS),
    )
    offsets = pa.array(np.arange(len(rows) + 1, dtype=np.int32) * len(class_indices))
    columns = [pa.array([row[field.name] for row in rows], type=field.type) for field in list(SCORES)[:-1]]
    return Table.from_arrays([*columns, pa.ListArray.from_arrays(offsets, entries)], schema=SCORES)


def frame_of(tables: list[Table]) -> pd.DataFrame:
    """Tables as one DataFrame."""
    return pa.concat_tables(tables or [SCORES.empty_table()]).to_pandas()


@contextlib.contextmanager
def writing(path: Path) -> Iterator[Callable[[Table], None]]:
    """Give a function that adds a table, as a row group, to a Parquet file.

    The file has a temporary name beside its place until all went well; after an error nothing of it is left.

    Raises:
        ConfigError: something else than a Parquet file has the name.
        StorageError: the place cannot be written (known before any scoring), or the disk is full.
    """
    if path.exists() and not _is_parquet(path):
        raise ConfigError(f"--out: {path} is there and is not a Parquet file; give another name.")
    temporary = path.parent / f"_tmp-{secrets.token_hex(8)}"
    with files.guard(path):
        sink = temporary.open("xb")
    writer = pq.ParquetWriter(sink, SCORES, compression="zstd", write_page_checksum=True)

    def write(table: Table) -> None:
        with files.guard(path):
            writer.write_table(table)

    try:
        yield write
        with files.guard(path):
            writer.close()
            sink.flush()
            os.fsync(sink.fileno())
            temporary.replace(path)
            files.sync_folder(path.parent)
    finally:
        with contextlib.suppress(OSError, ValueError):  # such as of a full disk, of which the first error tells
            writer.close()
            sink.close()
        temporary.unlink(missing_ok=True)


def _is_parquet(path: Path) -> bool:
    with files.guard(path, "read"):
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(4) == b"PAR1"
