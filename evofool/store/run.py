"""The run directory: created once, appended to by commits, read back to resume.

    RUN/elites/elites.parquet      the data set people read (view.py)
    RUN/_history/                  statistics of every generation
    RUN/_evofool/run.json          provenance
    RUN/_evofool/config.yaml       the resolved configuration
    RUN/_evofool/commits/ individuals/ placements/ genomes/ seeds.parquet lock

Names outside elites/ begin with "_", so that `pandas.read_parquet(RUN)` sees the elites alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from evofool.config import Config, fingerprint, load_config, to_yaml
from evofool.errors import ConfigError, CorruptData, RunLocked
from evofool.records import NO_PARENT, Cells, Facts, GenerationResult, individual_id
from evofool.store import files, schemas, writing
from evofool.store.commits import Commit, CommitLog
from evofool.store.remote import working_copy
from evofool.store.rows import Rows, individual_rows, placement_rows
from evofool.store.seeds import Seeds

__all__ = ["RunStore", "stored_config"]

# A larger genome is kept only while it is an elite or needed to resume (design: "On disk").
SMALL_GENOME = 16 << 10


class RunStore:
    """One run directory. Writers hold `commits.lock` around it; readers need nothing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.provenance, self.config = _described(path)
        self.log = CommitLog(path)
        self.remote = working_copy.of(path)
        self._rows = _no_rows()  # of the next commit
        self._newest = (-1, "")  # generation and archive hash (hex) that they end with
        self.on_commit: Callable[[int, Rows], None] = lambda number, rows: None  # told what a commit brought
        self._displaced: dict[int, set[int]] = {}  # generation -> ids that lost a cell in it
        self._segments: dict[int, set[int]] = {}  # commit number -> ids of large genomes it still holds

    # ------------------------------------------------------------------------------------------------- create, open

    @classmethod
    def create(cls, path: Path, config: Config, provenance: Facts, seeds: Seeds | None) -> RunStore:
        """Write what a new run is, run.json last: a run exists once that file does.

        Raises:
            RunLocked: another driver made the run first.
        """
        if seeds is not None:
            rows = [{"genome": g, "origin": o} for g, o in zip(seeds.genomes, seeds.origins)]
            files.put(path / "_evofool" / "seeds.parquet", schemas.to_parquet(rows, schemas.SEEDS))
        files.put(path / "_evofool" / "config.yaml", files.seal(to_yaml(config).encode()))
        facts = {
            "schema_version": schemas.SCHEMA_VERSION,
            **provenance,
            "seeds_sha256": seeds.sha256() if seeds else None,
            "seeds_file_sha256": files.sha256_of(path / "_evofool" / "seeds.parquet") if seeds else None,
        }
        if not files.create(path / "_evofool" / "run.json", _json(facts)):
            raise RunLocked(f"{path}: another driver has just made this run; this one stops.")
        store = cls(path)
        if store.remote:
            store.remote.create()
        return store

    @property
    def cells(self) -> Cells:
        """The cells of its archive."""
        return Cells(np.array(self.provenance["class_indices"], dtype=np.int64), self.provenance.get("bins", 1))

    def update(self, config: Config | None = None, **facts: Any) -> None:
        """Rewrite the configuration, or add facts to the provenance (never those that name the run)."""
        if config is not None and config != self.config:
            text = to_yaml(config).encode()
            files.put(self.path / "_evofool" / "config.yaml", files.seal(text))
            self._send("config.yaml")
            self.config = config
        if facts:
            self.provenance.update(facts)
            files.put(self.path / "_evofool" / "run.json", _json(self.provenance))
            self._send("run.json")

    def _send(self, name: str) -> None:
        if self.remote:
            self.remote.send(self.path / "_evofool" / name, self.log)

    def seeds(self) -> Seeds | None:
        """The genomes this run started from, if it was seeded.

        Raises:
            CorruptData: they are not what run.json says.
        """
        if self.provenance.get("seeds_sha256") is None:
            return None
        path = self.path / "_evofool" / "seeds.parquet"
        with files.guard(path, "read"):
            blob = path.read_bytes() if path.is_file() else b""
        if hashlib.sha256(blob).hexdigest() != self.provenance["seeds_file_sha256"]:
            raise CorruptData(f"{path}: missing or damaged; its sha256 is not the one in run.json.")
        table = schemas.from_parquet(path, schemas.SEEDS, blob)
        seeds = Seeds(table["genome"].to_pylist(), table["origin"].to_pylist())
        if seeds.sha256() != self.provenance["seeds_sha256"]:
            raise CorruptData(f"{path}: not the genomes that run.json names.")
        return seeds

    # ------------------------------------------------------------------------------------------------------ writing

    def append(self, result: GenerationResult) -> None:
        """Remember a generation for the next commit."""
        # As rows, so that nobody holds on to the offspring: those of a few generations may be gigabytes.
        generation = result.placements.generation
        self._rows["individuals"] += individual_rows(result)
        self._rows["placements"] += placement_rows(result, self.cells)
        self._rows["genomes"] += [
            {"individual_id": int(individual_id(generation, slot)), "genome": genome}
            for slot, genome in sorted(result.genomes.items())
        ]
        self._rows["history"].append(asdict(result.statistics))
        self._newest = result.statistics.generation, result.archive_hash.hex()
        self._displaced[generation] = {int(i) for i in result.placements.displaced}

    def commit(self, elites: Any, *, numerics: Facts, counters: Facts) -> Commit | None:
        """Make everything appended permanent; None if there was nothing.

        Args:
            elites: (C,) individual ids of the archive after the last appended generation.
        """
        if not self._rows["history"]:
            return None
        last, archive_hash = self._newest
        # Resuming breeds what was in flight from the archives of the last `lag` generations.
        self._displaced = {g: ids for g, ids in self._displaced.items() if g > last - self.config.search.lag}
        live = {int(i) for i in elites}.union(*self._displaced.values()) - {NO_PARENT}
        genomes = [
            row for row in self._rows["genomes"] if len(row["genome"]) <= SMALL_GENOME or row["individual_id"] in live
        ]
        number = len(self.log.commits)
        large = {row["individual_id"] for row in genomes if len(row["genome"]) > SMALL_GENOME}
        dropped = [n for n, ids in self._segments.items() if not ids & live]
        rows = {**self._rows, "genomes": genomes}
        commit = writing.append(
            self.log,
            self.remote,
            last,
            archive_hash,
            {t: (schemas.to_parquet(r, schemas.OF_TABLE[t]), len(r)) for t, r in rows.items() if r},
            dropped_genomes=dropped,
            numerics=numerics,
            counters=counters,
        )
        self._rows = _no_rows()
        for old in dropped:
            del self._segments[old]
        if large and len(large) == len(genomes):
            self._segments[number] = large
        self.on_commit(number, rows)
        return commit

    # ------------------------------------------------------------------------------------------------------ reading

    def table(self, name: str, since: int = 0) -> pa.Table:
        """The committed rows of a table, in order, of commit `since` and later ones.

        Raises:
            CorruptData: a file is missing or damaged.
        """
        tables = []
        for table, number, facts in self.log.live_files():
            if table == name and number >= since:
                tables.append(self._read(table, number, facts))
        return pa.concat_tables(tables) if tables else schemas.OF_TABLE[name].empty_table()

    def _read(self, table: str, number: int, facts: Facts) -> pa.Table:
        # Its sha256 is compared too: pages have checksums, their headers have none.
        blob = self.log.read(table, number, facts)
        return schemas.from_parquet(self.log.path(table, number), schemas.OF_TABLE[table], blob)

    def genomes(self, wanted: set[int]) -> dict[int, bytes]:
        """Canonical bytes of stored genomes, checked against the sha256 of their individuals.

        Raises:
            CorruptData: one is missing or differs.
        """
        keys = pa.array(sorted(wanted), type=pa.int64())

        def select(name: str) -> pa.Table:
            table = self.table(name)
            return table.filter(pc.is_in(table["individual_id"], value_set=keys))

        genomes = select("genomes")
        found = dict(zip(genomes["individual_id"].to_pylist(), genomes["genome"].to_pylist()))
        people = select("individuals")
        expected = dict(zip(people["individual_id"].to_pylist(), people["genome_sha256"].to_pylist()))
        for identity in sorted(wanted):
            if identity not in found or identity not in expected:
                raise CorruptData(f"{self.path}: the genome of individual {identity:x} is not stored.")
            if hashlib.sha256(found[identity]).hexdigest() != expected[identity]:
                raise CorruptData(f"{self.path}: the genome of individual {identity:x} is damaged.")
        return found

    def recover(self) -> int:
        """Remove what a kill left behind, under the lock; learn which large genomes are still stored."""
        removed = writing.recover(self.log, self.remote)
        for row in self.table("placements").to_pylist():
            if self.log.last and row["generation"] > self.log.last.generation - self.config.search.lag:
                self._displaced.setdefault(row["generation"], set()).add(row["displaced_id"])
        self.find_large()
        return removed

    def find_large(self) -> None:
        """Learn which commits hold large genomes alone, whose files go with the last of them that is needed."""
        self._segments = {}
        for table, number, facts in self.log.live_files():
            if table == "genomes" and facts["size"] > SMALL_GENOME:
                rows = self._read(table, number, facts).to_pylist()
                if all(len(row["genome"]) > SMALL_GENOME for row in rows):
                    self._segments[number] = {row["individual_id"] for row in rows}


