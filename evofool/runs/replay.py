"""`evofool verify --replay N`: were the archived individuals really bred as the run says?

A generation is a function of the seed, its number and the archive it was bred from, and placements say what the archive
was. So everything is bred again from generation 0 on, with recorded scores in place of a network, and each individual
that took a cell must have the recorded genome, parents and operators.

Where storage.history has dropped placements, breeding begins at the last compaction, from what a resume would need.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from itertools import islice

import numpy as np

from evofool.archive.state import State
from evofool.encoding.names import operator_names
from evofool.encoding.own import load_operators
from evofool.errors import ConfigError, CorruptData
from evofool.evaluate.pool import Job, PoolReport, never
from evofool.records import NO_PARENT, Cells, GenerationResult, Placements, Scores, individual_id
from evofool.search.loop import Search
from evofool.store.reader import encoding_of
from evofool.store.restore import generations as stored_generations
from evofool.store.restore import restore
from evofool.store.run import RunStore

__all__ = ["replay", "replayed_from"]

_LOWEST = np.finfo(np.float32).min  # of individuals that took no cell: finite, as log-odds have to be


class _Recorded:
    """A pool whose scores lead to the recorded placements: all others have an objective of -inf."""

    canary = ""

    def __init__(self, history: dict[int, tuple[Placements, list[bytes]]], cells: Cells) -> None:
        self.history, self.cells = history, cells  # generation -> placements, and sha256 of the image of each
        self.overdue = never
        self._sizes: dict[int, int] = {}

    def submit(self, job: Job) -> None:
        self._sizes[job.ticket] = len(job)

    def collect(self, ticket: int) -> Scores:
        n, classes = self._sizes.pop(ticket), len(self.cells.classes)
        placements, images = self.history[ticket]
        slots = placements.slots
        if len(slots) and int(slots.max()) >= n:
            raise CorruptData(f"generation {ticket}: a placement is of slot {int(slots.max())} of {n}.")
        columns, bins = self.cells.columns[placements.cells], np.zeros(n, dtype=np.int32)
        odds = np.full((n, classes), _LOWEST, dtype=np.float32)
        objective = np.full((n, classes), -np.inf, dtype=np.float32)
        odds[slots, columns], objective[slots, columns] = placements.log_odds, placements.objective
        bins[slots] = self.cells.bin_indices[placements.cells]
        hashes = np.zeros((n, 32), dtype=np.uint8)
        for slot, image in zip(slots, images):
            hashes[slot] = np.frombuffer(image, dtype=np.uint8)
        known = replace(Scores.of(odds), objective=objective, image_sha256=hashes)
        return replace(known, bins=bins) if self.cells.bins > 1 else known

    def report(self) -> PoolReport:
        return PoolReport()

    def close(self) -> None:
        """Nothing to let go of."""


def replay(store: RunStore, generations: int, *, allow_code: bool = False) -> int:
    """Breed `generations` generations of a run again, or as many as it has, from `replayed_from` on; their number.

    Args:
        allow_code: whether the user's own operators and activations may run their code.

    Raises:
        ConfigError: storage.history has dropped what it would begin from, or all that could be compared.
        CorruptData: naming the first individual that is not what its parents and its address give.
    """
    first, state = replayed_from(store), _begin(store)
    rows = (row for row in stored_generations(store) if row[0].generation >= first)
    history = {placements.generation: (placements, images) for placements, _, images, *_ in islice(rows, generations)}
    end = first + len(history)
    if first == end:
        raise ConfigError(
            f"{store.path}: nothing can be bred again: storage.history dropped placements of the generations before "
            f"{first}, and there are none since; a new run of the same configuration gives the same archive."
        )
    individuals = {row["individual_id"]: row for row in store.table("individuals").to_pylist()}
    encoding = encoding_of(store, allow_code)
    seeds = store.seeds()
    operators, _ = load_operators(store.config, allow_code, store.provenance.get("code", {}))

    def compare(result: GenerationResult) -> None:
        generation = result.placements.generation
        for slot, genome in result.genomes.items():
            row = individuals[int(individual_id(generation, slot))]
            parents = [int(p) for p in result.offspring.parents[slot] if p != NO_PARENT]
            for what, bred, recorded in (
                ("parents", parents, row["parent_ids"]),
                ("operators", operator_names(int(result.offspring.operators[slot])), row["operators"]),
                ("genome", hashlib.sha256(genome).hexdigest(), row["genome_sha256"]),
            ):
                if bred != recorded:
                    raise CorruptData(
                        f"{store.path}: individual {row['individual_id']} (generation {generation}, slot {slot}): "
                        f"breeding it again gives other {what} than the archive has; the run was made by another "
                        "version of evofool or of the user's code, or was changed."
                    )

    search = Search(
        store.config,
        encoding,
        _Recorded(history, store.cells),
        store.cells,
        seeds=(encoding.from_bytes(seeds.genomes), tuple(seeds.origins)) if seeds else None,
        on_result=compare,
        limit=end,
        operators=operators,
    )
    if state is not None:
        search.restore(state)
    search.run(lambda statistics: (statistics.generation + 1 if statistics else 0) >= end)
    hashes = {commit.generation: commit.archive_hash for commit in store.log.commits}
    if hashes.get(end - 1, search.archive_hash.hex()) != search.archive_hash.hex():
        raise CorruptData(f"{store.path}: replaying {len(history)} generations gives another archive hash.")
    return len(history)


def replayed_from(store: RunStore) -> int:
    """The first generation that can be bred again: 0, or the one after the compaction that dropped placements."""
    base = store.log.base
    return base.generation + 1 if base and store.log.whole_from else 0


def _begin(store: RunStore) -> State | None:
    """What breeding begins from, as a resume would; None where that is generation 0."""
    base = store.log.base
    if base is None or not store.log.whole_from:
        return None
    if any(base.number in commit.dropped_genomes for commit in store.log.commits):
        raise ConfigError(
            f"{store.path}: nothing can be bred again: storage.history dropped placements up to generation "
            f"{base.generation}, and the large genomes of then are no longer kept; a new run of the same "
            "configuration gives the same archive."
        )
    return restore(store, base)
