"""The Arrow schema of every table, and reading and writing tables as Parquet.

A file whose schema is not exactly its table's is refused. Files carry page checksums, which are verified on reading
(pyarrow does not by default, and then returns wrong numbers for most flipped bits).
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from evofool.errors import CorruptData
from evofool.records import Cells, Facts

# Also the schemas themselves, by their names in capitals.
__all__ = [
    "RUN_VERSION",
    "SCHEMA_VERSION",
    "TABLES",
    "any_table",
    "batches",
    "byte_limit",
    "elites",
    "encode",
    "from_parquet",
    "of_table",
    "read_column",
    "table_of",
    "to_parquet",
]

SCHEMA_VERSION = 1  # of each table by itself
RUN_VERSION = 2  # of a run: which columns its tables have; see `_NEW`
_METADATA = {"schema_version": str(SCHEMA_VERSION)}


def _schema(**fields: pa.DataType) -> pa.Schema:
    return pa.schema(list(fields.items()), metadata=_METADATA)


_TOP = pa.struct([("class_index", pa.int32()), ("confidence", pa.float32())])

INDIVIDUALS = _schema(
    individual_id=pa.int64(),
    generation=pa.int32(),
    slot=pa.int32(),
    parent_ids=pa.list_(pa.int64()),
    operators=pa.list_(pa.string()),
    origin=pa.string(),  # RUN_ID:INDIVIDUAL_ID of an individual that came from another run
    nodes=pa.int32(),
    connections=pa.int32(),
    top1_class_index=pa.int32(),
    top1_confidence=pa.float32(),
    top5=pa.list_(_TOP),  # the network's likeliest classes, from the likeliest on
    genome_sha256=pa.string(),
    image_sha256=pa.string(),
)

PLACEMENTS = _schema(
    generation=pa.int32(),
    cell=pa.int32(),
    class_index=pa.int32(),
    individual_id=pa.int64(),
    log_odds=pa.float32(),
    confidence=pa.float32(),
    displaced_id=pa.int64(),  # null: the cell was empty
    displaced_log_odds=pa.float32(),
    objective=pa.float32(),  # what the cell ranks by
)

GENOMES = _schema(individual_id=pa.int64(), genome=pa.binary())
SEEDS = _schema(genome=pa.binary(), origin=pa.string())

HISTORY = _schema(
    generation=pa.int32(),
    offspring=pa.int32(),
    evaluations=pa.int64(),
    placements=pa.int32(),
    placements_total=pa.int64(),
    non_finite=pa.int32(),
    filled=pa.int32(),
    unique_elites=pa.int32(),
    median=pa.float64(),
    minimum=pa.float64(),
    classes_99=pa.int32(),
    classes_9999=pa.int32(),
    top1_share=pa.float64(),
    stale=pa.int32(),
    seconds=pa.float64(),
)

# The tables that a commit brings.
TABLES = {"individuals": INDIVIDUALS, "placements": PLACEMENTS, "genomes": GENOMES, "history": HISTORY}

_GENE = pa.struct(
    {
        "gene": pa.string(),  # "node" or "connection"
        "id": pa.int64(),
        "activation": pa.string(),
        "source": pa.int64(),  # -1 of a node, and so is its destination
        "destination": pa.int64(),
        "weight": pa.float32(),
    }
)

ELITES = _schema(
    run_id=pa.string(),
    class_index=pa.int32(),
    class_name=pa.string(),
    confidence=pa.float32(),
    log_odds=pa.float32(),
    objective=pa.float32(),
    top1_class_index=pa.int32(),
    top1_confidence=pa.float32(),
    top5=pa.list_(_TOP),
    individual_id=pa.int64(),
    generation=pa.int32(),
    slot=pa.int32(),
    parent_ids=pa.list_(pa.int64()),
    operators=pa.list_(pa.string()),
    encoding=pa.string(),
    nodes=pa.int32(),
    connections=pa.int32(),
    genome=pa.list_(_GENE),
    genome_json=pa.string(),
    image=pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
    image_sha256=pa.string(),
    target=pa.string(),
    target_fingerprint=pa.string(),
    preprocessing_hash=pa.string(),
    as_of_generation=pa.int32(),
)


# What runs that are older than a version lack. Such a run keeps its version, and its columns, whoever goes on with it.
_NEW = {2: ("top5",)}


def of_table(name: str, version: int = RUN_VERSION) -> pa.Schema:
    """The schema of a table that commits bring, in runs of a version."""
    return _as_of(version, TABLES[name])


def elites(cells: Cells, version: int = RUN_VERSION) -> pa.Schema:
    """The schema of the elites view: where classes have several bins, with a column for an elite's bin; where cells are
    of units, with columns for a unit's layer and channel."""
    schema = _as_of(version, ELITES)
    if cells.bins > 1:
        schema = schema.insert(3, pa.field("bin", pa.int32()))
    if cells.units:
        schema = schema.insert(3, pa.field("unit", pa.int32())).insert(3, pa.field("layer", pa.string()))
    return schema


