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

from evofool.errors import ConfigError, CorruptData
from evofool.store import files, schemas
from evofool.store.reader import Run

__all__ = ["add", "read", "read_elites", "table_path"]


def table_path(run: Path, study: str) -> Path:
    """Where a study keeps its rows."""
    return run / "_studies" / f"{study}.parquet"


def read_elites(run: Run) -> tuple[pd.DataFrame, str]:
    """The elites, a row for each filled cell, without the columns of genes; and the archive hash (hex) of the same
    moment, also while the run goes on.

    Raises:
        ConfigError: it has no elites yet.
        CorruptData: the table is damaged.
    """
    table = run.elites_table()
    if not table.num_rows:
        raise ConfigError(f"{run.path}: has no elites yet.")
    facts = json.loads(table.schema.metadata[b"PANDAS_ATTRS"])["evofool"]
    return table.drop_columns(["genome", "parent_ids", "operators"]).to_pandas(), facts["archive_hash"]


def read(run: Path, study: str, schema: pa.Schema) -> pd.DataFrame:
    """All rows that a study has stored for a run; none before it was first made.

    Raises:
        CorruptData: the file is damaged, or of another version.
    """
    path = table_path(run, study)
    try:
        table = schemas.from_parquet(path, schema) if path.is_file() else schema.empty_table()
    except CorruptData as error:
        raise CorruptData(f"{error.message} Move it away, and the study is made anew.") from None
    return table.to_pandas()


def add(run: Run, study: str, schema: pa.Schema, rows: pd.DataFrame, keys: Sequence[str]) -> None:
    """Store rows, in place of those that have the same keys.

    Args:
        rows: the columns of the schema, of pandas' nullable types where one may be null, so that readers get them back.
        keys: columns that name a group.

    Raises:
        StorageError: the file system refused; the rows stored before are not lost.
    """
    stored, path = read(run.path, study, schema), table_path(run.path, study)
    groups = set(rows[list(keys)].itertuples(index=False, name=None))
    stays = [group not in groups for group in stored[list(keys)].itertuples(index=False, name=None)]
    frame = pd.concat([stored[stays], rows], ignore_index=True) if any(stays) else rows
    table = pa.Table.from_pandas(frame[schema.names], schema=schema, preserve_index=False)
    attrs = {"PANDAS_ATTRS": json.dumps({"evofool": {"study": study, "run_id": run.provenance["run_id"]}})}
    with files.guard(path.parent, "make the folder"):
        path.parent.mkdir(exist_ok=True)
    files.put(path, schemas.encode(table.replace_schema_metadata({**table.schema.metadata, **attrs})))
    if run.store.remote:
        run.store.remote.send(path)
