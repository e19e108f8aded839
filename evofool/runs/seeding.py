"""The elites of runs, as what another run starts from: `--seed-from` and `evofool merge`."""

from __future__ import annotations

from pathlib import Path

from evofool.encoding.contract import Encoding
from evofool.errors import ConfigError, IncompatibleRun
from evofool.records import Facts
from evofool.store.reader import encoding_of, read_steadily
from evofool.store.rows import Seeds
from evofool.store.run import RunStore

__all__ = ["seeds_of"]


def seeds_of(runs: list[Path], encoding: Encoding, allow_code: bool) -> tuple[Seeds | None, list[Facts]]:
    """The distinct genomes of all elites, None without runs; and run_id, archive_hash and generation of each run.

    Raises:
        ConfigError: a run has no commit yet.
        IncompatibleRun: a run has another encoding.
    """
    if not runs:
        return None, []
    genomes: dict[bytes, str] = {}
    parents = []
    for path in runs:
        facts, elites = read_steadily(RunStore(path), lambda store: _elites(store, encoding, allow_code))
        for identity, genome in sorted(elites.items()):
            genomes.setdefault(genome, f"{facts['run_id']}:{identity:x}")
        parents.append(facts)
    return Seeds(list(genomes), list(genomes.values())), parents


def _elites(store: RunStore, encoding: Encoding, allow_code: bool) -> tuple[Facts, dict[int, bytes]]:
    last = store.log.last
    if last is None:
        raise ConfigError(f"{store.path}: has no commit yet, so no elites to start from.")
    if encoding_of(store, allow_code) != encoding:
        raise IncompatibleRun(f"{store.path}: its encoding is not this run's, so its elites cannot be bred here.")
    elites = {row["cell"]: row["individual_id"] for row in store.table("placements").to_pylist()}
    facts = {"run_id": store.provenance["run_id"], "archive_hash": last.archive_hash, "generation": last.generation}
    return facts, store.genomes(set(elites.values()))
