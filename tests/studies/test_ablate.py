"""Ablations against networks and pictures of which it is known what they rest on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from handmade import Do, graph
from numpy.typing import NDArray

import evofool
from evofool.config import load_config
from evofool.encoding.cppn import programs
from evofool.encoding.cppn.genome import CppnEncoding
from evofool.encoding.cppn.graphs import FIRST_HIDDEN
from evofool.encoding.drawing import reference
from evofool.errors import ConfigError
from evofool.evaluate.opening import open_pool
from evofool.evaluate.problem import picture_problem
from evofool.studies.ablate import Options
from evofool.studies.shared import changes, motifs
from evofool.studies.shared.erasing import erased, filling, tiles
from evofool.studies.shared.knockouts import enlarged, knockouts
from evofool.studies.shared.losses import Resampling, form, verdict
from evofool.studies.study import conduct
from evofool.targets.opening import open_target

SIDE = 28
MOTIF = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0], [0, 1, 0]], dtype=np.float32)
Network = Callable[[torch.Tensor], torch.Tensor]


def repeated(side: int, rows: int, columns: int, channels: int = 1) -> NDArray[np.uint8]:
    """A picture with a mark in each of rows x columns fields, on a ground that is not its mean."""
    image = np.full((side, side, channels), 60, dtype=np.uint8)
    for down in (np.arange(rows) + 0.5) * side / rows:
        for right in (np.arange(columns) + 0.5) * side / columns:
            top, left = int(down) - 2, int(right) - 1
            image[top : top + 4, left : left + 3] += (150 * MOTIF[:, :, None]).astype(np.uint8)
    return image


def table(image: NDArray[np.uint8], network: Network, part: str) -> pd.DataFrame:
    """What ablations say of a picture, by a network with two outputs, of which the second is always 0."""

    def outputs(x: torch.Tensor) -> torch.Tensor:
        found = network(x)
        return torch.stack([found, torch.zeros_like(found)], dim=1)

    size = (image.shape[0], image.shape[1])
    by = evofool.Target(Do(outputs), evofool.Preprocessing(size, 1, (0.0,), (255.0,)), ("it", "none"))
    config = load_config({"target": {"spec": "live"}, "evaluation": {"pool": "inline"}})
    problem = picture_problem(config, open_target(config.target, live=by))
    made = changes.of_motifs if part == "motifs" else changes.of_tiles
    with open_pool(problem) as (pool, _, _):
        rows, _ = changes.scored(pool, made(image, "mean", 7), np.array([0]))
    return pd.DataFrame(rows)


def matches(x: torch.Tensor) -> torch.Tensor:
    """(n, places) how well the mark is matched, 0 where it is not by four fifths."""
    kernel = torch.from_numpy(MOTIF - MOTIF.mean())[None, None]
    found = torch.nn.functional.conv2d(x, kernel).flatten(1)
    return torch.relu(found - 0.8 * 150 / 255 * float((kernel[0, 0] * torch.from_numpy(MOTIF)).sum()))


@pytest.mark.parametrize(("side", "channels"), [(28, 1), (56, 1), (224, 3)])
@pytest.mark.parametrize(("rows", "columns"), [(3, 4), (4, 3), (2, 6)])
def test_twelve_planted_marks_are_found(side: int, channels: int, rows: int, columns: int) -> None:
    image = repeated(side, rows, columns, channels)
    found = motifs.find(image)
    assert found and abs(found.copies - 12) <= 1
    assert found.of.min() == 0 and len(np.unique(found.of)) == found.copies
    whole = [bool((image[found.of == copy] > 100).sum() == 6 * channels) for copy in range(found.copies)]
    assert np.mean(whole) > 0.8  # it is cut between the marks


def test_what_does_not_repeat_has_no_copies() -> None:
    down, right = np.mgrid[:SIDE, :SIDE] / (SIDE - 1)
    away = np.hypot(down - 0.5, right - 0.5)
    noise = np.random.default_rng(0).random((SIDE, SIDE))
    for shades in (right, (down + right) / 2, right**2, 1 / (1 + np.exp(9 - 18 * right)), np.exp(-6 * away**2)):
        assert motifs.find((255 * shades).astype(np.uint8)[:, :, None]) is None
    for shades in (noise, 0 * noise, away < 0.2):
        assert motifs.find((255 * shades).astype(np.uint8)[:, :, None]) is None
    stripes = motifs.find((127 + 120 * np.sin(2 * np.pi * 4 * right)).astype(np.uint8)[:, :, None])
    assert stripes and stripes.copies == 4 and len(stripes.to_cells) == 1
    rows = table((255 * right).astype(np.uint8)[:, :, None], lambda x: x.flatten(1).sum(1), "motifs")
    assert rows["change"].tolist() == ["none"] and rows["copies"].tolist() == [0]  # nothing to say, and not a loss of 0


def test_a_network_that_adds_up_loses_as_much_with_each_copy() -> None:
    rows = table(repeated(SIDE, 4, 3), lambda x: 20 * matches(x).sum(1) - 8, "motifs")
    rows = rows[rows["change"] == "motif"].astype({"removed": float, "copies": float})
    whole = rows.loc[rows["removed"] == rows["copies"], "loss"].iloc[0]
    assert whole > 5 and set(rows["copies"]) == {12}
    assert np.abs(rows["loss"] / whole - rows["removed"] / rows["copies"]).max() < 1e-4
    curve = rows.groupby("removed")["loss"].mean()
    assert form(curve.index.to_numpy() / 12, curve.to_numpy()) == pytest.approx(1, abs=1e-3)


def test_a_network_that_takes_the_best_loses_nothing_until_the_last_copy() -> None:
    rows = table(repeated(SIDE, 4, 3), lambda x: 40 * matches(x).max(1).values - 8, "motifs")
    motif = rows[rows["change"] == "motif"]
    assert motif.loc[motif["removed"] < 12, "loss"].abs().max() < 1e-5
    assert motif.loc[motif["removed"] == 12, "loss"].min() > 5
    curve = motif.groupby("removed")["loss"].mean()
    assert form(curve.index.to_numpy() / 12, curve.to_numpy()) == pytest.approx(0, abs=1e-3)
    random = rows[(rows["change"] == "random") & (rows["removed"] == 11)]
    assert random["loss"].max() > 5  # cut to pieces, copies are gone before all of the area is
    areas = [rows.loc[rows["change"] == change, "erased"].to_numpy() for change in ("motif", "random")]
    assert np.array_equal(*areas)


def test_of_a_network_that_sees_one_pixel_only_its_tile_matters() -> None:
    image = np.random.default_rng(1).integers(0, 200, (SIDE, SIDE, 1), dtype=np.uint8)
    image[14, 14] = 255
    rows = table(image, lambda x: 9 * x[:, 0, 14, 14], "occlusion")
    for grid in changes.GRIDS:
        single = rows[(rows["change"] == "tile") & (rows["grid"] == grid)]
        hit = single["tile"] == tiles(SIDE, SIDE, grid)[14, 14]
        assert hit.sum() == 1 and len(single) == grid**2
        assert single.loc[hit, "loss"].item() > 1 and (single.loc[~hit, "loss"] == 0).all()
    scattered = rows[rows["change"] == "scattered"]
    assert (scattered["loss"] == 0).any() and set(scattered["erased"].round(4)) == {0.25, 0.0625, 0.0204, 0.0051}


def test_genes_of_a_dead_branch_change_nothing_and_others_what_they_should() -> None:
    encoding = CppnEncoding(16, 16, "grey")
    sine, dead, deader = FIRST_HIDDEN, FIRST_HIDDEN + 1, FIRST_HIDDEN + 2
    edges = [(0, sine, 9.0), (sine, 4, 1.0), (1, 4, 0.25), (0, dead, 3.0), (dead, deader, 2.0), (3, deader, 1.0)]
    genome = graph({4: "linear", sine: "sine", dead: "sine", deader: "gaussian"}, edges)
    base = reference.render(encoding, genome, 0)
    alive, still = set(), set()
    for out in knockouts(encoding, genome):
        encoding.check(out.genome)
        differs = not np.array_equal(reference.render(encoding, out.genome, 0), base)
        (alive if differs else still).add((out.change, out.gene))
        if (out.change, out.gene) == ("node", sine):
            values = reference.node_values(encoding, out.genome, 0, np.ones((4, 3), np.float32))[sine]
            assert np.abs(values).max() < 1e-6 and np.ptp(values) == 0  # the mean of a sine over whole waves
        if (out.change, out.gene) == ("output", 4):
            assert np.ptp(reference.render(encoding, out.genome, 0)) == 0
    into = {(s, d): f for s, d, f in zip(genome.sources[0], genome.destinations[0], genome.connection_ids[0])}
    branch = {("connection", into[s, d]) for s, d, _ in edges if d in (dead, deader)}
    assert still == {*branch, ("node", dead), ("node", deader), ("sine", dead)}
    assert len(alive) == 3 + 2 + 1
    inputs, further = programs.coordinates(16, 16, "unit"), enlarged(encoding, genome, 2.0)
    assert further
    twice = reference.node_values(encoding, genome, 0, inputs * np.array([[2], [2], [2], [1]], np.float32))[4]
    assert np.allclose(reference.node_values(encoding, further, 0, inputs)[4], twice, atol=1e-5)
    assert enlarged(replace(encoding, coordinates="raw"), genome, 2.0) is None


def test_fillings_erase_what_they_should() -> None:
    image = repeated(SIDE, 4, 3, 3)
    image[:, :, 1] //= 2
    mask = tiles(SIDE, SIDE, 2) == 3
    for fill in ("mean", "blur", "noise"):
        changed = erased(image, mask, filling(image, fill, 5))
        assert np.array_equal(changed[~mask], image[~mask]) and not np.array_equal(changed[mask], image[mask])
        assert np.array_equal(changed, erased(image, mask, filling(image, fill, 5)))
    assert np.abs(filling(image, "mean", 5)[0, 0] - image.mean(axis=(0, 1))).max() <= 0.5
    noise = filling(image, "noise", 5)
    assert sorted(map(tuple, noise.reshape(-1, 3))) == sorted(map(tuple, image.reshape(-1, 3)))
    other = motifs.phase_randomised(image, 0, 5)
    assert (
        np.abs(np.abs(np.fft.fft2(other[:, :, 0])) - np.abs(np.fft.fft2(image[:, :, 0]))).mean()
        < 0.1 * np.abs(np.fft.fft2(image[:, :, 0])).std()
    )
    assert np.corrcoef(other[:, :, 0].ravel(), image[:, :, 0].ravel())[0, 1] < 0.5


def test_forms_verdicts_and_intervals() -> None:
    shares = np.array([0.1, 0.5, 1.0])
    assert form(shares, 7 * shares) == pytest.approx(1) and form(shares, np.array([0, 0, 7.0])) == 0
    assert form(shares, np.array([5, 6, 7.0])) > 7 and np.isnan(form(shares, 0.9 * shares))
    words = {"max-like": (0, 0.4), "sum-like": (0.6, 1.9), "all-like": (3, 5), "not max-like": (0.6, 3)}
    assert all(verdict(*interval) == word for word, interval in words.items())
    assert verdict(0.2, 0.8) == verdict(None, None) == "undecided"
    draw = np.random.default_rng(0)
    runs, individuals = np.repeat(["a", "b", "c"], 40).tolist(), list(range(120))
    resampling, values = Resampling(runs, individuals), draw.normal(3, 1, 120)
    facts = resampling.facts(values)
    assert facts["low"] < facts["value"] == np.median(values) < facts["high"] and facts["n"] == 120
    kin = Resampling(runs, np.repeat(range(12), 10).tolist()).facts(values + np.repeat(draw.normal(0, 3, 12), 10))
    assert kin["high"] - kin["low"] > 3 * (facts["high"] - facts["low"])  # one individual's cells count together
    assert Resampling(["a"] * 5, range(5)).facts(values[:5])["low"] is None
    assert resampling.difference(values, values + draw.normal(0.5, 1, 120))["p"] < 0.01
    assert resampling.difference(values, values + draw.normal(0, 1, 120))["p"] > 0.01
    assert resampling.facts(np.full(120, np.nan))["value"] is None


def test_of_pixels_there_are_no_genes_and_other_words_are_refused(tmp_path: Path) -> None:
    run = evofool.open_run(Path(__file__).parent.parent / "fixtures" / "direct")
    with pytest.raises(ConfigError, match=r"genes are of CPPNs.*encoded as direct; say --part occlusion"):
        conduct("ablate", [run], Options(part=("genes",)), out=tmp_path)
    with pytest.raises(ConfigError, match=r"--fill: there is no 'blurr'; did you mean blur\?"):
        conduct("ablate", [run], Options(fill=("blurr",)), out=tmp_path)
    with pytest.raises(ConfigError, match=r"--part: there is no 'gene'; did you mean genes\?"):
        conduct("ablate", [run], Options(part=("gene",)), out=tmp_path)
