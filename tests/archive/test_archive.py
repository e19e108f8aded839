"""The archive against a slow restatement: who takes a cell, what the counters say, how the hash chain is made.

The oracle loops over slots in order and over cells, in Python numbers; `place` is array-wide.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import fields, replace
from statistics import median
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from evofool.archive import cells as archives
from evofool.archive.cells import Archive
from evofool.archive.scores import confidence
from evofool.records import NO_PARENT, Cells, Placements, Scores, Statistics, address_of, individual_id

INSERTIONS = ("every_class", "argmax")
Row = tuple[Any, ...]  # of a placement: cell, slot, log-odds, id displaced, its log-odds

# Few different values, so that ties are common; both zeros, and numbers one step apart.
VALUES = (0.0, -0.0, 1.0, float(np.nextafter(np.float32(1), np.float32(2))), -3.5, 50.0, -1e30, 1e-45)
BROKEN = (math.nan, math.inf, -math.inf)


def scores_of(rows: list[list[float]], top1: list[int]) -> Scores:
    n = len(rows)
    hashes = np.frombuffer(b"".join(hashlib.sha256(bytes([i])).digest() for i in range(n)), dtype=np.uint8)
    return Scores(
        log_odds=np.array(rows, dtype=np.float32),
        objective=np.array(rows, dtype=np.float32),
        top_classes=np.array(top1, dtype=np.int32)[:, None],
        top_confidences=np.zeros((n, 1), dtype=np.float32),
        image_sha256=hashes.reshape(n, 32),
    )


@st.composite
def searches(draw: st.DrawFn) -> tuple[NDArray[np.int64], list[Scores], str]:
    """Output indices of the cells, the scores of a few generations, and a kind of insertion."""
    cells = draw(st.integers(1, 4))
    indices = draw(st.permutations(range(cells + 2)))[:cells]
    number = st.sampled_from(VALUES) | st.floats(-40, 40, width=32)
    broken = st.sampled_from(VALUES + BROKEN)
    row = st.lists(number, min_size=cells, max_size=cells) | st.lists(broken, min_size=cells, max_size=cells)
    generations = []
    for _ in range(draw(st.integers(1, 4))):
        rows = draw(st.lists(row, min_size=1, max_size=6))
        top1 = draw(st.lists(st.integers(0, cells + 1), min_size=len(rows), max_size=len(rows)))
        generations.append(scores_of(rows, top1))
    return np.array(indices, dtype=np.int64), generations, draw(st.sampled_from(INSERTIONS))


class Oracle:
    """One elite for each cell: its id, its log-odds, whether it is top-1 there."""

    def __init__(self, cells: int) -> None:
        self.elites: list[tuple[int, float, bool]] = [(NO_PARENT, -math.inf, False)] * cells

    def place(self, scores: Scores, generation: int, indices: NDArray[np.int64], insertion: str) -> list[Row]:
        """A row for each cell that was taken, in cell order."""
        before, taken = list(self.elites), {}
        for slot, row in enumerate(scores.log_odds.tolist()):
            if not all(math.isfinite(value) for value in row):
                continue
            best = min(cell for cell in range(len(row)) if row[cell] == max(row))
            for cell, value in enumerate(row):
                if insertion == "argmax" and cell != best:
                    continue
                if value > self.elites[cell][1]:
                    top1 = int(scores.top_classes[slot, 0]) == int(indices[cell])
                    self.elites[cell] = (generation * 2**24 + slot, value, top1)
                    taken[cell] = slot
        return [(cell, taken[cell], self.elites[cell][1], *before[cell][:2]) for cell in sorted(taken)]


def rows_of(placements: Placements) -> list[Row]:
    names = ("cells", "slots", "log_odds", "displaced", "displaced_log_odds")
    return list(zip(*(getattr(placements, name).tolist() for name in names)))


def place(
    archive: Archive, scores: Scores, generation: int = 0, indices: Any = None, insertion: str = "every_class"
) -> tuple[Archive, Placements]:
    """`archives.place`, with cell i for output i by default."""
    indices = np.arange(len(archive.elites)) if indices is None else indices
    return archives.place(archive, scores, generation=generation, cells=Cells(indices), insertion=insertion)


def contents(archive: Archive) -> list[tuple[int, float, bool]]:
    return list(zip(archive.elites.tolist(), archive.log_odds.tolist(), archive.top1.tolist()))


def bits(archive: Archive) -> tuple[bytes, ...]:
    return tuple(getattr(archive, field.name).tobytes() for field in fields(archive))


# ---------------------------------------------------------------------------------------------------------- place


@settings(deadline=None, max_examples=150)
@given(searches())
def test_place_is_the_slow_loop_over_slots_and_cells(search: tuple[NDArray[np.int64], list[Scores], str]) -> None:
    indices, generations, insertion = search
    archive, oracle = archives.empty(len(indices)), Oracle(len(indices))
    for generation, scores in enumerate(generations):
        given_bits, given_scores = bits(archive), scores.log_odds.tobytes()
        new, placements = place(archive, scores, generation, indices, insertion)
        expected = oracle.place(scores, generation, indices, insertion)
        assert rows_of(placements) == expected
        assert [math.copysign(1, v) for v in placements.log_odds.tolist()] == [math.copysign(1, e[2]) for e in expected]
        assert contents(new) == oracle.elites
        assert placements.generation == generation
        assert (bits(archive), scores.log_odds.tobytes()) == (given_bits, given_scores), "arguments stay as they are"
        archive = new


@settings(deadline=None, max_examples=80)
@given(searches())
def test_cells_only_rise_and_placements_tell_all_that_changed(
    search: tuple[NDArray[np.int64], list[Scores], str],
) -> None:
    indices, generations, insertion = search
    archive = replayed = archives.empty(len(indices))
    for generation, scores in enumerate(generations):
        new, placements = place(archive, scores, generation, indices, insertion)
        changed = new.elites != archive.elites
        assert changed.nonzero()[0].tolist() == placements.cells.tolist(), "one placement for each cell, in cell order"
        assert (new.log_odds[changed] > archive.log_odds[changed]).all()
        assert (new.log_odds[~changed] == archive.log_odds[~changed]).all()
        assert np.isfinite(scores.log_odds[placements.slots]).all()
        assert np.isfinite(new.log_odds[new.filled]).all()
        assert (new.log_odds[~new.filled] == -np.inf).all() and not new.top1[~new.filled].any()
        before = bits(replayed)
        after = archives.restore(replayed, placements, new.top1[placements.cells])
        assert bits(replayed) == before, "restore leaves its argument as it is, too"
        assert bits(after) == bits(new)
        archive, replayed = new, after


@pytest.mark.parametrize("insertion", INSERTIONS)
def test_incumbent_keeps_a_tie_and_the_lowest_slot_wins_one(insertion: str) -> None:
    first = scores_of([[-1.0, 2.0], [-1.0, 2.0]], [1, 1])
    archive, placements = place(archives.empty(2), first, insertion=insertion)
    assert placements.slots.tolist() == ([0, 0] if insertion == "every_class" else [0])
    same, none = place(archive, first, 1, insertion=insertion)
    assert len(none) == 0 and bits(same) == bits(archive)
    one_step = float(np.nextafter(np.float32(2), np.float32(3)))
    _, some = place(archive, scores_of([[-1.0, 2.0], [-1.0, one_step]], [1, 1]), 2, insertion=insertion)
    assert rows_of(some) == [(1, 1, one_step, 0, 2.0)]


def test_argmax_competes_in_the_best_cell_only_and_in_the_lowest_of_equals() -> None:
    scores = scores_of([[1.0, 5.0, 5.0], [4.0, 3.0, 2.0]], [1, 0])
    _, placements = place(archives.empty(3), scores, insertion="argmax")
    assert [row[:2] for row in rows_of(placements)] == [(0, 1), (1, 0)]
    _, everywhere = place(archives.empty(3), scores)
    assert [row[:2] for row in rows_of(everywhere)] == [(0, 1), (1, 0), (2, 0)]


def test_every_class_is_the_default() -> None:
    scores = scores_of([[1.0, 5.0]], [1])
    _, placements = archives.place(archives.empty(2), scores, generation=0, cells=Cells(np.arange(2)))
    assert placements.cells.tolist() == [0, 1]


@pytest.mark.parametrize("broken", BROKEN)
@pytest.mark.parametrize("insertion", INSERTIONS)
def test_row_with_one_value_that_is_not_finite_enters_no_cell(broken: float, insertion: str) -> None:
    scores = scores_of([[broken, 9.0, 9.0], [-5.0, -6.0, -7.0]], [1, 0])
    archive, placements = place(archives.empty(3), scores, insertion=insertion)
    assert set(placements.slots.tolist()) == {1}
    assert archive.elites[0] == individual_id(0, 1)
    nobody, none = place(archives.empty(3), scores_of([[broken] * 3], [0]), insertion=insertion)
    assert len(none) == 0 and not nobody.filled.any()


def test_top1_compares_output_indices_with_the_cells_class() -> None:
    scores = scores_of([[1.0, 0.0], [0.0, 1.0]], [7, 3])
    archive, _ = place(archives.empty(2), scores, indices=np.array([7, 9]))
    assert archive.top1.tolist() == [True, False]


@given(st.integers(0, 2**31 - 1), st.integers(0, 2**24 - 1))
def test_individual_id_and_address_are_inverse(generation: int, slot: int) -> None:
    identity = int(individual_id(generation, slot))
    assert identity == generation * 2**24 + slot
    assert address_of(identity) == (generation, slot)


# ----------------------------------------------------------------------------------------------------- statistics

# No confidence near the thresholds 0.99 and 0.9999, so that a rounding cannot decide.
SURE = st.sampled_from([-200.0, -3.0, 0.0, 1.5, 4.5, 4.7, 9.1, 9.3, 40.0])


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_statistics_are_those_of_a_slow_restatement(data: st.DataObject) -> None:
    cells = data.draw(st.integers(1, 6))
    archive, previous = archives.empty(cells), None
    evaluations = total = stale = 0
    for generation in range(data.draw(st.integers(1, 4))):
        rows = data.draw(st.lists(st.lists(SURE, min_size=cells, max_size=cells), min_size=1, max_size=4))
        if data.draw(st.booleans()):
            rows = [[math.nan] * cells for _ in rows]
        scores = scores_of(rows, data.draw(st.lists(st.integers(0, 5), min_size=len(rows), max_size=len(rows))))
        archive, placements = place(archive, scores, generation)
        lost = sum(not all(map(math.isfinite, row)) for row in rows)
        previous = archives.statistics(
            archive, placements, offspring=len(rows), non_finite=lost, previous=previous, seconds=1.25
        )
        evaluations, total = evaluations + len(rows), total + len(placements)
        stale = stale + 1 if len(placements) == 0 else 0
        held = [cell for cell in range(cells) if archive.elites[cell] != NO_PARENT]
        sure = [1 / (1 + math.exp(-v)) if v > -math.inf else 0.0 for v in archive.log_odds.tolist()]
        expected = Statistics(
            generation=generation,
            offspring=len(rows),
            evaluations=evaluations,
            placements=len(placements),
            placements_total=total,
            non_finite=lost,
            filled=len(held),
            unique_elites=len({int(archive.elites[cell]) for cell in held}),
            median=pytest.approx(median(sure[c] for c in held) if held else 0.0, rel=1e-6),
            minimum=pytest.approx(min(sure), rel=1e-6),
            classes_99=sum(v >= 0.99 for v in sure),
            classes_9999=sum(v >= 0.9999 for v in sure),
            top1_share=sum(bool(archive.top1[c]) for c in held) / len(held) if held else 0.0,
            stale=stale,
        )
        assert previous == expected
        assert previous.seconds == 1.25


@pytest.mark.parametrize(("threshold", "name"), [(0.99, "classes_99"), (0.9999, "classes_9999")])
def test_thresholds_count_the_float32_they_are_written_as(threshold: float, name: str) -> None:
    # The smallest log-odds whose float32 confidence is the float32 nearest the threshold counts; the one below not.
    low, high = np.float32(4), np.float32(10)
    while np.nextafter(low, high) < high:
        middle = np.float32((float(low) + float(high)) / 2)
        middle = middle if low < middle < high else np.nextafter(low, high)
        low, high = (low, middle) if confidence(np.array([middle]))[0] >= np.float32(threshold) else (middle, high)
    none = Placements(0, *(np.array([], dtype=t) for t in ("i4", "i4", "f4", "i8", "f4", "f4")))  # type: ignore[arg-type]
    log_odds = np.array([low, high, -np.inf], dtype=np.float32)
    archive = Archive(np.array([5, 6, NO_PARENT]), log_odds, log_odds, np.zeros(3, dtype=bool))
    assert getattr(archives.statistics(archive, none, offspring=1, non_finite=0, previous=None), name) == 1


def test_minimum_is_zero_while_a_cell_is_empty_but_the_median_is_over_filled_cells() -> None:
    archive, placements = place(archives.empty(3), scores_of([[0.0, 9.0, 9.0]], [0]), insertion="argmax")
    counters = archives.statistics(archive, placements, offspring=1, non_finite=0, previous=None)
    assert (counters.minimum, counters.filled) == (0.0, 1)
    assert counters.median == pytest.approx(1 / (1 + math.exp(-9)))


# ----------------------------------------------------------------------------------------------------- hash chain


def slow_chain(previous: bytes, generation: int, rows: list[tuple[int, int, float, bytes, bytes]]) -> bytes:
    """The layout of chain_hash's docstring, written out by hand: rows are (cell, slot, log-odds, image, genome)."""
    text = previous
    for cell, slot, value, image, genome in rows:
        row = generation.to_bytes(4, "little") + slot.to_bytes(4, "little") + cell.to_bytes(4, "little")
        row += image + genome + np.array([value], dtype="<f4").tobytes()
        assert len(row) == 80
        text += row
    return hashlib.sha256(text).digest()


