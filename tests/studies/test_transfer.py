"""The transfer study: what another network makes of a run's elites, and what is kept of the answer."""

from __future__ import annotations

import io
import itertools
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import Command
from PIL import Image

import evofool
from evofool.errors import ConfigError, CorruptData, IncompatibleRun, Stopped, TargetError
from evofool.evaluate import problem
from evofool.evaluate.evaluator import Evaluator
from evofool.evaluate.inline import InlinePool
from evofool.studies.shared import elites as shared_elites
from evofool.studies.shared import pictures, statistics
from evofool.studies.shared.chance import by_chance
from evofool.studies.study import conduct
from evofool.studies.transfer import STUDY, Options, summarise
from evofool.targets.checking.photographs import Photograph, fit
from evofool.targets.classes import match
from evofool.targets.numerics import default_numerics

pytestmark = pytest.mark.slow  # `make check` leaves them to `make test`

SURE = "source >= 0.9"
SHARES = ("same_top1", "class_is_top1", "both_99", "both_9999", "source_surer")


class Linear(torch.nn.Module):
    """One layer of fixed random weights; pixels where the mask is 0 are not seen."""

    def __init__(self, classes: int, size: tuple[int, int], channels: int, seed: int, mask: Any) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weight = torch.nn.Parameter(torch.randn(classes, channels, *size, generator=generator) * 0.3)
        self.register_buffer("mask", mask)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x * self.mask).flatten(1) @ self.weight.flatten(1).T


def network(
    names: Sequence[str] = tuple("abcdef"),
    size: tuple[int, int] = (12, 12),
    channels: int = 1,
    seed: int = 1,
    spec: str = "live",
    columns: slice = slice(None),
) -> evofool.Target:
    mask = torch.zeros(size)
    mask[:, columns] = 1
    preprocessing = evofool.Preprocessing(size, channels, (100.0,) * channels, (60.0,) * channels)
    return evofool.Target(Linear(len(names), size, channels, seed, mask), preprocessing, tuple(names), spec=spec)


def evolve(out: Path, target: evofool.Target, *overrides: str, generations: int = 6) -> evofool.Run:
    search = {"offspring": 30, "initial": 30, "generations": generations}
    config = {"target": {"spec": "live"}, "search": search, "evaluation": {"pool": "inline"}}
    return evofool.run(config, list(overrides), target=target, out=out)


@pytest.fixture(scope="module")
def shared_run(tmp_path_factory: pytest.TempPathFactory) -> evofool.Run:
    """A run that tests only add other targets to."""
    return evolve(tmp_path_factory.mktemp("shared") / "run", network())