def _no_rows() -> Rows:
    return {name: [] for name in schemas.OF_TABLE}


def stored_config(path: Path) -> Config:
    """The configuration of a run.

    Raises:
        ConfigError: it is not a run.
        CorruptData: run.json or config.yaml is damaged, or was edited.
    """
    return _described(path)[1]


def _described(path: Path) -> tuple[Facts, Config]:
    """What run.json and config.yaml say."""
    if not path.exists():
        raise ConfigError(f"{path}: no such run.")
    facts_file, config_file = path / "_evofool" / "run.json", path / "_evofool" / "config.yaml"
    if not facts_file.is_file():
        raise ConfigError(f"{path}: not a run directory (it has no _evofool/run.json).")
    with files.guard(facts_file, "read"):
        blob = facts_file.read_bytes()
    facts = files.read_json(facts_file, blob)
    facts.pop("sha256", None)
    if _json(facts) != blob:
        raise CorruptData(f"{facts_file}: damaged, or edited; its sha256 is not the one it names.")
    if facts.get("schema_version") != schemas.SCHEMA_VERSION:
        raise CorruptData(f"{path}: written by another version of evofool ({facts.get('evofool')}).")
    with files.guard(config_file, "read"):
        blob = config_file.read_bytes() if config_file.is_file() else b""
    if not files.seal_holds(blob):
        raise CorruptData(
            f"{config_file}: damaged, missing or edited; its sha256 is not the one it names. "
            f"Changes are made by `evofool resume {path} KEY=VALUE`."
        )
    try:
        config = load_config(config_file, stored=True)
    except ConfigError as error:
        raise CorruptData(error.message) from None
    # The target's file may have moved since; it is judged by its own fingerprint.
    target = config.target.model_copy(update={"spec": facts["config_spec"]})
    if fingerprint(config.model_copy(update={"target": target})) != facts["config_fingerprint"]:
        raise CorruptData(f"{config_file}: not the configuration the run was made with; a semantic key was edited.")
    return facts, config


def _json(facts: Facts) -> bytes:
    """run.json, with the sha256 of what it would be without."""

    def text(data: Facts) -> bytes:
        return (json.dumps(data, indent=1, ensure_ascii=False) + "\n").encode()

    return text({**facts, "sha256": hashlib.sha256(text(facts)).hexdigest()})