def _as_of(version: int, schema: pa.Schema) -> pa.Schema:
    lacks = {name for since, names in _NEW.items() if since > version for name in names}
    return pa.schema([field for field in schema if field.name not in lacks], metadata=schema.metadata)


# Bytes of memory that a file's rows may take; the view is the one that expands most: a thousand cells may show one
# picture, which Parquet stores once.
MAX_BYTES = 8 << 30  # the most for any file
_MIN_BYTES = 256 << 20  # allowed to every file, however small
_EXPANSION = 64  # between the two, times the size of the file
_BATCH = 1024  # rows
_READ_OPTIONS = {"page_checksum_verification": True, "arrow_extensions_enabled": False}

# Hugging Face's `datasets` shows the column as pictures when told so.
_IMAGE_FEATURE = json.dumps({"info": {"features": {"image": {"_type": "Image"}}}})


def to_parquet(rows: list[Facts], schema: pa.Schema, attrs: Facts | None = None) -> bytes:
    """`table_of` as the bytes of a Parquet file; equal rows give equal bytes, since no time or host is written."""
    return encode(table_of(rows, schema, attrs))


def table_of(rows: list[Facts], schema: pa.Schema, attrs: Facts | None = None) -> pa.Table:
    """Rows as a table.

    Args:
        attrs: what pandas has as `DataFrame.attrs["evofool"]` of the table.
    """
    table = pa.Table.from_pylist(rows, schema=schema)
    if attrs is not None:
        extra = {"PANDAS_ATTRS": json.dumps({"evofool": attrs}), "huggingface": _IMAGE_FEATURE}
        table = table.replace_schema_metadata({**_METADATA, **extra})
    return table


def encode(table: pa.Table) -> bytes:
    """A table as the bytes of a Parquet file."""
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True, store_schema=True)
    return sink.getvalue()


def from_parquet(path: Path, schema: pa.Schema, blob: bytes | None = None) -> pa.Table:
    """A table from a file, or from its bytes where they were read already.

    Raises:
        CorruptData: missing, not Parquet, damaged, of another schema, or larger in memory than `byte_limit`.
    """
    try:
        blob = path.read_bytes() if blob is None else blob
        file = pq.ParquetFile(pa.BufferReader(blob), **_READ_OPTIONS)
        if not file.schema_arrow.equals(schema):
            raise CorruptData(f"{path}: its columns are not those of this version of evofool.")
        _refuse_bomb(path, blob, file)
        return file.read()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # the last where a name is damaged
        raise _unreadable(path, error) from None


def any_table(path: Path) -> pa.Table:
    """A table of any schema, such as a study's.

    Raises:
        CorruptData: missing, not Parquet, damaged, or larger in memory than `byte_limit`.
    """
    try:
        blob = path.read_bytes()
        file = pq.ParquetFile(pa.BufferReader(blob), **_READ_OPTIONS)
        _refuse_bomb(path, blob, file)
        return file.read()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from None