digests = st.binary(min_size=32, max_size=32)


@given(st.data(), st.integers(0, 2**32 - 1), digests)
def test_chain_hash_is_the_documented_bytes(data: st.DataObject, generation: int, previous: bytes) -> None:
    cells = sorted(data.draw(st.sets(st.integers(0, 2**31 - 1), max_size=4)))
    one = st.tuples(st.integers(0, 2**24 - 1), st.floats(width=32, allow_nan=False), digests, digests)
    rows = [(cell, *data.draw(one)) for cell in cells]
    placements, images, genomes = placements_of(generation, rows)
    assert archives.chain_hash(previous, placements, images, genomes) == slow_chain(previous, generation, rows)


def placements_of(generation: int, rows: list[Any]) -> tuple[Placements, list[bytes], list[bytes]]:
    columns = [list(column) for column in zip(*rows)] or [[], [], [], [], []]
    placements = Placements(
        generation=generation,
        cells=np.array(columns[0], dtype=np.int32),
        slots=np.array(columns[1], dtype=np.int32),
        log_odds=np.array(columns[2], dtype=np.float32),
        displaced=np.full(len(rows), NO_PARENT, dtype=np.int64),
        displaced_log_odds=np.full(len(rows), -np.inf, dtype=np.float32),
        objective=np.array(columns[2], dtype=np.float32),
    )
    return placements, columns[3], columns[4]


