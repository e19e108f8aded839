"""search.selection: who becomes a parent by curiosity and by kinship, and the promises, which hold for these too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import evofool
from evofool.archive.cells import Archive
from evofool.base import rng
from evofool.config import Config, load_config
from evofool.records import NO_PARENT, GenerationResult, individual_id
from evofool.store.compaction import compact
from evofool.store.remote.working_copy import hold
from evofool.store.restore import generations, restore
from evofool.store.run import RunStore
from evofool.targets.opening import open_target

both_ways = pytest.mark.parametrize("selection", ["curiosity", "kinship"])


def selecting(config: Config, selection: str, *more: str) -> Config:
    few = ["search.offspring=20", "search.initial=12", "search.generations=14", "storage.commit_every=1"]
    return load_config(config, [f"search.selection={selection}", "variation.crossover_rate=0.5", *few, *more])


# ------------------------------------------------------------------------------------------- the slow, obvious way


def slow_score(elites: list[int], first: dict[int, int], elite: int, generation: int) -> float:
    score = 1.0
    for other in set(elites):
        if first[other] == elite:
            score += 1.0
    age = generation - (elite >> 24)
    return max(0.1, score - 0.5 * age * (20 / len(elites)))


def slow_kin(elites: list[int], first: dict[int, int], elite: int) -> list[int]:
    kin = []
    for other in sorted(set(elites) - {elite}):
        are_siblings = first[other] == first[elite] and first[elite] != NO_PARENT
        if first[other] == elite or first[elite] == other or are_siblings:
            kin.append(other)
    return kin


def slow_draw(selection: str, elites: list[int], first: dict[int, int], generation: int, u: list[float]) -> list[int]:
    if selection == "kinship":
        mate = elites[int(u[0] * len(elites))]
        among = slow_kin(elites, first, mate) or elites
        return [mate, among[int(u[1] * len(among))]]
    scores = [slow_score(elites, first, elite, generation) for elite in elites]
    drawn = []
    for number in u:
        left, place = number * sum(scores), 0
        while left >= scores[place]:
            left -= scores[place]
            place += 1
        drawn.append(elites[place])
    return drawn


@pytest.mark.slow
@both_ways
@pytest.mark.parametrize("lag", [1, 3])
def test_parents_are_those_that_the_stored_rows_give_the_slow_way(
    config: Config, tmp_path: Path, selection: str, lag: int
) -> None:
    settings = selecting(config, selection, f"search.lag={lag}")
    store = RunStore(evofool.run(settings, out=tmp_path / "run").path)
    people = store.table("individuals").to_pylist()
    first = {row["individual_id"]: (row["parent_ids"] or [NO_PARENT])[0] for row in people}
    holders: dict[int, int] = {}
    after: list[list[int]] = []  # the elites of filled cells after each generation, in cell order
    for placements, *_ in generations(store):
        slots = placements.slots.astype(np.int64)
        holders.update(zip(placements.cells.tolist(), individual_id(placements.generation, slots).tolist()))
        after.append([holders[cell] for cell in sorted(holders)])
    bred = [row for row in people if row["generation"] >= lag]
    unlike_cells = 0
    for row in bred:
        last = row["generation"] - lag
        u = rng.uniforms(settings.seed, "select", row["generation"], (20, 2))[row["slot"]].tolist()
        drawn = slow_draw(selection, after[last], first, last, u)
        assert row["parent_ids"] == drawn[: len(row["parent_ids"])]
        unlike_cells += drawn != [after[last][int(number * len(after[last]))] for number in u]
    assert len(bred) > 10 and unlike_cells > 4, "it is not just any cell"


# --------------------------------------------------------------------------------------------------- planted effects


def drawn_from(config: Config, selection: str, elites: list[int], first: dict[int, int]) -> np.ndarray:
    """Pairs of parents for many offspring of generation 9, from an archive after generation 8."""
    breeder = evofool.make_search(selecting(config, selection, "search.lag=1"))._breeder
    breeder._parents = first
    odds = np.zeros(len(elites), dtype=np.float32)
    return breeder.select(Archive(np.array(elites), odds, odds, odds > 0), 9, 40_000)


def test_elites_whose_children_hold_cells_and_new_ones_are_drawn_more_often(config: Config) -> None:
    # After generation 8: of six elites, three are children of `fertile`, which holds one cell, and one is `new`.
    fertile, idle, new = (int(individual_id(g, 1)) for g in (7, 7, 8))
    idle += 1
    a, b, c = (int(individual_id(2, slot)) for slot in (1, 2, 3))
    elites = [NO_PARENT, fertile, a, b, c, idle, new, b]
    first = {fertile: NO_PARENT, idle: NO_PARENT, new: idle + 5, a: fertile, b: fertile, c: fertile}
    pairs = drawn_from(config, "curiosity", elites, first)
    weights = {fertile: 4 - 0.5 * 20 / 7, idle: 0.1, new: 1.0, a: 0.1, b: 0.2, c: 0.1}  # b holds two cells
    total = sum(weights.values())
    for column in pairs.T:
        shares = {elite: float((column == elite).mean()) for elite in weights}
        assert shares == pytest.approx({elite: weight / total for elite, weight in weights.items()}, abs=0.01)
    even = drawn_from(config, "cells", elites, first)
    assert float((even == fertile).mean()) == pytest.approx(1 / 7, abs=0.01)


def test_second_parents_are_kin_where_there_are_any(config: Config) -> None:
    parent, stranger, other = 5, 6, 7
    child, sibling = int(individual_id(3, 0)), int(individual_id(4, 0))
    elites = [parent, stranger, child, sibling, other, NO_PARENT]
    pairs = drawn_from(
        config, "kinship", elites, {parent: NO_PARENT, stranger: NO_PARENT, other: 99, child: parent, sibling: parent}
    )
    mates = {elite: set(pairs[pairs[:, 0] == elite, 1].tolist()) for elite in elites[:-1]}
    assert mates[parent] == {child, sibling} and mates[child] == {parent, sibling} and mates[sibling] == {parent, child}
    everybody = set(elites[:-1])
    assert mates[stranger] == mates[other] == everybody, "two without parents are no siblings"


# ---------------------------------------------------------------------------------------------------------- promises


@pytest.mark.slow
@pytest.mark.parametrize("lag", [1, 4])
def test_whom_elites_descend_from_is_known_after_a_resume_at_any_generation(
    config: Config, tmp_path: Path, lag: int
) -> None:
    settings = selecting(config, "curiosity", f"search.lag={lag}")
    search = evofool.make_search(settings)
    known, bred = [], []

    def note(result: GenerationResult) -> None:
        known.append(dict(search._breeder._parents))
        bred.append(result.offspring.parents)

    search.on_result = note
    search.run(lambda statistics: len(bred) == 14 + lag)
    store = RunStore(evofool.run(settings, out=tmp_path / "run").path)
    assert any(parent != NO_PARENT for parent in known[-1].values())
    for commit in store.log.commits:
        state = restore(store, commit)
        assert state is not None and state.generation == commit.generation
        resumed = evofool.make_search(settings)
        resumed.restore(state)
        assert resumed._breeder._parents == known[commit.generation]
        resumed.generate()
        for offspring in resumed.in_flight:
            np.testing.assert_array_equal(offspring.parents, bred[offspring.generation])
        assert offspring.generation == commit.generation + lag


@pytest.mark.slow
@pytest.mark.parametrize(("selection", "lag"), [("curiosity", 3), ("kinship", 2)])
def test_they_resume_anywhere_replay_and_are_asked_and_told(
    config: Config, tmp_path: Path, selection: str, lag: int
) -> None:
    settings = selecting(config, selection, f"search.lag={lag}")
    whole = evofool.run(settings, out=tmp_path / "whole")
    assert evofool.verify(whole.path, replay=14)["replayed"] == 14
    assert evofool.run(settings, ["search.selection=cells"], out=tmp_path / "cells").archive_hash != whole.archive_hash
    parts = evofool.run(settings, ["search.generations=1"], out=tmp_path / "parts")
    for stop in (2, 4, 6, 9, 13, 14):
        if stop > 4:  # all is dropped that may be
            with hold(parts.path):
                compact(RunStore(parts.path), "elites")
        parts = evofool.resume(parts.path, [f"search.generations={stop}"])
    assert parts.archive_hash == whole.archive_hash
    assert evofool.verify(parts.path, replay=14)["replayed"] == 1, "from the last compaction on"
    target = open_target(settings.target, live=None).target
    shape = {"image_size": target.image_size, "channels": target.channels, "class_names": target.class_names}
    told = evofool.make_search(settings, **shape)  # type: ignore[arg-type]
    scored = evofool.make_search(settings)
    for _ in range(14):
        images = told.ask()
        told.tell(np.zeros((len(images), 10)) + np.arange(10), "logits")
        scored.toolbox.update(scored.toolbox.map(scored.toolbox.evaluate, scored.toolbox.generate()))
    assert scored.archive_hash.hex() == whole.archive_hash


def test_without_crossover_kinship_is_cells(config: Config) -> None:
    hashes = []
    for selection in ("cells", "kinship"):
        search = evofool.make_search(selecting(config, selection, "variation.crossover_rate=0"))
        search.run(lambda statistics: statistics is not None and statistics.generation == 4)
        hashes.append(search.archive_hash)
    assert hashes[0] == hashes[1]
