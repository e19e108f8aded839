"""What every objective promises, and what one may ask for: logits, images, a layer's outputs.

A new row of OBJECTIVES is tried here without a word more.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import evofool
from evofool.archive.objectives import LOG_ODDS, Objective, Readings, load_objective
from evofool.archive.scores import log_odds
from evofool.base.registry import OBJECTIVES
from evofool.base.source import Source
from evofool.config import Config
from evofool.errors import ConfigError, TargetError
from evofool.evaluate.evaluator import Evaluator
from evofool.records import Cells, Numerics
from evofool.targets.target import Preprocessing, Target

OUTPUTS, CLASSES = 6, np.array([4, 0, 2])
NUMERICS = Numerics(device="cpu", chunk=8, micro_batch=4, threads=1, memory_format="contiguous")


def readings(objective: Objective, n: int, seed: int = 0) -> Readings:
    """All that an objective may ask for, made up."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 4, (n, OUTPUTS)).astype(np.float32)
    images = random.integers(256, size=(n, 4, 4, 1), dtype=np.uint8)
    layer = random.normal(size=(n, 3, 5, 5)).astype(np.float32)
    return Readings(
        log_odds(logits, "logits"),
        CLASSES,
        logits if objective.logits else None,
        images if objective.images else None,
        layer if objective.layer else None,
    )


def some(whole: Readings, rows: Any) -> Readings:
    parts = {name: getattr(whole, name) for name in ("log_odds", "logits", "images", "layer")}
    return replace(whole, **{name: None if part is None else part[rows] for name, part in parts.items()})


@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_objective_ranks_each_individual_by_itself(name: str) -> None:
    objective, code = load_objective(Source(name, key="search.objective"))
    assert code == ""
    whole = readings(objective, 40)
    ranks = objective(whole)
    assert ranks.shape == (40, len(CLASSES)) and ranks.dtype == np.float32
    assert np.isfinite(ranks).any(axis=0).all(), "somebody may take each cell"
    assert len(np.unique(ranks)) > 10, "it tells individuals apart"
    order = np.random.default_rng(1).permutation(40)
    assert np.array_equal(objective(some(whole, order)), ranks[order])
    for row in range(0, 40, 7):
        assert np.array_equal(objective(some(whole, slice(row, row + 1)))[0], ranks[row])


@pytest.mark.parametrize("name", OBJECTIVES)
def test_who_has_no_finite_scores_takes_no_cell(name: str) -> None:
    objective, _ = load_objective(Source(name, key="search.objective"))
    whole = readings(objective, 8)
    for part in (whole.log_odds, whole.logits, whole.layer):
        if part is not None:
            part[3] = np.nan
    ranks = objective(whole)
    assert not np.isfinite(ranks[3]).any() and np.isfinite(ranks[[0, 1, 2, 4, 5, 6, 7]]).any()


# ----------------------------------------------------------------------------------------------------------- readings


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.first = torch.nn.Linear(16, 5)
        self.last = torch.nn.Linear(5, OUTPUTS)
        self.unused = torch.nn.Linear(2, 2)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.relu(self.first(x.flatten(1))))


def target(output: str = "logits", after: torch.nn.Module | None = None) -> Target:
    module = Net() if after is None else torch.nn.Sequential(Net(), after)
    names = tuple("abcdef")
    return Target(module, Preprocessing((4, 4), 1, (0.0,), (255.0,), resize=5, crop=4), names, output=output)


