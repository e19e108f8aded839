"""What studies read of a run and keep beside it: RUN/_studies/NAME.parquet.

A study adds rows in whole groups that share their key columns, and a file is replaced in one step: a kill loses the
group that was being scored and nothing else. Of two processes that add at the same moment one may lose its group, which
the next call scores again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from evofool.errors import ConfigError, CorruptData
from evofool.records import Facts
from evofool.store import files, schemas
from evofool.store.reader import Run
from evofool.store.view import read_view

__all__ = ["add", "read", "read_elites", "table_path"]


def table_path(run: Path, study: str) -> Path:
    """Where a study keeps its rows."""
    return run / "_studies" / f"{study}.parquet"


def read_elites(run: Run) -> tuple[pd.DataFrame, Facts]:
    """The elites as a study needs them, without the columns of genes, and what the table says of itself.

    Returns:
        One row for each filled cell; and run_id, archive_hash, generation, all of one moment also while a run goes on.

    Raises:
        ConfigError: it has no elites yet.
        CorruptData: the table is damaged.
    """
    table = read_view(run.store)
    if not table.num_rows:
        raise ConfigError(f"{run.path}: has no elites yet.")
    attrs = json.loads(table.schema.metadata[b"PANDAS_ATTRS"])["evofool"]
    return table.drop_columns(["genome", "parent_ids", "operators"]).to_pandas(), attrs


def read(run: Path, study: str, schema: pa.Schema) -> pd.DataFrame:
    """All rows a study has kept; none before the first.

    Raises:
        CorruptData: the file is damaged, or of another version.
    """
    path = table_path(run, study)
    try:
        table = schemas.from_parquet(path, schema) if path.is_file() else schema.empty_table()
    except CorruptData as error:
        raise CorruptData(f"{error.message} Move it away, and the study is made anew.") from None
    frame: pd.DataFrame = table.to_pandas()
    return frame


def add(run: Run, study: str, schema: pa.Schema, rows: pd.DataFrame, keys: Sequence[str]) -> None:
    """Keep rows, in place of those that have the same keys.

    Args:
        rows: the columns of the schema, with pandas' nullable types where it says null, so that readers get them back.
        keys: columns that name a group.

    Raises:
        StorageError: the file system refused; what was kept before is still there.
    """
    kept, path = read(run.path, study, schema), table_path(run.path, study)
    groups = set(rows[list(keys)].itertuples(index=False, name=None))
    stays = [group not in groups for group in kept[list(keys)].itertuples(index=False, name=None)]
    frame = pd.concat([kept[stays], rows], ignore_index=True) if any(stays) else rows
    table = pa.Table.from_pandas(frame[schema.names], schema=schema, preserve_index=False)
    attrs = {"PANDAS_ATTRS": json.dumps({"evofool": {"study": study, "run_id": run.provenance["run_id"]}})}
    sink = pa.BufferOutputStream()
    pq.write_table(
        table.replace_schema_metadata({**table.schema.metadata, **attrs}),
        sink,
        compression="zstd",
        write_page_checksum=True,
    )
    with files.guard(path.parent, "make the folder"):
        path.parent.mkdir(exist_ok=True)
    files.put(path, sink.getvalue().to_pybytes())
    if run.store.remote:
        run.store.remote.send(path)
