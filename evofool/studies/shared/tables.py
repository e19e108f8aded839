"""The table of a study: whole groups of rows, each stored as it comes, in one file at the end.

A place has NAME.parquet, and while a study goes on NAME.parts/: a file for each group, there whole or not at all, so
that a kill costs the group that was being computed and nothing else. At the end the parts are written behind the rows
of the file, a few at a time, and the new file takes the old one's place in one step. Rows are never changed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from evofool.errors import ConfigError, CorruptData, StorageError
from evofool.records import Facts
from evofool.store import files, schemas
from evofool.store.reader import Run
from evofool.store.remote.working_copy import Remote

__all__ = ["Key", "StudyTable", "read_elites", "refuse_units"]

Key: TypeAlias = tuple[Any, ...]  # the values of a study's key columns
ROW_GROUP = 32 << 20  # bytes


def read_elites(run: Run, *, allow_code: bool = False) -> tuple[pd.DataFrame, str]:
    """The elites, a row for each filled cell, without the columns of genes; and the archive hash (hex) of the same
    moment, also while the run goes on: after its last commit, as `Run.elites_table`, whose warning and errors it has.

    Args:
        allow_code: whether activations of the user's own may run, to draw pictures that the table on disk lacks.

    Raises, besides these:
        ConfigError: it has no elites yet, or its cells are of units.
        CorruptData: the table is damaged.
    """
    refuse_units(run)
    table = run.elites_table(allow_code=allow_code)
    if not table.num_rows:
        raise ConfigError(f"{run.path}: has no elites yet.")
    facts = json.loads(table.schema.metadata[b"PANDAS_ATTRS"])["evofool"]
    return table.drop_columns(["genome", "parent_ids", "operators"]).to_pandas(), facts["archive_hash"]


def refuse_units(run: Run) -> None:
    """Raise ConfigError where a run has cells of units, whose elites have no class that a network could be sure of."""
    if run.store.cells.units:
        raise ConfigError(
            f"{run.path}: its cells are of units (target.readouts), not of classes, so there is nothing here that a "
            "network is sure of; give a run of classes."
        )


class StudyTable:
    """The stored rows of a study at one place.

    Args:
        folder: made when the first file is written; `stem` is the file's name without ".parquet".
        keys: the columns that tell groups of rows apart.
        attrs: what pandas has as `DataFrame.attrs["evofool"]` of the file.
        remote: the store of the run that the folder belongs to, if it is in one.

    Raises:
        ConfigError: something else has the place.
        StorageError: nothing can be written there.
    """

    def __init__(
        self,
        folder: Path,
        stem: str,
        schema: pa.Schema,
        keys: Sequence[str],
        attrs: Facts,
        remote: Remote | None = None,
    ) -> None:
        self.path, self.parts = folder / f"{stem}.parquet", folder / f"{stem}.parts"
        self._schema, self._keys, self._attrs, self._remote = schema, list(keys), attrs, remote
        _refuse_place(self.path)
        self._stored = dict.fromkeys(key for file in self._files() for key in self._keys_of(file))

    def __contains__(self, key: Key) -> bool:
        return key in self._stored

    def put(self, name: str, data: bytes) -> Path:
        """Write another file of the study beside the table; its path. Raises as `files.guard`."""
        path = self.path.parent / name
        with files.guard(path.parent, "make the folder"):
            path.parent.mkdir(parents=True, exist_ok=True)
        files.put(path, data)
        if self._remote:
            self._remote.send(path)
        return path

    def add(self, rows: pd.DataFrame | pa.Table) -> list[Key]:
        """Store one group or several whole ones; their keys.

        Args:
            rows: the columns of the schema; of a DataFrame, in pandas' nullable types where a value may be missing, so
                that readers get them back.

        Raises:
            ValueError: a group is stored already, which is a mistake of the study.
            StorageError: the file system refused; what was stored before is not lost.
        """
        if isinstance(rows, pd.DataFrame):
            rows = pa.Table.from_pandas(rows[self._schema.names], schema=self._schema, preserve_index=False)
        if not rows.schema.equals(self._schema):
            raise ValueError(f"{self.path}: rows do not have the columns of the study's schema.")
        keys = list(dict.fromkeys(self._keys_in(rows)))
        if twice := [key for key in keys if key in self._stored]:
            raise ValueError(f"{self.path}: rows of {twice[0]} are stored already; ask Work.missing before computing.")
        attrs = {"PANDAS_ATTRS": json.dumps({"evofool": self._attrs})}
        table = rows.replace_schema_metadata({**(rows.schema.metadata or {}), **self._schema.metadata, **attrs})
        number = int(self._part_files()[-1].stem.partition("-")[0]) + 1 if self._part_files() else 0
        digest = hashlib.sha256(json.dumps(keys, default=str).encode()).hexdigest()[:16]
        self.put(f"{self.parts.name}/{number:08d}-{digest}.parquet", schemas.encode(table))
        self._stored.update(dict.fromkeys(keys))
        return keys

    def merge(self) -> None:
        """Write the parts behind the rows of the file, and remove them; in bounded memory.

        Raises:
            CorruptData: a file is damaged.
            StorageError: the file system refused; the parts are kept then.
        """
        if not self._part_files():
            return
        with _alone(self.parts):  # of two processes at the same moment, the second finds the rows of the first
            parts = self._part_files()
            if not parts:
                return
            with files.guard(self.path):
                self._write(self._unique_rows())
            if self._remote:
                self._remote.send(self.path)
                self._remote.objects.delete(str(part.relative_to(self._remote.path)) for part in parts)
            with files.guard(self.parts, "remove files"):
                for part in parts:
                    part.unlink()
        with contextlib.suppress(OSError):  # another process has put a part there meanwhile
            self.parts.rmdir()

    def read(self, wanted: Sequence[Key], columns: Sequence[str] | None = None) -> pd.DataFrame:
        """The rows of some groups, in the order of these.

        Args:
            columns: those to read; all by default.
        """
        order = {key: i for i, key in enumerate(wanted)}
        found, places = [], []
        asked = list(dict.fromkeys([*self._keys, *columns])) if columns is not None else None
        for file in self._files():
            for batch in self._batches(file, asked):
                place = [order.get(key, -1) for key in self._keys_in(batch)]
                mask = [i >= 0 for i in place]
                if any(mask):
                    found.append(batch.filter(pa.array(mask)))
                    places += [i for i in place if i >= 0]
        empty = self._schema.empty_table()
        table = pa.concat_tables(found) if found else empty if columns is None else empty.select(columns)
        table = table.take(pc.sort_indices(pa.table({"place": places}), sort_keys=[("place", "ascending")]))
        return (table if columns is None else table.select(list(columns))).to_pandas()

    def _files(self) -> list[Path]:
        return [*([self.path] if self.path.is_file() else []), *self._part_files()]

    def _part_files(self) -> list[Path]:
        return sorted(path for path in self.parts.glob("*.parquet") if not path.name.startswith("_"))

    def _batches(self, file: Path, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        try:
            yield from schemas.batches(file, self._schema, columns)
        except CorruptData as error:
            raise CorruptData(f"{error.message} Move it away, and the study is made anew.") from None

    def _keys_in(self, table: pa.Table) -> Iterator[Key]:
        return zip(*(table.column(name).to_pylist() for name in self._keys))

    def _keys_of(self, file: Path) -> Iterator[Key]:
        for batch in self._batches(file, self._keys):
            yield from self._keys_in(batch)

    def _unique_rows(self) -> Iterator[pa.Table]:
        """All rows, file by file, without groups that an earlier file has: two processes may have made the same."""
        seen: set[Key] = set()
        for file in self._files():
            here: set[Key] = set()
            for batch in self._batches(file):
                keys = list(self._keys_in(batch))
                fresh = [key not in seen for key in keys]
                here.update(keys)
                yield batch if all(fresh) else batch.filter(pa.array(fresh))
            seen |= here

    def _write(self, tables: Iterator[pa.Table]) -> None:
        """Put the file in place, its rows in groups of some 32 MiB."""
        temporary = self.path.parent / f"_tmp-{secrets.token_hex(8)}"
        try:
            with temporary.open("xb") as sink:
                first = next(tables)
                with pq.ParquetWriter(sink, first.schema, compression="zstd", write_page_checksum=True) as writer:
                    waiting, size = [first], first.nbytes
                    for table in tables:
                        if size > ROW_GROUP:
                            writer.write_table(pa.concat_tables(waiting))
                            waiting, size = [], 0
                        waiting.append(table.replace_schema_metadata(first.schema.metadata))
                        size += table.nbytes
                    writer.write_table(pa.concat_tables(waiting))
                sink.flush()
                os.fsync(sink.fileno())
            temporary.replace(self.path)
            files.sync_folder(self.path.parent)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other processes that do the same out, for a moment."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with files.guard(folder, "lock it"):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _is_parquet(path: Path) -> bool:
    with files.guard(path, "read"):
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(4) == b"PAR1"


def _refuse_place(path: Path) -> None:
    """Raise where a table cannot be written to a path, before any work."""
    if path.exists() and not _is_parquet(path):
        raise ConfigError(f"{path}: is there and is not a table of a study; move it, or give another --out.")
    there = next(folder for folder in path.parents if folder.exists())
    if not there.is_dir():
        raise ConfigError(f"--out: {there} is a file; give a folder.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise StorageError(f"--out: {there} cannot be written; give another folder.")