IMAGE, GENOME, OTHER = (hashlib.sha256(word).digest() for word in (b"image", b"genome", b"other"))
ROWS = [(2, 7, 1.5, IMAGE, GENOME), (5, 7, 0.0, IMAGE, GENOME)]


STEP = float(np.nextafter(np.float32(1.5), np.float32(2)))
CHANGES: dict[str, tuple[int, list[Any]]] = {
    "generation": (4, ROWS),
    "cell": (3, [(1, 7, 1.5, IMAGE, GENOME), ROWS[1]]),
    "slot": (3, [(2, 8, 1.5, IMAGE, GENOME), ROWS[1]]),
    "log-odds": (3, [(2, 7, STEP, IMAGE, GENOME), ROWS[1]]),
    "image": (3, [(2, 7, 1.5, OTHER, GENOME), ROWS[1]]),
    "genome": (3, [(2, 7, 1.5, IMAGE, OTHER), ROWS[1]]),
    "image and genome swapped": (3, [(2, 7, 1.5, GENOME, IMAGE), ROWS[1]]),
    "sign of zero": (3, [ROWS[0], (5, 7, -0.0, IMAGE, GENOME)]),
    "order": (3, [ROWS[1], ROWS[0]]),
    "a row less": (3, ROWS[:1]),
    "no row": (3, []),
}


@pytest.mark.parametrize("change", CHANGES)
def test_chain_hash_changes_with_every_field(change: str) -> None:
    first, second = (archives.chain_hash(bytes(32), *placements_of(*what)) for what in ((3, ROWS), CHANGES[change]))
    assert first != second


def test_chain_hash_advances_without_placements_and_depends_on_what_was_before() -> None:
    nothing = placements_of(0, [])
    once = archives.chain_hash(bytes(32), *nothing)
    assert once == hashlib.sha256(bytes(32)).digest()
    assert archives.chain_hash(once, *nothing) not in (once, bytes(32))
    some = placements_of(3, ROWS)
    assert archives.chain_hash(once, *some) != archives.chain_hash(bytes(32), *some)


def test_chain_hash_leaves_out_what_follows_from_earlier_rows() -> None:
    placements, images, genomes = placements_of(3, ROWS)
    other = replace(placements, displaced=placements.displaced + 9, displaced_log_odds=np.zeros(2, dtype=np.float32))
    assert archives.chain_hash(bytes(32), other, images, genomes) == slow_chain(bytes(32), 3, ROWS)
