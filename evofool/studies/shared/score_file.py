"""The table of `evofool score`: one row for each picture, written row group by row group, there whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from evofool.errors import ConfigError
from evofool.records import Facts
from evofool.store import files
from evofool.store.schemas import SCHEMA_VERSION

__all__ = ["SCORES", "ScoreFile", "frame_of", "table_of"]

_CLASS = pa.struct(
    [
        ("class_index", pa.int32()),
        ("class_name", pa.string()),
        ("log_odds", pa.float32()),
        ("confidence", pa.float32()),
    ]
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
        ("classes", pa.list_(_CLASS)),  # those asked for
    ],
    metadata={"schema_version": str(SCHEMA_VERSION)},
)


def table_of(
    rows: list[Facts],
    class_indices: NDArray[np.int64],
    class_names: tuple[str, ...],
    log_odds: NDArray[np.float32],
    confidence: NDArray[np.float32],
) -> pa.Table:
    """Rows as a table of the schema SCORES.

    Args:
        rows: every column but "classes".
        class_indices: (c,) the output indices asked for; `class_names` are all of the target's.
        log_odds, confidence: (len(rows), c).
    """
    indices = np.tile(class_indices, len(rows)).astype(np.int32)
    entries = pa.StructArray.from_arrays(
        [
            pa.array(indices),
            pa.array(class_names).take(pa.array(indices)),
            pa.array(np.ascontiguousarray(log_odds).reshape(-1)),
            pa.array(np.ascontiguousarray(confidence).reshape(-1)),
        ],
        fields=list(_CLASS),
    )
    offsets = pa.array(np.arange(len(rows) + 1, dtype=np.int32) * len(class_indices))
    columns = [pa.array([row[field.name] for row in rows], type=field.type) for field in list(SCORES)[:-1]]
    return pa.Table.from_arrays([*columns, pa.ListArray.from_arrays(offsets, entries)], schema=SCORES)


def frame_of(tables: list[pa.Table]) -> Any:
    """Tables as one DataFrame."""
    return pa.concat_tables(tables or [SCORES.empty_table()]).to_pandas()


class ScoreFile:
    """A Parquet file under a temporary name beside its place, which it takes in `keep`; gone if that never comes.

    Raises:
        ConfigError: something else than a Parquet file has the name.
        StorageError: the place cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if path.exists() and not _is_parquet(path):
            raise ConfigError(f"--out: {path} is there and is not a Parquet file; give another name.")
        self._temporary = path.parent / f"_tmp-{secrets.token_hex(8)}"
        with files.guard(path):
            # Opened now, so that a place that cannot be written is known before any scoring.
            self._sink = self._temporary.open("xb")
        self._writer = pq.ParquetWriter(self._sink, SCORES, compression="zstd", write_page_checksum=True)

    def __enter__(self) -> ScoreFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError, ValueError):  # a full disk has been told of; nothing of this is kept
            self._writer.close()
            self._sink.close()
        self._temporary.unlink(missing_ok=True)

    def write(self, table: pa.Table) -> None:
        """Add a row group."""
        with files.guard(self.path):
            self._writer.write_table(table)

    def keep(self) -> None:
        """Give the file its name, for good."""
        with files.guard(self.path):
            self._writer.close()
            self._sink.flush()
            os.fsync(self._sink.fileno())
            self._temporary.replace(self.path)
            files.sync_folder(self.path.parent)


def _is_parquet(path: Path) -> bool:
    with files.guard(path, "read"):
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(4) == b"PAR1"
