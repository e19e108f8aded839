"""Ask and tell: what a classifier may answer, and what is refused in a sentence."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from deap import algorithms

import evofool
from evofool.config import Config, load_config
from evofool.errors import ConfigError, EvofoolError
from evofool.search.asking import AskTellSearch

ROWS = 8


@pytest.fixture
def search(config: Config) -> AskTellSearch:
    """Asked for ROWS images of three classes."""
    small = load_config(config, [f"search.offspring={ROWS}", f"search.initial={ROWS}"])
    made = evofool.make_search(small, image_size=(8, 8), channels=1, class_names=["a", "b", "c"])
    made.ask()
    return made


def rows_of(*values: Any) -> np.ndarray:
    return np.tile(np.array(values), (ROWS, 1))


@pytest.mark.parametrize(
    ("outputs", "output", "words"),
    [
        (rows_of(0.5, 0.25, 0.25, 0.0), "probabilities", r"shape \(8, classes\).* 3 classes, not \(8, 4\)"),
        (rows_of(0.5, 0.5), "probabilities", r"3 classes, not \(8, 2\)"),
        (rows_of(0.5, 0.25, 0.25)[1:], "logits", r"3 classes, not \(7, 3\)"),
        (np.full(ROWS, 0.5), "logits", r"3 classes, not \(8,\)"),
        (rows_of(0.1, 0.1, 0.2), "probabilities", "row 0.* sums to 0.4.*output='logits'"),
        (rows_of(0.0, 0.0, 0.0), "probabilities", "row 0.* sums to 0"),
        (rows_of(1.5, -0.25, -0.25), "probabilities", "row 0.* -0.25 as its lowest"),
        (rows_of(0.5, 0.25, 0.25), "log_probabilities", "row 0.* sums to"),
        (np.vstack([rows_of(0.5, 0.25, 0.25)[1:], [[0.5, 0.5, 0.5]]]), "probabilities", "row 7.* sums to 1.5"),
        (rows_of(0.5, 0.25, 0.25), "probability", "logits, probabilities or log_probabilities, not 'probability'"),
        (rows_of(0.5, 0.25, 0.25j), "logits", "numbers"),
        (rows_of("0.5", "0.25", "0.25"), "logits", "numbers"),
        ([[1.0, 2.0, 3.0]] * (ROWS - 1) + [[1.0]], "logits", "numbers"),
        (None, "logits", "numbers"),
        (rows_of(np.nan, np.nan, np.nan), "logits", "every row"),
    ],
)
def test_what_cannot_be_outputs_is_refused_and_can_be_told_again(
    search: AskTellSearch, outputs: Any, output: str, words: str
) -> None:
    with pytest.raises(EvofoolError, match=words) as refused:
        search.tell(outputs, output)
    assert refused.value.message.count("\n") == 0 and search.statistics is None
    search.tell(rows_of(0.5, 0.25, 0.25))
    assert search.archive.filled.all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_tensors_are_taken_as_a_network_gives_them(search: AskTellSearch, dtype: torch.dtype) -> None:
    search.tell(torch.tensor([[1.0, 2.0, 4.0]] * ROWS, dtype=dtype, requires_grad=True), "logits")
    expected = np.log(np.exp([1.0, 2.0]) / (np.exp([2.0, 1.0]) + np.exp(4.0)))
    np.testing.assert_allclose(search.archive.log_odds[:2], expected, rtol=1e-6)


def test_lists_of_tensors_and_half_precision_softmax_are_taken(search: AskTellSearch) -> None:
    rows = torch.softmax(torch.randn(ROWS, 3, generator=torch.Generator().manual_seed(1), requires_grad=True), dim=1)
    search.tell(list(rows))
    search.ask()
    search.tell(rows.to(torch.bfloat16))
    assert search.statistics is not None and search.statistics.evaluations == 2 * ROWS


def test_a_row_that_is_not_finite_takes_no_cell(search: AskTellSearch) -> None:
    outputs = rows_of(0.5, 0.25, 0.25)
    outputs[1:] = np.nan
    search.tell(outputs)
    assert search.statistics is not None and search.statistics.unique_elites == 1


def test_asking_again_gives_the_same_images_and_says_so(search: AskTellSearch) -> None:
    with pytest.warns(UserWarning, match="same images"):
        again = search.ask()
    with pytest.warns(UserWarning, match="tell"):
        assert (search.ask() == again).all()
    search.tell(rows_of(0.5, 0.25, 0.25))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (search.ask() != again).any()


# --------------------------------------------------------------------------------------- a target of its own, for DEAP


def test_deaps_own_loop_runs_what_make_search_gives(config: Config, small_run: evofool.Run) -> None:
    over_ray = load_config(config, ["evaluation.pool=ray"])  # which this search does without
    search = evofool.make_search(over_ray)
    _, logbook = algorithms.eaGenerateUpdate(search.toolbox, ngen=6, verbose=False)
    assert search.archive_hash.hex() == small_run.archive_hash
    assert [entry["nevals"] for entry in logbook] == [50] * 6
    live = evofool.make_search(config, target=evofool.load_target(config.target.spec))
    live.run(lambda statistics: statistics is not None and statistics.generation == 5)
    assert live.archive_hash == search.archive_hash


def test_a_search_with_a_target_may_be_asked_and_told_too(config: Config) -> None:
    names = ["cat", "dog"]
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 2))
    fed = evofool.Preprocessing(image_size=(2, 2), channels=3, mean=(127.5,) * 3, std=(127.5,) * 3)
    search = evofool.make_search(config, target=net, preprocessing=fed, class_names=names)
    assert search.ask().shape == (50, 2, 2, 3)
    search.toolbox.map(search.toolbox.evaluate, [])
    search.toolbox.update([])
    search.ask()
    search.tell(np.full((50, 2), 0.5))
    assert search.statistics is not None and search.statistics.generation == 1 and search.archive.filled.all()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"image_size": (8, 8), "class_names": ["a", "b"]}, "go together"),
        ({"image_size": (8, 8), "channels": 1, "class_names": "ab", "target": torch.nn.Identity()}, "brings its own"),
        ({"class_names": ["a", "b"]}, "image_size, channels and class_names"),
        ({"target": torch.nn.Identity(), "class_names": ["a", "b"]}, "preprocessing=evofool.Preprocessing"),
    ],
)
def test_halves_of_a_target_are_refused(config: Config, given: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        evofool.make_search(config, **given)
