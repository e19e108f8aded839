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
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from evofool.base.places import quoted
from evofool.config import Config, fingerprint, load_config, to_yaml
from evofool.errors import ConfigError, CorruptData, RunLocked, RunNotFound
from evofool.records import NO_PARENT, Cells, Facts, GenerationResult, Unit, individual_id
from evofool.store import files, schemas, writing
from evofool.store.commits import Commit, CommitLog
from evofool.store.remote import working_copy
from evofool.store.rows import Rows, Seeds, counters_of, individual_rows, placement_rows

__all__ = ["RunStore", "stored_config"]

# Bytes. A larger genome is stored only while it is an elite's or needed to resume (design: "On disk").
SMALL_GENOME = 16 << 10


class RunStore:
    """One run directory. Whoever writes holds `working_copy.hold` around it; readers need no lock.

    Raises:
        RunNotFound: it is not a run.
        CorruptData: run.json, config.yaml, a commit, or a file that a method reads is missing, damaged or edited.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.provenance, self.config = _described(path)
        self.log = CommitLog(path)
        self.remote = working_copy.of(path)
        self._rows = _no_rows()  # of the next commit
        self._newest = (-1, "")  # generation and archive hash (hex) after the last appended result
        self.on_commit: Callable[[int, Rows], None] = lambda number, rows: None  # called with each new commit's rows
        self._displaced: dict[int, set[int]] = {}  # generation -> ids of individuals that lost a cell in it
        self._large: dict[int, set[int]] = {}  # number of a commit with large genomes only -> ids of their individuals

    @classmethod
    def create(cls, path: Path, config: Config, provenance: Facts, seeds: Seeds | None) -> RunStore:
        """Make a run: write seeds, config.yaml and then run.json, with which the run exists.

        Args:
            provenance: for run.json: versions, target, numerics, classes.

        Raises:
            RunLocked: another driver made the run first.
        """
        if seeds is not None:
            rows = [{"genome": g, "origin": o} for g, o in zip(seeds.genomes, seeds.origins)]
            files.put(path / "_evofool" / "seeds.parquet", schemas.to_parquet(rows, schemas.SEEDS))
        files.put(path / "_evofool" / "config.yaml", files.seal(to_yaml(config).encode()))
        facts = {
            "schema_version": schemas.RUN_VERSION,
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
        """The cells of the run's archive."""
        facts = self.provenance
        named = zip(facts.get("units", ()), facts["class_names"])
        units = tuple(Unit(layer, channel, name) for (layer, channel), name in named)
        return Cells(np.array(facts["class_indices"], dtype=np.int64), facts.get("bins", 1), units=units)

    def schema(self, table: str) -> pa.Schema:
        """The schema of a table that commits bring."""
        return schemas.of_table(table, self.provenance["schema_version"])

    def update(self, config: Config | None = None, **facts: object) -> None:
        """Rewrite config.yaml, or add facts to run.json (never those that identify the run)."""
        if config is not None and config != self.config:
            files.put(self.path / "_evofool" / "config.yaml", files.seal(to_yaml(config).encode()))
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
        """The genomes that the run started from; None if they were random."""
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

    def append(self, result: GenerationResult) -> None:
        """Add a generation to the next commit."""
        # As rows, so that the offspring can be freed: those of a few generations may be gigabytes.
        generation = result.placements.generation
        self._rows["individuals"] += individual_rows(result)
        self._rows["placements"] += placement_rows(result, self.cells)
        self._rows["genomes"] += [
            {"individual_id": int(individual_id(generation, slot)), "genome": genome}
            for slot, genome in sorted(result.genomes.items())
        ]
        self._rows["history"].append(counters_of(result.statistics, self.cells))
        self._newest = result.statistics.generation, result.archive_hash.hex()
        self._displaced[generation] = {int(i) for i in result.placements.displaced}

    def commit(self, elites: NDArray[np.int64], *, numerics: Facts, counters: Facts) -> Commit | None:
        """Write the appended generations as a commit; None if there are none. Raises as `writing.append`.

        Args:
            elites: (C,) individual ids of the archive after the last appended generation.
            numerics, counters: see Commit.
        """
        if not self._rows["history"]:
            return None
        last, archive_hash = self._newest
        # A resume breeds unfinished generations again, from the archives of the last `lag` generations.
        self._displaced = {g: ids for g, ids in self._displaced.items() if g > last - self.config.search.lag}
        live = {int(i) for i in elites}.union(*self._displaced.values()) - {NO_PARENT}
        genomes = [
            row for row in self._rows["genomes"] if len(row["genome"]) <= SMALL_GENOME or row["individual_id"] in live
        ]
        large = {row["individual_id"] for row in genomes if len(row["genome"]) > SMALL_GENOME}
        dropped = [number for number, ids in self._large.items() if not ids & live]
        rows = {**self._rows, "genomes": genomes}
        tables = {name: (schemas.to_parquet(r, self.schema(name)), len(r)) for name, r in rows.items() if r}
        commit = writing.append(
            self.log,
            self.remote,
            last,
            archive_hash,
            tables,
            dropped_genomes=dropped,
            numerics=numerics,
            counters=counters,
        )
        self._rows = _no_rows()
        for number in dropped:
            del self._large[number]
        if large and len(large) == len(genomes):
            self._large[commit.number] = large
        self.on_commit(commit.number, rows)
        return commit

    def table(self, name: str, since: int = 0) -> pa.Table:
        """The committed rows of a table, in order, of commit `since` and later ones."""
        live = self.log.live_files()
        tables = [self._read(name, number, facts) for table, number, facts in live if table == name and number >= since]
        return pa.concat_tables(tables) if tables else self.schema(name).empty_table()

    def _read(self, table: str, number: int, facts: Facts) -> pa.Table:
        # Its sha256 is compared too: pages have checksums, their headers have none.
        blob = self.log.read(table, number, facts)
        return schemas.from_parquet(self.log.path(table, number), self.schema(table), blob)

    def genomes(self, ids: set[int]) -> dict[int, bytes]:
        """Canonical bytes of the genomes of individuals, each checked against the sha256 in its individual's row."""
        keys = pa.array(sorted(ids), type=pa.int64())

        def select(name: str) -> pa.Table:
            table = self.table(name)
            return table.filter(pc.is_in(table["individual_id"], value_set=keys))

        stored, people = select("genomes"), select("individuals")
        genomes = dict(zip(stored["individual_id"].to_pylist(), stored["genome"].to_pylist()))
        sha256s = dict(zip(people["individual_id"].to_pylist(), people["genome_sha256"].to_pylist()))
        for identity in sorted(ids):
            if identity not in genomes or identity not in sha256s:
                raise CorruptData(f"{self.path}: the genome of individual {identity} is not stored.")
            if hashlib.sha256(genomes[identity]).hexdigest() != sha256s[identity]:
                raise CorruptData(f"{self.path}: the genome of individual {identity} is damaged.")
        return genomes

    def first_parents(self, ids: set[int]) -> dict[int, int]:
        """The first parent of each of some stored individuals; NO_PARENT where there is none."""
        people = self.table("individuals")
        people = people.filter(pc.is_in(people["individual_id"], value_set=pa.array(sorted(ids), type=pa.int64())))
        pairs = zip(people["individual_id"].to_pylist(), people["parent_ids"].to_pylist())
        return {identity: parents[0] if parents else NO_PARENT for identity, parents in pairs}

    def recover(self) -> int:
        """Remove what a kill left behind, and read what `commit` needs to know of earlier ones. Only under the lock."""
        removed = writing.recover(self.log, self.remote)
        for row in self.table("placements").to_pylist():
            if self.log.last and row["generation"] > self.log.last.generation - self.config.search.lag:
                self._displaced.setdefault(row["generation"], set()).add(row["displaced_id"])
        self.find_large()
        return removed

    def find_large(self) -> None:
        """Find the commits with large genomes only: their files are deleted once nobody needs any of the genomes."""
        self._large = {}
        for table, number, facts in self.log.live_files():
            if table == "genomes" and facts["size"] > SMALL_GENOME:
                rows = self._read(table, number, facts).to_pylist()
                if all(len(row["genome"]) > SMALL_GENOME for row in rows):
                    self._large[number] = {row["individual_id"] for row in rows}