@pytest.fixture
def collected(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Pictures that inline pools score, call by call."""
    counts: list[int] = []
    original = InlinePool.collect

    def collect(pool: InlinePool, generation: int) -> Any:
        scores = original(pool, generation)
        counts.append(len(scores))
        return scores

    monkeypatch.setattr(InlinePool, "collect", collect)
    return counts


# ------------------------------------------------------------------------------------------------------- what is told


def test_the_same_network_gives_the_archive_bit_for_bit(small_run: evofool.Run) -> None:
    elites = small_run.elites()
    rows = evofool.transfer(small_run, small_run.config.target.spec)
    assert list(rows["variant"].unique()) == ["same_pixels", "re_rendered"] and len(rows) == 20
    for _, part in rows.groupby("variant"):
        assert part["log_odds"].to_numpy().tobytes() == elites["log_odds"].to_numpy().tobytes()
        assert part["confidence"].to_numpy().tobytes() == elites["confidence"].to_numpy().tobytes()
        assert np.array_equal(part["top1_confidence"], elites["top1_confidence"])
        assert part["same_top1"].all() and (part["source_log_odds"].to_numpy() == elites["log_odds"].to_numpy()).all()
    for entry in summarise(rows):
        assert entry["same_top1"]["share"] == 1 and entry["source_surer"]["share"] == 0


def test_only_the_runs_own_network_is_scored_with_the_runs_numerics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = ("evaluation.micro_batch=7", "evaluation.chunk=14", "evaluation.memory_format=contiguous")
    run = evolve(tmp_path / "run", network(), *odd)
    seen: list[Any] = []

    class Watched(Evaluator):
        def __init__(self, target: Any, encoding: Any, class_indices: Any, numerics: Any, objective: Any) -> None:
            seen.append((numerics.micro_batch, numerics.chunk, numerics.memory_format))
            super().__init__(target, encoding, class_indices, numerics, objective)

    monkeypatch.setattr(problem, "Evaluator", Watched)
    rows = evofool.transfer(run, [network(), network(seed=2)])
    table = default_numerics("cpu", "any")
    assert seen == [(7, 14, "contiguous"), (table.micro_batch, table.chunk, table.memory_format)]
    assert rows["log_odds"][:12].to_numpy().tobytes() == np.tile(run.elites()["log_odds"], 2).tobytes()


def test_everything_transfers_to_a_copy_whose_classes_lie_otherwise(tmp_path: Path, shared_run: evofool.Run) -> None:
    order = [4, 2, 0, 5, 1, 3]
    plain = network()
    other = network(names=[plain.class_names[i] for i in order])
    with torch.no_grad():
        other.module.weight.copy_(plain.module.weight[order])
    rows = evofool.transfer(shared_run, other)
    assert rows["same_top1"].all()
    assert list(rows["target_class_index"][:6]) == [order.index(i) for i in range(6)]
    assert np.abs(rows["log_odds"] - rows["source_log_odds"]).max() < 1e-4
    assert [n == "abcdef"[i] for n, i in zip(rows["top1_class_name"], rows["source_top1_class_index"])] == [True] * 12


@pytest.mark.parametrize("kind", ["cppn", "direct"])
def test_nothing_transfers_to_a_network_blind_to_it(tmp_path: Path, kind: str) -> None:
    names = [f"class {i}" for i in range(40)]
    left = network(names, columns=slice(0, 6), seed=1)
    right = network(names, columns=slice(6, 12), seed=2)
    run = evolve(tmp_path / "run", left, f"encoding.kind={kind}", generations=20)
    same, other = (summarise(evofool.transfer(run, t, variants=["same_pixels"]))[0] for t in (left, right))
    assert same["class_is_top1"]["share"] > 0.5
    # Chance is 1 of 40; more than five of 40 would be of probability 0.0005.
    assert other["class_is_top1"]["count"] <= 5 and other["n"] == 40


NETWORKS: dict[str, dict[str, Any]] = {
    "same size": {"seed": 2},
    "larger": {"size": (19, 23), "seed": 3},
    "smaller": {"size": (7, 5), "seed": 4},
    "colour": {"channels": 3, "seed": 5},
    "larger, in colour, other classes": {
        "size": (20, 20),
        "channels": 3,
        "names": ["x", "c", "a", "y", "f"],
        "seed": 6,
    },
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("coloured", [False, True])
def test_rows_are_what_a_plain_loop_finds(tmp_path: Path, name: str, coloured: bool) -> None:
    """PIL and the bare network, elite by elite."""
    source = network(channels=3 if coloured else 1)
    run = evolve(tmp_path / "run", source, "encoding.coordinates=raw")
    target = network(**NETWORKS[name])
    height, width = target.image_size
    rows = evofool.transfer(run, target)
    assert list(rows["class_name"]) == list("abcdef") * 2
    for row in rows.to_dict("records"):
        elite = run.elite(row["class_name"])
        if row["variant"] == "same_pixels" or target.image_size == source.image_size:
            picture = Image.open(io.BytesIO(elite["image"]["bytes"]))
        else:
            picture = Image.fromarray(run.image(row["class_name"], (height, width)).squeeze())
        picture = picture.convert("L" if target.channels == 1 else "RGB")
        if picture.size != (width, height):
            picture = picture.resize((width, height), Image.Resampling.BILINEAR)
        pixels = torch.from_numpy(np.array(picture, dtype=np.float32).reshape(height, width, target.channels))
        with torch.inference_mode():
            z = target.module((pixels.movedim(-1, 0)[None] - 100) / 60)[0].double()
        assert (row["height"], row["width"], row["channels"]) == (height, width, target.channels)
        assert row["top1_class_index"] == int(z.argmax())
        assert row["top1_class_name"] == target.class_names[int(z.argmax())]
        assert pd.isna(row["same_top1"]) == (row["source_top1_class_name"] not in target.class_names)
        if not pd.isna(row["same_top1"]):
            assert row["same_top1"] == (row["source_top1_class_name"] == row["top1_class_name"])
        if row["class_name"] not in target.class_names:
            without = ("confidence", "log_odds", "margin", "rank", "class_is_top1", "target_class_index")
            assert all(pd.isna(row[column]) for column in without)
            continue
        c = target.class_names.index(row["class_name"])
        others = torch.cat([z[:c], z[c + 1 :]])
        assert row["target_class_index"] == c and row["rank"] == 1 + int((others > z[c]).sum())
        assert row["class_is_top1"] == (row["rank"] == 1)
        assert row["margin"] == pytest.approx(float(z[c] - others.max()), abs=1e-3, rel=1e-4)
        assert row["log_odds"] == pytest.approx(float(z[c] - others.logsumexp(0)), abs=1e-3, rel=1e-4)
        assert row["confidence"] == pytest.approx(float(z.softmax(0)[c]), abs=1e-4)
        assert row["source_confidence"] == elite["confidence"] and row["individual_id"] == elite["individual_id"]


def test_ties_go_to_the_lower_index_in_rank_as_in_top1(tmp_path: Path, shared_run: evofool.Run) -> None:
    flat = network(seed=7)
    with torch.no_grad():
        flat.module.weight.zero_()
    rows = evofool.transfer(shared_run, flat, variants=["same_pixels"])
    assert list(rows["rank"]) == [1, 2, 3, 4, 5, 6] and list(rows["class_is_top1"]) == [True] + [False] * 5
    assert (rows["margin"] == 0).all()


class Fragile(Linear):
    """Gives NaN for half of the pictures, by their content."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = super().forward(x)
        return torch.where((x.sum(dim=(1, 2, 3), keepdim=False) > self.limit)[:, None], torch.nan, z)


def test_a_picture_without_finite_scores_has_not_transferred(tmp_path: Path, shared_run: evofool.Run) -> None:
    plain = network(seed=8)
    sums = [((shared_run.image(c) - 100.0) / 60).sum() for c in "abcdef"]
    module = Fragile(6, (12, 12), 1, 8, torch.ones(12, 12))
    module.limit = float(np.median(sums))
    rows = evofool.transfer(shared_run, replace(plain, module=module), variants=["same_pixels"])
    bad = np.array(sums) > np.median(sums)
    assert list(rows["top1_class_index"].isna()) == list(bad) and 0 < bad.sum() < 6
    assert list(rows["confidence"].isna()) == list(bad) and list(rows["rank"].isna()) == list(bad)
    assert not rows["class_is_top1"][bad].any() and not rows["same_top1"][bad].any()
    entry = summarise(rows)[0]
    assert entry["not_finite"] == bad.sum() and entry["class_is_top1"]["n"] == 6


def test_names_decide_which_class_is_which() -> None:
    assert match({0: "a", 1: "b", 2: "c"}, ("c", "x", "a")) == {0: 2, 2: 0}
    assert match({1: "b"}, ("b",)) == {1: 0}
    # A name borne twice is matched at its own index, or not at all.
    assert match({0: "crane", 1: "b", 2: "crane"}, ("crane", "b", "crane")) == {0: 0, 1: 1, 2: 2}
    assert match({0: "crane", 1: "b"}, ("b", "crane", "crane")) == {1: 0}
    assert match({0: "crane", 1: "crane"}, ("b", "crane")) == {1: 1}
    assert match({0: "a"}, ("b",)) == {}
    # Where both know their ids in WordNet, these decide.
    assert match({0: "crane", 1: "b"}, ("b", "crane"), {0: "n1", 1: "n2"}, ("n1", "n3")) == {0: 0}


# -------------------------------------------------------------------------------------------------------- the pictures


@pytest.mark.parametrize("size", [(9, 14), (28, 31)])
def test_fitting_is_bilinear_with_antialiasing_of_the_whole_picture(size: tuple[int, int]) -> None:
    image = np.random.default_rng(1).integers(0, 256, (20, 17, 3), dtype=np.uint8)
    fitted = pictures.fitted(image, size, 3)
    x = torch.from_numpy(image).movedim(-1, 0)[None].double()
    expected = torch.nn.functional.interpolate(x, size=size, mode="bilinear", antialias=True, align_corners=False)
    assert fitted.shape == (*size, 3) and fitted.dtype == np.uint8
    assert np.abs(fitted - expected[0].movedim(0, -1).numpy()).max() <= 1.01


def test_fitting_changes_nothing_that_fits_and_only_the_channels_that_do_not() -> None:
    image = np.random.default_rng(2).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    grey = image[:, :, :1]
    assert np.array_equal(pictures.fitted(image, (5, 6), 3), image)
    assert np.array_equal(pictures.fitted(grey, (5, 6), 1), grey)
    assert np.array_equal(pictures.fitted(grey, (5, 6), 3), np.repeat(grey, 3, axis=2))
    luma = image @ np.array([0.299, 0.587, 0.114])
    assert np.abs(pictures.fitted(image, (5, 6), 1)[:, :, 0] - luma).max() <= 0.51


@pytest.mark.parametrize("coordinates", ["unit", "raw"])
def test_a_cppn_drawn_larger_is_the_same_picture(tmp_path: Path, coordinates: str) -> None:
    run = evolve(tmp_path / "run", network(), f"encoding.coordinates={coordinates}")
    for elite in run.elites().to_dict("records"):
        # Twice the resolution between the same corners: every second pixel has the old coordinates.
        large = pictures.redrawn(elite, (23, 23), dict)[::2, ::2].astype(int)
        assert np.abs(large - pictures.archived(elite)).max() <= 1
        assert np.array_equal(pictures.redrawn(elite, (12, 12), dict), pictures.archived(elite))


def test_a_direct_genome_is_enlarged_pixel_by_pixel(tmp_path: Path) -> None:
    run = evolve(tmp_path / "run", network(), "encoding.kind=direct")
    for elite in run.elites().to_dict("records"):
        large = pictures.redrawn(elite, (24, 36), dict)
        assert np.array_equal(large, np.kron(pictures.archived(elite), np.ones((2, 3, 1), dtype=np.uint8)))
        assert np.array_equal(large, run.image(elite["class_name"], (24, 36)))


def test_a_damaged_picture_is_not_scored(shared_run: evofool.Run) -> None:
    elite = shared_run.elites().to_dict("records")[0]
    with pytest.raises(CorruptData, match="class a is not the one that was scored"):
        pictures.archived({**elite, "image_sha256": "0" * 64})


# --------------------------------------------------------------------------------------------------------- what is kept


def table(run: evofool.Run) -> pd.DataFrame:
    return pd.read_parquet(run.path / "_studies" / "transfer.parquet")


def test_a_second_call_scores_only_what_is_missing(tmp_path: Path, collected: list[int]) -> None:
    run = evolve(tmp_path / "run", network())
    one, two = network(seed=2), network(seed=3, size=(9, 9))
    collected.clear()
    individuals = run.elites()["individual_id"].nunique()
    first = evofool.transfer(run, one, variants=["same_pixels"])
    assert collected == [individuals]  # who holds several cells is scored once
    both = evofool.transfer(run, [one, two])
    assert collected == [individuals] * 4  # `one` drawn anew, and both variants of `two`
    assert both[:6].equals(first) and len(both) == 24

    before = (run.path / "_studies" / "transfer.parquet").read_bytes()
    said: list[str] = []
    again = evofool.transfer(run, [one, two], tell=said.append)
    assert again.equals(both) and len(collected) == 4 and all("nothing new" in text for text in said)
    assert (run.path / "_studies" / "transfer.parquet").read_bytes() == before
    assert evofool.transfer(run, [two, one])["to_fingerprint"].iloc[0] == two.fingerprint()
    assert table(run).equals(both)

    # Another archive is scored anew; the rows of the old one stay.
    target = network()
    longer = evofool.run(run.config, ["search.generations=30"], target=target, out=run.path)
    newer = evofool.transfer(longer, one)
    assert longer.archive_hash != first["archive_hash"].iloc[0]
    assert set(newer["archive_hash"]) == {longer.archive_hash} and set(newer["as_of_generation"]) == {29}
    assert len(table(run)) == 24 + 12 and set(table(run)["as_of_generation"]) == {5, 29}


def test_what_is_kept_is_a_tidy_table_beside_the_elites(shared_run: evofool.Run) -> None:
    names = ["c", "a", "other"]
    evofool.transfer(shared_run, network(names, seed=11))
    frame = table(shared_run)
    assert frame.attrs["evofool"] == {"study": "transfer", "run_id": shared_run.provenance["run_id"]}
    assert frame["rank"].dtype == "Int32" and frame["same_top1"].dtype == "boolean"
    assert frame["confidence"].dtype == np.float32
    for path in (shared_run.path, shared_run.path / "elites"):
        elites = pd.read_parquet(path)
        assert len(elites) == 6 and "variant" not in elites.columns
    assert evofool.verify(shared_run.path, target=network())["bit_for_bit"] == 6


class Failing(Linear):
    """Works for a canary, and raises what it is told for pictures."""

    problem: type[BaseException] = RuntimeError

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls = getattr(self, "calls", 0) + 1
        if self.calls > 1:
            raise self.problem("out of order")
        return super().forward(x)


@pytest.mark.parametrize(("problem", "error"), [(RuntimeError, TargetError), (KeyboardInterrupt, Stopped)])
def test_a_half_done_study_goes_on(tmp_path: Path, collected: list[int], problem: Any, error: Any) -> None:
    run = evolve(tmp_path / "run", network())
    one, two = network(seed=2), network(seed=3)
    module = Failing(6, (12, 12), 1, 3, torch.ones(12, 12))
    module.problem = problem
    with pytest.raises(error) as raised:
        evofool.transfer(run, [one, replace(two, module=module)])
    assert raised.value.exit_code == {TargetError: 6, Stopped: 130}[error]
    parts = run.path / "_studies" / "transfer.parts"
    assert f"2 new groups of rows, in {parts}" == raised.value.safe and "same command" in str(raised.value.go_on)
    assert set(pd.read_parquet(parts)["to_fingerprint"]) == {one.fingerprint()}
    collected.clear()
    assert len(evofool.transfer(run, [one, two])) == 24
    assert len(collected) == 1  # the second, once: at its own size both variants are one picture
    assert len(table(run)) == 24 and not parts.exists()


def test_a_damaged_table_is_refused_with_the_way_out(tmp_path: Path) -> None:
    run = evolve(tmp_path / "run", network())
    evofool.transfer(run, network(seed=2))
    path = run.path / "_studies" / "transfer.parquet"
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(CorruptData, match=r"transfer\.parquet.*Move it away"):
        evofool.transfer(run, network(seed=2))
    path.unlink()
    assert len(evofool.transfer(run, network(seed=2))) == 12


def test_a_live_target_is_left_as_it_was(shared_run: evofool.Run) -> None:
    target = network(seed=12)
    target.module.train()
    evofool.transfer(shared_run, target)
    assert target.module.training and target.module.weight.is_contiguous()


# -------------------------------------------------------------------------------------------------------------- sums


def test_intervals_are_wilsons() -> None:
    # Newcombe, Statistics in Medicine 17, 1998, table I, method 3.
    for count, n, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):
        assert statistics.wilson(count, n) == pytest.approx((low, high), abs=5e-5)
    assert statistics.wilson(0, 0) == (None, None)


