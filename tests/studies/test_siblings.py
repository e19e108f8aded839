"""Elites among their siblings: the log-odds that a softmax over a super-class would give."""

from __future__ import annotations

import numpy as np
import pytest

from evofool.archive.scores import log_odds
from evofool.studies.shared.statistics import difference_of_medians
from evofool.studies.siblings import against


def test_log_odds_among_siblings_are_those_of_a_softmax_over_them() -> None:
    logits = np.random.default_rng(0).normal(0, 12, (50, 9)).astype(np.float32)
    odds, siblings = log_odds(logits, "logits"), np.array([1, 4, 7])
    alone = logits[:, [2, 1, 4, 7]].astype(np.float64)
    expected = (
        alone[:, 0] - np.log(np.exp(alone[:, 1:] - alone[:, 1:].max(1, keepdims=True)).sum(1)) - alone[:, 1:].max(1)
    )
    assert against(odds, 2, siblings) == pytest.approx(expected, rel=1e-4, abs=1e-3)


def test_a_difference_of_medians_has_its_interval_and_is_rare_where_there_is_one() -> None:
    draw = np.random.default_rng(1)
    near, far = draw.normal(0, 1, 40), draw.normal(2, 1, 60)
    facts = difference_of_medians(near, far)
    assert facts["low"] < facts["value"] < facts["high"] < 0 and facts["p"] < 0.001
    assert facts["value"] == np.median(near) - np.median(far) and facts == difference_of_medians(near, far)
    same = [difference_of_medians(draw.normal(0, 1, 12), draw.normal(0, 1, 20))["p"] for _ in range(30)]
    assert 0.3 < np.mean(same) < 0.7 and np.mean(np.array(same) < 0.2) < 0.45
    assert difference_of_medians(near, np.ones(20))["p"] <= 1
    assert difference_of_medians(np.ones(5), np.ones(9)) == {"value": 0.0, "low": 0.0, "high": 0.0, "p": 1.0}
    assert difference_of_medians(near, np.empty(0))["value"] is None
