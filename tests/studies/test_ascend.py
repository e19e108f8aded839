"""Ascent: networks whose summit is known, slopes that vanish, and what becomes of the pictures."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import evofool
from evofool.base.png import decode_png
from evofool.errors import ConfigError, TargetError
from evofool.studies.ascend import ascend
from evofool.studies.shared.ascent_findings import _share
from evofool.studies.shared.regularisers import blurred, total_variation, viewed
from evofool.studies.shared.rules import OBJECTIVES, Options, Rules
from evofool.studies.study import conduct
from evofool.targets.gradients import UPHILL

SIZE = (8, 8)
CONV = "conv"


class Linear(nn.Module):
    """Logits of a matrix; times a number, for slopes that vanish."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(torch.zeros(len(weight)) if bias is None else bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1) @ self.weight.T + self.bias


class Template(nn.Module):
    """The greatest match of a template anywhere, against a bias."""

    def __init__(self, template: torch.Tensor) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, template.shape, bias=False)
        self.conv.weight = nn.Parameter(template[None, None])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        best = self.conv(x).amax(dim=(2, 3))
        return torch.cat([best, torch.zeros_like(best)], dim=1)


class Rounded(Linear):
    """A network that is left by numpy on the way."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(super().forward(x).detach().numpy())


def target(module: nn.Module, classes: int, mean: float = 127.5) -> evofool.Target:
    names = tuple(f"class {i}" for i in range(classes))
    return evofool.Target(module, evofool.Preprocessing(SIZE, 1, (mean,), (60.0,)), names)


def random(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


LINEAR = target(Linear(random(1, 5, 64) * 0.3), 5)
SLOPE = random(5, 64).sign() * (0.1 + random(6, 64).abs())
ONE_SLOPE = target(
    Linear(torch.stack([SLOPE, torch.zeros(64)])), 2
)  # whose summit is the corner of the box it points to


def climbed(by: evofool.Target, out: Path, **rules: Any) -> pd.DataFrame:
    """The rows of an ascent with their pictures, and its sentence in each; no run is made of them."""
    outcome = conduct("ascend", [by], Options(**rules), out=out)
    frame = outcome.frame.assign(sentence=outcome.sentence)
    images = pd.read_parquet(outcome.files[0])["image"]
    return frame.assign(pixels=[None if i is None else decode_png(i["bytes"], "") for i in images])


# ------------------------------------------------------------------------------------------------------------ summits


@pytest.mark.parametrize(
    ("step", "start", "objective"),
    [("adam", "noise", "log_odds"), ("adam", "uniform", "logit"), ("progress", "grey", "margin")],
)
def test_a_linear_network_is_climbed_to_the_corner_of_the_box(
    step: str, start: str, objective: str, tmp_path: Path
) -> None:
    rules = {"steps": 60, "rate": 10.0, "rise": 100.0, "classes": ("class 0",)}
    frame = climbed(ONE_SLOPE, tmp_path, step=step, start=start, objective=objective, **rules)
    assert np.array_equal(frame["pixels"][0][:, :, 0], (SLOPE > 0).numpy().reshape(SIZE) * 255)


def test_what_excites_a_template_contains_it(tmp_path: Path) -> None:
    template = random(2, 4, 4).sign()
    frame = climbed(target(Template(template), 2), tmp_path, classes=("class 0",))
    picture = torch.from_numpy(frame["pixels"][0][:, :, 0].astype(np.float32))
    patches = picture.unfold(0, 4, 1).unfold(1, 4, 1).reshape(-1, 16)
    matches = [np.corrcoef(patch, template.flatten())[0, 1] for patch in patches.numpy()]
    assert max(matches) > 0.9


@pytest.mark.parametrize("canvas", ["fourier", "pixels"])
@pytest.mark.parametrize("more", [{"jitter": 1, "rotation": 5.0, "scale": 5.0}, {"tv": 0.1}])
def test_every_canvas_and_view_reaches_a_linear_networks_classes(
    canvas: str, more: dict[str, Any], tmp_path: Path
) -> None:
    frame = climbed(LINEAR, tmp_path, canvas=canvas, steps=60, **more)
    assert frame["is_top1"].all() and (frame["confidence"] > 0.9).all()
    # The picture after the last step is scored too, by a pass of its own or by one that gives a gradient as well.
    assert (frame["passes"] == (60 * 4 + 1 if "jitter" in more else 61 * 3)).all()


def test_cppns_climb_by_their_weights(tmp_path: Path) -> None:
    settings = {"target": {"spec": "live"}, "search": {"generations": 3, "offspring": 10, "initial": 20}}
    evolved = evofool.run({**settings, "evaluation": {"pool": "inline"}}, target=LINEAR, out=tmp_path / "evolved")
    frame = climbed(LINEAR, tmp_path / "run", canvas="cppn", genomes=str(evolved.path), steps=30)
    elites = evolved.elites().groupby("class_index")["log_odds"].max()
    before = frame["class_index"].map(elites)
    assert np.allclose(frame["start_log_odds"], before, atol=0.5) and (frame["log_odds"] > before + 1).all()


def test_units_are_climbed_to_in_place_of_classes(tmp_path: Path) -> None:
    by = target(Template(random(3, 3, 3)), 2)
    outcome, run = ascend(by, Options(readout=("conv:0", "conv:0@2,3")), out=tmp_path / "run")
    frame = outcome.frame
    assert run is None and frame["unit"].tolist() == ["conv:0", "conv:0@2,3"] and frame["layer"].eq("conv").all()
    # The greatest that a unit can give: white under positive weights, black under the others.
    kernel = by.module.conv.weight.detach().numpy()  # type: ignore[union-attr]
    most = np.where(kernel > 0, kernel * 127.5 / 60, kernel * -127.5 / 60).sum()
    assert frame["objective"][1] == pytest.approx(most, rel=1e-5)
    assert (frame["objective"] > frame["start_objective"]).all() and "median unit" in outcome.sentence
    assert frame["rules"].eq("activation, adam").all()


# -------------------------------------------------------------------------------------------------- slopes that vanish


def test_a_network_that_ignores_its_input_has_no_gradient_and_no_nan(tmp_path: Path) -> None:
    frame = climbed(target(Linear(torch.zeros(3, 64)), 3), tmp_path / "run", objective="softmax")
    assert (frame["note"] == "no gradient").all() and frame["confidence"].to_numpy() == pytest.approx(1 / 3)
    assert "the gradient is 0 everywhere" in frame["sentence"][0] and "nan" not in frame["sentence"][0].lower()


@pytest.mark.parametrize(
    ("bias", "step"), [(69.0, "adam"), (69.0, "progress"), (300.0, "adam")]
)  # p of 1e-30, and of what no float32 can tell from 0
def test_a_saturated_softmax_is_said_to_be_stuck_where_log_odds_move(bias: float, step: str, tmp_path: Path) -> None:
    by = target(Linear(random(4, 2, 64) * 2, torch.tensor([0.0, bias])), 2)
    rules = {"classes": ("class 0",), "step": step, "rise": 10.0, "rate": 8.0, "steps": 40}
    stuck = climbed(by, tmp_path / "stuck", objective="softmax", **rules)
    assert stuck["note"].tolist() == ["stuck"] and "1 are stuck" in stuck["sentence"][0]
    free = climbed(by, tmp_path / "free", objective="log_odds", **rules)
    assert free["note"].isna().all() and free["log_odds"][0] > stuck["log_odds"][0] + 50


def test_a_network_without_a_gradient_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match=r"no gradient to ascend \(.*detach.*\); give the network .* evofool run"):
        ascend(target(Rounded(random(1, 3, 64)), 3), out=tmp_path / "run")


# ------------------------------------------------------------------------------------------------- what is kept of it


def test_the_run_holds_the_pictures_and_is_verified(tmp_path: Path) -> None:
    outcome, run = ascend(LINEAR, Options(steps=10), out=tmp_path / "run")
    assert run is not None and run.provenance["encoding"] == "direct"
    elites = run.elites().set_index("class_index")
    rows = outcome.frame.set_index("class_index")
    assert (elites["log_odds"] >= rows["log_odds"]).all() and set(elites["image_sha256"]) <= set(rows["image_sha256"])
    assert evofool.verify(run.path, target=LINEAR)["bit_for_bit"] == 5
    assert len(evofool.transfer(run, target(Linear(random(1, 5, 64) * 0.2), 5), variants=["same_pixels"])) == 5
    again, same = ascend(LINEAR, Options(steps=10), out=tmp_path / "run")
    assert same is not None and same.archive_hash == run.archive_hash and again.sentence == outcome.sentence
    with pytest.raises(ConfigError, match="give another --out"):
        ascend(LINEAR, Options(steps=11), out=tmp_path / "run")


def test_a_climb_does_not_depend_on_its_company(tmp_path: Path) -> None:
    rules = {"steps": 8, "jitter": 1, "restarts": 2}
    whole = climbed(LINEAR, tmp_path / "whole", **rules)
    alone = climbed(LINEAR, tmp_path / "alone", batch=3, classes=("class 3", "class 1"), **rules)
    both = whole.merge(alone, on=["class_index", "restart"])
    assert len(both) == 4 and (both["image_sha256_x"] == both["image_sha256_y"]).all()


def test_an_objective_keeps_its_unit_where_pictures_are_scored_by_themselves(tmp_path: Path) -> None:
    frame = climbed(LINEAR, tmp_path, objective="softmax", jitter=1, steps=3)
    assert np.allclose(frame["objective"], frame["confidence"], atol=1e-6)


def test_steps_and_passes_are_those_at_which_a_level_was_reached(tmp_path: Path) -> None:
    outcome, _ = ascend(LINEAR, Options(steps=40), out=tmp_path / "run")
    table = pd.read_parquet(outcome.files[0])
    for row in table.itertuples(index=False):
        facts = dict(zip(table.columns, row))
        p = 1 / (1 + np.exp(-np.asarray(facts["curve"], dtype=float)))
        for level in ("0.9", "0.99"):
            step = int(np.argmax(p >= float(level)))
            assert facts[f"step_{level}"] == step and facts[f"passes_{level}"] == 1 + 3 * step
        assert p[facts["best_step"]] == p.max() and facts["log_odds"] == pytest.approx(max(facts["curve"]), abs=1e-3)


def test_evolution_stands_beside_it_on_the_axis_of_passes(tmp_path: Path) -> None:
    settings = {"search": {"offspring": 20, "initial": 20, "generations": 30}, "evaluation": {"pool": "inline"}}
    evolved = evofool.run({"target": {"spec": "live"}, **settings}, target=LINEAR, out=tmp_path / "evolved")
    outcome, _ = ascend(LINEAR, Options(beside=(str(evolved.path),), control=True, steps=40), out=tmp_path / "run")
    by = dict(list(outcome.frame.groupby("method")))
    placed, counted = evolved.placements(), evolved.history().set_index("generation")["evaluations"]
    for index, passes in by["evolution"].set_index("class_index")["passes_0.9"].items():
        mine = placed[(placed["class_index"] == index) & (placed["confidence"] >= 0.9)]
        assert passes == counted[mine["generation"].min()] / 5 if len(mine) else pd.isna(passes)
    shares = {r["method"]: r["value"] for r in outcome.summary if r["figure"] == "share_0.9"}
    assert shares["ascent"] == 1 and shares["shuffled gradients"] < 0.5
    ratio = next(r for r in outcome.summary if r["method"] == "evolution" and r["figure"] == "times_passes_0.9")
    paces = [part.set_index("class_index")["passes_0.9"].dropna() for part in (by["ascent"], by["evolution"])]
    assert ratio["value"] == (paces[1] / paces[0]).median() and ratio["null"] == 1.0
    assert json.loads(outcome.files[2].read_text())["sentence"].count("evolution") == 1


def test_runs_of_one_name_and_classes_asked_for_later_are_told_apart(tmp_path: Path) -> None:
    settings = {"search": {"offspring": 20, "initial": 20, "generations": 3}, "evaluation": {"pool": "inline"}}
    runs = [
        evofool.run(
            {"target": {"spec": "live"}, "seed": seed, **settings}, target=LINEAR, out=tmp_path / str(seed) / "a"
        )
        for seed in (1, 2)
    ]
    beside = tuple(str(run.path) for run in runs)
    climbed(LINEAR, tmp_path / "out", beside=beside, steps=2, classes=("class 0",))
    frame = climbed(LINEAR, tmp_path / "out", beside=beside, steps=2)
    assert frame[frame["method"] == "evolution"]["rules"].value_counts().tolist() == [5, 5]


def test_an_ascent_killed_before_its_pictures_were_scored_is_gone_on_with(tmp_path: Path) -> None:
    _, run = ascend(LINEAR, Options(steps=5), out=tmp_path / "run")
    assert run is not None
    wanted = run.archive_hash
    for commit in (run.path / "_evofool" / "commits").iterdir():
        commit.unlink()
    _, again = ascend(LINEAR, Options(steps=5), out=tmp_path / "run")
    assert again is not None and again.archive_hash == wanted


@pytest.mark.parametrize("reached", [0, 1])
def test_restarts_that_all_come_to_the_same_leave_an_interval(reached: int) -> None:
    share = _share(pd.Series([bool(reached)] * 6), pd.Series([0, 1, 2] * 2))
    assert share["value"] == reached and share["high"] - share["low"] > 0.3 and share["interval_over"] == "climbs"


# ------------------------------------------------------------------------------------------------------- regularisers

PIXELS = torch.arange(2 * 6 * 7, dtype=torch.float32).reshape(2, 6, 7, 1)


def test_views_without_bounds_are_the_pictures_and_shifts_are_whole_pixels() -> None:
    addresses = [(0, 0), (1, 0)]
    assert torch.allclose(viewed(PIXELS, Rules(), addresses, 3), PIXELS, atol=1e-4)
    shifted = viewed(PIXELS, Rules(jitter=1, seed=4), addresses, 3)
    inner = shifted[0, 1:-1, 1:-1, 0]
    moves = [PIXELS[0, 1 + y : 5 + y, 1 + x : 6 + x, 0] for y in (-1, 0, 1) for x in (-1, 0, 1)]
    assert any(torch.allclose(inner, move, atol=1e-3) for move in moves)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The picture of a climb without regularisers, (8, 8)."""
    frame = climbed(LINEAR, tmp_path_factory.mktemp("plain"), steps=30, rate=20.0, classes=("class 0",))
    return frame["pixels"][0][:, :, 0].astype(float)


