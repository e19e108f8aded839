"""search.mode: the controls breed from whom they say, and keep every promise that MAP-Elites keeps."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import evofool
from evofool.archive.cells import Archive
from evofool.config import Config, load_config
from evofool.encoding.names import operator_bit
from evofool.errors import ConfigError
from evofool.records import NO_PARENT, Cells, GenerationResult, individual_id
from evofool.targets.opening import open_target

FEW = ["search.offspring=17", "search.initial=4", "search.generations=7", "storage.commit_every=1"]  # 10 classes


def in_mode(config: Config, mode: str, *more: str) -> Config:
    return load_config(config, [f"search.mode={mode}", "search.lag=2", *FEW, *more])


def results_of(config: Config, generations: int = 7) -> list[GenerationResult]:
    """Every generation of a search, placed."""
    search = evofool.make_search(config)
    results: list[GenerationResult] = []
    search.on_result = results.append
    search.run(lambda statistics: len(results) == generations)
    return results


@pytest.mark.parametrize("crossover", [0.0, 0.5])
def test_a_class_searched_alone_breeds_from_its_own_elite_and_has_an_equal_share(
    config: Config, crossover: float
) -> None:
    settings = in_mode(config, "single_class", f"variation.crossover_rate={crossover}")
    lag, turn = settings.search.lag, 0
    holders: list[dict[int, int]] = []  # after each generation: the elite of each class
    bred = Counter[bool]()
    for result in results_of(settings):
        generation, before = len(holders), holders[len(holders) - lag] if len(holders) >= lag else {}
        for slot, (first, second) in enumerate(result.offspring.parents.tolist()):
            parent = before.get(turn % 10, NO_PARENT)
            assert first == parent and second in (parent, NO_PARENT)
            is_random = result.offspring.operators[slot] == operator_bit("initial")
            assert is_random == (parent == NO_PARENT), "and only a class without an elite draws at random"
            assert {int(c) for c in result.placements.cells[result.placements.slots == slot]} <= {turn % 10}
            bred[parent != NO_PARENT] += 1
            turn += 1  # the classes in turn, over the whole run
        now = zip(result.placements.cells.tolist(), result.placements.slots.tolist())
        holders.append({**(holders or [{}])[-1], **{c: int(individual_id(generation, s)) for c, s in now}})
    assert bred[True] > 50 and bred[False] > 2 * 4  # ten classes, of which the first eight images leave some empty
    assert len(holders[-1]) == 10


def test_of_a_class_with_bins_each_filled_cell_may_be_the_parent(config: Config) -> None:
    breeder = evofool.make_search(in_mode(config, "single_class", "search.offspring=90"))._breeder
    breeder.cells = Cells(np.arange(3), bins=3)
    elites = np.array([-1, 7, -1, -1, -1, -1, 5, 6, 5])  # of class 0 one cell, of class 1 none, of class 2 all
    odds = np.zeros(9, dtype=np.float32)
    parents = breeder.select(Archive(elites, odds, odds, odds > 0), 2, 90).reshape(30, 3, 2)  # classes in turn
    turn = (np.arange(3) - 2 * 4) % 3  # eight images came before, so generation 2 begins with class 2
    assert set(parents[:, turn[0]].flat) == {7} and set(parents[:, turn[1]].flat) == {NO_PARENT}
    assert set(parents[:, turn[2]].flat) == {5, 6} and np.ptp(parents[:, turn[2]], axis=1).any()


def test_a_random_search_breeds_nothing_and_its_archive_keeps_the_best(config: Config) -> None:
    results = results_of(in_mode(config, "random", "encoding.kind=direct"))
    assert [len(result.offspring) for result in results] == [4, 4, 17, 17, 17, 17, 17]
    assert all((result.offspring.operators == operator_bit("initial")).all() for result in results)
    assert all((result.offspring.parents == NO_PARENT).all() for result in results)
    assert len({image.tobytes() for result in results for image in result.scores.image_sha256}) == 93
    best = np.max([result.scores.log_odds.max(axis=0) for result in results], axis=0)
    elites = {c: v for r in results for c, v in zip(r.placements.cells.tolist(), r.placements.log_odds.tolist())}
    np.testing.assert_array_equal([elites[cell] for cell in range(10)], best)


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "kind"), [("single_class", "cppn"), ("single_class", "direct"), ("random", "cppn")])
def test_controls_resume_replay_and_are_asked_and_told(config: Config, tmp_path: Path, mode: str, kind: str) -> None:
    settings = in_mode(config, mode, f"encoding.kind={kind}", "variation.crossover_rate=0.25")
    whole = evofool.run(settings, out=tmp_path / "whole")
    evofool.verify(whole.path, replay=7)
    evofool.run(settings, ["search.generations=3"], out=tmp_path / "parts")
    parts = evofool.resume(tmp_path / "parts", ["search.generations=7"])
    assert parts.archive_hash == whole.archive_hash

    target = open_target(settings.target, live=None).target
    shape = {"image_size": target.image_size, "channels": target.channels, "class_names": target.class_names}
    told = evofool.make_search(settings, **shape)  # type: ignore[arg-type]
    scored = evofool.make_search(settings)
    for _ in range(7):
        images = told.ask()
        told.tell(np.zeros((len(images), 10)) + np.arange(10), "logits")
        scored.toolbox.update(scored.toolbox.map(scored.toolbox.evaluate, scored.toolbox.generate()))
    assert scored.archive_hash.hex() == whole.archive_hash
    assert told.statistics is not None and told.statistics.filled == 10
    assert told.statistics.evaluations == scored.statistics.evaluations == 93  # type: ignore[union-attr]


def test_elites_of_runs_compete_for_every_class(config: Config, tmp_path: Path) -> None:
    """A merge of runs of single classes has the best of each class, whichever slot that elite gets."""
    settings = in_mode(config, "single_class")
    runs = [evofool.run(settings, [f"seed={seed}"], out=tmp_path / str(seed)) for seed in (1, 2)]
    merged = evofool.merge([run.path for run in runs], out=tmp_path / "both")
    best = [run.elites().set_index("class_index")["log_odds"] for run in (*runs, merged)]
    assert (best[2] >= np.maximum(best[0], best[1])).all()


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["search.mode=randm"], "search.mode: should be 'map_elites', 'single_class' or 'random'"),
        (["search.mode=random", "variation.operators={mutate: 'python:m.py:f'}"], "random breeds nothing"),
        (["search.mode=single_class", "variation.operators={select: 'python:m.py:f'}"], "each class's own elites"),
    ],
)
def test_what_a_mode_cannot_do_is_refused_in_a_sentence(config: Config, overrides: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as refused:
        load_config(config, overrides)
    assert refused.value.message.count("\n") == 0 and ": :" not in refused.value.message
