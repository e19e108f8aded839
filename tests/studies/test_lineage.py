"""Descent: hand-made ancestries with known counts, effects that were planted in simulated ones, and their absence."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import Command
from contract.planted import evolve, random_weight, target
from phylotrackpy import systematics
from PIL import Image
from scipy.stats import kstest

import evofool
from evofool.config import Config
from evofool.errors import ConfigError
from evofool.records import individual_id
from evofool.store import ancestry
from evofool.studies.shared import kinship, likeness, phylogeny, statistics, switches
from evofool.studies.shared.album import pooled, summarise
from evofool.studies.shared.pictures import archived
from evofool.studies.shared.statistics import ratio_interval, stouffer
from evofool.studies.study import conduct
from evofool.targets.zoo import imagenet

A, B = (int(individual_id(0, slot)) for slot in (0, 1))
C, D, E, F, G, H = (int(individual_id(g, slot)) for g, slot in ((1, 0), (2, 0), (2, 1), (3, 0), (3, 1), (4, 0)))
# (individual, generation, cell, displaced, parents): A took two cells, lost one, and bred from the other; so did G.
EIGHT = [
    *((A, 0, 0, None, []), (A, 0, 1, None, []), (B, 0, 2, None, [])),
    (C, 1, 0, A, [A]),  # from A's cell 0: no switch
    (D, 2, 0, C, [A]),  # from A's cell 1, when A had lost 0: a switch, but not to a class that A never held
    (E, 2, 1, A, [B]),  # a switch by all definitions
    (F, 3, 0, D, [D]),  # none
    *((G, 3, 1, E, [E]), (G, 3, 2, B, [E])),  # none; a switch by all definitions
    (H, 4, 2, G, [G]),  # from G's cell 1, when G held 2 as well: drawn alone
]
DRAWN = {(C, 0): 0, (D, 0): 1, (E, 0): 2, (F, 0): 0, (G, 0): 1, (H, 0): 1}


def placed(rows: list[Any]) -> pd.DataFrame:
    columns = ["individual_id", "generation", "cell", "displaced_id", "parent_ids"]
    frame = pd.DataFrame(rows, columns=columns).astype({"displaced_id": object})
    return frame.assign(class_index=frame["cell"], log_odds=0.0, confidence=0.5)


def counted(family: switches.Descent, window: int = 50, *, either: bool = False) -> Iterator[Any]:
    return switches.figures(family, sorted(family.class_of.values()), window, either=either)


def shares(rows: Any, figure: str) -> dict[str, float]:
    return {row["of"]: row["value"] for row in rows if row["figure"] == figure}


def tree_of(frame: pd.DataFrame) -> dict[int, int | None]:
    parents = dict(zip(frame["individual_id"], frame["parent_ids"]))
    return ancestry.first_parents(parents, parents)


def test_goal_switches_of_eight_individuals_by_each_definition() -> None:
    family = switches.descent(placed(EIGHT), 1, DRAWN, 3)
    assert not family.crossed
    rows = list(counted(family))
    assert shares(rows, "switch_share") == pytest.approx({"drawn": 4 / 7, "strict": 3 / 7, "first": 2 / 7})
    assert shares(rows, "goal_switches") == pytest.approx({"drawn": 4 / 3, "strict": 3 / 3, "first": 2 / 3})
    unknown = switches.descent(placed(EIGHT), 1, {}, 3)  # C and H came from one of two cells
    assert [child.drawn for child in unknown.children][::5] == [[{0: 0.5, 1: 0.5}], [{1: 0.5, 2: 0.5}]]
    assert shares(counted(unknown), "switch_share")["drawn"] == pytest.approx((0.5 + 3 + 0.5) / 7)


def test_chance_is_the_mean_over_all_ways_to_exchange_the_cells_that_parents_were_drawn_from() -> None:
    family = switches.descent(placed(EIGHT), 1, DRAWN, 3)
    # Of each child the classes it took, and those that the holder of each cell was holding when it was bred.
    took = [[0], [0], [1], [0], [1, 2], [2]]
    holding = [({0, 1}, {0, 1}, {2}), *[({0}, {1}, {2})] * 2, *[({0}, {1}, {2})] * 2, ({0}, {1, 2}, {1, 2})]
    every = []
    for drawn in itertools.permutations([0, 1, 2, 0, 1, 1]):
        every.append(np.mean([c not in h[d] for d, cells, h in zip(drawn, took, holding) for c in cells]))
    rows = list(counted(family))
    chance = next(row for row in rows if (row["figure"], row["of"]) == ("switch_share_by_chance", "strict"))
    assert chance["value"] == pytest.approx(np.mean(every))
    assert (chance["low"], chance["high"]) == pytest.approx(np.quantile(every, [0.025, 0.975]))
    alone = list(counted(family, window=1))  # children of one generation exchange with each other alone
    assert shares(alone, "switch_share_by_chance")["strict"] != pytest.approx(np.mean(every))


def test_a_second_parent_counts_where_either_does() -> None:
    family = switches.descent(placed([*EIGHT[:5], (E, 2, 1, A, [B, A])]), 1, {}, 3)
    assert family.crossed
    first, either = (shares(counted(family, either=each), "switch_share") for each in (False, True))
    assert (first["strict"], either["strict"]) == pytest.approx((2 / 3, 1 / 3))  # A still held class 1


@pytest.mark.slow
@pytest.mark.parametrize("selection", ["cells", "curiosity", "kinship", "individuals"])
def test_the_cell_that_a_parent_was_drawn_from_is_drawn_again(selection: str, tmp_path: Path) -> None:
    keys = [f"search.selection={selection}", "variation.crossover_rate=0.5", "encoding.kind=direct"]
    run = evolve(tmp_path / "run", target(random_weight(1, 12)), *keys)
    frame = run.placements()
    found = switches.drawn_cells(run.config, frame, 12)
    born = {one: parents for one, parents in zip(frame["individual_id"], frame["parent_ids"]) if len(parents)}
    assert len(born) > 30 and any(len(parents) == 2 for parents in born.values())
    wanted = {(one, i) for one, parents in born.items() for i in range(len(parents))}
    if selection == "individuals":
        wanted = set()
    elif selection == "kinship":  # the second was chosen among kin, not drawn
        wanted = {(one, i) for one, i in wanted if i == 0}
    assert set(found) == wanted


def test_distances_and_figures_of_eight_individuals() -> None:
    tree = tree_of(placed(EIGHT))
    generations = {one: one >> 24 for one in tree}
    # F, D, A and G, E, B meet nowhere; H's parent is G; one individual may own two cells.
    apart = kinship.distances(tree, [F, G, H, G], generations)
    assert apart.tolist() == [[0, 8, 9, 8], [8, 0, 1, 0], [9, 1, 0, 1], [8, 0, 1, 0]]
    assert kinship.common_ancestor(tree, [F, G]) is None and kinship.common_ancestor(tree, [G, H]) == G
    assert kinship.diversity(tree, [F, G, H]) == 5
    assert ancestry.line(tree, H) == [H, G, E, B]


@pytest.mark.slow
def test_the_csv_is_read_by_phylotrackpy_and_distances_are_its_own(tmp_path: Path) -> None:
    run = evolve(tmp_path / "run", target(random_weight(1, 12)), "encoding.kind=direct", generations=20)
    conduct("lineage", [run], load_options(export=str(tmp_path / "out")))
    frame = pd.read_csv(tmp_path / "out" / "ancestry_first.csv")
    elites = sorted(set(run.elites(pictures=False)["individual_id"]))
    assert frame.loc[np.isinf(frame["destruction_time"]), "id"].tolist() == elites
    theirs = systematics.Systematics(lambda one: one, True, True, False, False)
    theirs.load_from_file(str(tmp_path / "out" / "ancestry_first.csv"), "id")
    tree = tree_of(run.placements())
    mine = kinship.distances(tree, elites, {one: len(ancestry.line(tree, one)) - 1 for one in tree})
    roots = [ancestry.line(tree, one)[-1] for one in elites]
    same = np.equal.outer(roots, roots)
    taxa = {int(taxon.get_info()): taxon for taxon in theirs.get_active_taxa()}
    for (i, one), (j, other) in itertools.combinations(enumerate(elites), 2):
        if same[i, j]:
            assert theirs.get_pairwise_distance(taxa[one], taxa[other]) == mine[i, j]
    # All taxa but one, as if they were of one tree; a step less for each root beyond the first.
    assert theirs.get_phylogenetic_diversity() - (len(set(roots)) - 1) == kinship.diversity(tree, elites)
    picture = next((tmp_path / "out" / "lines").glob("0000_*.png"))
    assert Image.open(picture).width > 112


def load_options(**given: Any) -> Any:
    from evofool.studies.lineage import Options

    return Options(**given)


def test_the_standard_csv_of_eight_individuals() -> None:
    frame = placed(EIGHT)
    people = {
        row.individual_id: {
            "parent_ids": row.parent_ids,
            "generation": row.generation,
            "slot": 0,
            "operators": ["a", "b"],
            "nodes": None,
            "connections": None,
            "origin": None,
        }
        for row in frame.itertuples()
    }
    people[H]["parent_ids"] = [G, D]
    held = ancestry.holdings(frame)
    first = phylogeny.alife(people, held, [G, H], parents=1)
    assert first["id"].tolist() == [B, E, G, H]  # C, which no elite descends from, is left out
    assert first["ancestor_list"].tolist() == ["[none]", f"[{B}]", f"[{E}]", f"[{G}]"]
    assert first["destruction_time"].tolist() == [3, 3, math.inf, math.inf]
    full = phylogeny.alife(people, held, [G, H], parents=None)
    assert full["id"].tolist() == [A, B, D, E, G, H] and full["ancestor_list"].iloc[-1] == f"[{G},{D}]"


def simulated(seed: int, odds: float, classes: int = 30, children: int = 300) -> pd.DataFrame:
    """Placements of children that take cells at random, those of their parent's family of five with greater odds."""
    draw, rows, owner = np.random.default_rng(seed), [], {}
    for cell in range(classes):
        owner[cell] = int(individual_id(0, cell))
        rows.append((owner[cell], 0, cell, None, []))
    for generation in range(1, children + 1):
        own = int(draw.integers(classes))
        weights = np.where(np.arange(classes) // 5 == own // 5, odds, 1.0)
        child = int(individual_id(generation, 0))
        parent = owner[own]
        for cell in draw.choice(classes, draw.integers(1, 4), replace=False, p=weights / weights.sum()).tolist():
            rows.append((child, generation, cell, owner[cell], [parent]))
            owner[cell] = child
    return placed(rows)


def siblings(frame: pd.DataFrame, *, others_only: bool) -> Any:
    owners = frame.drop_duplicates("cell", keep="last").sort_values("cell")["individual_id"].tolist()
    tree = tree_of(frame)
    apart = kinship.distances(tree, owners, {one: one >> 24 for one in tree})
    return kinship.closer(apart, [cell // 5 for cell in range(len(owners))], others_only=others_only)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """199 permutations, and 100 resamples."""
    monkeypatch.setattr(statistics, "RESAMPLES", 100)
    for module in (kinship, switches, likeness):
        monkeypatch.setattr(module, "MOST", 199)
    monkeypatch.setattr(kinship, "FEWEST", 199)
    yield


def test_siblings_that_take_each_others_cells_are_found_to_be_kin() -> None:
    for others_only in (False, True):
        found = [siblings(simulated(seed, 5.0), others_only=others_only) for seed in range(5)]
        assert np.mean([row["value"] for row in found]) < 0 and found[0]["low"] < found[0]["value"] < found[0]["high"]
        assert stouffer(np.array([row["p"] for row in found])) < 0.001


@pytest.mark.slow
def test_without_an_effect_p_values_are_uniform(few: None) -> None:
    kin, switched = [], []
    for seed in range(200):
        frame = simulated(seed, 1.0, children=40)
        kin.append(siblings(frame, others_only=bool(seed % 2))["p"])
        if seed % 6:
            continue
        rows = counted(switches.descent(frame, 1, {}, 30))
        switched.append(next(r["p"] for r in rows if (r["figure"], r["of"]) == ("switch_excess", "strict")))
    assert kstest(kin, "uniform").pvalue > 0.01 and kstest(switched, "uniform").pvalue > 0.01


def test_switches_are_fewer_than_by_chance_where_families_keep_to_themselves() -> None:
    rows = list(counted(switches.descent(simulated(1, 5.0), 1, {}, 30)))
    excess = next(row for row in rows if (row["figure"], row["of"]) == ("switch_excess", "strict"))
    assert excess["high"] < 0 and excess["p"] < 0.01


def test_distances_go_with_wordnet_where_they_are_made_of_it() -> None:
    names = [*("Norfolk terrier", "Norwich terrier", "beagle", "tabby", "goldfish", "sports car", "minivan", "volcano")]
    synsets = kinship.synset_of(names, {}, range(len(names)))
    paths = kinship.path_distances([str(one) for one in synsets])
    assert paths[0, 1] == 2 and paths[0, 2] > 2 and (paths == paths.T).all() and (np.diag(paths) == 0).all()
    assert paths[0, 3] < paths[0, 5] and kinship.relatives(synsets)["super_class"][:2] == ["dog", "dog"]
    found = kinship.mantel((paths * 3 + 1).astype(int), paths)
    assert found is not None and found["value"] == pytest.approx(1) and found["p"] < 0.001
    assert kinship.mantel(np.ones((8, 8), dtype=int), paths) is None
    assert kinship.synset_of(["no such class"], {}, [0]) == [None] and kinship.relatives([None])["hypernym"] == [None]


def test_the_table_of_wordnet_has_the_siblings_that_were_counted() -> None:
    ids, above = imagenet.ids_of(imagenet.class_names()), imagenet.hypernyms()
    direct = pd.Series([above[one][0] for one in ids]).value_counts()
    words = imagenet.synset_words()
    assert (len(direct), int(direct[direct > 1].sum())) == (556, 663)
    assert {words[one]: int(n) for one, n in direct[:2].items()} == {"terrier": 18, "hound": 12}
    assert [one for one, up in above.items() if not up] == ["n00001740"] and set().union(*above.values()) <= set(above)


def test_elites_of_one_class_are_alike_where_they_are_and_not_where_they_are_not(few: None) -> None:
    draw = np.random.default_rng(1)
    of_class, noise = draw.normal(size=(8, 20)), draw.normal(size=(5, 8, 20))
    found, none = likeness.likeness(list(of_class + noise)), likeness.likeness(list(noise))
    assert found is not None and none is not None
    assert 0.5 < found["low"] < found["value"] and found["p"] == 1 / 200 and found["n"] == 40
    assert none["low"] < 0.5 < none["high"] and none["p"] > 0.01
    assert likeness.likeness([noise[0]]) is None
    ps = [likeness.likeness(list(draw.normal(size=(3, 6, 4))))["p"] for _ in range(100)]  # type: ignore[index]
    assert kstest(ps, "uniform").pvalue > 0.01


def test_vertical_bars_are_told_from_horizontal_ones() -> None:
    bars = np.zeros((28, 28, 1), dtype=np.uint8)
    bars[:, ::4] = 255
    assert likeness.across(bars) == 1 and likeness.across(bars.transpose(1, 0, 2)) == 0
    assert math.isnan(likeness.across(np.full((28, 28, 3), 7, dtype=np.uint8)))
    assert np.allclose(likeness.spectrum(bars), likeness.spectrum(np.roll(bars, 2, axis=1)), atol=1e-5)
    values = np.tile(np.array([0.9, 0.5, 0.45, 0.5, 0.55]), (9, 1)) + np.random.default_rng(1).normal(0, 0.02, (9, 5))
    out, usual = likeness.stands_out(values, 0), likeness.stands_out(values, 3)
    assert out["p"] < 0.001 < usual["p"] and out["low"] < out["value"] < out["high"]


def test_figures_of_runs_are_pooled() -> None:
    rows = pd.DataFrame({"value": [1.0, 3.0], "low": [0, 2], "high": [2, 4], "p": [0.04, 0.04], "n": [5, 6]})
    rows["null"] = "a null"
    told = pooled(rows, two_sided=False)
    assert (told["value"], told["n"], told["runs"], told["null"]) == (2, 11, 2, "a null") and told["p"] < 0.01
    assert pooled(rows[:1], two_sided=False)["high"] == 2
    assert stouffer(np.array([0.05, 0.05]), np.array([1.0, -1.0])) == pytest.approx(1)
    assert stouffer(np.array([1.0, *[0.001] * 4])) < 0.01  # one in which nothing was as far out does not outweigh four
    low, high = ratio_interval(np.arange(10.0), np.full(10, 10.0))
    assert low is not None and high is not None and low < 0.45 < high


@pytest.mark.slow
def test_elites_of_one_colour_have_no_direction(tmp_path: Path) -> None:
    keys = ["encoding.kind=direct", "search.lag=1"]
    by = target(random_weight(1, 6))
    runs = [evolve(tmp_path / str(seed), by, *keys, f"seed={seed}", generations=3) for seed in (1, 2)]
    outcome = conduct("lineage", runs, out=tmp_path / "out")
    told = [row for row in outcome.summary if row["figure"] == "across"]
    assert len(told) == 6 and all(row["n"] == 2 for row in told)
    blank = outcome.frame.assign(across=outcome.frame["across"].astype("Float64").mask(outcome.frame.index == 0))
    assert "across" not in {row["figure"] for row in summarise(blank)}


def test_elites_are_compared_by_a_layer_of_another_network(config: Config, lenet_file: Path, tmp_path: Path) -> None:
    runs = [evofool.run(config, [f"seed={seed}"], out=tmp_path / str(seed)) for seed in (1, 2)]
    other = f"lenet:{lenet_file}"
    outcome = conduct("lineage", runs, load_options(to=(other,), layer=("2",)), out=tmp_path / "out")
    rows = outcome.frame[outcome.frame["to"] == f"2 of {other}"].set_index("run_id")
    for run in runs:
        elite, row = run.elites().iloc[0], rows.loc[[run.provenance["run_id"]]].iloc[0]
        net, image = evofool.load_target(other), torch.tensor(archived(elite)).reshape(1, 1, 28, 28)
        x = (image.float() - net.preprocessing.mean[0]) / net.preprocessing.std[0]
        with torch.inference_mode():
            expected = net.module[:3](x).mean(dim=(2, 3))[0]
        assert row["class_index"] == elite["class_index"] and np.allclose(row["seen"], expected, atol=1e-4)
    alike = {row["of"] for row in outcome.summary if row["figure"] == "alike"}
    assert alike == {"blurred pixels", "spectrum", f"log-odds of {other}", f"2 of {other}"}
    with pytest.raises(ConfigError, match=r"--layer: .* name that as --to"):
        conduct("lineage", runs, load_options(layer=("2",)))
    with pytest.raises(ConfigError, match=r"--layer: .*features"):
        conduct("lineage", runs, load_options(to=(other,), layer=("features",)))


@pytest.mark.slow
def test_what_cannot_be_studied_is_said(command: Command, tmp_path: Path) -> None:
    by, direct = target(random_weight(1, 6)), "encoding.kind=direct"
    run = evolve(tmp_path / "random", by, direct, "search.mode=random", generations=3)
    code, _, err = command("study", "lineage", run.path)
    assert code == 2 and "nobody in it has a parent" in err
    with pytest.raises(ConfigError, match="there is nothing to study"):
        conduct("lineage", [run], tell=lambda text: None)
    with pytest.raises(ConfigError, match="--window: 1 children"):
        conduct("lineage", [run], load_options(window=1))
    kept = evolve(tmp_path / "kept", by, direct, generations=6)
    assert command("compact", kept.path, "--history", "lineage")[0] == 0
    outcome = conduct("lineage", [evofool.open_run(kept.path)])
    assert "switch_share" not in {row["figure"] for row in outcome.summary} and "ancestors" in outcome.sentence
    assert command("compact", kept.path, "--history", "elites")[0] == 0
    said = []
    with pytest.raises(ConfigError):
        conduct("lineage", [evofool.open_run(kept.path)], out=tmp_path / "other", tell=said.append)
    assert "storage.history has dropped ancestors" in said[0]