def test_the_summary_counts_what_it_says() -> None:
    confidences = [(0.99995, 0.99995), (0.95, 0.999), (0.995, 0.992), (0.5, 0.1), (0.97, None), (0.91, 0.2)]
    rows = pd.DataFrame(confidences, columns=["source_confidence", "confidence"]).assign(
        to="t",
        to_fingerprint="f",
        variant="same_pixels",
        run_id="r",
        individual_id=[1, 1, 2, 3, 4, 5],
        class_name=list("abcdef"),
        source_top1_class_name=[*"abcda", None],
        top1_class_name=list("abcaaa"),
        rank=pd.array([1, 1, 1, 3, None, 2], dtype="Int32"),
        target_class_index=pd.array([0, 1, 2, 3, None, 5], dtype="Int32"),
        top1_class_index=pd.array([0, 1, 2, 0, 0, 0], dtype="Int32"),
        class_is_top1=pd.array([True, True, True, False, None, False], dtype="boolean"),
        same_top1=pd.array([True, True, True, False, True, None], dtype="boolean"),
        source_log_odds=[9.9, 2.9, 5.3, 0.0, 3.4, 2.3],
        log_odds=[9.8, 6.9, 4.8, -2.2, None, -1.4],
    )
    everything, sure, *_ = summarise(rows)
    assert (everything["elites"], everything["n"], everything["individuals"]) == ("all", 6, 5)
    assert everything["without_class"] == 1 and everything["median_confidence"] == pytest.approx(0.992)
    counts = {name: (everything[name]["count"], everything[name]["n"]) for name in SHARES}
    assert counts == {
        "same_top1": (4, 5),
        "class_is_top1": (3, 5),
        "both_99": (2, 5),
        "both_9999": (1, 5),
        "source_surer": (2, 3),
    }
    besides = {row["figure"]: row["value"] for row in everything["besides"]}
    assert besides["same_by_chance"] == pytest.approx(8 / 25)  # three answers a of five, two a of five by the source
    assert besides["excess_of_same"] == pytest.approx(4 / 5 - 8 / 25)
    assert (sure["n"], sure["class_is_top1"]["n"]) == (5, 4)
    empty = summarise(rows[rows["source_confidence"] < 0.9])[1]
    assert empty["n"] == 0 and empty["class_is_top1"] == {"share": None, "low": None, "high": None, "count": 0, "n": 0}


