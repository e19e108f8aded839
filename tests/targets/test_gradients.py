"""Gradients against differences of scores, in every view of a target; and what evaluators give of layers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import evofool
from evofool.archive.scores import log_odds_float64
from evofool.errors import ConfigError
from evofool.evaluate.evaluator import Evaluator
from evofool.evaluate.pool import Question
from evofool.records import Cells, Numerics
from evofool.targets.gradients import gradients

OF = np.array([2, 0, 3])
IMAGES = torch.from_numpy(np.random.default_rng(3).integers(40, 200, (3, 12, 12, 3)).astype(np.float32))


def target(output: str = "logits", **view: Any) -> evofool.Target:
    torch.manual_seed(2)
    last = {"logits": nn.Identity(), "probabilities": nn.Softmax(1), "log_probabilities": nn.LogSoftmax(1)}[output]
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.Softplus(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 4), last
    )
    fed = evofool.Preprocessing((10, 10), 3, (120.0, 110.0, 100.0), (30.0, 31.0, 32.0), resize=12, crop=10)
    return evofool.Target(net, fed, tuple("abcd"), output=output, **view)


@pytest.mark.parametrize("output", ["logits", "probabilities", "log_probabilities"])
@pytest.mark.parametrize("view", [{}, {"geometry": "published"}, {"crops": 10}])
def test_a_gradient_is_that_of_what_is_scored(output: str, view: dict[str, Any]) -> None:
    by = target(output, **view)
    images = IMAGES if view else IMAGES[:, :10, :10].contiguous()
    before = images.clone()
    for objective in ("softmax", "log_odds"):
        found = gradients(by, images, OF, objective)
        along = np.sign(found.gradient)
        sides = []
        for step in (0.5, -0.5):
            with torch.inference_mode():
                moved = by.outputs(images + step * torch.from_numpy(along))
            odds = log_odds_float64(moved, by.returns)[np.arange(3), OF]
            sides.append(odds if objective == "log_odds" else 1 / (1 + np.exp(-odds)))
        assert sides[0] - sides[1] == pytest.approx(np.abs(found.gradient).sum(axis=(1, 2, 3)), rel=0.02)
    with torch.inference_mode():
        scored = log_odds_float64(by.outputs(images.clone()), by.returns)
    assert np.array_equal(images, before) and found.log_odds == pytest.approx(scored[np.arange(3), OF], abs=1e-4)
    assert found.is_top1.tolist() == (scored.argmax(axis=1) == OF).tolist() and not found.is_flat.any()


def test_outputs_are_the_networks_or_those_of_a_layer_pooled_or_whole() -> None:
    by = target()
    evaluator = Evaluator(by, None, Cells(np.arange(4)), Numerics("cpu", 4, 2, 1, "contiguous"))
    images = IMAGES[:, :10, :10].numpy().astype(np.uint8)
    with torch.inference_mode():
        maps = by.module[0](next(by.views(torch.from_numpy(images).float())))
    assert evaluator.outputs(images).shape == (3, 4)
    whole, pooled = (evaluator.outputs(Question(images, layer="0", pooled=pooled)) for pooled in (False, True))
    assert whole == pytest.approx(maps.numpy(), abs=1e-5) and pooled == pytest.approx(
        maps.mean((2, 3)).numpy(), abs=1e-5
    )
    with pytest.raises(ConfigError, match="'conv'"):
        evaluator.outputs(Question(images, layer="conv"))


def test_an_ensemble_is_refused_with_the_name_of_a_network_in_it() -> None:
    both = evofool.make_ensemble([target(), target()])
    with pytest.raises(ConfigError, match=r"ascend one of its networks, e\.g\. live"):
        gradients(both, IMAGES[:, :10, :10], OF, "logit")
