"""Scores: log-odds against 60-digit arithmetic, their agreement with probabilities, and what bad rows do."""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Iterator
from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from evofool.archive.scores import confidence, log_odds, score_outputs
from evofool.records import Cells

TINY = 2.0**-149


@pytest.fixture(autouse=True)
def _warnings_are_errors() -> Iterator[None]:
    """Bad rows are expected, so numpy has nothing to warn of."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def exact_log_odds(logits: list[float]) -> list[float]:
    """z_c - log(sum of exp(z_j), j != c), with 60 digits."""
    with localcontext() as context:
        context.prec, context.Emax, context.Emin = 60, 10**9, -(10**9)
        z = [Decimal(value) for value in logits]
        return [float(z[c] - sum(z[j].exp() for j in range(len(z)) if j != c).ln()) for c in range(len(z))]


def assert_exact(found: NDArray[np.float32], expected: list[list[float]], scale: float) -> None:
    """Equal but for one float32 rounding and, where terms cancel, float64 roundings of numbers as large as `scale`."""
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.astype(np.float64), np.array(expected), rtol=2.0**-23, atol=scale * 1e-14)


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def random_logits(scale: float, rows: int = 40, classes: int = 10) -> NDArray[np.float32]:
    return (np.random.default_rng(5).standard_normal((rows, classes)) * scale).astype(np.float32)


# ------------------------------------------------------------------------------------------------------- log-odds


@pytest.mark.parametrize("scale", [1e-3, 1.0, 10.0, 800.0, 1e5])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_log_odds_of_logits_are_exact_to_a_float32_rounding(scale: float, dtype: type) -> None:
    logits = random_logits(scale).astype(dtype)
    assert_exact(log_odds(logits, "logits"), [exact_log_odds(row) for row in logits.tolist()], 10 * scale)


@pytest.mark.parametrize(
    "row",
    [
        [800.0, -800.0, 0.0],
        [800.0, 800.0, -800.0],
        [-800.0, -800.0, -800.0],
        [0.0, 0.0],
        [1e-300, 0.0],
        [37.0, 0.0, 0.0, 0.0],
        [709.0, 710.0, 711.0],
        [-745.0, -746.0, 745.0],
        [1.0, 1.0 + 2.0**-40, 1.0],
    ],
)
def test_log_odds_of_rows_that_saturate_softmax_or_tie(row: list[float]) -> None:
    assert_exact(log_odds(np.array([row]), "logits"), [exact_log_odds(row)], max(1.0, *map(abs, row)))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(st.floats(-2000, 2000), min_size=2, max_size=12))
def test_log_odds_of_any_logits_are_exact(row: list[float]) -> None:
    assert_exact(log_odds(np.array([row]), "logits"), [exact_log_odds(row)], max(1.0, *map(abs, row)))


def test_log_odds_keep_growing_where_softmax_has_long_been_one() -> None:
    tops = np.array([30.0, 50.0, 100.0, 700.0, 720.0, 800.0, 1e4, 1e6])
    logits = np.zeros((len(tops), 10))
    logits[:, 3] = tops
    assert np.all(softmax(logits)[1:, 3] == 1.0)
    odds = log_odds(logits, "logits")
    assert np.all(np.isfinite(odds))
    assert np.all(np.diff(odds[:, 3]) > 0)
    assert np.all(np.diff(odds[:, 0]) < 0)
    np.testing.assert_allclose(odds[:, 3], tops - math.log(9), rtol=1e-7)


@pytest.mark.parametrize("scale", [1.0, 100.0, 800.0])
def test_raising_one_logit_raises_its_log_odds_and_lowers_all_others(scale: float) -> None:
    logits = random_logits(scale).astype(np.float64)
    raised = logits.copy()
    raised[:, 4] += scale * 0.01
    before, after = log_odds(logits, "logits"), log_odds(raised, "logits")
    assert np.all(after[:, 4] > before[:, 4])
    assert np.all(np.delete(after - before, 4, axis=1) <= 0)


def test_log_odds_do_not_depend_on_a_constant_added_to_all_logits() -> None:
    logits = random_logits(5.0).astype(np.float64)
    np.testing.assert_allclose(log_odds(logits + 512.0, "logits"), log_odds(logits, "logits"), atol=1e-5)


def test_log_odds_of_two_classes_are_opposite() -> None:
    odds = log_odds(random_logits(300.0, classes=2), "logits")
    np.testing.assert_allclose(odds[:, 0], -odds[:, 1], rtol=1e-6)


@pytest.mark.parametrize("scale", [1.0, 8.0])
def test_probabilities_and_their_logarithms_give_the_log_odds_of_the_logits(scale: float) -> None:
    logits = random_logits(scale).astype(np.float64)
    wanted = log_odds(logits, "logits")
    probabilities = softmax(logits)
    np.testing.assert_allclose(log_odds(probabilities, "probabilities"), wanted, rtol=1e-6, atol=1e-5)
    np.testing.assert_allclose(log_odds(np.log(probabilities), "log_probabilities"), wanted, rtol=1e-6, atol=1e-5)


def test_log_probabilities_are_taken_for_logits_to_the_bit() -> None:
    logits = random_logits(50.0)
    assert np.array_equal(log_odds(logits, "log_probabilities"), log_odds(logits, "logits"))


def test_probabilities_need_not_sum_to_one() -> None:
    weights = np.array([[2.0, 6.0, 4.0]])
    np.testing.assert_allclose(log_odds(weights, "probabilities"), np.log([[2 / 10, 6 / 6, 4 / 8]]), atol=1e-7)


def test_a_probability_of_zero_counts_as_the_smallest_float32() -> None:
    odds = log_odds(np.array([[1.0, 0.0, 0.0]], dtype=np.float32), "probabilities")
    assert_exact(odds, [exact_log_odds([0.0, math.log(TINY), math.log(TINY)])], 104)
    assert np.array_equal(odds, log_odds(np.array([[1.0, TINY, TINY]]), "probabilities"))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("output", ["logits", "log_probabilities", "probabilities"])
def test_a_value_that_is_not_finite_spoils_its_row_and_no_other(bad: float, output: str) -> None:
    values = np.abs(random_logits(1.0, rows=6))
    clean = log_odds(values, output)
    values[2, 7] = values[4, 0] = bad
    odds = log_odds(values, output)
    assert np.isnan(odds[[2, 4]]).all()
    assert np.array_equal(odds[[0, 1, 3, 5]], clean[[0, 1, 3, 5]])


def test_log_odds_leave_the_outputs_as_they_were() -> None:
    outputs = np.array([[1.0, np.nan], [3.0, 0.5]])
    before = outputs.copy()
    log_odds(outputs, "probabilities")
    assert np.array_equal(outputs, before, equal_nan=True)


# ----------------------------------------------------------------------------------------------------- confidence


def test_confidence_is_the_sigmoid() -> None:
    values = np.array([-1e6, -800, -104, -50, -1, -1e-6, 0, 1e-6, 0.5, 16, 50, 800, 1e6], dtype=np.float32)
    with localcontext() as context:
        context.prec = 50
        expected = [float(1 / (1 + (-Decimal(float(v))).exp())) for v in values]
    found = confidence(values)
    assert found.dtype == np.float32
    # atol: float32's subnormal numbers are as coarse as that
    np.testing.assert_allclose(found, np.array(expected), rtol=2.0**-23, atol=TINY)


def test_confidence_at_the_ends() -> None:
    found = confidence(np.array([-np.inf, np.inf, np.nan], dtype=np.float32))
    assert found[:2].tolist() == [0.0, 1.0]
    assert np.isnan(found[2])


@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0, 800.0])
def test_confidence_of_log_odds_is_softmax(scale: float) -> None:
    logits = random_logits(scale)
    # float32 log-odds of size z carry a relative error of about z * 2**-24 into the probability
    expected = softmax(logits.astype(np.float64))
    np.testing.assert_allclose(confidence(log_odds(logits, "logits")), expected, rtol=1e-5 * max(1, scale), atol=1e-12)


# -------------------------------------------------------------------------------------------------- score_outputs


def images_of(rows: int) -> NDArray[np.uint8]:
    return np.random.default_rng(8).integers(0, 256, (rows, 6, 5, 3), dtype=np.uint8)


def test_score_outputs_keeps_the_cells_columns_in_their_order() -> None:
    logits, cells = random_logits(4.0), np.array([7, 0, 3])
    scores = score_outputs(logits, "logits", Cells(cells), images_of(40))
    assert np.array_equal(scores.log_odds, log_odds(logits, "logits")[:, [7, 0, 3]])
    assert scores.log_odds.dtype == np.float32


def test_score_outputs_hashes_the_bytes_of_each_image() -> None:
    images = images_of(5)
    scores = score_outputs(random_logits(1.0, rows=5), "logits", Cells(np.arange(10)), images)
    assert scores.image_sha256.dtype == np.uint8
    assert [row.tobytes() for row in scores.image_sha256] == [hashlib.sha256(i.tobytes()).digest() for i in images]
    # a view with other strides is the same picture
    flipped = np.ascontiguousarray(images[:, :, ::-1])[:, :, ::-1]
    again = score_outputs(random_logits(1.0, rows=5), "logits", Cells(np.arange(10)), flipped)
    assert np.array_equal(again.image_sha256, scores.image_sha256)


def test_top1_is_the_largest_logit_over_all_classes_even_those_without_a_cell() -> None:
    logits = random_logits(4.0)
    scores = score_outputs(logits, "logits", Cells(np.array([2])), images_of(40))
    assert scores.top_classes.dtype == np.int32
    assert scores.top_classes[:, 0].tolist() == logits.argmax(axis=1).tolist()
    np.testing.assert_allclose(scores.top_confidences[:, 0], softmax(logits.astype(np.float64)).max(axis=1), rtol=1e-5)
    assert len(set(scores.top_classes[:, 0].tolist())) > 5


@pytest.mark.parametrize("outputs", [2, 5, 40])
def test_the_top_classes_are_those_of_a_stable_sort(outputs: int) -> None:
    """Of equals the lower class comes first; where there are fewer than five, nobody fills the rest."""
    logits = np.random.default_rng(outputs).integers(-2, 3, (30, outputs)).astype(np.float32)  # ties are common
    scores = score_outputs(logits, "logits", Cells(np.arange(outputs)), images_of(30))
    order, there = np.argsort(-scores.log_odds, axis=1, kind="stable")[:, :5], min(outputs, 5)
    assert np.array_equal(scores.top_classes[:, :there], order)
    assert np.array_equal(
        scores.top_confidences[:, :there], confidence(np.take_along_axis(scores.log_odds, order, axis=1))
    )
    assert (scores.top_classes[:, there:] == -1).all() and (scores.top_confidences[:, there:] == 0).all()


def test_a_row_that_is_not_finite_has_nan_log_odds_and_no_confidence() -> None:
    logits = random_logits(2.0, rows=4)
    logits[1, 6] = np.nan
    scores = score_outputs(logits, "logits", Cells(np.array([6, 1])), images_of(4))
    assert np.isnan(scores.log_odds).tolist() == [[False, False], [True, True], [False, False], [False, False]]
    assert scores.top_confidences[1, 0] == 0.0
    assert np.all(scores.top_confidences[[0, 2, 3], 0] > 0)


@pytest.mark.parametrize("filler", [0.0, 1e4, np.nan, np.inf])
@pytest.mark.parametrize("kept", [1, 5, 16])
def test_scores_do_not_depend_on_what_the_padding_rows_hold(filler: float, kept: int) -> None:
    logits, images = random_logits(30.0, rows=16), images_of(16)
    full = score_outputs(logits, "logits", Cells(np.arange(10)), images)
    padded = logits.copy()
    padded[kept:] = filler
    part = score_outputs(padded, "logits", Cells(np.arange(10)), images[:kept])
    assert len(part) == kept
    for name in set(full.__dataclass_fields__) - {"bins"}:
        assert getattr(part, name).tobytes() == getattr(full, name)[:kept].tobytes(), name