def _no_rows() -> Rows:
    return {name: [] for name in schemas.TABLES}


def stored_config(path: Path) -> Config:
    """The configuration of a run. Raises as `RunStore`."""
    return _described(path)[1]


def _described(path: Path) -> tuple[Facts, Config]:
    """The content of run.json and config.yaml, which must be as they were written."""
    if not path.exists():
        raise RunNotFound(f"{path}: no such run.")
    facts_file, config_file = path / "_evofool" / "run.json", path / "_evofool" / "config.yaml"
    if not facts_file.is_file():
        raise RunNotFound(f"{path}: not a run directory (it has no _evofool/run.json).")
    with files.guard(facts_file, "read"):
        blob = facts_file.read_bytes()
    facts = files.read_json(facts_file, blob)
    facts.pop("sha256", None)
    if _json(facts) != blob:
        raise CorruptData(f"{facts_file}: damaged, or edited; its sha256 is not the one it names.")
    if facts.get("schema_version") not in range(1, schemas.RUN_VERSION + 1):
        raise CorruptData(f"{path}: written by another version of evofool ({facts.get('evofool')}).")
    with files.guard(config_file, "read"):
        blob = config_file.read_bytes() if config_file.is_file() else b""
    if not files.seal_holds(blob):
        raise CorruptData(
            f"{config_file}: damaged, missing or edited; its sha256 is not the one it names. "
            f"Changes are made by `evofool resume {quoted(path)} KEY=VALUE`."
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
    """The bytes of run.json, which ends with the sha256 of the file as it would be without that."""

    def text(data: Facts) -> bytes:
        return (json.dumps(data, indent=1, ensure_ascii=False) + "\n").encode()

    return text({**facts, "sha256": hashlib.sha256(text(facts)).hexdigest()})