def test_chance_is_what_permuted_classes_give() -> None:
    made, said, runs = list("aabbcc"), list("aabbca"), [1] * 6
    facts = by_chance(made, said, runs)
    everything = [np.mean([a == b for a, b in zip(order, said)]) for order in itertools.permutations(made)]
    assert facts["value"] == pytest.approx(np.mean(everything)) and facts["low"] <= facts["value"] <= facts["high"]
    assert facts["p"] == pytest.approx(np.mean(np.array(everything) >= 5 / 6), abs=0.03)
    # Within blocks of one class nothing can be exchanged, and all that agrees is chance.
    assert by_chance(made, said, made)["value"] == 5 / 6 and by_chance(made, said, made)["p"] == 1
    assert by_chance(made, [None] * 6, runs)["value"] == 0 and by_chance([], [], [])["value"] is None


def test_one_network_for_another_agrees_in_all_and_two_halves_by_chance(tmp_path: Path) -> None:
    """studies.md, A9: identical networks, and two that see disjoint halves of the picture."""
    names = [f"c{i}" for i in range(40)]
    left, right = network(names, columns=slice(0, 6)), network(names, columns=slice(6, 12), seed=2)
    run = evolve(tmp_path / "run", left, "search.objective=top1_required", generations=25)
    same, other = (
        {r["figure"]: r for r in summarise(evofool.transfer(run, by, variants=["same_pixels"]))[0]["besides"]}
        for by in (left, right)
    )
    top1 = float((run.elites()["class_index"] == run.elites()["top1_class_index"]).mean())
    assert same["excess"]["value"] + same["chance"]["value"] == pytest.approx(top1) and same["excess"]["p"] < 0.01
    for chance, excess in (("chance", "excess"), ("same_by_chance", "excess_of_same")):
        by = other[chance]
        assert by["low"] <= other[excess]["value"] + by["value"] <= by["high"]
    assert same["excess_of_same"]["value"] + same["same_by_chance"]["value"] == 1
    assert "same_super_class" not in other  # of which nothing is known here