@pytest.mark.parametrize(
    ("rules", "holds"),
    [
        ({"decay": 0.5}, lambda x: np.ptp(x) < 128),
        ({"blur": 1.0}, lambda x: np.abs(np.diff(x, axis=0)).mean() < 60),
        ({"clip_norm": 50.0}, lambda x: (x == 128).mean() >= 0.4),
        ({"clip_contribution": 50.0}, lambda x: (x == 128).mean() >= 0.4),
        ({"tv": 1.0}, lambda x: np.abs(np.diff(x, axis=0)).mean() < 100),
    ],
)
def test_a_regulariser_does_what_its_name_says(
    rules: dict[str, float], holds: Callable[[Any], bool], plain: Any, tmp_path: Path
) -> None:
    regular = climbed(LINEAR, tmp_path, steps=30, rate=20.0, classes=("class 0",), **rules)["pixels"][0]
    assert not holds(plain) and holds(regular[:, :, 0].astype(float))


def test_a_blur_keeps_the_sum_and_variation_counts_neighbours() -> None:
    point = torch.zeros(1, 21, 21, 1)
    point[0, 10, 10, 0] = 1.0
    soft = blurred(point, 2.0)[0, :, :, 0]
    rows = torch.arange(21) - 10
    assert float(soft.sum()) == pytest.approx(1, abs=1e-4)
    assert float((soft.sum(dim=1) * rows**2).sum()) == pytest.approx(4, rel=0.05), "the variance is the radius squared"
    assert total_variation(PIXELS).tolist() == [8.0, 8.0]  # 7 down and 1 across


def test_rules_that_make_no_sense_are_refused_in_a_sentence() -> None:
    assert OBJECTIVES == UPHILL
    for rules, text in (
        ({"objective": "loss"}, "objective"),
        ({"canvas": "clay"}, "canvas"),
        ({"steps": 0}, "steps"),
        ({"canvas": "fourier", "blur": 1.0}, "fourier"),
        ({"canvas": "cppn"}, "genomes"),
        ({"readout": ("a:1",), "classes": ("b",)}, "readout"),
        ({"restarts": 3, "start": "mean"}, "every climb would be the same"),
    ):
        with pytest.raises(ConfigError, match=text):
            ascend(LINEAR, replace(Options(), **rules), out="nowhere")
