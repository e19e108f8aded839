"""The first generations of a run, in a process of its own and without a run directory: what `evofool plan` goes by."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from evofool.base.source import Source
from evofool.config import Config, to_yaml
from evofool.encoding import variation
from evofool.encoding.direct.genome import DirectEncoding
from evofool.encoding.variation import OPERATORS
from evofool.evaluate.pool import InlinePool
from evofool.machines.probe import Ingredients, Subject, gpu_peak_mib, memory_mib
from evofool.records import NO_PARENT, GenerationResult, Numerics, Statistics, individual_id
from evofool.search.loop import Search
from evofool.store import schemas
from evofool.store.commits import Commit
from evofool.store.compaction import most_rows
from evofool.store.run import SMALL_GENOME
from evofool.store.view import encode_png

__all__ = ["PlacementCurve", "Rehearsal", "disk_bytes"]

MIB = 1 << 20
SAMPLE = 64  # genomes that sizes are taken from
BRED = 64  # rows whose memory is measured
STEEPEST_CPPN = 0.6  # of the power law: CPPNs take ever fewer cells, pixels improve all of them all the time


@dataclass(frozen=True)
class PlacementCurve:
    """Placements against evaluations, as far as they were seen, and a power law beyond."""

    counts: tuple[tuple[int, int], ...]  # (evaluations, placements), both cumulative, generation by generation
    direct: bool

    @property
    def evaluations(self) -> int:
        return self.counts[-1][0]

    @property
    def total(self) -> int:
        return self.counts[-1][1]

    def at(self, evaluations: int, how: str = "expected") -> float:
        """Placements after so many evaluations: "expected", "low" or "high"."""
        if evaluations <= self.evaluations:
            n, p = zip(*self.counts)
            return float(np.interp(evaluations, [0, *n], [0, *p]))
        middle = next(c for c in self.counts if c[0] >= self.evaluations / 2)
        slope = 1.0
        if middle[0] < self.evaluations and middle[1] > 0:
            slope = math.log(self.total / middle[1]) / math.log(self.evaluations / middle[0])
        slope = min(slope, 1.0 if self.direct else STEEPEST_CPPN)
        slope = {"expected": slope, "low": 0.6 * slope, "high": min(1.0, 1.4 * slope)}[how]
        return float(self.total * (evaluations / self.evaluations) ** slope)


class Rehearsal(Subject):
    """A driver with its evaluator, to be measured."""

    def __init__(self, config: Config, source: Source, index: int) -> None:
        if config.evaluation.pool == "ray":
            from evofool.evaluate.over_ray import pool as ray_pool  # noqa: F401 - its memory is part of every process of such a run
        super().__init__(config, source, index)

    def breeding(self) -> dict[str, float]:
        """Memory before any evaluator is built, what breeding a row adds to its peak, and how large a genome is."""
        base, _ = memory_mib()
        encoding = self.given.encoding
        rows = min(BRED, self.given.config.search.offspring)
        parents = encoding.take(self.genomes, np.arange(rows) % len(self.genomes))
        mutate = self.given.operators.get("mutate", self.breeder.mutate)
        before = memory_mib()[1]
        variation.initial(encoding, 0, 0, rows)
        mutate(1, parents)
        # A small batch may fit into memory that is there already; the arrays' own sizes are the least it can be.
        least = 3 * self._array_bytes(parents) / rows
        grown = max(0.0, memory_mib()[1] - max(before, base)) * MIB / rows
        return {
            "base_mib": base,
            "bytes_a_row_bred": max(least, grown),
            "genome_bytes": self._array_bytes(parents) / rows,
        }

    def _array_bytes(self, genomes: Any) -> float:
        """Bytes of a batch in memory."""
        arrays = [genomes] if isinstance(self.given.encoding, DirectEncoding) else genomes.arrays()
        return float(sum(array.nbytes for array in arrays))

    def evolve(self, numerics: Numerics, seconds: float) -> dict[str, Any]:
        """Run the first generations, smaller ones where those of the configuration would take too long."""
        given = self.given
        config, encoding = given.config, given.encoding
        self.prepare(numerics)
        pace = self.measure(0.0).per_second
        small = max(numerics.micro_batch, int(pace * seconds / (2 * config.search.lag + 4)))
        search = config.search.model_copy(
            update={
                "offspring": min(config.search.offspring, small),
                "initial": min(config.search.initial, small),
                "generations": None,
            }
        )
        blobs: dict[int, bytes] = {}
        counts: list[tuple[int, int]] = []
        individuals = 0

        def seen(result: GenerationResult) -> None:
            nonlocal individuals
            s = result.statistics
            counts.append((s.evaluations, s.placements_total))
            individuals += len(result.genomes)
            blobs.update({int(individual_id(s.generation, slot)): blob for slot, blob in result.genomes.items()})

        pool = InlinePool(lambda: self.evaluator)
        whole = Search(
            config.model_copy(update={"search": search}),
            encoding,
            pool,
            given.class_indices,
            on_result=seen,
            operators=given.operators,
        )
        started, limit = time.monotonic(), config.search.generations

        def stop(s: Statistics | None) -> bool:
            if s is None:
                return False
            late = time.monotonic() - started > seconds and s.generation > search.lag
            return late or (limit is not None and s.generation + 1 >= limit)

        whole.run(stop)
        driver = time.monotonic() - started - pool.report().core_seconds
        scale = config.search.offspring / search.offspring
        holders = {int(i) for i in whole.archive.elites if i != NO_PARENT}
        elites = [blobs[i] for i in sorted(holders)][-SAMPLE:] or list(blobs.values())[:SAMPLE]
        pngs = [encode_png(image) for image in self.evaluator.render(encoding.from_bytes(elites))] if elites else []
        others = list(blobs.values())[:: max(1, len(blobs) // SAMPLE)][:SAMPLE]
        return {
            "driver_seconds": max(0.0, driver) / len(counts) * scale,
            "placements": PlacementCurve(tuple(counts), isinstance(encoding, DirectEncoding)),
            "individuals": individuals,
            "unique_elites": len(holders) / len(given.class_indices),
            "blobs": others,
            "elites": elites,
            "pngs": pngs,
            "png_bytes": sum(len(png) for png in pngs) / max(1, len(pngs)),
            "gpu_mib": gpu_peak_mib(),
        }


# ------------------------------------------------------------------------------------------------------------- disk


def disk_bytes(
    given: Ingredients, generations: int, placements: float, found: dict[str, Any], history: str
) -> dict[str, float]:
    """Bytes that a run would take on disk, part by part: tables of made-up rows, as large as real ones compress to.

    Args:
        placements: in all.
        found: by a rehearsal.
        history: what is kept, "full" or "elites"; "lineage" is between the two.
    """
    config = given.config
    commits = math.ceil(generations / config.storage.commit_every)
    # The first individuals take many cells each; later nearly every placement has an individual of its own (measured:
    # 0.93 to 0.96 individuals a placement over 25,000 evaluations against 50 ImageNet classes).
    people = min(placements, found["individuals"] + max(0.0, placements - found["placements"].total))
    elites = found["unique_elites"] * len(given.class_indices)
    sample = found["blobs"]
    mean = float(np.mean([len(blob) for blob in sample])) if sample else 0.0
    ratio = _size([{"individual_id": i, "genome": blob} for i, blob in enumerate(sample)], schemas.GENOMES) / max(
        1.0, mean * len(sample)
    )
    empty = _size([], schemas.GENOMES)
    if mean <= SMALL_GENOME:
        genomes = people * mean * ratio
    else:  # kept while somebody in their commit is an elite; about half of a commit's have been displaced by then
        genomes = 2 * min(people, elites) * mean * ratio
    parts = {
        "individuals": commits * _table(people / commits, _individual, schemas.INDIVIDUALS),
        "placements": commits * _table(placements / commits, _placement, schemas.PLACEMENTS),
        "genomes": genomes + commits * empty,
        "history": commits * _table(min(generations, config.storage.commit_every), _statistics, schemas.HISTORY),
        "commits": float(commits * len(_commit().to_json())),
        "elites": _view(given, found),
        "the rest": float(len(to_yaml(config)) + 1500 + 30 * len(given.class_indices)),
    }
    if history == "elites" and people:
        # Each table has a row for an individual, but placements has several; statistics of generations stay.
        rows = 2 * people + placements + generations
        kept = min(people, elites) * (2 + placements / people) + generations
        share = min(1.0, most_rows(kept) / rows)
        for name in ("individuals", "placements", *(["genomes"] if mean <= SMALL_GENOME else [])):
            parts[name] *= share
        whole = _table(generations, _statistics, schemas.HISTORY)  # in one file
        parts["history"] = share * parts["history"] + (1 - share) * whole
    return parts


def _size(rows: list[dict[str, Any]], schema: Any, attrs: dict[str, Any] | None = None) -> float:
    return float(len(schemas.to_parquet(rows, schema, attrs)))


def _table(rows: float, make: Any, schema: Any) -> float:
    """Bytes of a table with that many made-up rows; beyond some thousands they grow in proportion."""
    shown = min(4000, max(1, round(rows)))
    random = np.random.default_rng(0)
    size = _size([make(random, i) for i in range(shown)], schema)
    empty = _size([], schema)
    return empty + (size - empty) * rows / shown


def _individual(random: np.random.Generator, i: int) -> dict[str, Any]:
    return {
        "individual_id": int(random.integers(2**40)),
        "generation": i // 8,
        "slot": int(random.integers(400)),
        "parent_ids": [int(random.integers(2**40))],
        "operators": [name for name in OPERATORS[3:] if random.random() < 0.4],
        "nodes": int(random.integers(20)),
        "connections": int(random.integers(20)),
        "top1_class_index": int(random.integers(1000)),
        "top1_confidence": random.random(),
        "genome_sha256": random.bytes(32).hex(),
        "image_sha256": random.bytes(32).hex(),
    }


def _placement(random: np.random.Generator, i: int) -> dict[str, Any]:
    odds = random.random()
    return {
        "generation": i // 8,
        "cell": int(random.integers(1000)),
        "class_index": int(random.integers(1000)),
        "individual_id": int(random.integers(2**40)),
        "log_odds": odds,
        "confidence": random.random(),
        "displaced_id": int(random.integers(2**40)),
        "displaced_log_odds": random.random(),
        "objective": odds,
    }


def _statistics(random: np.random.Generator, i: int) -> dict[str, Any]:
    whole = dict.fromkeys(schemas.HISTORY.names, i)
    return whole | {name: random.random() for name in ("median", "minimum", "top1_share", "seconds")}


def _commit() -> Commit:
    facts = {"size": 10**5, "rows": 10**3, "sha256": "0" * 64}
    numerics = dict.fromkeys((*Numerics.__dataclass_fields__, "epoch"), "0123456789")
    counters = dict.fromkeys(schemas.HISTORY.names, 0.123456789)
    tables = dict.fromkeys(("individuals", "placements", "genomes", "history"), facts)
    return Commit(0, 0, "0" * 64, "0" * 64, tables, [], {**numerics, "canary": "0" * 64}, counters)


def _view(given: Ingredients, found: dict[str, Any]) -> float:
    """Bytes of elites.parquet: rows of the sample, as many as there are cells."""
    encoding = given.encoding
    rows: list[dict[str, Any]] = []
    for i, (blob, png) in enumerate(zip(found["elites"], found["pngs"])):
        batch = encoding.from_bytes([blob])
        rows.append(
            {
                "run_id": "0" * 16,
                **_placement(np.random.default_rng(i), i),
                **_individual(np.random.default_rng(i), i),
                "class_name": "a class of the target",
                "encoding": encoding.kind,
                "genome": encoding.genes(batch, 0),
                "genome_json": json.dumps(encoding.to_json(batch, 0)),
                "image": {"bytes": png, "path": None},
                "target": given.target.spec,
                "target_fingerprint": "0" * 64,
                "preprocessing_hash": "0" * 64,
                "as_of_generation": 0,
            }
        )
    if not rows:
        return 0.0
    attrs = dict.fromkeys(("run_id", "archive_hash", "generation", "config_fingerprint", "evofool"), "0" * 32)
    empty = _size([], schemas.ELITES, attrs)
    return empty + (_size(rows, schemas.ELITES, attrs) - empty) * len(given.class_indices) / len(rows)