def test_photographs_stand_in_the_place_of_elites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(1)
    samples = [
        Photograph(f"{name}.png", generator.integers(0, 256, (30, 40, 3), dtype=np.uint8), (name,)) for name in "abdz"
    ]
    samples.append(Photograph("two.png", samples[0].image, ("a", "b")))  # no label: either is right
    monkeypatch.setattr(shared_elites, "photographs", lambda: samples)
    one, two = network(channels=3), network(names="bac", channels=3, size=(10, 10), seed=5)
    run = evolve(tmp_path / "run", one)
    options = Options((two,), ("same_pixels",), photographs=True)  # type: ignore[arg-type]
    outcome = conduct("transfer", [run], options, live=[one])
    rows = outcome.frame[outcome.frame["variant"] == "photographs"].reset_index()
    assert list(rows["class_name"]) == ["a", "b", "d"] and rows["target_class_index"].tolist()[:2] == [1, 0]
    for row, sample in zip(rows.itertuples(), samples):
        for by, index in ((one, row.source_top1_class_index), (two, row.top1_class_index)):
            assert index == by.outputs(torch.from_numpy(fit(by, sample.image).copy())[None])[0].argmax()
    assert pd.isna(rows["target_class_index"][2]) and pd.isna(rows["rank"][2])
    assert {r["variant"] for r in outcome.summary} == {"same_pixels", "photographs"}
    monkeypatch.setattr(shared_elites, "photographs", lambda: samples[3:])
    with pytest.raises(ConfigError, match="--photographs: there is none of a class of live; foolbox"):
        conduct("transfer", [run], replace(options, to=(network(channels=3, seed=9),)), live=[one])