def images(n: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(256, size=(n, 4, 4, 1), dtype=np.uint8)


@pytest.mark.parametrize("n", [1, 4, 10])
def test_an_objective_reads_what_it_asks_for_and_changes_no_score(n: int, one_thread: None) -> None:
    seen: list[Readings] = []

    def rank(r: Readings) -> NDArray[np.float32]:
        seen.append(r)
        return r.log_odds[:, r.classes]

    shown, cells, net = images(n), Cells(CLASSES), target()
    plain = Evaluator(net, None, cells, NUMERICS, LOG_ODDS).score_images(shown)
    asking = Objective(rank, logits=True, images=True, layer="first")
    found = Evaluator(net, None, cells, NUMERICS, asking).score_images(shown)
    assert all(np.array_equal(getattr(found, name), getattr(plain, name)) for name in ("log_odds", "image_sha256"))
    with torch.inference_mode():
        fed = torch.from_numpy(shown.astype(np.float32) / 255).flatten(1)
        first, logits = net.module.first(fed), net.module(fed)
    assert np.allclose(np.concatenate([r.layer for r in seen if r.layer is not None]), first, atol=1e-5)
    assert np.allclose(np.concatenate([r.logits for r in seen if r.logits is not None]), logits, atol=1e-5)
    assert np.array_equal(np.concatenate([r.images for r in seen if r.images is not None]), shown)
    assert [len(r) for r in seen] == [min(4, n - start) for start in range(0, n, 4)], "no row of padding"
    seen.clear()
    Evaluator(net, None, cells, NUMERICS, Objective(rank)).score_images(shown)
    assert all(r.logits is r.images is r.layer is None for r in seen), "who asks for nothing pays for nothing"


def test_logits_of_a_network_that_gives_probabilities_are_their_logarithms() -> None:
    seen: list[Any] = []

    def rank(r: Readings) -> NDArray[np.float32]:
        seen.append(r.logits)
        return r.log_odds[:, r.classes]

    for output, after in (("probabilities", torch.nn.Softmax(1)), ("log_probabilities", torch.nn.LogSoftmax(1))):
        Evaluator(target(output, after), None, Cells(CLASSES), NUMERICS, Objective(rank, logits=True)).score_images(
            images(4)
        )
    assert np.allclose(np.exp(seen[0]).sum(axis=1), 1) and np.allclose(seen[0], seen[1], atol=1e-4)


def test_a_layer_that_cannot_be_read_is_named_with_the_way_out() -> None:
    def evaluator(layer: str, of: Target) -> Evaluator:
        return Evaluator(of, None, Cells(CLASSES), NUMERICS, Objective(LOG_ODDS.rank, layer=layer))

    with pytest.raises(
        ConfigError, match=r"reads the layer 'frist', which live does not have; it has 3, among them first"
    ):
        evaluator("frist", target())
    with pytest.raises(TargetError, match=r"its layer 'unused' gave nothing for 4 images, not one row for each"):
        evaluator("unused", target()).score_images(images(4))
    with pytest.raises(ConfigError, match=r"sees one crop; say target\.crops=1"):
        evaluator("first", replace(target(), crops=10))


FILE = """
import numpy as np
import evofool

def activity(readings):
    # log-odds, and a little for a quiet first layer
    assert readings.images.dtype == np.uint8 and readings.logits.shape == readings.log_odds.shape
    quiet = -np.abs(readings.layer).mean(axis=(1, 2, 3))[:, None]
    return readings.log_odds[:, readings.classes] + 5 * quiet

quiet = evofool.Objective(activity, logits=True, images=True, layer="0")
lost = evofool.Objective(activity, layer="nowhere")
"""


@pytest.mark.slow
def test_a_run_ranks_by_a_layer_and_resumes_to_the_same_archive(config: Config, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(FILE)
    spec = [f"search.objective=python:{tmp_path / 'mine.py'}:quiet"]
    whole = evofool.run(config, spec, out=tmp_path / "whole", allow_code=True)
    evofool.run(config, [*spec, "search.generations=3"], out=tmp_path / "parts", allow_code=True)
    parts = evofool.resume(tmp_path / "parts", ["search.generations=6"], allow_code=True)
    assert parts.archive_hash == whole.archive_hash != evofool.run(config, out=tmp_path / "plain").archive_hash
    assert (whole.elites()["objective"] < whole.elites()["log_odds"]).all()
    evofool.verify(tmp_path / "parts", allow_code=True)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["{}:lost"], "reads the layer 'nowhere', which lenet:"),
        (["{}:quiet", "evaluation.compile=default"], "compiles the layer 0 away"),
    ],
)
def test_a_layer_that_no_evaluator_could_read_is_refused_before_the_run(
    overrides: list[str], words: str, config: Config, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(FILE)
    spec = f"search.objective=python:{tmp_path / 'mine.py'}"
    with pytest.raises(ConfigError, match=words):
        evofool.run(config, [o.format(spec) for o in overrides], out=tmp_path / "run", allow_code=True)
    assert not (tmp_path / "run").exists()
