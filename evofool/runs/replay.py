"""`evofool verify --replay N`: were the archived individuals really bred as the run says?

A generation is a function of the seed, its number and the archive it was bred from, and the archives are known from the
placements. So everything is bred again from generation 0 on, with the scores that were recorded in place of a network,
and whoever took a cell must have the recorded genome, parents and operators. This is also how the genome of an ancestor
that was too large to be kept is had again.

Where storage.history has dropped placements, the archives of then are not known. Breeding begins at the last
compaction then, from what it kept, as a resume does.
"""

from __future__ import annotations

import hashlib
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
from evofool.store.restore import generations as past
from evofool.store.restore import restore
from evofool.store.run import RunStore

__all__ = ["replay", "replayed_from"]

_NOBODY = np.finfo(np.float32).min  # finite, as scores have to be, and never a placement: the objective is -inf


class _Recorded:
    """A pool whose scores are those that led to the recorded placements."""

    canary = ""

    def __init__(self, placements: dict[int, Placements], images: dict[int, list[bytes]], cells: Cells) -> None:
        self.placements, self.images, self.cells = placements, images, cells
        self.overdue = never
        self._sizes: dict[int, int] = {}

    def submit(self, job: Job) -> None:
        self._sizes[job.ticket] = len(job)

    def collect(self, ticket: int) -> Scores:
        n, taken, classes = self._sizes.pop(ticket), self.placements[ticket], len(self.cells.classes)
        if len(taken) and int(taken.slots.max()) >= n:
            raise CorruptData(f"generation {ticket}: a placement is of slot {int(taken.slots.max())} of {n}.")
        odds = np.full((n, classes), _NOBODY, dtype=np.float32)
        objective = np.full((n, classes), -np.inf, dtype=np.float32)
        columns, bins = self.cells.columns[taken.cells], np.zeros(n, dtype=np.int32)
        odds[taken.slots, columns], objective[taken.slots, columns] = taken.log_odds, taken.objective
        bins[taken.slots] = self.cells.bin_indices[taken.cells]
        hashes = np.zeros((n, 32), dtype=np.uint8)
        for slot, image in zip(taken.slots, self.images[ticket]):
            hashes[slot] = np.frombuffer(image, dtype=np.uint8)
        none = np.zeros(n, dtype=np.float32)
        return Scores(odds, objective, none.astype(np.int32), none, hashes, bins if self.cells.bins > 1 else None)

    def report(self) -> PoolReport:
        return PoolReport()

    def close(self) -> None:
        """Nothing to let go of."""


def replay(store: RunStore, generations: int, *, allow_code: bool = False) -> int:
    """Breed the first `generations` generations of a run again, of those from `replayed_from`; how many there were.

    Args:
        allow_code: whether the user's own operators and activations may run their code.

    Raises:
        ConfigError: what it would begin from is not kept.
        CorruptData: naming the first individual that is not what its parents and its address give.
    """
    first, state = replayed_from(store), _begin(store)
    history = list(islice((row[:3] for row in past(store) if row[0].generation >= first), generations))
    end = first + len(history)
    if first == end:
        raise ConfigError(
            f"{store.path}: nothing can be bred again: storage.history dropped placements of the generations before "
            f"{first}, and there are none since; a new run of the same configuration gives the same archive."
        )
    placements = {row[0].generation: row[0] for row in history}
    images = {row[0].generation: row[2] for row in history}
    people = {row["individual_id"]: row for row in store.table("individuals").to_pylist()}
    encoding = encoding_of(store, allow_code)
    seeds = store.seeds()
    operators, _ = load_operators(store.config, allow_code, store.provenance.get("code", {}))

    def compare(result: GenerationResult) -> None:
        generation = result.placements.generation
        for slot, genome in result.genomes.items():
            row = people[int(individual_id(generation, slot))]
            parents = [int(p) for p in result.offspring.parents[slot] if p != NO_PARENT]
            for what, bred, recorded in (
                ("parents", parents, row["parent_ids"]),
                ("operators", operator_names(int(result.offspring.operators[slot])), row["operators"]),
                ("genome", hashlib.sha256(genome).hexdigest(), row["genome_sha256"]),
            ):
                if bred != recorded:
                    raise CorruptData(
                        f"{store.path}: individual {row['individual_id']:x} (generation {generation}, slot {slot}): "
                        f"breeding it again gives other {what} than the archive has; the run was made by another "
                        "version of evofool or of the user's code, or was changed."
                    )

    search = Search(
        store.config,
        encoding,
        _Recorded(placements, images, store.cells),
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
    """What breeding begins from, as a resume would; None for generation 0."""
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