# ------------------------------------------------------------------------------------------------------------ matrix


def test_the_matrix_shows_every_run_to_every_other_target(tmp_path: Path) -> None:
    one, two, three = network(seed=1), network(seed=2), network(names=["x", "y"], seed=3)
    runs = [evolve(tmp_path / f"run{i}", t, f"seed={i}") for i, t in enumerate((one, one, two, three))]
    out = tmp_path / "out"
    frame = evofool.matrix(runs, targets=[one, two, three], out=out).set_index(["source_fingerprint", "to_fingerprint"])
    assert len(frame) == 9 and frame["source"].nunique() == 3
    own = pd.concat([run.elites() for run in runs[:2]])
    home = frame.loc[(one.fingerprint(), one.fingerprint())]
    assert (home["runs"], home["n"]) == (2, 12) and home["median_confidence"] == own["confidence"].median()
    assert home["class_is_top1"] == (own["class_index"] == own["top1_class_index"]).mean()
    away = frame.loc[(one.fingerprint(), two.fingerprint())]
    rows = pd.concat([evofool.transfer(run, two, variants=["same_pixels"]) for run in runs[:2]])
    assert away["class_is_top1"] == rows["class_is_top1"].mean() and away["n"] == 12
    assert away["low"] < away["class_is_top1"] < away["high"]
    assert away["median_confidence"] == pytest.approx(rows["confidence"].median())
    nothing = frame.loc[(one.fingerprint(), three.fingerprint())]  # no class in common
    assert nothing["n"] == 0 and np.isnan(nothing["class_is_top1"]) and np.isnan(nothing["median_confidence"])
    assert (out / "transfer.svg").read_text().count(">–</text>") == 8  # pairs without a value, on two heat maps
    again = evofool.matrix(runs, targets=[one, two, three], out=out)
    assert again.equals(frame.reset_index()[again.columns])