def batches(path: Path, schema: pa.Schema, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """A table from a file, a thousand rows at a time, in bounded memory however large it is.

    Args:
        columns: those to read; all by default. The metadata of what is yielded is the file's.

    Raises:
        CorruptData: as `from_parquet`; of the size it is a thousand rows that may not take over 256 MiB.
    """
    try:
        with path.open("rb") as first, path.open("rb") as second:
            file = pq.ParquetFile(first, **_READ_OPTIONS)
            if not file.schema_arrow.equals(schema):
                raise CorruptData(f"{path}: its columns are not those of this version of evofool.")
            metadata = file.schema_arrow.metadata
            lean = pq.ParquetFile(second, read_dictionary=_texts(file), **_READ_OPTIONS)
            for group in range(file.num_row_groups):
                for measured in lean.iter_batches(_BATCH, row_groups=[group], columns=columns):
                    if sum(_bytes_of(column) for column in measured.columns) > _MIN_BYTES:
                        raise _too_large(path, _MIN_BYTES)
                for batch in file.iter_batches(_BATCH, row_groups=[group], columns=columns):
                    yield pa.Table.from_batches([batch]).replace_schema_metadata(metadata)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from None


def read_column(path: Path, name: str) -> list[object]:
    """The values of one column of a file of any table.

    Raises:
        CorruptData: missing, not Parquet, damaged, without the column, or larger in memory than `byte_limit`.
    """
    try:
        blob = path.read_bytes()
        file = pq.ParquetFile(pa.BufferReader(blob), **_READ_OPTIONS)
        _refuse_bomb(path, blob, file)
        return list(file.read(columns=[name]).column(name).to_pylist())
    except (pa.ArrowException, OSError, KeyError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from None


def byte_limit(size: int) -> int:
    """The bytes of memory that the rows of a file of `size` bytes may take."""
    return min(MAX_BYTES, max(_MIN_BYTES, _EXPANSION * size))


def _refuse_bomb(path: Path, blob: bytes, file: pq.ParquetFile) -> None:
    """Refuse a small file that would fill the memory: a long value that millions of rows share is stored only once.

    A file's metadata does not tell how large its values become, so they are read as dictionaries, in which a value of
    many rows stays single, and their lengths are added up. (Metadata of column chunks must not be looked at here:
    pyarrow ends the process where some bits of it are damaged.)
    """
    total, most = 0, byte_limit(len(blob))
    lean = pq.ParquetFile(pa.BufferReader(blob), read_dictionary=_texts(file), **_READ_OPTIONS)
    for batch in lean.iter_batches(_BATCH):
        total += sum(_bytes_of(column) for column in batch.columns)
        if total > most:
            raise _too_large(path, most)


def _texts(file: pq.ParquetFile) -> list[str]:
    """The paths of the columns whose values may be long."""
    columns = [file.schema.column(i) for i in range(len(file.schema))]
    return [column.path for column in columns if column.physical_type == "BYTE_ARRAY"]


def _too_large(path: Path, most: int) -> CorruptData:
    return CorruptData(f"{path}: would take over {most >> 20} MiB of memory, which no such file of a run does.")


def _unreadable(path: Path, error: Exception) -> CorruptData:
    return CorruptData(f"{path}: cannot be read as Parquet ({str(error).partition(chr(10))[0]}).")


def _bytes_of(array: pa.Array) -> int:
    """The bytes of an array's values, with one that several rows share counted for each of them."""
    if isinstance(array, pa.DictionaryArray):
        lengths = pc.binary_length(array.dictionary).take(array.indices)
        return int(pc.sum(lengths, min_count=0).as_py() or 0)
    if isinstance(array, pa.StructArray):
        return sum(_bytes_of(child) for child in array.flatten())
    if isinstance(array, pa.ListArray):
        return _bytes_of(array.flatten())
    return int(array.nbytes)