def test_a_matrix_refuses_what_it_cannot_show(tmp_path: Path) -> None:
    run = evolve(tmp_path / "run", network())
    with pytest.raises(ConfigError, match="live module; give it again"):
        evofool.matrix([run, evolve(tmp_path / "other", network(seed=2))], targets=[network()], out=tmp_path)
    with pytest.raises(ConfigError, match="at least two targets"):
        evofool.matrix([run, run], targets=[network()], out=tmp_path)
    with pytest.raises(ConfigError, match="same_pixels or re_rendered"):
        evofool.matrix([run, run], variant="both", targets=[network()], out=tmp_path)


# ---------------------------------------------------------------------------------------------------- the command line


NET = """
import torch, evofool

def build(seed=1, size=(12, 12), names=("a", "b", "c", "d")):
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(size[0] * size[1], len(names)))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return evofool.Target(net, evofool.Preprocessing(size, 1, (0.0,), (255.0,)), names)

def two():
    return build(2, (15, 10), ("b", "c", "d", "e"))

def alien():
    return build(3, names=("x", "y"))

def broken():
    return evofool.Target(torch.nn.Conv2d(3, 1, 1), evofool.Preprocessing((12, 12), 1, (0.0,), (255.0,)), ("a", "b"))
"""


@pytest.fixture
def nets(tmp_path: Path) -> Path:
    path = tmp_path / "nets.py"
    path.write_text(NET)
    return path


def coded(nets: Path, name: str, out: Path, seed: int = 1) -> evofool.Run:
    search = {"offspring": 40, "initial": 40, "generations": 6}
    config = {"target": {"spec": f"python:{nets}:{name}"}, "search": search, "evaluation": {"pool": "inline"}}
    return evofool.run(config, [f"seed={seed}"], out=out, allow_code=True)


def test_the_command_prints_shares_with_intervals_and_counts(command: Command, nets: Path, tmp_path: Path) -> None:
    run = coded(nets, "build", tmp_path / "run")
    other = f"python:{nets}:two"
    code, out, err = command("study", "transfer", run.path, "--to", other, "--allow-code", "--json")
    data = json.loads(out)
    assert code == 0 and data["rows"] == 8 and "4 elites scored" in err and "no class for 1 of them" in err
    figures = {(r["variant"], r["elites"], r["figure"]): r for r in data["summary"]}
    assert {key[:2] for key in figures} == {(v, e) for v in ("same_pixels", "re_rendered") for e in ("all", SURE)}
    assert figures["same_pixels", "all", "without_class"]["value"] == 1
    assert figures["same_pixels", "all", "class_is_top1"]["n"] == 3
    code, out, err = command("study", "transfer", run.path, "--to", other, "--allow-code")
    assert code == 0 and "nothing new to score" in err
    assert out.count("class_is_top1") == 4 and " to 0." in out and "% (95 % interval " in out and " of 3 elites" in out
    assert "without_class" in out and "individuals" in out and "_studies/transfer.parquet" in out
    assert len(re.findall(rf"^{re.escape(other)} ", out, re.MULTILINE)) == 4  # once for each of its groups


def test_elites_that_nobody_is_sure_of_have_no_summary_of_the_sure(shared_run: evofool.Run) -> None:
    frame = evofool.transfer(shared_run, network(seed=2), variants=["same_pixels"])
    sure = pd.Series([0.95] + [0.1] * (len(frame) - 1))
    for confidence, groups in ((sure, {"all", SURE}), (sure * 0, {"all"}), (sure * 0 + 1, {"all"})):
        summary = STUDY.summarise(frame.assign(source_confidence=confidence))
        assert {row["elites"] for row in summary} == groups


def test_the_command_refuses_with_the_right_exit_code(command: Command, nets: Path, tmp_path: Path) -> None:
    run = coded(nets, "build", tmp_path / "run")
    for arguments, expected, text in (
        (["--to", f"python:{nets}:two"], 2, "--allow-code"),
        (["--to", f"python:{nets}:alien", "--allow-code"], 2, "none of the 4 classes"),
        (["--to", f"python:{nets}:broken", "--allow-code"], 6, "the network raised"),
        (["--to", "lenet:nowhere.safetensors"], 2, "--to: no file nowhere.safetensors"),
        (["--to", "nonsense"], 2, "names no kind of target"),
        (["--to", f"python:{nets}:two", "--allow-code", "--pool", "cloud"], 2, "inline or ray"),
        ([], 2, "--to"),
    ):
        code, _, err = command("study", "transfer", run.path, *arguments)
        assert code == expected and text in err, (arguments, err)
    assert command("study", "transfer", tmp_path / "nowhere", "--to", "lenet:x")[0] == 2
    assert not (run.path / "_studies").exists()
    code, _, err = command("study", "transfer", run.path, run.path, "--allow-code", "--out", tmp_path / "out")
    assert code == 2 and "give --to TARGET, or runs against at least two targets" in err
    code, _, err = command("study", "transfer", run.path, "--to", f"python:{nets}:two", "--allow-code", "--out", nets)
    assert code == 2 and f"{nets} is a file" in err
    assert not (tmp_path / "out").exists()


def test_the_command_writes_the_matrix_of_several_runs(command: Command, nets: Path, tmp_path: Path) -> None:
    paths = [coded(nets, name, tmp_path / name).path for name in ("build", "two")]
    keys = ["--out", tmp_path / "matrix", "--allow-code"]
    code, out, _ = command("study", "transfer", *paths, *keys)
    assert code == 0 and "class_is_top1" in out and "median_confidence" in out
    facts = json.loads((tmp_path / "matrix" / "transfer.json").read_text())
    assert {r["source"] for r in facts["summary"]} == {"python:nets.py:build", "python:nets.py:two"}
    svg = (tmp_path / "matrix" / "transfer.svg").read_text()
    assert "share whose class is the answer" in svg and "median confidence of the class" in svg
    assert len(pd.read_parquet(tmp_path / "matrix" / "transfer.parquet")) == 16
    assert not (paths[0] / "_studies").exists()
    code, out, _ = command("study", "transfer", *paths, *keys, "--json", "--variant", "re_rendered")
    shares = [r["n"] for r in json.loads(out)["summary"] if (r["figure"], r["elites"]) == ("class_is_top1", "all")]
    assert code == 0 and shares == [4, 3, 3, 4]
    nets.write_text(NET.replace("* 0.2", "* 0.3"))
    code, _, err = command("study", "transfer", *paths, *keys)
    assert code == 3 and "is not the one the run was made with" in err


def test_several_runs_are_shown_to_other_networks(command: Command, nets: Path, tmp_path: Path) -> None:
    paths = [coded(nets, "build", tmp_path / name, seed).path for seed, name in enumerate(("one", "two"))]
    keys = ["--to", f"python:{nets}:two", "--out", tmp_path / "out", "--allow-code", "--variant", "same_pixels"]
    code, out, _ = command("study", "transfer", *paths, *keys, "--json")
    whole = {r["figure"]: r["value"] for r in json.loads(out)["summary"] if r["elites"] == "all"}
    frame = pd.read_parquet(tmp_path / "out" / "transfer.parquet")
    assert code == 0 and frame["run_id"].nunique() == 2 and len(frame) == whole["elites"] == 8
    assert whole["individuals"] == len(frame[["run_id", "individual_id"]].drop_duplicates())


def test_the_matrix_wants_the_weights_the_runs_were_made_with(tmp_path: Path, nets: Path) -> None:
    runs = [coded(nets, name, tmp_path / name) for name in ("build", "two")]
    nets.write_text(NET.replace("* 0.2", "* 0.3"))
    with pytest.raises(IncompatibleRun):
        evofool.matrix(runs, allow_code=True, out=tmp_path / "out")


# ---------------------------------------------------------------------------------------------------------------- Ray


@pytest.fixture
def cluster() -> Iterator[None]:
    """A small Ray of our own, which evofool finds and must leave alone."""
    import ray

    options: dict[str, Any] = {"include_dashboard": False, "object_store_memory": 128 << 20, "log_to_driver": False}
    ray.init(address="local", num_cpus=2, **options)
    yield
    assert ray.is_initialized()
    ray.shutdown()


@pytest.mark.proof  # that any pool gives the same bits, tests/contract/test_pools.py shows
@pytest.mark.ray
@pytest.mark.slow
def test_over_ray_the_rows_are_the_same(tmp_path: Path, nets: Path, cluster: None, monkeypatch: Any) -> None:
    from evofool.studies.shared import elites

    monkeypatch.setattr(elites, "BATCH", 2)  # several batches in flight
    runs = [coded(nets, "build", tmp_path / name) for name in ("inline", "ray")]
    assert runs[0].archive_hash == runs[1].archive_hash
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(14 * 14 * 3, 4))  # travels itself
    live = evofool.Target(module, network(size=(14, 14), channels=3).preprocessing, tuple("abcd"))
    others = [f"python:{nets}:two", live]
    inline, over_ray = (
        evofool.transfer(run, others, pool=pool, allow_code=True) for run, pool in zip(runs, ("inline", "ray"))
    )
    assert inline.drop(columns="run_id").equals(over_ray.drop(columns="run_id")) and len(inline) == 16
